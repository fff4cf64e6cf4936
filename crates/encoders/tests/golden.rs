//! The encoders against torchvision: names, shapes, features and gradients.
//! Weights and inputs come from the formula in the golden folder's README.
#![allow(clippy::unwrap_used)]

use portolan_encoders::{EncoderConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, io, no_grad};
use serde_json::Value;
use std::path::PathBuf;

/// Cases for encoders that are still to come.
const NOT_YET_BUILT: [&str; 3] =
    ["vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"];
const TOLERANCE: f64 = 1e-4;

fn golden(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PORTOLAN_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden")),
        PathBuf::from,
    );
    let path = folder.join(file);
    if !path.exists() {
        assert!(std::env::var_os("PORTOLAN_GOLDEN").is_none(), "{} is missing", path.display());
        println!("skipped: no golden values at {}", path.display());
        return None;
    }
    Some(path)
}

/// `unit(s, n)` of the README: n values of variance 1.
fn unit(s: u64, n: usize) -> Vec<f64> {
    let value = |j: usize| {
        let mut x = (s << 32).wrapping_add(j as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        3f64.sqrt() * (2.0 * (x >> 11) as f64 / 2f64.powi(53) - 1.0)
    };
    (0..n).map(value).collect()
}

fn fill(vars: &Vars, base: u64) {
    let mut state = vars.state();
    state.sort_by(|a, b| a.0.cmp(&b.0));
    for (i, (name, tensor)) in state.iter().enumerate() {
        if tensor.kind() == Kind::Int64 {
            continue;
        }
        let shape = tensor.size();
        let v = Tensor::from_slice(&unit(base + i as u64, tensor.numel())).view(&shape[..]);
        let value = if name.ends_with("running_var") {
            v.square() * 0.25 + 1.0
        } else if shape.len() == 1 && name.ends_with("weight") {
            v * 0.1 + 1.0
        } else if shape.len() == 1 {
            v * 0.1
        } else if name.ends_with("pos_embed") || name.ends_with("token") {
            v * 0.02
        } else {
            v * (2.0 / (tensor.numel() as f64 / shape[0] as f64)).sqrt()
        };
        no_grad(|| tensor.shallow_clone().copy_(&value));
    }
}

/// The largest difference, relative to the largest expected value.
fn difference(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size());
    let worst = (got - expected).abs().max().double_value(&[]);
    let relative = worst / expected.abs().max().double_value(&[]);
    if relative.is_nan() { f64::INFINITY } else { relative }
}

/// What a case expects, computed by our encoder: features and the first weight's gradient in evaluation
/// mode, features in training mode.
fn outputs(name: &str, meta: &Value) -> [(&'static str, Tensor); 3] {
    let base = meta["base"].as_u64().unwrap();
    let (size, batch) = (meta["size"].as_i64().unwrap(), meta["batch"].as_i64().unwrap());
    let vars = Vars::new(Device::Cpu);
    let encoder = build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
    fill(&vars, base);
    let images = Tensor::from_slice(&unit(base + 999, (batch * 3 * size * size) as usize))
        .to_kind(Kind::Float)
        .view([batch, 3, size, size]);
    let features = encoder.forward(&images, false);
    features.square().mean(Kind::Float).backward();
    let first = vars.parameters().into_iter().find(|(name, _)| name == "conv1.weight").unwrap().1;
    let train = no_grad(|| encoder.forward(&images, true));
    [("features", features), ("first_weight_grad", first.grad()), ("features_train_mode", train)]
}

#[test]
fn golden_formula_gives_the_values_of_the_readme() {
    let expected = [1.273699963051, -0.571740927387, 1.274498152807, 0.486911487863];
    for (got, expected) in unit(1000, 4).into_iter().zip(expected) {
        assert!((got - expected).abs() < 1e-11);
    }
}

#[test]
fn golden_encoders() {
    let Some(path) = golden("encoders.safetensors") else { return };
    let (tensors, metadata) = io::load(&path).unwrap();
    let mut read = 0;
    for (case, json) in &metadata {
        if NOT_YET_BUILT.contains(&case.as_str()) {
            continue;
        }
        assert!(EncoderConfig::named(case).is_ok(), "the golden case `{case}` is not known here");
        let meta: Value = serde_json::from_str(json).unwrap();
        for (what, got) in outputs(case, &meta) {
            let expected = &tensors[&format!("{case}.out.{what}")];
            let off = difference(&got, expected);
            assert!(off < TOLERANCE, "{case}: {what} is off by {off:.1e}");
            // Values moved by three times the tolerance must be told apart.
            let moved = difference(&got, &(expected * (1.0 + 3.0 * TOLERANCE)));
            assert!(moved > TOLERANCE, "{case}: a wrong {what} would not be noticed");
            read += 1;
        }
    }
    let expected = tensors.keys().filter(|k| !NOT_YET_BUILT.iter().any(|n| k.starts_with(n)));
    assert_eq!(read, expected.count(), "every expected tensor is compared");
}

#[test]
fn golden_encoder_keys() {
    let Some(path) = golden("encoder_keys.json") else { return };
    let keys: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, expected) in keys.as_object().unwrap() {
        if NOT_YET_BUILT.contains(&name.as_str()) {
            continue;
        }
        let vars = Vars::new(Device::Cpu);
        build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
        let ours: serde_json::Map<String, Value> =
            vars.state().into_iter().map(|(n, t)| (n, Value::from(t.size()))).collect();
        assert_eq!(&ours, expected.as_object().unwrap(), "{name}");
    }
}
