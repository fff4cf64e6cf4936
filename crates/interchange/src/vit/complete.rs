//! What weights do not tell of a vision transformer, and what a name or a config adds to them.

use portolan_encoders::{Mlp, PositionScaling, Positions, QkvBias, VitConfig};
use portolan_tensor::{Kind, Tensor};
use std::collections::BTreeMap;

use crate::Result;
use crate::format::Selected;

/// Whose files these are, as far as that tells more than the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// timm's, and those of most authors.
    Timm,
    /// DINOv2's code.
    Dinov2,
    /// transformers' DINOv2.
    Transformers,
    /// CLIP, by OpenAI or in transformers.
    Clip,
}

impl Source {
    pub(super) fn of(selected: &Selected) -> Self {
        let theirs = |usual: &str| {
            let name = selected.names.get(usual)?;
            name.strip_prefix(&selected.prefix)
        };
        match (theirs("pos_embed"), theirs("reg_token")) {
            (Some("embeddings.position_embeddings"), _) => Source::Transformers,
            (Some("embeddings.position_embedding.weight" | "positional_embedding"), _) => {
                Source::Clip
            }
            (Some(_), Some("register_tokens")) => Source::Dinov2,
            // Only the authors keep the mask token.
            (Some(_), _) if theirs("mask_token").is_some() => Source::Dinov2,
            _ => Source::Timm,
        }
    }
}

/// What the weights do not tell, as is usual for these files. Notes say what may be wrong.
pub(super) fn assumed(shapes: &VitConfig, selected: &Selected) -> (VitConfig, Vec<String>) {
    let source = Source::of(selected);
    let mut config = shapes.clone();
    // MoCo v3's ViT-S has twice as many heads as the usual one (its vits.py).
    if selected.prefix.contains("base_encoder") && config.width == 384 {
        config.heads = 12;
    }
    // timm's `deit3_huge_patch14_224` and `vit_huge_patch14`; DINOv3's H+ has 20.
    if config.width == 1280 && config.positions != Positions::Rotary {
        config.heads = 16;
    }
    config.position_scaling = match source {
        Source::Dinov2 | Source::Transformers if config.registers > 0 => PositionScaling::Antialias,
        Source::Dinov2 => PositionScaling::ScaleFactor,
        Source::Transformers | Source::Clip => PositionScaling::Size,
        Source::Timm if config.layer_scale != 0.0 || config.pre_norm || !config.class_position => {
            PositionScaling::Antialias
        }
        Source::Timm => PositionScaling::Size,
    };
    if source == Source::Clip && config.mlp == Mlp::Gelu {
        config.mlp = Mlp::QuickGelu;
    }
    let heads = config.heads;
    let mut notes = vec![format!("weights do not tell the number of heads: {heads} are assumed")];
    if config.pre_norm {
        let form = if config.mlp == Mlp::QuickGelu { "QuickGELU" } else { "GELU" };
        notes.push(format!(
            "weights do not tell CLIP's activation: {form} is assumed; \
             --encoder vit_base_patch16_clip_224 and vit_base_patch16_clip_quickgelu_224 name one"
        ));
    }
    if config.positions == Positions::Rotary {
        notes.push(
            "it has no position embeddings: the rotary positions of DINOv3 are assumed".to_owned(),
        );
    }
    (config, notes)
}

/// The settings that a name or a config gives, where the weights do not say otherwise.
pub(crate) fn completed(named: &VitConfig, found: &VitConfig, selected: &Selected) -> VitConfig {
    let form = |mlp: Mlp| if mlp == Mlp::QuickGelu { Mlp::Gelu } else { mlp };
    let layer_scale = match (named.layer_scale != 0.0, found.layer_scale != 0.0) {
        (true, true) | (false, false) => named.layer_scale,
        _ => found.layer_scale,
    };
    let rotary = found.positions == Positions::Rotary;
    VitConfig {
        positions: match named.positions {
            positions if (positions == Positions::Rotary) == rotary => positions,
            _ => found.positions,
        },
        position_scaling: match Source::of(selected) {
            Source::Timm => named.position_scaling,
            _ => found.position_scaling,
        },
        class_position: !rotary && named.class_position,
        registers: found.registers,
        mlp: if form(named.mlp) == form(found.mlp) { named.mlp } else { found.mlp },
        qkv_bias: found.qkv_bias,
        norm_eps: if found.norm_eps == 1e-6 { named.norm_eps } else { found.norm_eps },
        pre_norm: found.pre_norm,
        layer_scale,
        ..named.clone()
    }
}

/// Brings the tensors into the form of `config`, where that changes no features: a class token
/// with or without a place among the positions, and with or without a mask token.
pub(crate) fn reconcile(
    config: &VitConfig,
    tensors: &mut BTreeMap<String, Tensor>,
    notes: &mut Vec<String>,
) -> Result<()> {
    match (config.mask_token, tensors.contains_key("mask_token")) {
        (false, true) => {
            tensors.remove("mask_token");
            notes.push("its mask token is left out, since nothing here masks patches".to_owned());
        }
        (true, false) => {
            let zeros =
                Tensor::zeros([1, config.width], (Kind::Float, portolan_tensor::Device::Cpu));
            tensors.insert("mask_token".to_owned(), zeros);
            notes.push("it has no mask token; one of zeros was added".to_owned());
        }
        _ => (),
    }
    let patches = (config.image / config.patch).pow(2);
    let places = tensors.get("pos_embed").map(|tensor| tensor.size());
    match places.as_deref() {
        Some(&[1, count, _]) if config.class_position && count == patches => with_class(tensors),
        Some(&[1, count, _]) if !config.class_position && count == patches + 1 => {
            without_class(tensors)
        }
        _ => Ok(()),
    }
}

/// Gives the class token a place among the positions: one of zeros, which changes nothing.
pub(super) fn with_class(tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    if let Some(positions) = tensors.get_mut("pos_embed") {
        let first = positions.f_narrow(1, 0, 1)?.f_zeros_like()?;
        *positions = Tensor::f_cat(&[&first, positions], 1)?;
    }
    Ok(())
}

/// Adds the class token's place among the positions to the token itself, which changes nothing.
pub(super) fn without_class(tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let Some(positions) = tensors.get("pos_embed").map(Tensor::shallow_clone) else {
        return Ok(());
    };
    let others = positions.size().get(1).copied().unwrap_or(1) - 1;
    if let Some(token) = tensors.get_mut("cls_token") {
        *token = token.f_add(&positions.f_narrow(1, 0, 1)?)?;
    }
    tensors.insert("pos_embed".to_owned(), positions.f_narrow(1, 1, others)?.f_contiguous()?);
    Ok(())
}

/// The form of queries', keys' and values' biases in block 0.
pub(super) fn bias_form(has: impl Fn(&str) -> bool) -> QkvBias {
    match (has("blocks.0.attn.qkv.bias"), has("blocks.0.attn.q_bias")) {
        (true, _) => QkvBias::All,
        (false, true) => QkvBias::QueryValue,
        (false, false) => QkvBias::None,
    }
}
