//! The encoders against torchvision and timm: names, shapes, features and gradients.
//! Weights and inputs come from the formula in interop/golden/README.md.
#![allow(clippy::unwrap_used)]

use portolan_encoders::{EncoderConfig, ResNetConfig, Stem, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, channels_last, io, no_grad};
use portolan_testing::formula::{fill, images, unit};
use portolan_testing::golden::{self, difference};
use serde_json::Value;
use std::path::PathBuf;

const TOLERANCE: f64 = 1e-4;
/// In training mode, batch norm over the eight last pixels of two small images amplifies rounding:
/// for ResNet-50 at 64 pixels, PyTorch's own float32 and float64 differ by 1.7e-4.
const TRAIN_TOLERANCE: f64 = 3e-4;

fn path(file: &str) -> Option<PathBuf> {
    golden::path(env!("CARGO_MANIFEST_DIR"), file)
}

/// The outputs that a case expects: features and the gradient of the first weight in evaluation
/// mode, and for ResNets the features in training mode.
fn outputs(name: &str, meta: &Value) -> Vec<(&'static str, Tensor)> {
    let base = meta["base"].as_u64().unwrap();
    let (size, batch) = (meta["size"].as_i64().unwrap(), meta["batch"].as_i64().unwrap());
    let vars = Vars::new(Device::Cpu);
    let encoder = build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
    fill(&vars, base);
    let images = images(base, batch, size);
    let frozen = encoder.frozen()(&images);
    let features = encoder.forward(&images, false);
    features.square().mean(Kind::Float).backward();
    let convolution = |name: &str| name == "conv1.weight" || name == "patch_embed.proj.weight";
    let first = vars.parameters().into_iter().find(|(name, _)| convolution(name)).unwrap().1;
    let mut all = vec![
        ("features", features),
        ("features", frozen), // batch norms folded
        ("first_weight_grad", first.grad()),
    ];
    if name.starts_with("resnet") {
        all.push(("features_train_mode", no_grad(|| encoder.forward(&images, true))));
    }
    all
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
    let Some(path) = path("encoders.safetensors") else { return };
    let (tensors, metadata) = io::load(&path).unwrap();
    let mut read = std::collections::BTreeSet::new();
    for (case, json) in &metadata {
        assert!(EncoderConfig::named(case).is_ok(), "the golden case `{case}` is not known here");
        let meta: Value = serde_json::from_str(json).unwrap();
        for (what, got) in outputs(case, &meta) {
            let name = format!("{case}.out.{what}");
            let Some(expected) = tensors.get(&name) else {
                assert_eq!(name, "vit_base_patch16_224.out.first_weight_grad", "missing");
                continue; // 2.4 MB, so our own file leaves it out
            };
            let train = what == "features_train_mode";
            let tolerance = if train { TRAIN_TOLERANCE } else { TOLERANCE };
            let off = difference(&got, expected).unwrap();
            assert!(off < tolerance, "{case}: {what} is off by {off:.1e}");
            // Values off by three times the tolerance must fail.
            let moved = difference(&got, &(expected * (1.0 + 3.0 * tolerance))).unwrap();
            assert!(moved > tolerance, "{case}: a wrong {what} would not be noticed");
            read.insert(name);
        }
    }
    assert_eq!(read.len(), tensors.len(), "every expected tensor is compared");
}

#[test]
fn folded_batch_norms_change_no_features() {
    for (name, stem) in [
        ("resnet18-w8", Stem::CifarStrided),
        ("resnet18-w16", Stem::Imagenet),
        ("resnet50-w8", Stem::Imagenet),
        ("resnet50-w4", Stem::Cifar),
        ("wide_resnet50_2-w4", Stem::CifarStrided),
    ] {
        let vars = Vars::new(Device::Cpu);
        let config = ResNetConfig { stem, ..ResNetConfig::named(name).unwrap() };
        let encoder = build(&config.into(), &vars).unwrap();
        fill(&vars, 7);
        let frozen = encoder.frozen();
        for (batch, size) in [(3, 64), (2, 48)] {
            let images = Tensor::from_slice(&unit(5, batch * 3 * size * size)).to_kind(Kind::Float);
            let size = size as i64;
            let images = images.view([batch as i64, 3, size, size]);
            for images in [images.shallow_clone(), channels_last(&images)] {
                let expected = no_grad(|| encoder.forward(&images, false));
                let got = frozen(&images);
                assert!(!got.requires_grad());
                let off = ((got - &expected).norm() / expected.norm()).double_value(&[]);
                assert!(off < 1e-5, "{name}: {off:.1e}");
            }
        }
    }
}

#[test]
fn golden_encoder_keys() {
    let Some(path) = path("encoder_keys.json") else { return };
    let keys: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, expected) in keys.as_object().unwrap() {
        let vars = Vars::new(Device::Cpu);
        build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
        let ours: serde_json::Map<String, Value> =
            vars.state().into_iter().map(|(n, t)| (n, Value::from(t.size()))).collect();
        assert_eq!(&ours, expected.as_object().unwrap(), "{name}");
    }
}
