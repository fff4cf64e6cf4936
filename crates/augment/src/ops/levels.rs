//! Changes of the levels of each channel, as `PIL.ImageOps` makes them to 8-bit images. Planes are
//! rounded to the nearest whole level first.

use super::split;

/// Spreads each channel's levels over 0 to 255; a channel of one level stays as it is.
pub fn autocontrast(planes: &mut [f32]) {
    for plane in split(planes) {
        let counts = histogram(plane);
        let used = || (0..256).filter(|&level| counts[level] > 0);
        let (Some(least), Some(most)) = (used().min(), used().max()) else { continue };
        if least == most {
            continue;
        }
        let scale = 255.0 / (most - least) as f32;
        look_up(plane, |level| ((level as f32 - least as f32) * scale).floor());
    }
}

/// Gives each channel a histogram as even as its levels allow.
pub fn equalize(planes: &mut [f32]) {
    for plane in split(planes) {
        let counts = histogram(plane);
        let Some(most) = (0..256).rfind(|&level| counts[level] > 0) else { continue };
        let step = (plane.len() - counts[most]) / 255;
        if step == 0 {
            continue;
        }
        // How many pixels are below each level.
        let mut below = [0; 256];
        for level in 1..256 {
            below[level] = below[level - 1] + counts[level - 1];
        }
        look_up(plane, |level| ((step / 2 + below[level]) / step) as f32);
    }
}

/// Inverts every value.
pub fn invert(planes: &mut [f32]) {
    planes.iter_mut().for_each(|value| *value = 255.0 - *value);
}

/// Keeps the highest `bits` bits of every level: 0 to 8.
pub fn posterize(planes: &mut [f32], bits: u32) {
    look_up(planes, |level| (level & !((1 << (8 - bits)) - 1)) as f32);
}

/// Adds `add` to every value below 128.
pub fn solarize_add(planes: &mut [f32], add: u32) {
    look_up(planes, |level| if level < 128 { (level + add as usize) as f32 } else { level as f32 });
}

/// The number of values nearest to each level.
fn histogram(values: &[f32]) -> [usize; 256] {
    let mut counts = [0; 256];
    values.iter().for_each(|value| counts[nearest(*value)] += 1);
    counts
}

/// Replaces every value by the new value of its nearest level, at most 255.
fn look_up(values: &mut [f32], of: impl Fn(usize) -> f32) {
    let mut table = [0.0; 256];
    table.iter_mut().enumerate().for_each(|(level, value)| *value = of(level).clamp(0.0, 255.0));
    values.iter_mut().for_each(|value| *value = table[nearest(*value)]);
}

fn nearest(value: f32) -> usize {
    value.round().clamp(0.0, 255.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three channels alike.
    fn changed(levels: &[f32], change: impl Fn(&mut [f32])) -> Vec<f32> {
        let mut planes = levels.repeat(3);
        change(&mut planes);
        assert_eq!(planes[..levels.len()], planes[2 * levels.len()..]);
        planes.truncate(levels.len());
        planes
    }

    #[test]
    fn levels_change_as_computed_by_hand() {
        // 10 to 60 spread over 255: scale 5.1, rounded down.
        assert_eq!(changed(&[10., 11., 35., 60.], autocontrast), [0., 5., 127., 255.]);
        assert_eq!(changed(&[7., 7.], autocontrast), [7., 7.]);
        assert_eq!(changed(&[0., 255., 100.4], invert), [255., 0., 154.6]);
        assert_eq!(changed(&[255., 130., 127., 63.6], |p| posterize(p, 2)), [192., 128., 64., 64.]);
        assert_eq!(changed(&[255., 1.], |p| posterize(p, 0)), [0., 0.]);
        assert_eq!(
            changed(&[0., 127., 128., 200.], |p| solarize_add(p, 110)),
            [110., 237., 128., 200.]
        );
    }

    #[test]
    fn equalizing_counts_the_pixels_below_each_level() {
        // 1020 pixels: 510 of level 3, 255 of 9, 255 of 20. The step is (1020 − 255) / 255 = 3.
        // Level 3 has none below it: 1 / 3 = 0; 9 has 510: 511 / 3 = 170; 20 has 765: 766 / 3 =
        // 255.
        let levels: Vec<f32> =
            [(3., 510), (9., 255), (20., 255)].iter().flat_map(|&(l, n)| vec![l; n]).collect();
        let equal = changed(&levels, equalize);
        assert_eq!((equal[0], equal[510], equal[765]), (0., 170., 255.));
        assert_eq!(changed(&[3., 9.], equalize), [3., 9.], "too few pixels to spread");
    }
}
