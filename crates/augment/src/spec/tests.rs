//! Specifications that are refused, and their form in TOML.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::presets;

fn complaint(change: impl Fn(&mut Vec<Op>)) -> String {
    let mut spec = presets::simclr(32);
    change(&mut spec.ops);
    spec.validate().unwrap_err().to_string()
}

#[test]
fn refuses_a_wrong_order_and_says_which_operation() {
    let swapped = complaint(|ops| ops.swap(0, 1));
    assert!(swapped.starts_with("operation 1") && swapped.contains("it comes first"), "{swapped}");
    let second_crop = complaint(|ops| ops.insert(2, ops[0].clone()));
    assert!(
        second_crop.starts_with("operation 3") && second_crop.contains("one crop"),
        "{second_crop}"
    );
    let early = complaint(|ops| ops.insert(1, ops[ops.len() - 1].clone()));
    assert!(early.starts_with("operation 2") && early.contains("one `normalize`"), "{early}");
    let missing = complaint(|ops| ops.truncate(3));
    assert!(missing.starts_with("operation 3") && missing.contains("comes last"), "{missing}");
    assert!(complaint(Vec::clear).contains("no operations"));
}

#[test]
fn refuses_impossible_values_and_names_them() {
    let crop = |size, scale| Op::RandomResizedCrop {
        size,
        scale,
        ratio: default_ratio(),
        interpolation: Interpolation::Bilinear,
    };
    let jitter = |brightness, hue| Op::ColorJitter {
        p: 0.8,
        brightness,
        contrast: 0.4,
        saturation: 0.4,
        hue,
    };
    for (place, op, needed) in [
        (0, crop(0, [0.2, 1.0]), "`size` is 0"),
        (
            0,
            crop(32, [0.0, 1.0]),
            "`scale` is [0.0, 1.0]; it has to be [least, greatest] above 0 and at most 1",
        ),
        (0, crop(32, [0.9, 0.2]), "`scale` is [0.9, 0.2]"),
        (0, crop(32, [0.2, 1.1]), "at most 1"),
        (
            0,
            Op::CenterCrop { resize: 30, size: 32, interpolation: Interpolation::Bilinear },
            "`resize` is 30",
        ),
        (1, Op::HorizontalFlip { p: 1.5 }, "`p` is 1.5; it has to be at least 0 and at most 1"),
        (1, Op::Grayscale { p: f64::NAN }, "`p` is NaN"),
        (1, jitter(-0.1, 0.1), "`brightness` is -0.1; it has to be at least 0"),
        (1, jitter(0.4, 0.6), "`hue` is 0.6"),
        (
            1,
            Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0], kernel: 22 },
            "`kernel` is 22; it has to be odd",
        ),
        (1, Op::GaussianBlur { p: 0.5, sigma: [0.0, 2.0], kernel: 23 }, "`sigma` is [0.0, 2.0]"),
        (5, Op::Normalize { mean: [0.5; 3], std: [0.2, 0.0, 0.2] }, "`std` is [0.2, 0.0, 0.2]"),
    ] {
        let said = complaint(|ops| ops[place] = op.clone());
        let expected = format!("operation {} of the view: ", place + 1);
        assert!(said.starts_with(&expected) && said.contains(needed), "{said}");
    }
}

#[test]
fn toml_keeps_every_value_and_refuses_unknown_keys() {
    for spec in [presets::moco_v1(224), presets::simclr(224), presets::evaluation(256, 224)] {
        assert_eq!(toml::from_str::<ViewSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }
    let unknown =
        toml::from_str::<ViewSpec>(r#"ops = [{ op = "grayscale", p = 0.2, q = 1 }]"#).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `q`"), "{unknown}");
    let unknown =
        toml::from_str::<ViewSpec>(r#"ops = [{ op = "greyscale", p = 0.2 }]"#).unwrap_err();
    assert!(unknown.to_string().contains("unknown variant `greyscale`"), "{unknown}");
}

#[test]
fn normalization_is_replaced() {
    let spec = presets::simclr(32).with_normalization([0.1; 3], [0.2; 3]);
    assert_eq!(spec.ops.last(), Some(&Op::Normalize { mean: [0.1; 3], std: [0.2; 3] }));
    assert_eq!(spec.ops.len(), presets::simclr(32).ops.len());
}
