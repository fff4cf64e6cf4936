//! The encoders of DINOv2, DINOv3, DeiT III and CLIP, and deeper convolutional networks, against
//! timm and torchvision: names, shapes, features, tokens and gradients. Weights and inputs come
//! from the formula in interop/golden/README.md.
#![allow(clippy::unwrap_used)]

use portolan_encoders::{Encoder, EncoderConfig, Mlp, Pool, PositionScaling, VitConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, io};
use portolan_testing::formula::{fill, images_of};
use portolan_testing::golden::{self, difference};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

const TOLERANCE: f64 = 1e-4;

/// Encoders of the same files that golden_encoders2_conv.rs compares.
const CONVOLUTIONAL: [&str; 3] = ["resnet101", "wide_resnet50_2", "convnext_tiny"];
/// The language models of `encoder_keys2.json`, which are no encoders of images.
const LANGUAGE: [&str; 2] = ["bert", "gpt2"];

fn path(file: &str) -> Option<PathBuf> {
    golden::path(env!("CARGO_MANIFEST_DIR"), file)
}

/// The encoder of this name with these shapes. The metadata of a case tell how it pools, and what
/// no shape tells.
fn config(name: &str, shapes: &Value, meta: &Value) -> EncoderConfig {
    let config = match name {
        "vit_giant_like_swiglu" => swiglu(shapes, meta).into(),
        _ => EncoderConfig::named(name).unwrap_or_else(|_| panic!("`{name}` is not known here")),
    };
    match config {
        EncoderConfig::Vit(vit) => of_shapes(vit, shapes, meta).into(),
        config => config,
    }
}

/// The small transformer of the `arch` in the metadata.
fn swiglu(shapes: &Value, meta: &Value) -> VitConfig {
    let arch: Vec<&str> = meta["arch"].as_str().unwrap().split([' ', ',']).collect();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let heads = arch[arch.iter().position(|word| *word == "heads").unwrap() - 1];
    let [width, _, patch, _] = sizes(shapes, "patch_embed.proj.weight")[..] else { panic!() };
    let depth = (0..).take_while(|i| !shapes[format!("blocks.{i}.norm1.weight")].is_null()).count();
    VitConfig {
        mlp: Mlp::SwiGlu,
        layer_scale: 1.0,
        position_scaling: PositionScaling::Antialias,
        ..VitConfig::plain([width, depth as i64, number(heads)], patch, patch)
    }
}

/// A transformer with positions for the images of these shapes.
fn of_shapes(mut vit: VitConfig, shapes: &Value, meta: &Value) -> VitConfig {
    if !shapes["pos_embed"].is_null() {
        let patches = sizes(shapes, "pos_embed")[1] - i64::from(vit.class_position);
        vit.image = vit.patch * (patches as f64).sqrt() as i64;
    }
    vit.pool = match meta["pool"].as_str() {
        Some("avg") => Pool::Mean,
        _ => Pool::ClassToken,
    };
    vit
}

fn sizes(shapes: &Value, name: &str) -> Vec<i64> {
    serde_json::from_value(shapes[name].clone()).unwrap()
}

/// The outputs that a case expects.
fn outputs(encoder: &dyn Encoder, meta: &Value) -> Vec<(&'static str, Tensor)> {
    let base = meta["base"].as_u64().unwrap();
    fill(encoder.vars(), base);
    let size = match &meta["size"] {
        Value::Array(_) => serde_json::from_value(meta["size"].clone()).unwrap(),
        size => [size.as_i64().unwrap(); 2],
    };
    let images = images_of(base, meta["batch"].as_i64().unwrap(), size);
    let features = encoder.forward(&images, false);
    features.square().mean(Kind::Float).backward();
    let first = |(name, _): &(String, Tensor)| FIRST.contains(&name.as_str());
    let first = encoder.vars().parameters().into_iter().find(first).unwrap().1;
    let mut all = vec![
        ("features", features),
        ("features", encoder.frozen()(&images)),
        ("first_weight_grad", first.grad()),
    ];
    if let Some(vit) = encoder.as_vit() {
        all.push(("tokens", vit.tokens(&images, None, false).unwrap()));
    }
    all
}

/// The first layers.
const FIRST: [&str; 3] = ["patch_embed.proj.weight", "conv1.weight", "stem.0.weight"];

fn keys() -> Option<Value> {
    let path = path("encoder_keys2.json")?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn golden_encoders2() {
    portolan_tensor::tch::set_num_threads(1);
    let (Some(path), Some(keys)) = (path("encoders2.safetensors"), keys()) else { return };
    let (tensors, metadata) = io::load(&path).unwrap();
    let mut read = BTreeSet::new();
    for (case, json) in &metadata {
        let name = case.strip_suffix("_larger").unwrap_or(case);
        if CONVOLUTIONAL.contains(&name) {
            let of_case = tensors.keys().filter(|tensor| tensor.starts_with(&format!("{case}.")));
            read.extend(of_case.cloned());
            continue;
        }
        let meta: Value = serde_json::from_str(json).unwrap();
        let encoder = build(&config(name, &keys[name], &meta), &Vars::new(Device::Cpu)).unwrap();
        for (what, got) in outputs(&*encoder, &meta) {
            let name = format!("{case}.out.{what}");
            let expected = tensors.get(&name).unwrap_or_else(|| panic!("no {name}"));
            let off = difference(&got, expected).unwrap();
            assert!(off < TOLERANCE, "{case}: {what} is off by {off:.1e}");
            // Values off by three times the tolerance must fail.
            let moved = difference(&got, &(expected * (1.0 + 3.0 * TOLERANCE))).unwrap();
            assert!(moved > TOLERANCE, "{case}: a wrong {what} would not be noticed");
            read.insert(name);
        }
    }
    assert!(!read.is_empty());
    let unread: Vec<&String> = tensors.keys().filter(|name| !read.contains(*name)).collect();
    assert!(unread.is_empty(), "{unread:?} are not compared");
}

#[test]
fn golden_encoder_keys2() {
    let Some(keys) = keys() else { return };
    for (name, expected) in keys.as_object().unwrap() {
        if CONVOLUTIONAL.contains(&name.as_str()) || LANGUAGE.contains(&name.as_str()) {
            continue;
        }
        let meta = serde_json::json!({ "arch": "1 heads" });
        let vars = Vars::new(Device::Cpu);
        build(&config(name, expected, &meta), &vars).unwrap();
        let ours: serde_json::Map<String, Value> =
            vars.state().into_iter().map(|(n, t)| (n, Value::from(t.size()))).collect();
        assert_eq!(&ours, expected.as_object().unwrap(), "{name}");
    }
}
