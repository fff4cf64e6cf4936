//! timm's hub layout: a folder with `config.json` and `model.safetensors`.

use anyhow::{Context, Result, bail, ensure};
use portolan_encoders::{EncoderConfig, Pool, Stem};
use portolan_tensor::io;
use serde_json::{Value, json};
use std::path::Path;

use crate::{Found, Shown, pth};

const CONFIG: &str = "config.json";

/// The description of an encoder of `width` features by which timm builds it again (`timm.create_model("local-dir:FOLDER")`, with the weights
/// beside it as `model.safetensors`). timm has neither ResNets with the CIFAR stems nor scaled ones: of these it says
/// what they are under `portolan`, and torchvision builds the former (interop/check.py).
pub fn hub_config(encoder: &EncoderConfig, width: i64, shown: &Shown) -> Value {
    let (architecture, pool, args, first) = match encoder {
        EncoderConfig::Vit(vit) => {
            let (pool, fc_norm) = match vit.pool {
                Pool::ClassToken => ("token", false),
                Pool::Mean => ("avg", false),
                Pool::MeanThenNorm => ("avg", true),
            };
            let args = json!({
                "img_size": vit.image, "patch_size": vit.patch, "embed_dim": vit.width,
                "depth": vit.depth, "num_heads": vit.heads, "global_pool": pool, "fc_norm": fc_norm,
            });
            ("vit_base_patch16_224".to_owned(), pool, Some(args), "patch_embed.proj")
        }
        EncoderConfig::Resnet(resnet) => {
            let name = EncoderConfig::from(resnet.clone()).name();
            let name = name.split('-').next().unwrap_or_default().to_owned();
            (name, "avg", None, "conv1")
        }
    };
    let mut config = json!({
        "architecture": architecture,
        "num_classes": 0,
        "num_features": width,
        "global_pool": pool,
        "pretrained_cfg": {
            "input_size": [3, shown.size, shown.size],
            "interpolation": shown.interpolation,
            "crop_pct": f64::from(shown.size) / f64::from(shown.resize),
            "crop_mode": "center",
            "mean": shown.mean,
            "std": shown.std,
            "num_classes": 0,
            "first_conv": first,
            "classifier": if matches!(encoder, EncoderConfig::Vit(_)) { "head" } else { "fc" },
        },
        "portolan": encoder,
    });
    if let Some(args) = args {
        config["model_args"] = args;
    }
    if shown.grayscale {
        config["pretrained_cfg"]["grayscale"] = true.into();
    }
    config
}

/// The encoder in a hub folder: Portolan's, or any of timm's of which Portolan has the architecture.
pub(crate) fn open(folder: &Path, named: Option<&EncoderConfig>) -> Result<Found> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} is neither a run's folder (it has no config.toml) nor a hub folder (no readable {CONFIG})",
            folder.display()
        )
    })?;
    let config: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let weights = ["model.safetensors", "pytorch_model.bin"].map(|name| folder.join(name));
    let Some(file) = weights.iter().find(|file| file.exists()) else {
        bail!("{} has a {CONFIG}, but no model.safetensors or pytorch_model.bin", folder.display())
    };
    of_config(&config, file, named).with_context(|| format!("{} cannot be used", folder.display()))
}

fn of_config(config: &Value, file: &Path, named: Option<&EncoderConfig>) -> Result<Found> {
    let described = match config.get("portolan") {
        Some(ours) => {
            Some(serde_json::from_value(ours.clone()).context("its `portolan` entry is damaged")?)
        }
        None => args_of(config),
    };
    let named = named.or(described.as_ref());
    let mut found = match file.extension().is_some_and(|ending| ending == "safetensors") {
        true => crate::of_tensors(&io::load(file)?.0, named)?,
        false => {
            let mut file = pth::Pth::open(file)?;
            let shapes = file.shapes();
            crate::found(&shapes, named, |name| file.tensor(name))?
        }
    };
    found.shown = shown(config, &found.shown)?;
    Ok(found)
}

