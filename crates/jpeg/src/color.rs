//! From luminance and chrominance to RGB, with the chrominance upsampled as libjpeg does by default
//! ("fancy upsampling").

use multiversion::multiversion;
use std::ops::Range;

/// The samples of a channel.
#[derive(Debug, Default)]
pub(crate) struct Plane {
    pub(crate) samples: Vec<u8>,
    /// Distance from a row to the next, in whole MCUs.
    pub(crate) stride: usize,
    /// The size of the image in it. Rows and columns beyond are padding.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.width]
    }
}

/// Appends columns of one gray row as RGB.
pub(crate) fn gray(plane: &Plane, y: usize, columns: Range<usize>, out: &mut Vec<u8>) {
    out.extend(plane.row(y)[columns].iter().flat_map(|&sample| [sample; 3]));
}

/// Buffers for one row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    sums: Vec<u16>,
    red: Vec<u8>,
    green: Vec<u8>,
    blue: Vec<u8>,
    pixels: Vec<u8>,
}

/// Appends columns of one row as RGB, from luminance and two planes of chrominance, of which a
/// sample covers `across` by `down` pixels.
pub(crate) fn rgb(
    [luma, blue, red]: &[Plane; 3],
    (across, down): (usize, usize),
    y: usize,
    columns: Range<usize>,
    rows: &mut Rows,
    out: &mut Vec<u8>,
) {
    let samples = columns.start / across..columns.end.div_ceil(across);
    upsample(blue, (across, down), y, samples.clone(), &mut rows.sums, &mut rows.blue);
    upsample(red, (across, down), y, samples.clone(), &mut rows.sums, &mut rows.red);
    let skipped = columns.start - samples.start * across;
    let n = columns.len();
    rows.green.resize(n.max(rows.green.len()), 0);
    let (red, green, blue) =
        (&mut rows.red[skipped..][..n], &mut rows.green[..n], &mut rows.blue[skipped..][..n]);
    convert(&luma.row(y)[columns], red, green, blue);
    rows.pixels.resize(3 * n, 0);
    interleave(red, green, blue, &mut rows.pixels);
    out.extend_from_slice(&rows.pixels);
}

/// Upsamples chrominance to the row `y` of the image.
fn upsample(
    plane: &Plane,
    (across, down): (usize, usize),
    y: usize,
    samples: Range<usize>,
    sums: &mut Vec<u16>,
    out: &mut Vec<u8>,
) {
    let near = plane.row(y / down);
    out.clear();
    // libjpeg repeats the samples of very narrow images.
    if across == 2 && plane.width <= 2 {
        out.extend(near[samples].iter().flat_map(|&sample| [sample; 2]));
        return;
    }
    if (across, down) == (1, 1) {
        out.extend_from_slice(&near[samples]);
        return;
    }
    // Three parts of the nearer row and one of the farther: above for an even row, below for an odd
    // one.
    let far = match y % down {
        _ if down == 1 => near,
        0 => plane.row((y / 2).saturating_sub(1)),
        _ => plane.row((y / 2 + 1).min(plane.height - 1)),
    };
    // One more sample on either side; the outermost is repeated.
    let (before, after) = (samples.start.saturating_sub(1), (samples.end + 1).min(plane.width));
    sums.clear();
    sums.extend((samples.start == 0).then(|| sum(near[0], far[0])));
    sums.extend(near[before..after].iter().zip(&far[before..after]).map(|(&n, &f)| sum(n, f)));
    sums.extend((samples.end == plane.width).then(|| sum(near[after - 1], far[after - 1])));
    match (across, down) {
        (1, _) => {
            let bias = if y.is_multiple_of(2) { 4 } else { 8 };
            out.extend(sums[1..=samples.len()].iter().map(|&sum| ((4 * sum + bias) >> 4) as u8));
        }
        (_, 1) => upsample_row(sums, [4, 8], out),
        _ => upsample_row(sums, [8, 7], out),
    }
}

/// The weighted sum of two rows' samples, in quarters.
fn sum(near: u8, far: u8) -> u16 {
    3 * u16::from(near) + u16::from(far)
}

/// Two samples from each sum except the outermost: three parts of it, and one of the neighbor
/// before or after it.
#[multiversion(targets("x86_64+avx2"))]
fn upsample_row(sums: &[u16], bias: [u16; 2], out: &mut Vec<u8>) {
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

/// The colors of JFIF (ITU-R 601, full range), rounded as in libjpeg. Its factors have 16
/// fractional bits. Whole parts are added separately, so that 16 bits are enough for red and blue,
/// and a vector register holds more of them.
#[multiversion(targets("x86_64+avx2"))]
fn convert(luma: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    for (((luma, red), green), blue) in luma.iter().zip(red).zip(green).zip(blue) {
        let (y, cr, cb) = (i16::from(*luma), i16::from(*red) - 128, i16::from(*blue) - 128);
        let r = y + cr + ((upper(2 * cr, 26_345) + 1) >> 1); // 1.40200 = 1 + 26,345 / 65,536
        let b = y + 2 * cb + ((upper(2 * cb, -14_942) + 1) >> 1); // 1.77200
        let g = -22_554 * i32::from(cb) + 18_734 * i32::from(cr) + (1 << 15); // 0.34414, 1 - 0.71414
        let g = y - cr + (g >> 16) as i16;
        [*red, *green, *blue] = [r, g, b].map(|sample| sample.clamp(0, 255) as u8);
    }
}

/// Interleaves three rows to pixels.
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
