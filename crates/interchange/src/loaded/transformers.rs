//! The configs of transformers' folders: `config.json` and `preprocessor_config.json`.

use portolan_augment::Interpolation;
use portolan_encoders::{EncoderConfig, Mlp, Positions};
use serde_json::{Value, json};
use std::path::Path;

use super::LoadedEncoder;
use crate::error::OrDamaged;
use crate::{Error, Preprocessing, Result};

const PREPROCESSOR: &str = "preprocessor_config.json";
/// The activation where a config leaves it out (`DINOv3ViTConfig`).
const USUAL_ACTIVATION: &str = "gelu";

/// Whether transformers wrote this `config.json`.
pub(super) fn is_theirs(config: &Value) -> bool {
    config.get("model_type").is_some() && config.get("portolan").is_none()
}

/// Adds what the config tells and weights do not: heads, the norms' eps, the activation.
///
/// # Errors
/// When the activation is none that is known here.
pub(super) fn complete(config: &Value, loaded: &mut LoadedEncoder) -> Result<()> {
    let EncoderConfig::Vit(vit) = &mut loaded.config else { return Ok(()) };
    // CLIP's config has one of its image tower inside, and leaves defaults out.
    let config = config.get("vision_config").unwrap_or(config);
    if let Some(heads) = config.get("num_attention_heads").and_then(Value::as_i64) {
        vit.heads = heads;
        loaded.notes.retain(|note| !note.contains("number of heads"));
    }
    if let Some(eps) = config.get("layer_norm_eps").and_then(Value::as_f64) {
        vit.norm_eps = eps;
    }
    let activation = config.get("hidden_act").and_then(Value::as_str);
    vit.mlp = match (vit.mlp, activation) {
        (Mlp::Gelu | Mlp::QuickGelu, Some("gelu")) => Mlp::Gelu,
        (Mlp::Gelu | Mlp::QuickGelu, Some("quick_gelu")) => Mlp::QuickGelu,
        (Mlp::Gelu | Mlp::QuickGelu, None) => return Ok(()),
        (mlp @ (Mlp::SwiGlu | Mlp::SwiGluWide), Some("silu")) => mlp,
        // DINOv2's gated MLP has SiLU, whatever the config says. DINOv3's has the config's.
        (mlp @ (Mlp::SwiGlu | Mlp::SwiGluWide), _) if vit.positions != Positions::Rotary => mlp,
        (_, activation) => {
            let activation = activation.unwrap_or(USUAL_ACTIVATION);
            return Err(Error::Unsupported(format!(
                "its config.json has the activation {activation}, which is not supported there; \
                 there are gelu and quick_gelu, and silu in a gated MLP"
            )));
        }
    };
    loaded.notes.retain(|note| !note.contains("activation"));
    Ok(())
}

/// The preprocessing in the file beside the weights, completed by the `usual` one.
///
/// # Errors
/// When it cannot be read, or no image can be prepared like that.
pub(super) fn preprocessing(weights: &Path, usual: &Preprocessing) -> Result<Preprocessing> {
    let path = weights.with_file_name(PREPROCESSOR);
    if !path.exists() {
        return Ok(*usual);
    }
    let unreadable = || format!("{} cannot be read", path.display());
    let text = std::fs::read_to_string(&path).or_damaged(unreadable())?;
    of_config(&serde_json::from_str(&text).or_damaged(unreadable())?, usual)
}

fn of_config(config: &Value, usual: &Preprocessing) -> Result<Preprocessing> {
    let pixels = |value: &Value, keys: &[&str]| {
        let side = keys.iter().find_map(|key| value.get(key)).unwrap_or(value);
        side.as_u64().and_then(|side| u32::try_from(side).ok())
    };
    let resize = config.get("size").and_then(|size| pixels(size, &["shortest_edge", "height"]));
    let crops = config.get("do_center_crop").and_then(Value::as_bool).unwrap_or(true);
    let crop = config.get("crop_size").filter(|_| crops);
    let size = crop.and_then(|size| pixels(size, &["height"])).or(resize).unwrap_or(usual.size);
    let three = |key: &str, usual: [f32; 3]| match config.get(key) {
        Some(numbers) => serde_json::from_value(numbers.clone()).or_damaged(format!("in `{key}`")),
        None => Ok(usual),
    };
    let preprocessing = Preprocessing {
        resize: resize.unwrap_or(usual.resize).max(size),
        size,
        // Pillow's numbers.
        interpolation: match config.get("resample").and_then(Value::as_u64) {
            Some(2) => Interpolation::Bilinear,
            Some(3) => Interpolation::Bicubic,
            _ => usual.interpolation,
        },
        mean: three("image_mean", usual.mean)?,
        std: three("image_std", usual.std)?,
        grayscale: false,
    };
    preprocessing.validate()?;
    Ok(preprocessing)
}