/// The transformer that timm's name or arguments describe: its heads are nowhere else. The rest is recognized by the weights.
fn args_of(config: &Value) -> Option<EncoderConfig> {
    let name = config.get("architecture")?.as_str()?;
    let known = EncoderConfig::named(name.split('.').next()?).ok()?;
    let EncoderConfig::Vit(mut vit) = known else { return None };
    let args = config.get("model_args").cloned().unwrap_or_default();
    let of = |key: &str, usual: i64| args.get(key).and_then(Value::as_i64).unwrap_or(usual);
    vit.width = of("embed_dim", vit.width);
    vit.depth = of("depth", vit.depth);
    vit.heads = of("num_heads", vit.heads);
    vit.patch = of("patch_size", vit.patch);
    vit.image = of("img_size", vit.image);
    if config.get("global_pool").and_then(Value::as_str) == Some("avg") {
        vit.pool = Pool::Mean;
    }
    Some(vit.into())
}

/// How timm's `pretrained_cfg` says that an image is shown.
fn shown(config: &Value, usual: &Shown) -> Result<Shown> {
    let config = config.get("pretrained_cfg").unwrap_or(config);
    let three = |key: &str, usual: [f32; 3]| match config.get(key) {
        Some(numbers) => {
            serde_json::from_value(numbers.clone()).with_context(|| format!("in `{key}`"))
        }
        None => Ok(usual),
    };
    let interpolation = match config.get("interpolation") {
        Some(name) => serde_json::from_value(name.clone())
            .with_context(|| format!("its `interpolation` is {name}; use bilinear or bicubic"))?,
        None => usual.interpolation,
    };
    let size = match config.get("input_size").and_then(|size| size.get(2)).and_then(Value::as_u64) {
        Some(size) => u32::try_from(size).context("in `input_size`")?,
        None => usual.size,
    };
    let share = config.get("crop_pct").and_then(Value::as_f64);
    let share = share.unwrap_or(f64::from(usual.size) / f64::from(usual.resize));
    ensure!(
        share > 0.0 && share <= 1.0,
        "its crop_pct is {share}; it must be above 0 and at most 1"
    );
    let shown = Shown {
        resize: (f64::from(size) / share).round() as u32,
        size,
        interpolation,
        mean: three("mean", usual.mean)?,
        std: three("std", usual.std)?,
        grayscale: config.get("grayscale").and_then(Value::as_bool).unwrap_or(false),
    };
    shown.validate()
}

/// What builds this encoder in Python, and takes its weights with `strict=True`.
pub fn built_by(encoder: &EncoderConfig) -> &'static str {
    match encoder {
        EncoderConfig::Vit(_) => "timm",
        EncoderConfig::Resnet(resnet) if resnet.width != 64 => {
            "Portolan alone, since its width is scaled"
        }
        EncoderConfig::Resnet(resnet) => match resnet.stem {
            Stem::Imagenet => "timm or torchvision",
            Stem::Cifar | Stem::CifarStrided => "torchvision, with conv1 and maxpool replaced",
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_augment::Interpolation;

    #[test]
    fn a_config_says_what_timm_needs() {
        let shown = Shown::imagenet(224);
        let of = |name: &str| hub_config(&EncoderConfig::named(name).unwrap(), 192, &shown);
        let vit = of("vit_tiny_patch16_224");
        assert_eq!(vit["model_args"]["embed_dim"], 192);
        assert_eq!(
            (&vit["num_features"], &vit["pretrained_cfg"]["crop_pct"]),
            (&json!(192), &json!(0.875))
        );
        let bicubic = Shown { interpolation: Interpolation::Bicubic, ..shown };
        let config = hub_config(&EncoderConfig::named("resnet50").unwrap(), 2048, &bicubic);
        assert_eq!(config["pretrained_cfg"]["interpolation"], "bicubic");
        assert_eq!(super::shown(&config, &shown).unwrap(), bicubic, "and it is read back");
        let other = json!({ "interpolation": "lanczos" });
        let error = format!("{:#}", super::shown(&other, &shown).unwrap_err());
        assert!(error.contains("lanczos") && error.contains("bicubic"), "{error}");
        let resnet = of("resnet50");
        assert_eq!(resnet["architecture"], "resnet50");
        assert!(resnet.get("model_args").is_none());
        assert_eq!(of("resnet18-w16")["portolan"]["width"], 16);
    }
}
