//! Random erasing (Zhong et al. 2017, arXiv 1708.04896) as in timm's `random_erasing.py`, mode
//! `pixel`.

use portolan_random::Stream;
use portolan_tensor::{Kind, Tensor};
use rand::RngExt;

/// Fills a rectangle of each normalized image of `[n, 3, height, width]` with standard normal
/// noise, with probability `p`, in place. The rectangle covers 2 % to a third of the image, and its
/// height is 0.3 to 1 / 0.3 of its width.
pub(super) fn erase(x: &Tensor, p: f64, random: &mut Stream) {
    let (height, width) = (x.size()[2], x.size()[3]);
    for image in 0..x.size()[0] {
        if random.random::<f64>() >= p {
            continue;
        }
        let sides = (0..10).find_map(|_| {
            let share = 0.02 + (1.0 / 3.0 - 0.02) * random.random::<f64>();
            let aspect = (0.3f64.ln() * (1.0 - 2.0 * random.random::<f64>())).exp();
            sides(share, aspect, height, width)
        });
        let Some((rows, columns)) = sides else { continue };
        let top = random.random_range(0..=height - rows);
        let left = random.random_range(0..=width - columns);
        let part = x.get(image).narrow(1, top, rows).narrow(2, left, columns);
        part.shallow_clone().copy_(&Tensor::randn(part.size(), (Kind::Float, x.device())));
    }
}

/// Height and width of a rectangle with this share of the area and this height / width; `None` if
/// it spans a whole side.
fn sides(share: f64, aspect: f64, height: i64, width: i64) -> Option<(i64, i64)> {
    let area = share * (height * width) as f64;
    let rows = (area * aspect).sqrt().round_ties_even() as i64;
    let columns = (area / aspect).sqrt().round_ties_even() as i64;
    (rows < height && columns < width).then_some((rows, columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_random::{Purpose, stream};
    use portolan_tensor::{Device, seed};

    #[test]
    fn rectangles_have_their_share_of_the_area() {
        // A quarter of 32 × 32 is 256 pixels: 16 × 16, 24 × 11 (23.96 × 10.68), and 32 × 8, which
        // is as high as the image.
        assert_eq!(sides(0.25, 1.0, 32, 32), Some((16, 16)));
        assert_eq!(sides(0.25, 574.0 / 256.0, 32, 32), Some((24, 11)));
        assert_eq!(sides(0.25, 4.0, 32, 32), None);
    }

    #[test]
    fn a_quarter_of_the_images_lose_a_rectangle_of_noise() {
        seed(0);
        let x = Tensor::zeros([400, 3, 16, 16], (Kind::Float, Device::Cpu));
        erase(&x, 0.25, &mut stream(0, Purpose::Mixup, &[2]));
        let erased = x.ne(0.0).sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Int64);
        let pixels: Vec<i64> = Vec::try_from(erased).expect("one number an image");
        let hit: Vec<i64> = pixels.into_iter().filter(|&values| values > 0).collect();
        assert!((74..126).contains(&hit.len()), "{} of 400: 100 ± 3 deviations", hit.len());
        // 2 % to a third of 3 × 256 values, give or take the rounding of sides.
        assert!(hit.iter().all(|values| (9..300).contains(values)), "{hit:?}");
        let values = x.masked_select(&x.ne(0.0));
        let std = values.std(true).double_value(&[]);
        assert!((std - 1.0).abs() < 0.02, "{std}");
    }
}
