//! The `config.json` that timm's hub layout has beside a model's weights.

use serde_json::{Value, json};

use crate::{EncoderConfig, Pool, Stem};

/// How an image is shown to an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The short side that an image is brought to, in pixels, before its middle is cut out.
    pub resize: u32,
    /// The side of the middle, in pixels.
    pub size: u32,
    /// What is taken off each channel (of pixels from 0 to 1).
    pub mean: [f32; 3],
    /// What each channel is divided by.
    pub std: [f32; 3],
}

/// The description of an encoder of `width` features by which timm builds it again (`timm.create_model("local-dir:FOLDER")`, with the weights
/// beside it as `model.safetensors`). timm has neither ResNets with the CIFAR stems nor scaled ones: of these it says
/// what they are under `portolan`, and torchvision builds the former (interop/check.py).
pub fn hub_config(encoder: &EncoderConfig, width: i64, shown: &Shown) -> Value {
    let (architecture, pool, args, first) = match encoder {
        EncoderConfig::Vit(vit) => {
            let pool = match vit.pool {
                Pool::ClassToken => "token",
                Pool::Mean => "avg",
            };
            let args = json!({
                "img_size": vit.image, "patch_size": vit.patch, "embed_dim": vit.width,
                "depth": vit.depth, "num_heads": vit.heads, "global_pool": pool, "fc_norm": false,
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
            "interpolation": "bilinear",
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
    config
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

    #[test]
    fn a_config_says_what_timm_needs() {
        let shown = Shown { resize: 256, size: 224, mean: [0.5; 3], std: [0.25; 3] };
        let of = |name: &str| hub_config(&EncoderConfig::named(name).unwrap(), 192, &shown);
        let vit = of("vit_tiny_patch16_224");
        assert_eq!(vit["model_args"]["embed_dim"], 192);
        assert_eq!(
            (&vit["num_features"], &vit["pretrained_cfg"]["crop_pct"]),
            (&json!(192), &json!(0.875))
        );
        let resnet = of("resnet50");
        assert_eq!(resnet["architecture"], "resnet50");
        assert!(resnet.get("model_args").is_none());
        assert_eq!(of("resnet18-w16")["portolan"]["width"], 16);
    }
}
