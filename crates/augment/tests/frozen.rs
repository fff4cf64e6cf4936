//! The views and draws of every preset, frozen: a change here changes every result anyone has
//! recorded.

use image::RgbImage;
use portolan_augment::{ViewSpec, cpu, presets};
use portolan_random::{Purpose, stream};

/// A view; the checksum of 16 images that the CPU engine made; the checksum of the draws for a
/// batch of 16 and the mean of what the device engine made of them (`None` if it makes no such
/// view).
type Frozen = (&'static str, ViewSpec, u64, Option<(u64, f64)>);

#[rustfmt::skip]
fn frozen() -> Vec<Frozen> {
    let [byol_1, byol_2] = presets::byol(32);
    let dino = presets::dino(32, 16, 1);
    vec![
        ("moco_v1", presets::moco_v1(32), 0x50a7_694e_d3dc_58de, Some((0xae2c_9caa_66de_00df, -0.1370))),
        ("moco_v2", presets::moco_v2(32), 0x42dd_37cc_8dd7_81e9, Some((0x074f_97ec_341a_0959, -0.1894))),
        ("simclr", presets::simclr(32), 0x15b3_8508_17df_7062, Some((0xf801_7fba_423c_8eec, -0.0487))),
        ("byol, first view", byol_1, 0x2349_062d_c59d_1670, Some((0xecbd_7b9b_bc2d_f94c, -0.0668))),
        ("byol, second view", byol_2, 0xe931_65e5_310b_cd37, Some((0x374d_0469_e5e5_7bd3, -0.3115))),
        ("dino, first global view", dino[0].clone(), 0x2820_d803_67cc_0399, Some((0x9267_8972_db19_f75c, -0.0756))),
        ("dino, second global view", dino[1].clone(), 0x7aa8_6bdb_dc11_8210, Some((0x06ed_9bb0_e75f_7aa3, -0.3067))),
        ("dino, local view", dino[2].clone(), 0xf01f_ec14_920e_7384, Some((0xa497_e17f_468e_8b54, -0.1164))),
        ("mae", presets::mae(32), 0x8f71_8b61_4972_4bcc, Some((0x26d6_eafe_038a_a1a5, -0.1300))),
        ("small_images", presets::small_images(32), 0xc23e_6571_ab27_95bf, Some((0x4f4b_edd7_5e9a_62e0, -0.0673))),
        ("finetuning", presets::finetuning(32), 0x097b_841d_f0cc_361e, None),
        ("evaluation", presets::evaluation(36, 32), 0x226e_aebc_3d60_e0b5, Some((0xcbf2_9ce4_8422_2325, -0.1335))),
    ]
}

/// Slowly changing colors, with edges.
fn test_image(i: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let edge = if (x + y + i) % 13 < 3 { 70 } else { 0 };
        let wave = |a: u32, b: u32| ((a * x + b * y + 41 * i) % 180 + edge) as u8;
        image::Rgb([wave(2, 3), wave(5, 1), wave(1, 4)])
    })
}

/// FNV-1a.
fn checksum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn views_of_the_cpu_engine_never_change() {
    for (name, spec, expected, _) in frozen() {
        let mut levels = Vec::new();
        for item in 0..16u32 {
            let image = test_image(item, 40 + item, 50);
            let mut rng = stream(9, Purpose::View, &[1, u64::from(item), 0]);
            levels.extend(cpu::preview(&spec, &image, &mut rng).into_raw());
        }
        assert_eq!(checksum(levels), expected, "{name}");
    }
}

#[cfg(feature = "device")]
mod device {
    use portolan_augment::{Adjustment, DrawnOp, Draws, device};
    use portolan_tensor::{Kind, Tensor, tch};

    use super::*;

    /// Regions, then the numbers of each operation, then the orders of the jitters.
    fn bytes_of(draws: &Draws) -> Vec<u8> {
        let (mut numbers, mut orders) = (Vec::new(), Vec::new());
        let flags = |applied: &[bool]| -> Vec<f32> {
            applied.iter().map(|&applied| f32::from(u8::from(applied))).collect()
        };
        let masked = |applied: &[bool], drawn: &[f32], neutral: f32| -> Vec<f32> {
            let choose = |(&applied, &n): (&bool, &f32)| if applied { n } else { neutral };
            applied.iter().zip(drawn).map(choose).collect()
        };
        let mut bytes = Vec::new();
        for op in draws.ops() {
            match op {
                DrawnOp::RandomResizedCrop { regions, .. } => {
                    let sides = regions.iter().flat_map(|r| [r.top, r.left, r.height, r.width]);
                    bytes.extend(sides.flat_map(u32::to_le_bytes));
                }
                DrawnOp::HorizontalFlip { applied }
                | DrawnOp::Grayscale { applied }
                | DrawnOp::Solarize { applied, .. } => numbers.extend(flags(applied)),
                DrawnOp::ColorJitter { applied, adjustments } => {
                    let mut rows = adjustments.each_ref().map(|adjustment| match adjustment {
                        Adjustment::Brightness(factors) => (0, masked(applied, factors, 1.0)),
                        Adjustment::Contrast(factors) => (1, masked(applied, factors, 1.0)),
                        Adjustment::Saturation(factors) => (2, masked(applied, factors, 1.0)),
                        Adjustment::Hue(turns) => (3, masked(applied, turns, 0.0)),
                    });
                    orders.extend(rows.each_ref().map(|row| row.0));
                    rows.sort_by_key(|row| row.0);
                    numbers.extend(rows.into_iter().flat_map(|row| row.1));
                }
                DrawnOp::GaussianBlur { applied, sigma, .. } => {
                    let sigma: Vec<f32> = sigma.iter().map(|&sigma| sigma as f32).collect();
                    numbers.extend(masked(applied, &sigma, 0.0));
                }
                DrawnOp::CenterCrop { .. } | DrawnOp::Normalize { .. } => {}
                DrawnOp::RandAugment { .. } => panic!("the device engine makes no RandAugment"),
            }
        }
        bytes.extend(numbers.iter().flat_map(|number| number.to_bits().to_le_bytes()));
        bytes.extend(orders);
        bytes
    }

    #[test]
    fn draws_and_views_of_the_device_engine_never_change() {
        tch::set_num_threads(1);
        let batch: Vec<u8> = (0..16).flat_map(|i| test_image(i, 40, 40).into_raw()).collect();
        let batch = Tensor::from_slice(&batch).view([16, 40, 40, 3]);
        for (name, spec, _, expected) in frozen() {
            let Some((expected_draws, expected_mean)) = expected else { continue };
            let mut rng = stream(9, Purpose::BatchViews, &[1, 0, 0]);
            let draws = Draws::new(&spec, &[(40, 40); 16], &mut rng);
            assert_eq!(checksum(bytes_of(&draws)), expected_draws, "{name}");
            // Matrix products differ in the last bits between processors.
            let mean = device::views(&batch, &draws).mean(Kind::Double).double_value(&[]);
            assert!((mean - expected_mean).abs() < 1e-3, "{name}: {mean}, not {expected_mean}");
        }
    }
}
