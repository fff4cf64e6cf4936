//! Tests of what DINOv3, DeiT III and CLIP add to a vision transformer.
#![allow(clippy::unwrap_used)]

use portolan_tensor::Device;
use std::collections::BTreeMap;

use super::*;
use crate::{Mlp, QkvBias};

fn named(name: &str) -> (Vit, BTreeMap<String, Tensor>) {
    let vars = Vars::new(Device::Cpu);
    let vit = Vit::new(&VitConfig::named(name).unwrap(), &vars).unwrap();
    (vit, vars.state().into_iter().collect())
}

fn images(height: i64, width: i64) -> Tensor {
    Tensor::randn([2, 3, height, width], (Kind::Float, Device::Cpu))
}

#[test]
fn rotary_positions_are_no_parameters_and_tell_patches_apart() {
    let (vit, state) = named("vit_w16d2h2_patch4_dinov3_16");
    assert!(!state.contains_key("pos_embed") && !state.contains_key("blocks.0.attn.qkv.bias"));
    assert_eq!(state["blocks.1.gamma_2"].size(), [16]);
    let _ = portolan_tensor::no_grad(|| state["blocks.0.gamma_1"].shallow_clone().fill_(1.0));
    let x = images(8, 24);
    let tokens = vit.tokens(&x, None, false).unwrap();
    assert_eq!(tokens.size(), [2, 5 + 2 * 6, 16]);
    // The same patches in other places have other tokens.
    let flipped = vit.tokens(&x.slice(3, 0, 24, 1).roll([4], [3]), None, false).unwrap();
    assert!(!flipped.select(1, 0).allclose(&tokens.select(1, 0), 1e-6, 1e-7, false));
    assert!(vit.last_blocks(&x, 1).unwrap()[0].equal(&tokens));
    let attention = vit.last_attention(&x).unwrap();
    assert_eq!(attention.size(), [2, 2, 17, 17]);
    let refused = vit.encode(&vit.patches(&x).unwrap(), false).unwrap_err().to_string();
    assert!(refused.contains("rotary"), "{refused}");
}

#[test]
fn rotary_positions_stay_when_blocks_are_recomputed() {
    let gradient = |recompute| {
        portolan_tensor::seed(3);
        let config = VitConfig {
            recompute,
            layer_scale: 1.0,
            qkv_bias: QkvBias::QueryValue,
            ..VitConfig::named("vit_w16d2h2_patch4_dinov3_16").unwrap()
        };
        let vars = Vars::new(Device::Cpu);
        let vit = Vit::new(&config, &vars).unwrap();
        vit.tokens(&images(16, 16), None, true).unwrap().square().sum(Kind::Float).backward();
        vars.parameters()
    };
    for ((name, kept), (_, recomputed)) in gradient(false).into_iter().zip(gradient(true)) {
        assert!(kept.grad().abs().max().double_value(&[]) > 0.0, "{name}");
        assert!(kept.grad().allclose(&recomputed.grad(), 1e-5, 1e-6, false), "{name}");
    }
}

#[test]
fn finetuning_keeps_rotary_positions() {
    let config = VitConfig::named("vit_w16d1h2_patch4_dinov3_16").unwrap();
    let vars = Vars::new(Device::Cpu);
    config.finetuned(0.1, false).unwrap().config.build(&vars).unwrap();
    assert!(!vars.state().iter().any(|(name, _)| name == "pos_embed"));
}

#[test]
fn a_norm_before_the_blocks_takes_the_place_of_the_projections_bias() {
    let (vit, state) = named("vit_w16d2h2_patch4_clip_16");
    assert!(state.contains_key("norm_pre.weight") && !state.contains_key("patch_embed.proj.bias"));
    assert_eq!(vit.layer_of("norm_pre.weight"), Some(0));
    // It makes the first block blind to the contrast of the tokens.
    portolan_tensor::no_grad(|| {
        for name in ["cls_token", "pos_embed"] {
            let _ = state[name].shallow_clone().zero_();
        }
    });
    let x = images(16, 16);
    let (one, two) = (vit.forward(&x, false), vit.forward(&(&x * 2.0), false));
    assert!(one.allclose(&two, 1e-3, 1e-4, false));
}

#[test]
fn names_have_the_settings_of_their_papers() {
    let of = |name: &str| VitConfig::named(name).unwrap();
    let giant = of("vit_giant_patch14_reg4_dinov2");
    assert_eq!((giant.mlp, giant.registers, giant.image), (Mlp::SwiGlu, 4, 518));
    assert!(!giant.class_position && of("vit_small_patch14_dinov2").class_position);
    assert_eq!(of("vit_small_plus_patch16_dinov3").mlp, Mlp::SwiGluWide);
    assert_eq!(of("vit_large_patch14_clip_quickgelu_336").mlp, Mlp::QuickGelu);
    assert!(!of("deit3_base_patch16_384").class_position);
    for name in [
        "vit_giant_patch14_reg4_dinov2",
        "vit_small_patch14_dinov2",
        "vit_w64d3h2_patch4_reg2_dinov2_32",
        "vit_huge_plus_patch16_dinov3",
        "vit_small_patch16_dinov3",
        "deit3_base_patch16_384",
        "vit_base_patch16_clip_224",
        "vit_large_patch14_clip_quickgelu_336",
    ] {
        let config = of(name);
        config.validate().unwrap();
        assert_eq!(config.name(), name);
        assert!(config.size_keys().contains(&"layer_scale"));
    }
    let other = of("vit_tiny_patch8_dinov2_64");
    assert_eq!(other.name(), "vit_tiny_patch8_64");
    assert!(other.size_keys().contains(&"layer_scale"));
    let plain = of("vit_tiny_patch4_32");
    assert!(!plain.size_keys().contains(&"layer_scale"));
    assert_eq!(VitConfig { registers: 2, ..plain }.name(), "vit_tiny_patch4_32");
}

#[test]
fn heads_too_narrow_to_turn_are_refused() {
    let config = VitConfig {
        positions: Positions::Rotary,
        ..VitConfig::named("vit_w12d1h2_patch4_16").unwrap()
    };
    let message = config.validate().unwrap_err().to_string();
    assert!(message.contains("width 6") && message.contains("rotary"), "{message}");
}
