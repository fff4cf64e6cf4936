//! One image from its kind and factors: a pure function, with no randomness left in it.

use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::silhouette::distance;
use crate::surface::{ink, mix, noise, rgb, smoothstep};
use crate::{Factors, Kind};

/// An image with its labels.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The image.
    pub image: RgbImage,
    /// What the object is.
    pub kind: Kind,
    /// What the image was drawn from.
    pub factors: Factors,
    /// How much of each pixel is the object's, 0 to 255.
    pub mask: GrayImage,
}

/// Every pixel is the mean of `SAMPLES` × `SAMPLES` points.
const SAMPLES: u32 = 2;

/// How far the rounded edge reaches into the object, in its own units.
const BEVEL: f32 = 0.3;

/// Draws an object of this kind, with exactly these factors, `size` pixels wide and high.
///
/// Positions and patterns are measured in the image's and the object's own coordinates, so the same
/// factors give the same image at every size. To see what one factor does, change it alone and
/// draw again:
///
/// ```
/// use portolan_shapes::{Shapes, Split, draw};
///
/// let shapes = Shapes::new(Split::Test, 10, 32, 0)?;
/// let before = shapes.render(3);
/// let mut factors = before.factors.clone();
/// factors.hue += 0.5;
/// let after = draw(before.kind, &factors, 32);
/// assert_ne!(before.image, after.image);
/// assert_eq!(before.mask, after.mask);
/// # Ok::<(), portolan_shapes::Error>(())
/// ```
pub fn draw(kind: Kind, factors: &Factors, size: u32) -> Rendered {
    let scene = Scene::new(kind, factors, size);
    let mut image = RgbImage::new(size, size);
    let mut mask = GrayImage::new(size, size);
    let samples = size * SAMPLES;
    // Points are spread evenly over the image, which reaches from -1 to 1 both ways.
    let coordinate = |sample: u32| (2 * sample + 1) as f32 / samples as f32 - 1.0;
    for (column, row, pixel) in image.enumerate_pixels_mut() {
        let mut sum = [0.0; 3];
        let mut covered = 0.0;
        for i in 0..SAMPLES * SAMPLES {
            let x = coordinate(column * SAMPLES + i % SAMPLES);
            let y = coordinate(row * SAMPLES + i / SAMPLES);
            let (color, coverage) = scene.at(x, y);
            for (total, channel) in sum.iter_mut().zip(color) {
                *total += channel;
            }
            covered += coverage;
        }
        // The conversion saturates.
        let byte = |total: f32| (total / (SAMPLES * SAMPLES) as f32 * 255.0 + 0.5) as u8;
        *pixel = Rgb(sum.map(byte));
        mask.put_pixel(column, row, Luma([byte(covered)]));
    }
    Rendered { image, kind, factors: factors.clone(), mask }
}

