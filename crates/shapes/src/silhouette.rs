//! The ten outlines, as signed distances.
//!
//! Coordinates are the object's own: `x` to the right, `y` down. Every outline is about as large as
//! the unit circle. A distance is negative inside and positive outside, in the same units. The
//! coverage of a pixel, the bevelled edge and the soft shadow all follow from it.

use crate::Kind;

type Point = [f32; 2];

/// The signed distance from the point `(x, y)` to the outline of `kind`.
///
/// The number subtracted from a polygon's distance is the radius of its rounded corners.
pub(super) fn distance(kind: Kind, x: f32, y: f32) -> f32 {
    let p = [x, y];
    match kind {
        Kind::Disc => length(p) - 0.86,
        Kind::Triangle => polygon(&TRIANGLE, p) - 0.08,
        Kind::Square => polygon(&SQUARE, p) - 0.08,
        Kind::Star => polygon(&STAR, p) - 0.06,
        Kind::Cross => polygon(&CROSS, p) - 0.05,
        Kind::Ring => (length(p) - 0.65).abs() - 0.27,
        Kind::Moon => moon([x + 0.12, y]),
        Kind::Heart => 1.55 * heart([x / 1.55, 0.52 - y / 1.55]) - 0.05,
        Kind::Arrow => polygon(&ARROW, p) - 0.05,
        Kind::Hourglass => polygon(&HOURGLASS, p) - 0.06,
    }
}

const TRIANGLE: [Point; 3] = [[0.0, -0.84], [0.86, 0.66], [-0.86, 0.66]];

const SQUARE: [Point; 4] = [[-0.68, -0.68], [0.68, -0.68], [0.68, 0.68], [-0.68, 0.68]];

/// Five points, at radii 0.92 and 0.42 in turn.
const STAR: [Point; 10] = [
    [0.0, -0.92],
    [0.246_87, -0.339_79],
    [0.874_97, -0.284_3],
    [0.399_44, 0.129_79],
    [0.540_76, 0.744_3],
    [0.0, 0.42],
    [-0.540_76, 0.744_3],
    [-0.399_44, 0.129_79],
    [-0.874_97, -0.284_3],
    [-0.246_87, -0.339_79],
];

const CROSS: [Point; 12] = [
    [-0.25, -0.87],
    [0.25, -0.87],
    [0.25, -0.25],
    [0.87, -0.25],
    [0.87, 0.25],
    [0.25, 0.25],
    [0.25, 0.87],
    [-0.25, 0.87],
    [-0.25, 0.25],
    [-0.87, 0.25],
    [-0.87, -0.25],
    [-0.25, -0.25],
];

/// Points upwards.
const ARROW: [Point; 7] = [
    [0.0, -0.9],
    [0.82, -0.05],
    [0.28, -0.05],
    [0.28, 0.86],
    [-0.28, 0.86],
    [-0.28, -0.05],
    [-0.82, -0.05],
];

const HOURGLASS: [Point; 6] =
    [[-0.68, -0.84], [0.68, -0.84], [0.16, 0.0], [0.68, 0.84], [-0.68, 0.84], [-0.16, 0.0]];

/// The distance to the nearest edge of a closed polygon. The sign comes from counting the edges
/// that a ray from the point crosses.
fn polygon(corners: &[Point], [x, y]: Point) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut from = corners[corners.len() - 1];
    for &to in corners {
        let edge = [to[0] - from[0], to[1] - from[1]];
        let here = [x - from[0], y - from[1]];
        let along = (dot(here, edge) / dot(edge, edge)).clamp(0.0, 1.0);
        let gap = [here[0] - along * edge[0], here[1] - along * edge[1]];
        nearest = nearest.min(dot(gap, gap));
        let spans = (from[1] > y) != (to[1] > y);
        if spans && x < from[0] + edge[0] * here[1] / edge[1] {
            inside = !inside;
        }
        from = to;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

/// A disc of radius 0.9 out of which another of radius 0.72, further right, has been cut.
fn moon([x, y]: Point) -> f32 {
    const OUTER: f32 = 0.9;
    const INNER: f32 = 0.72;
    const APART: f32 = 0.46;
    // The horns' tips, where the two circles meet.
    let tip_x = (OUTER * OUTER - INNER * INNER + APART * APART) / (2.0 * APART);
    let tip_y = (OUTER * OUTER - tip_x * tip_x).sqrt();
    let y = y.abs();
    if x * tip_y - y * tip_x > APART * (tip_y - y).max(0.0) {
        length([x - tip_x, y - tip_y])
    } else {
        (length([x, y]) - OUTER).max(INNER - length([x - APART, y]))
    }
}

/// A heart of two quarter-squares and two arcs, its tip at the origin, `y` upwards, about 1.1 high.
fn heart([x, y]: Point) -> f32 {
    let x = x.abs();
    if x + y > 1.0 {
        return length([x - 0.25, y - 0.75]) - 0.125_f32.sqrt();
    }
    let notch = [x, y - 1.0];
    let middle = 0.5 * (x + y).max(0.0);
    let side = [x - middle, y - middle];
    let distance = dot(notch, notch).min(dot(side, side)).sqrt();
    if x > y { distance } else { -distance }
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

// A plain square root of the sum: exact to the last bit on every machine, which `hypot` is not.
fn length(p: Point) -> f32 {
    dot(p, p).sqrt()
}
