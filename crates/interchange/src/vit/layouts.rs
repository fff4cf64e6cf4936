//! Vision transformers in the form in which timm, DINOv2's code and transformers build them.

use portolan_encoders::{Mlp, Pool, Positions, QkvBias, VitConfig};
use portolan_tensor::{Device, Kind, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::complete::{with_class, without_class};
use crate::error::ensure;
use crate::format::Timm;
use crate::{Error, Result};

type Tensors = BTreeMap<String, Tensor>;

/// How timm builds it.
pub(super) fn timm(vit: &VitConfig) -> Timm {
    let (global_pool, fc_norm) = match vit.pool {
        Pool::ClassToken => ("token", false),
        Pool::Mean => ("avg", false),
        Pool::MeanThenNorm => ("avg", true),
    };
    let rotary = vit.positions == Positions::Rotary;
    let gated = matches!(vit.mlp, Mlp::SwiGlu | Mlp::SwiGluWide);
    let architecture = match (rotary, gated) {
        (true, true) => "vit_small_plus_patch16_dinov3",
        (true, false) => "vit_small_patch16_dinov3",
        (false, true) => "vit_giant_patch14_dinov2",
        (false, false) if vit.pre_norm => "vit_base_patch16_clip_224",
        (false, false) => "vit_base_patch16_224",
    };
    let qkvb = if rotary && vit.qkv_bias == QkvBias::QueryValue { "_qkvb" } else { "" };
    let mut args = json!({
        "img_size": vit.image, "patch_size": vit.patch, "embed_dim": vit.width,
        "depth": vit.depth, "num_heads": vit.heads, "global_pool": global_pool,
    });
    args[if rotary { "use_fc_norm" } else { "fc_norm" }] = fc_norm.into();
    if rotary || gated || vit.layer_scale != 0.0 {
        let init = Some(vit.layer_scale).filter(|scale| *scale != 0.0);
        args["init_values"] = init.into();
    }
    if rotary || vit.registers > 0 {
        args[if rotary { "num_reg_tokens" } else { "reg_tokens" }] = vit.registers.into();
    }
    if !rotary && (!vit.class_position || vit.registers > 0) {
        args["no_embed_class"] = true.into();
    }
    if !rotary && vit.qkv_bias == QkvBias::None {
        args["qkv_bias"] = false.into();
    }
    if vit.mlp == Mlp::QuickGelu {
        args["act_layer"] = "quick_gelu".into();
    }
    if gated {
        // timm takes the whole part of the width times this.
        let (outputs, inputs) = vit.mlp.hidden(vit.width);
        let hidden = if rotary { inputs } else { outputs };
        args["mlp_ratio"] = ((hidden as f64 + 0.5) / vit.width as f64).into();
    }
    Timm {
        architecture: format!("{architecture}{qkvb}"),
        global_pool,
        model_args: Some(args),
        first_conv: "patch_embed.proj",
        classifier: "head",
    }
}

/// What timm cannot build; `None` if it can build the network.
pub(super) fn timm_lacks(vit: &VitConfig) -> Option<String> {
    let rotary = vit.positions == Positions::Rotary;
    let eps = if rotary || vit.pre_norm { 1e-5 } else { 1e-6 };
    let lacks = if vit.norm_eps != eps {
        format!("norm_eps {} with these positions and norms", vit.norm_eps)
    } else if rotary && vit.pre_norm {
        "rotary positions with a norm before the blocks".to_owned()
    } else if rotary && vit.mlp == Mlp::QuickGelu {
        "rotary positions with QuickGELU".to_owned()
    } else if rotary != (vit.qkv_bias != QkvBias::All) && vit.qkv_bias != QkvBias::None {
        "these biases with these positions".to_owned()
    } else {
        return None;
    };
    Some(lacks)
}

/// The tensors by timm's names: without the mask token, and where there are registers without a
/// place of the class token, whose values are added to the token.
pub(crate) fn timm_tensors(vit: &VitConfig, mut tensors: Tensors) -> Result<Tensors> {
    tensors.remove("mask_token");
    if vit.registers > 0 && vit.class_position && vit.positions != Positions::Rotary {
        without_class(&mut tensors)?;
    }
    if vit.positions == Positions::Rotary && matches!(vit.mlp, Mlp::SwiGlu | Mlp::SwiGluWide) {
        split(&mut tensors, "mlp.fc1", &["mlp.fc1_g", "mlp.fc1_x"])?;
    }
    Ok(tensors)
}

/// The tensors by the names of `vision_transformer.py` in facebookresearch/dinov2.
///
/// # Errors
/// When that code has no such network.
pub(crate) fn dinov2_tensors(vit: &VitConfig, tensors: Tensors) -> Result<Tensors> {
    validate("DINOv2's code", vit)?;
    ensure(vit.mlp != Mlp::QuickGelu && vit.norm_eps == 1e-6, || {
        lacks("DINOv2's code", "QuickGELU or another norm_eps than 1e-6")
    })?;
    let tensors = complete(vit, tensors)?;
    let gated = matches!(vit.mlp, Mlp::SwiGlu | Mlp::SwiGluWide);
    let rename = |name: String| match name.as_str() {
        "reg_token" => "register_tokens".to_owned(),
        _ if gated => name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."),
        _ => name,
    };
    Ok(tensors.into_iter().map(|(name, tensor)| (rename(name), tensor)).collect())
}

/// The tensors by the names under which transformers stores `Dinov2Model` and
/// `Dinov2WithRegistersModel`.
///
/// # Errors
/// When these have no such network.
pub(crate) fn transformers_tensors(vit: &VitConfig, tensors: Tensors) -> Result<Tensors> {
    validate("transformers' Dinov2Model", vit)?;
    let mut tensors = complete(vit, tensors)?;
    split(&mut tensors, "attn.qkv", &["attn.query", "attn.key", "attn.value"])?;
    if vit.layer_scale == 0.0 {
        let ones = Tensor::ones([vit.width], (Kind::Float, Device::Cpu));
        for name in (0..vit.depth).flat_map(|i| [1, 2].map(|j| format!("blocks.{i}.ls{j}.gamma"))) {
            tensors.insert(name, ones.shallow_clone());
        }
    }
    let gated = matches!(vit.mlp, Mlp::SwiGlu | Mlp::SwiGluWide);
    let rename = |name: &str| {
        let inside = name
            .replace("attn.proj.", "attention.output.dense.")
            .replace("attn.", "attention.attention.")
            .replace("ls1.gamma", "layer_scale1.lambda1")
            .replace("ls2.gamma", "layer_scale2.lambda1");
        let inside = if gated {
            inside.replace("mlp.fc1.", "mlp.weights_in.").replace("mlp.fc2.", "mlp.weights_out.")
        } else {
            inside
        };
        match inside.as_str() {
            "cls_token" | "mask_token" => format!("embeddings.{name}"),
            "reg_token" => "embeddings.register_tokens".to_owned(),
            "pos_embed" => "embeddings.position_embeddings".to_owned(),
            _ => inside
                .replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.")
                .replace("blocks.", "encoder.layer."),
        }
    };
    let renamed = |name: String| match name.strip_prefix("norm.") {
        Some(part) => format!("layernorm.{part}"),
        None => rename(&name),
    };
    Ok(tensors.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect())
}

/// transformers' `config.json` of the network.
pub(crate) fn transformers_config(vit: &VitConfig) -> Value {
    let (name, kind) = match vit.registers {
        0 => ("Dinov2Model", "dinov2"),
        _ => ("Dinov2WithRegistersModel", "dinov2_with_registers"),
    };
    let mut config = json!({
        "architectures": [name],
        "model_type": kind,
        "hidden_size": vit.width,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "image_size": vit.image,
        "patch_size": vit.patch,
        "num_channels": 3,
        // Of SwiGLU, two thirds are used.
        "mlp_ratio": if vit.mlp == Mlp::SwiGluWide { 6 } else { 4 },
        "use_swiglu_ffn": matches!(vit.mlp, Mlp::SwiGlu | Mlp::SwiGluWide),
        "hidden_act": if vit.mlp == Mlp::QuickGelu { "quick_gelu" } else { "gelu" },
        "layer_norm_eps": vit.norm_eps,
        "layerscale_value": if vit.layer_scale == 0.0 { 1.0 } else { vit.layer_scale },
        "qkv_bias": vit.qkv_bias == QkvBias::All,
        "drop_path_rate": 0.0,
        "torch_dtype": "float32",
    });
    if vit.registers > 0 {
        config["num_register_tokens"] = vit.registers.into();
    }
    config
}

fn lacks(whose: &str, what: &str) -> Error {
    Error::Unsupported(format!("{whose} has no vision transformer with {what}"))
}

/// Refuses what neither DINOv2's code nor transformers' model of it can build.
fn validate(whose: &str, vit: &VitConfig) -> Result<()> {
    let what = if vit.positions == Positions::Rotary {
        "rotary positions; write timm's layout"
    } else if vit.pre_norm {
        "a norm before the blocks; write timm's layout"
    } else if vit.pool == Pool::MeanThenNorm {
        "a norm after the mean of the patches; write timm's layout"
    } else if vit.qkv_bias == QkvBias::QueryValue {
        "biases of queries and values alone"
    } else {
        return Ok(());
    };
    Err(lacks(whose, what))
}

/// With a mask token and a place of the class token, which both have in any case.
fn complete(vit: &VitConfig, mut tensors: Tensors) -> Result<Tensors> {
    if !vit.class_position {
        with_class(&mut tensors)?;
    }
    let zeros = || Tensor::zeros([1, vit.width], (Kind::Float, Device::Cpu));
    tensors.entry("mask_token".to_owned()).or_insert_with(zeros);
    Ok(tensors)
}

/// Splits the layers of this name in all blocks into layers of the same size.
fn split(tensors: &mut Tensors, name: &str, parts: &[&str]) -> Result<()> {
    let inner = format!(".{name}.");
    let whole: Vec<String> = tensors.keys().filter(|key| key.contains(&inner)).cloned().collect();
    for key in whole {
        let Some(tensor) = tensors.remove(&key) else { continue };
        let values = tensor.f_chunk(parts.len() as i64, 0)?;
        for (part, value) in parts.iter().zip(values) {
            tensors.insert(key.replace(name, part), value.f_contiguous()?);
        }
    }
    Ok(())
}