/// Values that all points of an image share, computed once.
pub(crate) struct Scene<'a> {
    kind: Kind,
    factors: &'a Factors,
    /// Sine and cosine of the rotation.
    turn: (f32, f32),
    /// The square root of the aspect.
    stretch: f32,
    /// Unit vector towards the light, in the image's plane.
    light: [f32; 2],
    paint: [f32; 3],
    ink: [f32; 3],
    /// The background's two shades.
    ground: [[f32; 3]; 2],
    /// The distance between two points that are sampled, in the object's units.
    grain: f32,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(kind: Kind, factors: &'a Factors, size: u32) -> Self {
        let f = factors;
        let ground = |value| rgb(f.background_hue, f.background_saturation, value);
        Scene {
            kind,
            factors,
            turn: libm::sincosf(f.rotation),
            stretch: f.aspect.sqrt(),
            light: [libm::cosf(f.light), -libm::sinf(f.light)],
            paint: rgb(f.hue, f.saturation, f.value),
            ink: rgb(f.hue + f.ink_turn, f.ink_saturation, f.ink_value),
            ground: [-0.5, 0.5]
                .map(|side| ground(f.background_value + side * f.background_contrast)),
            grain: 2.0 / (size * SAMPLES) as f32 / f.size,
        }
    }

    /// The color at a point of the image, and how much of it is the object's.
    fn at(&self, x: f32, y: f32) -> ([f32; 3], f32) {
        let [u, v] = self.to_object(x, y);
        let outside = distance(self.kind, u, v);
        let coverage = (0.5 - outside / self.grain).clamp(0.0, 1.0);
        let mut color = [0.0; 3];
        if coverage < 1.0 {
            color = self.background(x, y);
        }
        if coverage > 0.0 {
            let object = self.surface(x, y, u, v, outside);
            color = std::array::from_fn(|i| mix(color[i], object[i], coverage));
        }
        (color.map(|c| (c * self.factors.exposure).clamp(0.0, 1.0)), coverage)
    }

    /// From the image's coordinates to the object's.
    fn to_object(&self, x: f32, y: f32) -> [f32; 2] {
        let (sin, cos) = self.turn;
        let (x, y) =
            ((x - self.factors.x) / self.factors.size, (y - self.factors.y) / self.factors.size);
        let stretch = self.stretch;
        let (u, v) = ((x * cos + y * sin) / stretch, (y * cos - x * sin) * stretch);
        [if self.factors.mirrored { -u } else { u }, v]
    }

    /// Quiet clouds of two shades, and the object's soft shadow on them.
    fn background(&self, x: f32, y: f32) -> [f32; 3] {
        let f = self.factors;
        let [left, top] = f.background_phase.map(|phase| 200.0 * phase);
        let cloud = noise(1.5 * x + left, 1.5 * y + top, 3);
        let reach = 0.16 * f.size;
        let [u, v] = self.to_object(x + reach * self.light[0], y + reach * self.light[1]);
        let shadow = 1.0 - 0.45 * smoothstep(0.5 - distance(self.kind, u, v) / 0.36);
        std::array::from_fn(|i| mix(self.ground[0][i], self.ground[1][i], cloud) * shadow)
    }

    /// Paint and ink under the light. `(x, y)` and `(u, v)` are the same point in the coordinates
    /// of the image and of the object; `outside` is its distance to the outline.
    fn surface(&self, x: f32, y: f32, u: f32, v: f32, outside: f32) -> [f32; 3] {
        let f = self.factors;
        let share = ink(f.pattern, u, v, f.frequency, f.phase, f.ink_coverage);
        let facing = self.slope(x, y, outside);
        let shade = 0.82 + 0.42 * facing;
        let gleam = 0.25 * (facing - 0.3).max(0.0);
        std::array::from_fn(|i| mix(self.paint[i], self.ink[i], share) * shade + gleam)
    }

    /// How far the surface lies behind the object's flat front, in its own units; `None` outside of
    /// the object. The slope of the bevelled edge falls from 1 at the outline to 0, so that its
    /// height is a parabola.
    pub(crate) fn relief(&self, x: f32, y: f32) -> Option<f32> {
        let [u, v] = self.to_object(x, y);
        let outside = distance(self.kind, u, v);
        let height = (1.0 + outside / BEVEL).max(0.0);
        (outside < 0.0).then_some(0.5 * BEVEL * height * height)
    }

    /// How far the surface leans towards the light (1) or away from it (-1). Only the bevelled edge
    /// leans, most at the outline, along the gradient of the distance.
    fn slope(&self, x: f32, y: f32, outside: f32) -> f32 {
        let height = 1.0 + outside.min(0.0) / BEVEL;
        if height <= 0.0 {
            return 0.0;
        }
        let step = 0.02 * self.factors.size;
        let [u, v] = self.to_object(x + step * self.light[0], y + step * self.light[1]);
        let towards = (distance(self.kind, u, v) - outside) / 0.02;
        height * towards.clamp(-1.0, 1.0)
    }
}
