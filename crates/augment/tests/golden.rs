//! Every operation against torchvision's results (interop/golden/README.md).
#![allow(clippy::unwrap_used)]

mod golden_file;

use golden_file::{Golden, kind, read_golden};
use portolan_augment::{Interpolation, ops};
use portolan_random::{Purpose, stream};
use std::collections::HashMap;

#[test]
fn golden_augment() {
    let Some(bytes) = read_golden() else { return };
    let golden = Golden::new(&bytes);
    let failed: Vec<_> =
        golden.cases.iter().filter_map(|case| check(&golden, case, 0.0).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn golden_augment_fails_on_values_moved_by_three_times_the_tolerance() {
    let Some(bytes) = read_golden() else { return };
    let golden = Golden::new(&bytes);
    for case in golden.cases.iter().filter(|case| kind(case) != "image") {
        assert!(check(&golden, case, 3.0).is_err(), "{case} passes with its expected values moved");
    }
}

#[test]
#[should_panic(expected = "no test knows the golden case sharpness_0")]
fn golden_augment_fails_on_a_case_it_does_not_know() {
    let metadata = HashMap::from([("sharpness_0".to_string(), "{}".to_string())]);
    let no_tensors: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
    let bytes = safetensors::serialize(no_tensors, Some(metadata)).unwrap();
    let _ = check(&Golden::new(&bytes), "sharpness_0", 0.0);
}

/// Computes a case and compares, with the expected values moved by so many times the tolerance.
fn check(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let number = |key| golden.number(case, key);
    let on_planes = |op: &dyn Fn(&mut [f32])| check_planes(golden, case, op, 4, moved);
    match kind(case) {
        "image" => Ok(()), // read by the other cases
        "brightness" => on_planes(&|planes| ops::brightness(planes, number("factor") as f32)),
        "contrast" => on_planes(&|planes| ops::contrast(planes, number("factor") as f32)),
        "saturation" => on_planes(&|planes| ops::saturation(planes, number("factor") as f32)),
        "grayscale" => on_planes(&ops::grayscale),
        "hue" => check_planes(
            golden,
            case,
            &|planes| ops::hue(planes, number("factor") as f32),
            6,
            moved,
        ),
        "solarize" => check_planes(
            golden,
            case,
            &|planes| ops::solarize(planes, number("threshold") as u8),
            0,
            moved,
        ),
        "hflip" => {
            let width = golden.source(case).width() as usize;
            check_planes(golden, case, &|planes| ops::horizontal_flip(planes, width), 0, moved)
        }
        "gaussian_blur" => {
            assert_eq!(golden.settings[case]["padding"], "reflect", "{case}");
            let width = golden.source(case).width() as usize;
            let (sigma, kernel) = (number("sigma"), number("kernel") as u32);
            on_planes(&|planes| ops::gaussian_blur(planes, width, sigma, kernel))
        }
        "rotate90" => {
            let turned = ops::rotate90(&golden.source(case), number("quarter_turns_ccw") as u32);
            golden.check_image(case, &turned, 0, moved)
        }
        "resized_crop" => check_resized_crop(golden, case, moved),
        "random_resized_crop" => check_random_regions(golden, case, moved),
        "normalize" => check_normalize(golden, case, moved),
        _ => panic!("no test knows the golden case {case}"),
    }
}

fn check_planes(
    golden: &Golden,
    case: &str,
    op: &dyn Fn(&mut [f32]),
    most: u8,
    moved: f64,
) -> Result<(), String> {
    let image = golden.source(case);
    let mut planes = vec![0.0; image.as_raw().len()];
    ops::to_planes(&image, &mut planes);
    op(&mut planes);
    golden.check_image(case, &ops::to_image(&planes, image.width() as usize), most, moved)
}

fn check_resized_crop(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let settings = &golden.settings[case];
    assert_eq!(settings["antialias"], true, "{case}");
    let interpolation =
        serde_json::from_value::<Interpolation>(settings["interpolation"].clone()).unwrap();
    let pixels = |key| golden.number(case, key) as u32;
    let size = pixels("size");
    let region = ops::Region {
        top: pixels("top"),
        left: pixels("left"),
        height: pixels("height"),
        width: pixels("width"),
    };
    let mut planes = vec![0.0; 3 * (size * size) as usize];
    ops::resized_crop(&golden.source(case), region, size as usize, interpolation, &mut planes);
    golden.check_image(case, &ops::to_image(&planes, size as usize), 4, moved)
}

/// Quantiles of the regions that are drawn, each within 0.02 of what its quantity can range over.
fn check_random_regions(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let pair = |key| <[f64; 2]>::try_from(golden.numbers(case, key)).unwrap();
    let (scale, ratio) = (pair("scale"), pair("ratio"));
    let (height, width) = (golden.number(case, "height"), golden.number(case, "width"));
    let mut rng = stream(0, Purpose::View, &[]);
    // Ten times the golden draws, so that what differs by chance is hardly more than their own
    // share.
    let regions: Vec<_> = (0..10 * golden.number(case, "draws") as usize)
        .map(|_| ops::random_region(width as u32, height as u32, scale, ratio, &mut rng))
        .collect();
    let compare = |name: &str, of: &dyn Fn(&ops::Region) -> f64, range: f64| {
        let mut drawn: Vec<f64> = regions.iter().map(of).collect();
        drawn.sort_by(f64::total_cmp);
        let expected = golden.floats(&format!("{case}.out.{name}"));
        for (quantile, expected) in golden.numbers(case, "quantiles").iter().zip(expected) {
            let actual = drawn[(quantile * (drawn.len() - 1) as f64).round() as usize];
            if (actual - expected - moved * 0.02 * range).abs() > 0.02 * range {
                return Err(format!(
                    "{case}: quantile {quantile} of {name} is {actual}, expected {expected}"
                ));
            }
        }
        Ok(())
    };
    compare("area", &|r| f64::from(r.width * r.height) / (width * height), scale[1] - scale[0])?;
    compare("aspect", &|r| f64::from(r.width) / f64::from(r.height), ratio[1] - ratio[0])?;
    compare("top", &|r| f64::from(r.top), height)?;
    compare("left", &|r| f64::from(r.left), width)
}

/// Relative to the largest value, 1e-5: nothing is rounded to levels here.
fn check_normalize(golden: &Golden, case: &str, moved: f64) -> Result<(), String> {
    let crop: Vec<u32> = golden.numbers(case, "crop").into_iter().map(|n| n as u32).collect();
    let expected = golden.floats(&format!("{case}.out.chw"));
    let shape = golden.tensors.tensor(&format!("{case}.out.chw")).unwrap().shape().to_vec();
    let (left, top, width, height) = (crop[0], crop[1], crop[2], crop[3]);
    assert_eq!(
        shape,
        [3, height as usize, width as usize],
        "{case}: crop is left, top, width, height"
    );
    let image =
        image::imageops::crop_imm(&golden.source(case), left, top, width, height).to_image();
    let mut planes = vec![0.0; expected.len()];
    ops::to_planes(&image, &mut planes);
    let triple = |key| <[f64; 3]>::try_from(golden.numbers(case, key)).unwrap().map(|n| n as f32);
    ops::normalize(&mut planes, triple("mean"), triple("std"));
    let tolerance =
        1e-5 * expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (i, (actual, expected)) in planes.iter().zip(expected).enumerate() {
        if (f64::from(*actual) - expected - moved * tolerance).abs() > tolerance {
            return Err(format!("{case}: value {i} is {actual}, expected {expected}"));
        }
    }
    Ok(())
}
