//! From luminance and chrominance to RGB, chrominance spread as libjpeg does by default ("fancy upsampling").

use std::ops::Range;

use multiversion::multiversion;

/// A channel's levels.
#[derive(Default)]
pub(crate) struct Plane {
    pub(crate) levels: Vec<u8>,
    /// From a row to the next: whole units of the scan.
    pub(crate) stride: usize,
    /// How much of it is picture: rows and columns beyond are padding.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.levels[y * self.stride..][..self.width]
    }
}

/// Appends gray as RGB, the columns of one row.
pub(crate) fn gray(plane: &Plane, y: usize, columns: Range<usize>, out: &mut Vec<u8>) {
    out.extend(plane.row(y)[columns].iter().flat_map(|&level| [level; 3]));
}

/// Buffers for one row.
#[derive(Default)]
pub(crate) struct Rows {
    sums: Vec<u16>,
    red: Vec<u8>,
    green: Vec<u8>,
    blue: Vec<u8>,
    pixels: Vec<u8>,
}

/// Luminance and two planes of chrominance, of which a level covers `across` by `down` pixels, as RGB: appends the columns of one row.
pub(crate) fn rgb(
    [luma, blue, red]: &[Plane; 3],
    (across, down): (usize, usize),
    y: usize,
    columns: Range<usize>,
    rows: &mut Rows,
    out: &mut Vec<u8>,
) {
    let levels = columns.start / across..columns.end.div_ceil(across);
    spread(blue, (across, down), y, levels.clone(), &mut rows.sums, &mut rows.blue);
    spread(red, (across, down), y, levels.clone(), &mut rows.sums, &mut rows.red);
    let skipped = columns.start - levels.start * across;
    let n = columns.len();
    rows.green.resize(n.max(rows.green.len()), 0);
    let (red, green, blue) =
        (&mut rows.red[skipped..][..n], &mut rows.green[..n], &mut rows.blue[skipped..][..n]);
    convert(&luma.row(y)[columns], red, green, blue);
    rows.pixels.resize(3 * n, 0);
    interleave(red, green, blue, &mut rows.pixels);
    out.extend_from_slice(&rows.pixels);
}

/// The row `y` of the picture, from these levels of a plane of chrominance.
fn spread(
    plane: &Plane,
    (across, down): (usize, usize),
    y: usize,
    levels: Range<usize>,
    sums: &mut Vec<u16>,
    out: &mut Vec<u8>,
) {
    let near = plane.row(y / down);
    out.clear();
    // libjpeg copies levels where there are too few across.
    if across == 2 && plane.width <= 2 {
        out.extend(near[levels].iter().flat_map(|&level| [level; 2]));
        return;
    }
    if (across, down) == (1, 1) {
        out.extend_from_slice(&near[levels]);
        return;
    }
    // Three parts of the nearer row and one of the other, the row above for an even row and the one below for an odd one.
    let far = match y % down {
        _ if down == 1 => near,
        0 => plane.row((y / 2).saturating_sub(1)),
        _ => plane.row((y / 2 + 1).min(plane.height - 1)),
    };
    // One more on either side; the outermost repeated.
    let (before, after) = (levels.start.saturating_sub(1), (levels.end + 1).min(plane.width));
    sums.clear();
    sums.extend((levels.start == 0).then(|| sum(near[0], far[0])));
    sums.extend(near[before..after].iter().zip(&far[before..after]).map(|(&n, &f)| sum(n, f)));
    sums.extend((levels.end == plane.width).then(|| sum(near[after - 1], far[after - 1])));
    match (across, down) {
        (1, _) => {
            let bias = if y.is_multiple_of(2) { 4 } else { 8 };
            out.extend(sums[1..=levels.len()].iter().map(|&sum| ((4 * sum + bias) >> 4) as u8));
        }
        (_, 1) => widen(sums, [4, 8], out),
        _ => widen(sums, [8, 7], out),
    }
}

/// In quarters of a level.
fn sum(near: u8, far: u8) -> u16 {
    3 * u16::from(near) + u16::from(far)
}

/// Two levels of each sum but the outermost: three parts of it, one of the neighbor before or after it.
#[multiversion(targets("x86_64+avx2"))]
fn widen(sums: &[u16], bias: [u16; 2], out: &mut Vec<u8>) {
    let n = sums.len() - 2;
    out.resize(2 * n, 0);
    let (before, here, after) = (&sums[..n], &sums[1..=n], &sums[2..]);
    for (((out, before), here), after) in
        out.as_chunks_mut().0.iter_mut().zip(before).zip(here).zip(after)
    {
        *out =
            [((3 * here + before + bias[0]) >> 4) as u8, ((3 * here + after + bias[1]) >> 4) as u8];
    }
}

/// The colors of JFIF (ITU-R 601, full range), rounded as by libjpeg. Its factors have 16 bits behind the point; whole parts are
/// added by themselves, so that 16 bits are enough for red and blue, and a vector holds more.
#[multiversion(targets("x86_64+avx2"))]
fn convert(luma: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    for (((luma, red), green), blue) in luma.iter().zip(red).zip(green).zip(blue) {
        let (y, cr, cb) = (i16::from(*luma), i16::from(*red) - 128, i16::from(*blue) - 128);
        let r = y + cr + ((upper(2 * cr, 26_345) + 1) >> 1); // 1.40200 = 1 + 26,345 / 65,536
        let b = y + 2 * cb + ((upper(2 * cb, -14_942) + 1) >> 1); // 1.77200
        let g = -22_554 * i32::from(cb) + 18_734 * i32::from(cr) + (1 << 15); // 0.34414, 1 - 0.71414
        let g = y - cr + (g >> 16) as i16;
        [*red, *green, *blue] = [r, g, b].map(|level| level.clamp(0, 255) as u8);
    }
}

/// Three rows as pixels.
#[multiversion(targets("x86_64+avx2"))]
fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, red), green), blue) in
        out.as_chunks_mut().0.iter_mut().zip(red).zip(green).zip(blue)
    {
        *out = [*red, *green, *blue];
    }
}

/// The upper half of a product.
#[inline(always)]
fn upper(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}
