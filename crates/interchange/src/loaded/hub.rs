//! Hub folders: `config.json` and `model.safetensors`, in timm's layout or transformers'.

use portolan_encoders::EncoderConfig;
use serde_json::{Value, json};
use std::path::Path;

use super::{LoadedEncoder, transformers};
use crate::error::{OrDamaged, damaged, ensure};
use crate::family;
use crate::format::{Python, Timm};
use crate::{Error, Preprocessing, Result};

const CONFIG: &str = "config.json";

/// The `config.json` of an encoder with `width` features, for timm to build it from
/// (`timm.create_model("local-dir:FOLDER")`, with the weights beside it as `model.safetensors`).
///
/// timm has neither ResNets with CIFAR stems nor with other widths. The entry `portolan` describes
/// these, and torchvision can build the former (interop/check.py).
pub fn hub_config(encoder: &EncoderConfig, width: i64, preprocessing: &Preprocessing) -> Value {
    let Timm { architecture, global_pool, model_args, first_conv, classifier } =
        family::format(encoder).timm();
    let Preprocessing { resize, size, interpolation, mean, std, grayscale } = preprocessing;
    let mut config = json!({
        "architecture": architecture,
        "num_classes": 0,
        "num_features": width,
        "global_pool": global_pool,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "interpolation": interpolation,
            "crop_pct": f64::from(*size) / f64::from(*resize),
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "first_conv": first_conv,
            "classifier": classifier,
        },
        "portolan": encoder,
    });
    if let Some(args) = model_args {
        config["model_args"] = args;
    }
    if *grayscale {
        config["pretrained_cfg"]["grayscale"] = true.into();
    }
    config
}

/// What builds this encoder in Python.
pub fn python(encoder: &EncoderConfig) -> Python {
    family::format(encoder).python()
}

/// The encoder in a hub folder: Portolan's, or one of timm's with an architecture that is known
/// here.
pub(crate) fn open(folder: &Path, named: Option<&EncoderConfig>) -> Result<LoadedEncoder> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).or_damaged(format!(
        "{} is neither a run's folder (it has no config.toml) nor a hub folder (no readable \
         {CONFIG})",
        folder.display()
    ))?;
    let config: Value =
        serde_json::from_str(&text).or_damaged(format!("{} is no JSON", path.display()))?;
    let weights = ["model.safetensors", "pytorch_model.bin"].map(|name| folder.join(name));
    let Some(file) = weights.iter().find(|file| file.exists()) else {
        return Err(Error::Missing(format!(
            "{} has a {CONFIG}, but no model.safetensors or pytorch_model.bin",
            folder.display()
        )));
    };
    from_config(&config, file, named).map_err(|error| error.of(folder))
}

fn from_config(
    config: &Value,
    weights: &Path,
    named: Option<&EncoderConfig>,
) -> Result<LoadedEncoder> {
    let described = match config.get("portolan") {
        Some(ours) => Some(
            serde_json::from_value(ours.clone()).or_damaged("its `portolan` entry is damaged")?,
        ),
        None => timm_encoder(config),
    };
    let mut loaded = super::from_weights(weights, named.or(described.as_ref()))?;
    if transformers::is_theirs(config) {
        transformers::complete(config, &mut loaded)?;
        loaded.preprocessing = transformers::preprocessing(weights, &loaded.preprocessing)?;
    } else {
        loaded.preprocessing = preprocessing(config, &loaded.preprocessing)?;
    }
    Ok(loaded)
}

/// The encoder that timm's config describes, as far as the weights do not tell.
fn timm_encoder(config: &Value) -> Option<EncoderConfig> {
    let name = config.get("architecture")?.as_str()?;
    let known = EncoderConfig::named(name.split('.').next()?).ok()?;
    family::format(&known).with_timm_config(config)
}

/// The preprocessing in timm's `pretrained_cfg`, completed by the `usual` one.
fn preprocessing(config: &Value, usual: &Preprocessing) -> Result<Preprocessing> {
    let config = config.get("pretrained_cfg").unwrap_or(config);
    let three = |key: &str, usual: [f32; 3]| match config.get(key) {
        Some(numbers) => serde_json::from_value(numbers.clone()).or_damaged(format!("in `{key}`")),
        None => Ok(usual),
    };
    let interpolation = match config.get("interpolation") {
        Some(name) => serde_json::from_value(name.clone())
            .or_damaged(format!("its `interpolation` is {name}; use bilinear or bicubic"))?,
        None => usual.interpolation,
    };
    let size = match config.get("input_size").and_then(|size| size.get(2)).and_then(Value::as_u64) {
        Some(size) => u32::try_from(size).or_damaged("in `input_size`")?,
        None => usual.size,
    };
    let share = config.get("crop_pct").and_then(Value::as_f64);
    let share = share.unwrap_or(f64::from(usual.size) / f64::from(usual.resize));
    ensure(share > 0.0 && share <= 1.0, || {
        damaged(format!("its crop_pct is {share}; it must be above 0 and at most 1"))
    })?;
    let preprocessing = Preprocessing {
        resize: (f64::from(size) / share).round() as u32,
        size,
        interpolation,
        mean: three("mean", usual.mean)?,
        std: three("std", usual.std)?,
        grayscale: config.get("grayscale").and_then(Value::as_bool).unwrap_or(false),
    };
    preprocessing.validate()?;
    Ok(preprocessing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_augment::Interpolation;

    use super::*;

    #[test]
    fn a_config_says_what_timm_needs() {
        let usual = Preprocessing::imagenet(224);
        let of = |name: &str| hub_config(&EncoderConfig::named(name).unwrap(), 192, &usual);
        let vit = of("vit_tiny_patch16_224");
        assert_eq!(vit["model_args"]["embed_dim"], 192);
        assert_eq!(
            (&vit["num_features"], &vit["pretrained_cfg"]["crop_pct"]),
            (&json!(192), &json!(0.875))
        );
        let bicubic = Preprocessing { interpolation: Interpolation::Bicubic, ..usual };
        let config = hub_config(&EncoderConfig::named("resnet50").unwrap(), 2048, &bicubic);
        assert_eq!(config["pretrained_cfg"]["interpolation"], "bicubic");
        assert_eq!(super::preprocessing(&config, &usual).unwrap(), bicubic, "and it is read back");
        let other = json!({ "interpolation": "lanczos" });
        let error = super::preprocessing(&other, &usual).unwrap_err().to_string();
        assert!(error.contains("lanczos") && error.contains("bicubic"), "{error}");
        let resnet = of("resnet50");
        assert_eq!(resnet["architecture"], "resnet50");
        assert!(resnet.get("model_args").is_none());
        assert_eq!(of("resnet18-w16")["portolan"]["width"], 16);
    }
}
