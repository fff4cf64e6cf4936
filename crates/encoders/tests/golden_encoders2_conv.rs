//! ResNet-101, wide ResNet-50 and ConvNeXt against torchvision and timm: names, shapes, features
//! and gradients.
#![allow(clippy::unwrap_used)]

#[path = "common/formula.rs"]
mod formula;

use formula::{fill, images};
use portolan_encoders::{EncoderConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, io};
use portolan_testing::golden::{self, difference};
use serde_json::Value;
use std::path::PathBuf;

const TOLERANCE: f64 = 1e-4;

/// The cases of this test, each also at a larger size.
const ENCODERS: [&str; 3] = ["resnet101", "wide_resnet50_2", "convnext_tiny"];

/// Our own files hold these cases alone.
fn path(file: &str, own: &str) -> Option<PathBuf> {
    let file = if std::env::var_os("PORTOLAN_GOLDEN").is_some() { file } else { own };
    golden::path(env!("CARGO_MANIFEST_DIR"), file)
}

/// Features in evaluation mode, and the gradient of the first weight, computed in `kind`.
fn outputs(name: &str, meta: &Value, kind: Kind) -> [(&'static str, Tensor); 2] {
    let base = meta["base"].as_u64().unwrap();
    let (size, batch) = (meta["size"].as_i64().unwrap(), meta["batch"].as_i64().unwrap());
    let vars = Vars::new(Device::Cpu);
    let encoder = build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
    fill(&vars, base);
    for (_, mut tensor) in vars.state() {
        if tensor.is_floating_point() {
            tensor.set_data(&tensor.to_kind(kind));
        }
    }
    let features = encoder.forward(&images(base, batch, size).to_kind(kind), false);
    features.square().mean(kind).backward();
    let first = |name: &str| name == "conv1.weight" || name == "stem.0.weight";
    let first = vars.parameters().into_iter().find(|(name, _)| first(name)).unwrap().1;
    [("features", features), ("first_weight_grad", first.grad())]
}

/// Features in float32. So is a ConvNeXt's gradient; a deep ResNet's is in float32 or in float64,
/// whichever is closer.
///
/// At a ReLU the gradient of a value near zero is 0 or 1, and a rounding error decides. In the wide
/// ResNet's larger case some of the 20 million values are nearer to zero than parts in a million,
/// so that the two precisions differ by 3e-3 of the gradient's largest value, and which of them a
/// library's build resembles depends on the order of its sums. One of the two has to be met.
#[test]
fn golden_encoders2_conv() {
    let Some(path) = path("encoders2.safetensors", "encoders2_conv.safetensors") else { return };
    let (tensors, metadata) = io::load(&path).unwrap();
    for name in ENCODERS {
        for case in [name.to_owned(), format!("{name}_larger")] {
            let meta: Value = serde_json::from_str(&metadata[&case]).unwrap();
            let computed = outputs(name, &meta, Kind::Float);
            let again = name.contains("resnet").then(|| outputs(name, &meta, Kind::Double));
            for (i, (what, got)) in computed.iter().enumerate() {
                let expected = &tensors[&format!("{case}.out.{what}")];
                let off = |expected: &Tensor| {
                    let off = difference(got, expected).unwrap();
                    let double = again.as_ref().filter(|_| *what == "first_weight_grad");
                    double.map_or(off, |it| off.min(difference(&it[i].1, expected).unwrap()))
                };
                assert!(
                    off(expected) < TOLERANCE,
                    "{case}: {what} is off by {:.1e}",
                    off(expected)
                );
                // Values off by three times the tolerance must fail.
                let moved = off(&(expected * (1.0 + 3.0 * TOLERANCE)));
                assert!(moved > TOLERANCE, "{case}: a wrong {what} would not be noticed");
            }
        }
    }
}

#[test]
fn golden_encoder_keys2_conv() {
    let Some(path) = path("encoder_keys2.json", "encoder_keys2_conv.json") else { return };
    let keys: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for name in ENCODERS {
        let vars = Vars::new(Device::Cpu);
        build(&EncoderConfig::named(name).unwrap(), &vars).unwrap();
        let ours: serde_json::Map<String, Value> =
            vars.state().into_iter().map(|(n, t)| (n, Value::from(t.size()))).collect();
        assert_eq!(&ours, keys[name].as_object().unwrap(), "{name}");
    }
}
