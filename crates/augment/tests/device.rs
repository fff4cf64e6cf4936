//! The device engine, on the CPU as its device: every operation against torchvision's results, and
//! its views against the CPU engine's.
#![cfg(feature = "device")]
#![allow(clippy::unwrap_used)]

mod golden_file;

use golden_file::{Golden, kind, read_golden};
use image::RgbImage;
use portolan_augment::device::{self, ops};
use portolan_augment::ops::Region;
use portolan_augment::{Adjustment, DrawnOp, Draws, Interpolation, cpu, presets};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Kind, Tensor, tch};

#[test]
fn golden_augment_on_the_device() {
    tch::set_num_threads(1);
    let Some(bytes) = read_golden() else { return };
    let golden = Golden::new(&bytes);
    let failed: Vec<_> =
        golden.cases.iter().filter_map(|case| check(&golden, case, 0.0).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let known = golden.cases.iter().filter(|case| !NOT_OF_THE_DEVICE.contains(&kind(case)));
    for case in known {
        assert!(check(&golden, case, 3.0).is_err(), "{case} passes with expected values moved");
    }
}

/// Read by other cases, drawn by the same function as on the CPU, or no operation of a view.
const NOT_OF_THE_DEVICE: [&str; 3] = ["image", "random_resized_crop", "rotate90"];

fn check(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let number = |key| golden.number(case, key);
    let planes = || ops::to_planes(&batch(&[&golden.source(case)]));
    let compare = |out: Tensor, most| golden.check_image(case, &image(&out), most, moved);
    let factor = || each(&[number("factor") as f32]);
    let applied = each(&[1.0]);
    match kind(case) {
        name if NOT_OF_THE_DEVICE.contains(&name) => Ok(()),
        "brightness" => compare(ops::brightness(&planes(), &factor()), 4),
        "contrast" => compare(ops::contrast(&planes(), &factor()), 4),
        "saturation" => compare(ops::saturation(&planes(), &factor()), 4),
        "hue" => compare(ops::hue(&planes(), &factor()), 6),
        "grayscale" => compare(ops::grayscale(&planes(), &applied).expand_as(&planes()), 4),
        "solarize" => compare(ops::solarize(&planes(), &applied, number("threshold") as u8), 0),
        "hflip" => compare(ops::horizontal_flip(&planes(), &applied), 0),
        "gaussian_blur" => {
            let sigma = each(&[number("sigma") as f32]);
            compare(ops::gaussian_blur(&planes(), &sigma, number("kernel") as u32), 4)
        }
        "resized_crop" => {
            let pixels = |key| number(key) as u32;
            let [top, left] = [pixels("top"), pixels("left")];
            let region = Region { top, left, height: pixels("height"), width: pixels("width") };
            let interpolation = golden.settings[case]["interpolation"].clone();
            let interpolation = serde_json::from_value::<Interpolation>(interpolation).unwrap();
            let size = number("size") as i64;
            compare(ops::resized_crop(&planes(), &[region], size, interpolation), 4)
        }
        "normalize" => check_normalize(golden, case, moved),
        _ => panic!("no test knows the golden case {case}"),
    }
}

/// Relative to the largest value, 1e-5.
fn check_normalize(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let crop: Vec<u32> = golden.numbers(case, "crop").into_iter().map(|n| n as u32).collect();
    let image = golden.source(case);
    let image = image::imageops::crop_imm(&image, crop[0], crop[1], crop[2], crop[3]).to_image();
    let triple = |key| <[f64; 3]>::try_from(golden.numbers(case, key)).unwrap().map(|n| n as f32);
    let out = ops::normalize(ops::to_planes(&batch(&[&image])), triple("mean"), triple("std"));
    let expected = Tensor::from_slice(&golden.floats(&format!("{case}.out.chw")));
    let tolerance = 1e-5 * expected.abs().max().double_value(&[]);
    let worst = (out.view([-1]) - expected - moved * tolerance).abs().max().double_value(&[]);
    if worst <= tolerance { Ok(()) } else { Err(format!("{case}: differs by {worst}")) }
}

/// Photograph-like images of one size, whose colors and edges differ.
fn test_images(n: u32, size: u32) -> Vec<RgbImage> {
    let pixel = |i: u32, x: u32, y: u32| {
        let wave = |a: u32, b: u32| ((a * x + b * y + 37 * i) % 97) as f32 / 97.0 * 255.0;
        let edge = if (x + i).is_multiple_of(11) { 60.0 } else { 0.0 };
        [wave(2, 1), wave(1, 3) * 0.7 + edge, wave(3, 2) * 0.5].map(|v: f32| v.min(255.0) as u8)
    };
    let image = |i| RgbImage::from_fn(size, size, |x, y| image::Rgb(pixel(i, x, y)));
    (0..n).map(image).collect()
}

/// `[batch, height, width, 3]`.
fn batch(images: &[&RgbImage]) -> Tensor {
    let (width, height) = images[0].dimensions();
    let bytes: Vec<u8> = images.iter().flat_map(|image| image.as_raw().iter().copied()).collect();
    Tensor::from_slice(&bytes).view([images.len() as i64, height.into(), width.into(), 3])
}

fn each(numbers: &[f32]) -> Tensor {
    Tensor::from_slice(numbers).view([-1, 1, 1, 1])
}

/// The first image of planes, rounded.
fn image(planes: &Tensor) -> RgbImage {
    let pixels = planes.get(0).permute([1, 2, 0]).contiguous().round();
    let (height, width) = (pixels.size()[0] as u32, pixels.size()[1] as u32);
    let bytes = Vec::<u8>::try_from(pixels.to_kind(Kind::Uint8).view([-1])).unwrap();
    RgbImage::from_raw(width, height, bytes).unwrap()
}

#[test]
fn the_same_draws_make_the_cpu_engines_views() {
    tch::set_num_threads(1);
    let images = test_images(24, 40);
    let images: Vec<&RgbImage> = images.iter().collect();
    let pixels = batch(&images);
    let mut specs = vec![presets::simclr(32), presets::moco_v1(24), presets::mae(48)];
    specs.extend(presets::byol(32));
    specs.push(presets::evaluation(36, 32));
    for (v, mut spec) in specs.into_iter().enumerate() {
        spec.ops.pop(); // levels are easier to compare than normalized values
        let mut rng = stream(3, Purpose::BatchViews, &[v as u64]);
        let draws = Draws::new(&spec, &[(40, 40); 24], &mut rng);
        let made = device::views(&pixels, &draws);
        let mut expected = vec![0.0; 3 * draws.size() * draws.size()];
        for (i, image) in images.iter().enumerate() {
            cpu::drawn_view(&draws, i, image, &mut expected);
            let expected = Tensor::from_slice(&expected);
            let difference = (made.get(i as i64).reshape([-1]) - expected).abs();
            // Resizing may round a level the other way. Hue's steps and solarizing may enlarge
            // that.
            let mean = difference.mean(Kind::Float).double_value(&[]);
            assert!(mean < 0.5, "view {v} of image {i} differs by {mean} levels on average");
        }
    }
}

#[test]
fn photographs_cropped_on_the_cpu_become_the_same_views() {
    tch::set_num_threads(1);
    let images = test_images(6, 40);
    let images: Vec<&RgbImage> = images.iter().collect();
    let spec = presets::simclr(32);
    let draws = Draws::new(&spec, &[(40, 40); 6], &mut stream(1, Purpose::BatchViews, &[]));
    let size = 3 * 32 * 32;
    let mut cropped = vec![0; 6 * size];
    for (i, out) in cropped.chunks_exact_mut(size).enumerate() {
        cpu::cropped(&draws, i, images[i], out);
    }
    let cropped = Tensor::from_slice(&cropped).view([6, 32, 32, 3]);
    let shipped = device::views_of_cropped(&cropped, &draws);
    let resident = device::views(&batch(&images), &draws);
    let mean = (shipped - resident).abs().mean(Kind::Float).double_value(&[]);
    assert!(mean < 0.01, "{mean}"); // a level is 0.017
}

#[test]
fn views_are_distributed_as_the_cpu_engines() {
    tch::set_num_threads(1);
    let spec = presets::byol(16)[1].clone();
    let images = test_images(32, 24);
    let images: Vec<&RgbImage> = images.iter().collect();
    let pixels = batch(&images);
    let statistics = |view: &Tensor| {
        let (std, mean) = view.std_mean(true);
        let across = view.diff(1, 2, None::<Tensor>, None::<Tensor>).abs().mean(Kind::Float);
        [mean, std, across].map(|value| value.double_value(&[]))
    };
    let mut of_device = Vec::new();
    for step in 0..100 {
        let mut rng = stream(0, Purpose::BatchViews, &[step]);
        let draws = Draws::new(&spec, &[(24, 24); 32], &mut rng);
        let views = device::views(&pixels, &draws);
        of_device.extend((0..32).map(|i| statistics(&views.get(i))));
    }
    let mut of_cpu = Vec::new();
    for item in 0..3200 {
        let mut out = vec![0.0; 3 * 16 * 16];
        let mut rng = stream(0, Purpose::View, &[item]);
        cpu::view(&spec, images[item as usize % 32], &mut rng, &mut out);
        of_cpu.push(statistics(&Tensor::from_slice(&out).view([3, 16, 16])));
    }
    for s in 0..3 {
        let sorted = |all: &[[f64; 3]]| {
            let mut values: Vec<f64> = all.iter().map(|values| values[s]).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (device, cpu) = (sorted(&of_device), sorted(&of_cpu));
        let range = cpu[3168] - cpu[32]; // 1 % to 99 %
        for percent in [5, 25, 50, 75, 95] {
            let (a, b) = (device[32 * percent], cpu[32 * percent]);
            assert!(
                (a - b).abs() < 0.04 * range, // about three standard deviations of a quantile of 3,200
                "statistic {s}, {percent} %: {a} on the device, {b} on the CPU, of a range of {range}"
            );
        }
    }
}

/// How many of an image's numbers satisfy a condition, each with the expected share.
#[derive(Default)]
struct Shares(std::collections::BTreeMap<&'static str, (f64, Vec<bool>)>);

impl Shares {
    fn add(&mut self, name: &'static str, expected: f64, holds: impl Iterator<Item = bool>) {
        self.0.entry(name).or_insert((expected, vec![])).1.extend(holds);
    }
}

#[test]
fn draws_are_those_of_the_recipe() {
    let spec = presets::byol(16)[1].clone();
    let mut shares = Shares::default();
    let mut orders = std::collections::HashSet::new();
    for step in 0..200 {
        let draw = || {
            let mut rng = stream(0, Purpose::BatchViews, &[step]);
            Draws::new(&spec, &[(24, 30); 20], &mut rng)
        };
        let draws = draw();
        assert_eq!(draws, draw());
        for op in draws.ops() {
            let flags = |applied: &Vec<bool>| applied.clone().into_iter();
            match op {
                DrawnOp::RandomResizedCrop { regions, .. } => assert_eq!(regions.len(), 20),
                DrawnOp::HorizontalFlip { applied } => shares.add("flip", 0.5, flags(applied)),
                DrawnOp::ColorJitter { applied, adjustments } => {
                    shares.add("jitter", 0.8, flags(applied));
                    orders.insert(adjustments.each_ref().map(std::mem::discriminant));
                    for adjustment in adjustments {
                        let (name, numbers, most) = match adjustment {
                            Adjustment::Brightness(factors) => ("brightness", factors, 0.8),
                            Adjustment::Contrast(factors) => ("contrast", factors, 0.8),
                            Adjustment::Saturation(factors) => ("saturation", factors, 0.9),
                            Adjustment::Hue(turns) => ("hue", turns, -0.05),
                        };
                        // A quarter of 0.6 to 1.4, of 0.8 to 1.2, and of -0.1 to 0.1.
                        shares.add(name, 0.25, numbers.iter().map(|&number| number < most));
                    }
                }
                DrawnOp::Grayscale { applied } => shares.add("gray", 0.2, flags(applied)),
                DrawnOp::GaussianBlur { applied, sigma, .. } => {
                    shares.add("blur", 0.1, flags(applied));
                    shares.add("half of the deviations", 0.5, sigma.iter().map(|&s| s > 1.05));
                }
                DrawnOp::Solarize { applied, .. } => shares.add("solarize", 0.2, flags(applied)),
                DrawnOp::Normalize { .. } => {}
                DrawnOp::CenterCrop { .. } | DrawnOp::RandAugment { .. } => panic!("{op:?}"),
            }
        }
    }
    assert_eq!(orders.len(), 24);
    assert_eq!(shares.0.len(), 10);
    for (name, (expected, holds)) in shares.0 {
        let found = holds.iter().filter(|&&holds| holds).count() as f64 / 4000.0;
        let deviation = (expected * (1.0 - expected) / 4000.0f64).sqrt();
        assert!((found - expected).abs() < 3.0 * deviation, "{name}: {found}, not {expected}");
    }
}

#[test]
fn a_blur_reflects_as_often_as_it_has_to() {
    tch::set_num_threads(1);
    for (width, height) in [(1u32, 4u32), (2, 3), (5, 40)] {
        let photo =
            RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 90 + y * 13) as u8, 7, 200]));
        let made = ops::gaussian_blur(&ops::to_planes(&batch(&[&photo])), &each(&[2.0]), 23);
        let mut planes = vec![0.0; photo.as_raw().len()];
        portolan_augment::ops::to_planes(&photo, &mut planes);
        portolan_augment::ops::gaussian_blur(&mut planes, width as usize, 2.0, 23);
        let worst =
            (made.reshape([-1]) - Tensor::from_slice(&planes)).abs().max().double_value(&[]);
        assert!(worst < 0.1, "{width} × {height}: {worst}"); // what the CPU's cut-off tails weigh
    }
}
