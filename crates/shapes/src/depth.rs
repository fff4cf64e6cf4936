//! How far away each pixel of an image is.

use image::{ImageBuffer, Luma};

use crate::draw::Scene;
use crate::{Factors, Kind};

/// Depth in meters, one number per pixel.
pub type DepthMap = ImageBuffer<Luma<f32>, Vec<f32>>;

/// The distance of the wall behind the object, in meters.
pub const WALL: f32 = 3.0;

/// The depth of each pixel of [`draw`](crate::draw) with the same arguments, in meters.
///
/// An object has a radius of one meter, and the camera sees as far to the side as ahead (a pinhole
/// with a field of view of 90°). So an object that appears with the radius `size` is `1 / size`
/// meters away, from 1.3 to 2.5. Its rounded edge falls back by up to 0.15 m, as the shading shows.
/// The wall behind it is [`WALL`] meters away everywhere. A pixel is the object's if its middle is.
pub fn draw_depth(kind: Kind, factors: &Factors, size: u32) -> DepthMap {
    let scene = Scene::new(kind, factors, size);
    let middle = |pixel: u32| (2 * pixel + 1) as f32 / size as f32 - 1.0;
    ImageBuffer::from_fn(size, size, |column, row| {
        let relief = scene.relief(middle(column), middle(row));
        Luma([relief.map_or(WALL, |fall| 1.0 / factors.size + fall)])
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Shapes, Split};

    fn rendered(index: usize) -> (crate::Rendered, DepthMap) {
        let shapes = Shapes::new(Split::Test, 40, 64, 0).unwrap();
        (shapes.render(index), shapes.depth(index))
    }

    #[test]
    fn the_object_is_before_the_wall_where_the_mask_is() {
        for index in 0..20 {
            let (rendered, depth) = rendered(index);
            let nearest = 1.0 / rendered.factors.size;
            for (x, y, pixel) in depth.enumerate_pixels() {
                match rendered.mask.get_pixel(x, y)[0] {
                    255 => assert!((nearest..nearest + 0.151).contains(&pixel[0])),
                    0 => assert_eq!(pixel[0], WALL),
                    _ => assert!(pixel[0] == WALL || pixel[0] < nearest + 0.151),
                }
            }
        }
    }

    #[test]
    fn a_larger_object_is_nearer_and_its_edge_falls_back() {
        let (before, near) = rendered(0);
        let mut factors = before.factors.clone();
        factors.size *= 0.5;
        let far = draw_depth(before.kind, &factors, 64);
        let least = |map: &DepthMap| map.pixels().map(|pixel| pixel[0]).fold(WALL, f32::min);
        assert!((least(&far) - 2.0 * least(&near)).abs() < 1e-5);
        let edge = near.pixels().map(|pixel| pixel[0]).filter(|&d| d < WALL).fold(0.0, f32::max);
        assert!(edge > least(&near) + 0.1, "the edge is {edge} m away");
    }
}