/// transformers' `preprocessor_config.json` of this preprocessing.
pub(crate) fn preprocessor_config(preprocessing: &Preprocessing) -> Value {
    let &Preprocessing { resize, size, interpolation, mean, std, .. } = preprocessing;
    json!({
        "image_processor_type": "BitImageProcessor", // DINOv2's
        "do_resize": true,
        "size": { "shortest_edge": resize },
        "resample": match interpolation {
            Interpolation::Bilinear => 2,
            Interpolation::Bicubic => 3,
        },
        "do_center_crop": true,
        "crop_size": { "height": size, "width": size },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
        "do_convert_rgb": true,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::VitConfig;

    #[test]
    fn what_is_written_is_read_back() {
        let usual = Preprocessing::imagenet(224);
        let own = Preprocessing {
            interpolation: Interpolation::Bicubic,
            mean: [0.5, 0.25, 0.125],
            ..Preprocessing::imagenet(518)
        };
        assert_eq!(of_config(&preprocessor_config(&own), &usual).unwrap(), own);
    }

    #[test]
    fn an_activation_that_is_not_known_is_refused() {
        let loaded = |name: &str, mlp| {
            let EncoderConfig::Vit(vit) = EncoderConfig::named(name).unwrap() else {
                unreachable!("{name}")
            };
            LoadedEncoder {
                config: VitConfig { mlp, ..vit }.into(),
                preprocessing: Preprocessing::imagenet(224),
                tensors: Default::default(),
                prefix: String::new(),
                left_out: Vec::new(),
                notes: vec!["assumed an activation".to_owned()],
            }
        };
        let completed = |name, mlp, config| {
            let mut loaded = loaded(name, mlp);
            complete(&config, &mut loaded)?;
            let EncoderConfig::Vit(vit) = loaded.config else { unreachable!("{name}") };
            Ok::<_, Error>((vit.mlp, loaded.notes.len()))
        };
        let (dinov2, dinov3) = ("vit_small_patch14_dinov2", "vit_small_patch16_dinov3");
        let act = |name: &str| json!({ "hidden_act": name });
        let quick = completed(dinov2, Mlp::Gelu, act("quick_gelu")).unwrap();
        assert_eq!(quick, (Mlp::QuickGelu, 0));
        assert_eq!(completed(dinov2, Mlp::Gelu, json!({})).unwrap(), (Mlp::Gelu, 1));
        assert_eq!(completed(dinov2, Mlp::SwiGlu, act("gelu")).unwrap(), (Mlp::SwiGlu, 0));
        assert_eq!(completed(dinov3, Mlp::SwiGlu, act("silu")).unwrap(), (Mlp::SwiGlu, 0));
        for (name, mlp, config) in [
            (dinov2, Mlp::Gelu, act("relu")),
            (dinov3, Mlp::SwiGlu, act("gelu")),
            (dinov3, Mlp::SwiGlu, json!({})),
        ] {
            let error = completed(name, mlp, config).unwrap_err().to_string();
            assert!(error.contains("activation"), "{error}");
        }
    }

    #[test]
    fn sizes_are_those_of_other_models_too() {
        let usual = Preprocessing::imagenet(224);
        let of = |config: Value| {
            let found = of_config(&config, &usual).unwrap();
            (found.resize, found.size)
        };
        // DINOv3's, and CLIP's as it was first written.
        assert_eq!(of(json!({ "size": { "height": 224, "width": 224 } })), (224, 224));
        assert_eq!(
            of(json!({ "size": 224, "crop_size": 192, "do_center_crop": true })),
            (224, 192)
        );
        assert_eq!(of(json!({})), (256, 224));
        assert!(of_config(&json!({ "image_std": [0, 1, 1] }), &usual).is_err());
    }
}
