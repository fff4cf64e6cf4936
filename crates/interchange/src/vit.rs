//! Vision transformers in files, with timm's names.

use portolan_encoders::{EncoderConfig, Pool, VitConfig};
use serde_json::{Value, json};

use crate::error::{OrDamaged, damaged, ensure};
use crate::format::{Format, Python, Shapes, Timm, Weights};
use crate::{Error, Result};

pub(crate) const WEIGHTS: Weights = Weights {
    name: "vision transformer",
    signs: &[["patch_embed.proj.weight", "cls_token"]],
    parts: &["cls_token", "pos_embed", "patch_embed", "blocks", "norm"],
    rename: without_chunk,
    recognize,
};

/// `blocks.0.5.norm1.weight` to `blocks.5.norm1.weight`: DINOv2's training code puts blocks into
/// chunks, in which they keep their numbers.
fn without_chunk(name: &str) -> Option<String> {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["blocks", chunk, block, ..] if is_number(chunk) && is_number(block) => {
            Some(format!("blocks.{}", parts[2..].join(".")))
        }
        _ => None,
    }
}

/// The transformer with these shapes. It is assumed to have 64 numbers per attention head and the
/// class token as its feature.
fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
    let shape =
        |name: &str| shapes.get(name).or_damaged(format!("the transformer has no `{name}`"));
    let projection = shape("patch_embed.proj.weight")?;
    let positions = shape("pos_embed")?;
    let (&[width, 3, patch, across], &[1, tokens, numbers]) = (&projection[..], &positions[..])
    else {
        return Err(damaged(format!(
            "its patches or positions have unusual shapes: {projection:?}, {positions:?}"
        )));
    };
    ensure(patch == across && numbers == width && (1..=1 << 14).contains(&width), || {
        damaged(format!(
            "its patches and positions do not fit each other: {projection:?}, {positions:?}"
        ))
    })?;
    let side = ((tokens - 1) as f64).sqrt().round() as i64;
    ensure(side * side + 1 == tokens, || {
        Error::Unsupported(format!(
            "it has {tokens} positions, which are no square grid of patches and one class token"
        ))
    })?;
    let depth = (0..)
        .take_while(|i| shapes.contains_key(&format!("blocks.{i}.norm1.weight")))
        .count() as i64;
    ensure(shape("blocks.0.mlp.fc1.weight")?.first() == Some(&(4 * width)), || {
        Error::Unsupported(
            "its blocks' inner width is not four times the outer; such transformers are not known \
             here"
                .to_owned(),
        )
    })?;
    let heads = (width / 64).max(1);
    Ok(VitConfig::plain([width, depth, heads], patch, side * patch).into())
}

impl Format for VitConfig {
    fn assume(&self, prefix: &str) -> (EncoderConfig, Option<String>) {
        let mut config = self.clone();
        // MoCo v3's ViT-S has twice as many heads as the usual one (its vits.py).
        if prefix.contains("base_encoder") && config.width == 384 {
            config.heads = 12;
        }
        let note = format!("weights do not tell the number of heads: {} are assumed", config.heads);
        (config.into(), Some(note))
    }

    fn usual_size(&self) -> u32 {
        if self.image < 224 || 224 % self.patch != 0 { self.image as u32 } else { 224 }
    }

    fn min_numbers(&self) -> i64 {
        let tokens = (self.image / self.patch).pow(2) + 1;
        12 * self.depth * self.width * self.width + tokens * self.width
    }

    fn timm(&self) -> Timm {
        let (global_pool, fc_norm) = match self.pool {
            Pool::ClassToken => ("token", false),
            Pool::Mean => ("avg", false),
            Pool::MeanThenNorm => ("avg", true),
        };
        Timm {
            architecture: "vit_base_patch16_224".to_owned(),
            global_pool,
            model_args: Some(json!({
                "img_size": self.image, "patch_size": self.patch, "embed_dim": self.width,
                "depth": self.depth, "num_heads": self.heads, "global_pool": global_pool,
                "fc_norm": fc_norm,
            })),
            first_conv: "patch_embed.proj",
            classifier: "head",
        }
    }

    /// The number of heads is in the name or the arguments alone.
    fn with_timm_config(&self, config: &Value) -> Option<EncoderConfig> {
        let args = config.get("model_args").cloned().unwrap_or_default();
        let arg = |key: &str, usual: i64| args.get(key).and_then(Value::as_i64).unwrap_or(usual);
        let mean = config.get("global_pool").and_then(Value::as_str) == Some("avg");
        let vit = VitConfig {
            width: arg("embed_dim", self.width),
            depth: arg("depth", self.depth),
            heads: arg("num_heads", self.heads),
            patch: arg("patch_size", self.patch),
            image: arg("img_size", self.image),
            pool: if mean { Pool::Mean } else { self.pool },
            ..self.clone()
        };
        Some(vit.into())
    }

    fn python(&self) -> Python {
        Python { timm: true, builder: "timm" }
    }
}
