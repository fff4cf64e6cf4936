//! Vision transformers in files, with timm's names.

mod arrange;
mod complete;
pub(crate) mod layouts;
mod names;

use portolan_encoders::{EncoderConfig, Init, Mlp, Pool, PositionScaling, Positions, VitConfig};
use serde_json::Value;

pub(crate) use self::complete::{completed, reconcile};
use crate::error::{OrDamaged, damaged, ensure};
use crate::format::{Format, Python, Selected, Shapes, Timm, Weights};
use crate::{Error, Result};

pub(crate) const WEIGHTS: Weights = Weights {
    name: "vision transformer",
    signs: names::SIGNS,
    parts: &[
        "cls_token",
        "reg_token",
        "mask_token",
        "pos_embed",
        "patch_embed",
        "rope",
        "norm_pre",
        "blocks",
        "norm",
        "fc_norm",
    ],
    rename: names::rename,
    arrange: arrange::arrange,
    recognize,
};

/// The transformer with these shapes. It is assumed to have 64 numbers per attention head and the
/// class token as its feature.
fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
    let shape =
        |name: &str| shapes.get(name).or_damaged(format!("the transformer has no `{name}`"));
    let has = |name: &str| shapes.contains_key(name);
    let projection = shape("patch_embed.proj.weight")?;
    let &[width, 3, patch, across] = &projection[..] else {
        return Err(damaged(format!("its patches have an unusual shape: {projection:?}")));
    };
    ensure(patch == across && patch >= 1 && (1..=1 << 14).contains(&width), || {
        damaged(format!("its patches have an unusual shape: {projection:?}"))
    })?;
    let rotary = !has("pos_embed");
    let (side, class_position) = match shapes.get("pos_embed") {
        Some(positions) => grid(positions, width)?,
        None => ((ROTARY_IMAGE + patch - 1) / patch, false),
    };
    let depth = (0..).take_while(|i| has(&format!("blocks.{i}.norm1.weight"))).count() as i64;
    let size = |name: &str, axis: usize| -> Result<i64> {
        Ok(shape(name)?.get(axis).copied().unwrap_or(0))
    };
    let inner = (size("blocks.0.mlp.fc1.weight", 0)?, size("blocks.0.mlp.fc2.weight", 1)?);
    let mlp = [Mlp::Gelu, Mlp::SwiGlu, Mlp::SwiGluWide].into_iter();
    let mlp = mlp.filter(|_| depth > 0).find(|form| form.hidden(width) == inner);
    let mlp = mlp.ok_or_else(|| {
        Error::Unsupported(format!(
            "its blocks' inner widths are {inner:?} and the outer is {width}; four times as wide, \
             or SwiGLU of 8/3 or 4 times, are known here"
        ))
    })?;
    let registers = match shapes.get("reg_token") {
        Some(shape) => shape.get(1).copied().unwrap_or(0),
        None => 0,
    };
    let scaled = has("blocks.0.ls1.gamma") || has("blocks.0.gamma_1");
    let pre_norm = has("norm_pre.weight");
    let config = VitConfig {
        positions: if rotary { Positions::Rotary } else { Positions::Learned },
        class_position,
        registers,
        mask_token: has("mask_token"),
        mlp,
        qkv_bias: complete::bias_form(has),
        norm_eps: if rotary || pre_norm { 1e-5 } else { 1e-6 },
        pre_norm,
        layer_scale: if scaled { 1e-5 } else { 0.0 },
        pool: if has("fc_norm.weight") { Pool::MeanThenNorm } else { Pool::ClassToken },
        init: if scaled { Init::Dinov2 } else { Init::Normal },
        ..VitConfig::plain([width, depth, (width / 64).max(1)], patch, side * patch)
    };
    Ok(config.into())
}

/// The side of the images, in pixels, of rotary positions, which fit any: timm's for DINOv3.
const ROTARY_IMAGE: i64 = 256;

/// The side of a square grid of positions of this shape, and whether the class token has one.
fn grid(positions: &[i64], width: i64) -> Result<(i64, bool)> {
    let &[1, places, numbers] = positions else {
        return Err(damaged(format!("its positions have an unusual shape: {positions:?}")));
    };
    ensure(numbers == width && places >= 1, || {
        damaged(format!(
            "its positions have an unusual shape for tokens of {width} numbers: {positions:?}"
        ))
    })?;
    let side_of = |patches: i64| (patches as f64).sqrt().round() as i64;
    let fits = |class: &bool| {
        let patches = places - i64::from(*class);
        patches >= 1 && side_of(patches).pow(2) == patches
    };
    let class = [true, false].into_iter().find(fits).ok_or_else(|| {
        Error::Unsupported(format!(
            "it has {places} positions, which are no square grid of patches, with or without one \
             class token"
        ))
    })?;
    Ok((side_of(places - i64::from(class)), class))
}

impl Format for VitConfig {
    fn assume(&self, selected: &Selected) -> (EncoderConfig, Vec<String>) {
        let (config, notes) = complete::assumed(self, selected);
        (config.into(), notes)
    }

    fn usual_size(&self) -> u32 {
        if self.image < 224 || 224 % self.patch != 0 { self.image as u32 } else { 224 }
    }

    fn min_numbers(&self) -> i64 {
        let positions = match self.positions {
            Positions::Learned | Positions::SineCosine => (self.image / self.patch).pow(2),
            Positions::Rotary => 0,
        };
        12 * self.depth * self.width * self.width + (positions + 1) * self.width
    }

    fn timm(&self) -> Timm {
        layouts::timm(self)
    }

    /// The number of heads is in the name or the arguments alone.
    fn with_timm_config(&self, config: &Value) -> Option<EncoderConfig> {
        let args = config.get("model_args").cloned().unwrap_or_default();
        let arg = |key: &str, usual: i64| args.get(key).and_then(Value::as_i64).unwrap_or(usual);
        let pool = match config.get("global_pool").and_then(Value::as_str) {
            Some("avg") => Pool::Mean,
            Some("token") => Pool::ClassToken,
            _ => self.pool,
        };
        let vit = VitConfig {
            width: arg("embed_dim", self.width),
            depth: arg("depth", self.depth),
            heads: arg("num_heads", self.heads),
            patch: arg("patch_size", self.patch),
            image: arg("img_size", self.image),
            position_scaling: PositionScaling::Antialias,
            pool,
            ..self.clone()
        };
        Some(vit.into())
    }

    fn python(&self) -> Python {
        match layouts::timm_lacks(self) {
            None => Python { timm: true, builder: "timm" },
            Some(_) => Python { timm: false, builder: "Portolan alone" },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::build;
    use portolan_tensor::{Device, Vars};

    #[test]
    fn no_transformer_has_fewer_numbers_than_the_minimum() {
        for name in [
            "vit_w32d2h2_patch4_64",
            "vit_w32d2h2_patch4_dinov2_64",
            "vit_w32d2h2_patch4_dinov3_256",
            "deit3_w32d2h2_patch4_64",
            "vit_w32d2h2_patch4_clip_64",
        ] {
            let config = EncoderConfig::named(name).unwrap();
            let vars = Vars::new(Device::Cpu);
            build(&config, &vars).unwrap();
            let numbers: usize = vars.state().iter().map(|(_, tensor)| tensor.numel()).sum();
            let EncoderConfig::Vit(vit) = config else { unreachable!("{name}") };
            assert!(vit.min_numbers() <= numbers as i64, "{name}");
        }
    }
}
