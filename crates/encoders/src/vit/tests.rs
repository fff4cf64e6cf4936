//! Tests of the vision transformer.
#![allow(clippy::unwrap_used)]
use portolan_tensor::Device;

use super::*;
use crate::{Init, Mlp};

fn small(change: impl Fn(&mut VitConfig)) -> (Vit, Vars) {
    let mut config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
    change(&mut config);
    let vars = Vars::new(Device::Cpu);
    (Vit::new(&config, &vars).unwrap(), vars)
}

fn images(size: i64) -> Tensor {
    Tensor::randn([3, 3, size, size], (Kind::Float, Device::Cpu))
}

#[test]
fn features_and_maps_have_the_shapes_they_say_at_other_sizes_too() {
    for pool in [Pool::ClassToken, Pool::Mean, Pool::MeanThenNorm] {
        let (vit, _) = small(|config| config.pool = pool);
        for size in [8, 16, 24] {
            assert_eq!(vit.forward(&images(size), true).size(), [3, 16]);
            assert_eq!(vit.feature_map(&images(size), false).size(), [3, 16, size / 4, size / 4]);
        }
        assert!(vit.patches(&images(10)).is_err());
    }
}

#[test]
fn patches_are_projected_row_by_row_and_get_their_place() {
    let (vit, vars) = small(|config| config.positions = Positions::SineCosine);
    let x = images(16);
    let tokens = vit.patches(&x).unwrap();
    let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
    let weight = state["patch_embed.proj.weight"].view([16, -1]);
    let patch = x.get(1).narrow(1, 4, 4).narrow(2, 8, 4).reshape([-1]); // row 1, column 2
    let expected = weight.matmul(&patch)
        + &state["patch_embed.proj.bias"]
        + state["pos_embed"].get(0).get(1 + 4 + 2);
    assert!(tokens.get(1).get(6).allclose(&expected, 1e-4, 1e-5, false));
}

#[test]
fn attention_rows_sum_to_one() {
    let (vit, _) = small(|_| ());
    let attention = vit.last_attention(&images(16)).unwrap();
    assert_eq!(attention.size(), [3, 2, 17, 17]);
    let sums = attention.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    assert!(sums.allclose(&sums.ones_like(), 1e-5, 1e-5, false));
}

#[test]
fn initial_values_are_those_of_each_authors_code() {
    // w = 64, patches of 4: 48 numbers. Bounds by hand; the deviation of a uniform draw is its
    // bound / √3.
    let default = 1.0 / 48f64.sqrt(); // PyTorch's convolution
    let (proj, fused, apart) =
        ((6f64 / (48. + 64.)).sqrt(), (6f64 / (4. * 64.)).sqrt(), (6f64 / (2. * 64.)).sqrt());
    let uniform = |bound: f64| bound / 3f64.sqrt();
    for (init, expected) in [
        (Init::Normal, [0.02, 0.02, uniform(default), uniform(default)]), // DINO
        (Init::Xavier, [1e-6, uniform(apart), uniform(proj), 0.0]),       // MoCo v3
        (Init::XavierFused, [0.02, uniform(fused), uniform(proj), uniform(default)]), // MAE
        (Init::Dinov2, [1e-6, 0.02, uniform(default), uniform(default)]),
    ] {
        portolan_tensor::seed(0);
        let config = VitConfig { init, ..VitConfig::plain([64, 1, 2], 4, 16) };
        let vars = Vars::new(Device::Cpu);
        Vit::new(&config, &vars).unwrap();
        let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
        let names = [
            "cls_token",
            "blocks.0.attn.qkv.weight",
            "patch_embed.proj.weight",
            "patch_embed.proj.bias",
        ];
        for (name, expected) in names.into_iter().zip(expected) {
            let values = &state[name];
            let std = values.square().mean(Kind::Double).double_value(&[]).sqrt();
            // Five standard errors of a deviation over n values.
            let off = 5.0 * expected / (2.0 * values.numel() as f64).sqrt();
            assert!((std - expected).abs() <= off, "{init:?}, {name}: {std}, not {expected}");
        }
        let most = state["blocks.0.attn.qkv.weight"].abs().max().double_value(&[]);
        match init {
            Init::Normal | Init::Dinov2 => assert!(most > 0.05, "not cut off: {most}"),
            Init::Xavier => assert!(most <= apart && most > 0.99 * apart, "{most}"),
            Init::XavierFused => assert!(most <= fused && most > 0.99 * fused, "{most}"),
        }
    }
}

#[test]
fn a_new_norm_follows_the_mean_and_the_last_one_is_gone() {
    let (vit, vars) = small(|config| config.pool = Pool::MeanThenNorm);
    let names: Vec<String> = vars.state().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name == "fc_norm.weight"));
    assert!(!names.iter().any(|name| name.starts_with("norm.")));
    let features = vit.forward(&images(16), false);
    let mean = features.mean_dim([1i64].as_slice(), false, Kind::Float);
    assert!(mean.abs().max().double_value(&[]) < 1e-5, "a layer norm has mean zero");
}

#[test]
fn training_with_labels_moves_what_pretraining_left_fixed() {
    let config = VitConfig {
        positions: Positions::SineCosine,
        frozen_patches: true,
        ..VitConfig::plain([16, 2, 2], 4, 16)
    };
    let trained = |config: &dyn Family| {
        let vars = Vars::new(Device::Cpu);
        config.build(&vars).unwrap();
        assert_eq!(vars.parameters().len() + vars.buffers().len(), vars.state().len());
        vars.buffers().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let fixed = ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"];
    assert_eq!(trained(&config), fixed);
    let finetuned = config.finetuned(0.1, false).unwrap().config;
    assert_eq!(trained(&*finetuned), Vec::<String>::new());
}

#[test]
fn a_frozen_projection_is_kept_from_the_optimizer_but_stored() {
    let (_, vars) = small(|config| config.frozen_patches = true);
    let named =
        |list: Vec<(String, Tensor)>| list.iter().any(|(name, _)| name.starts_with("patch_embed"));
    assert!(!named(vars.parameters()) && named(vars.state()));
}

#[test]
fn impossible_transformers_are_refused_by_name() {
    let refused = |change: fn(&mut VitConfig)| {
        let mut config = VitConfig::named("vit_tiny_patch4_32").unwrap();
        change(&mut config);
        Vit::new(&config, &Vars::new(Device::Cpu)).err().unwrap().to_string()
    };
    let message = refused(|config| config.patch = 5);
    assert!(message.contains('5') && message.contains("32"), "{message}");
    assert!(refused(|config| config.heads = 5).contains("heads"));
    assert!(refused(|config| config.drop_path = 1.0).contains("drop_path"));
    assert!(refused(|config| config.depth = 0).contains("depth"));
}

/// A network with everything that DINOv2 adds.
fn dinov2_like() -> (Vit, Vars) {
    small(|config| {
        config.registers = 3;
        config.mask_token = true;
        config.mlp = Mlp::SwiGlu;
        config.layer_scale = 0.5;
        config.init = Init::Dinov2;
    })
}

#[test]
fn tokens_are_class_token_registers_and_patches() {
    for class_position in [true, false] {
        let (vit, vars) = small(|config| {
            config.registers = 3;
            config.class_position = class_position;
        });
        assert_eq!(vit.prefix_tokens(), 4);
        let x = images(16).narrow(3, 0, 8);
        let tokens = vit.tokens(&x, None, false).unwrap();
        assert_eq!(tokens.size(), [3, 4 + 8, 16]);
        assert!(vit.forward(&x, false).equal(&tokens.select(1, 0)));
        let map = vit.feature_map(&x, false);
        assert_eq!(map.size(), [3, 16, 4, 2]);
        // Row 2, column 1 is the sixth of eight patches.
        assert!(map.select(2, 2).select(2, 1).equal(&tokens.select(1, 4 + 5)));
        let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
        assert_eq!(state["reg_token"].size(), [1, 3, 16]);
        assert_eq!(state["pos_embed"].size(), [1, 16 + i64::from(class_position), 16]);
    }
}

#[test]
fn the_mean_leaves_registers_out() {
    let (vit, _) = small(|config| {
        config.registers = 3;
        config.pool = Pool::Mean;
    });
    let x = images(16);
    let tokens = vit.tokens(&x, None, false).unwrap();
    let mean = tokens.narrow(1, 4, 16).mean_dim([1i64].as_slice(), false, Kind::Float);
    assert!(vit.forward(&x, false).allclose(&mean, 1e-6, 1e-6, false));
}

#[test]
fn the_mask_token_replaces_a_patch_before_its_position_is_added() {
    let (vit, vars) = dinov2_like();
    let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
    assert_eq!(state["mask_token"].size(), [1, 16]);
    assert_eq!(state["mask_token"].abs().max().double_value(&[]), 0.0);
    let _ = portolan_tensor::no_grad(|| state["mask_token"].shallow_clone().fill_(0.25));
    let (x, mask) = (images(16), Tensor::zeros([3, 16], (Kind::Bool, Device::Cpu)));
    let unmasked = vit.tokens(&x, Some(&mask), false).unwrap();
    assert!(unmasked.equal(&vit.tokens(&x, None, false).unwrap()));
    let _ = mask.get(1).get(6).fill_(1);
    let embedded = vit.embed(&x, Some(&mask)).unwrap();
    let expected = state["pos_embed"].get(0).get(1 + 6) + 0.25;
    assert!(embedded.get(1).get(6).allclose(&expected, 1e-6, 1e-6, false));
    let masked = vit.tokens(&x, Some(&mask), false).unwrap();
    assert!(masked.get(0).equal(&unmasked.get(0)) && !masked.get(1).equal(&unmasked.get(1)));
    // What the pixels of a masked patch are does not matter.
    let other = x.copy();
    let _ = other.get(1).narrow(1, 4, 4).narrow(2, 8, 4).fill_(9.0);
    assert!(vit.tokens(&other, Some(&mask), false).unwrap().allclose(&masked, 1e-5, 1e-6, false));

    assert!(vit.tokens(&x, Some(&mask.narrow(1, 0, 8)), false).is_err());
    let without = small(|_| ()).0.tokens(&x, Some(&mask), false).unwrap_err().to_string();
    assert!(without.contains("mask_token"), "{without}");
}

#[test]
fn the_last_norm_is_all_between_unnormalized_and_normalized_tokens() {
    let (vit, _) = small(|config| config.registers = 2);
    let x = images(16);
    let before = vit.unnormalized_tokens(&x).unwrap();
    let after = vit.tokens(&x, None, false).unwrap();
    assert!(vit.norm.forward(&before).equal(&after) && !before.equal(&after));
    let (unnormed, _) = small(|config| config.pool = Pool::MeanThenNorm);
    let tokens = unnormed.tokens(&x, None, false).unwrap();
    assert!(unnormed.unnormalized_tokens(&x).unwrap().equal(&tokens));
}

#[test]
fn the_last_blocks_end_with_the_tokens() {
    let (vit, _) = dinov2_like();
    let x = images(16);
    let last = vit.last_blocks(&x, 2).unwrap();
    assert_eq!(last.len(), 2);
    assert!(last[1].equal(&vit.tokens(&x, None, false).unwrap()));
    let first = vit.blocks[0].forward(&vit.with_prefix(&vit.patches(&x).unwrap()), false);
    assert!(last[0].equal(&vit.norm.forward(&first)));
    assert!(vit.last_blocks(&x, 3).unwrap_err().to_string().contains("depth 2"));
}

#[test]
fn all_its_parameters_get_gradients_and_a_layer() {
    let (vit, vars) = dinov2_like();
    let mask = Tensor::zeros([3, 16], (Kind::Bool, Device::Cpu));
    let _ = mask.narrow(1, 0, 4).fill_(1);
    vit.tokens(&images(16), Some(&mask), true).unwrap().square().sum(Kind::Float).backward();
    for (name, parameter) in vars.parameters() {
        assert!(parameter.grad().abs().max().double_value(&[]) > 0.0, "{name}");
        let layer = vit.layer_of(&name);
        assert_eq!(layer.is_none(), name.starts_with("norm."), "{name}");
    }
    assert_eq!(vit.layer_of("blocks.1.ls2.gamma"), Some(2));
    for (name, layer) in [("reg_token", Some(0)), ("mask_token", Some(0))] {
        assert_eq!((vit.layer_of(name), vit.no_weight_decay(name)), (layer, true));
    }
}

#[test]
fn stochastic_depth_grows_or_is_uniform() {
    let rates = |uniform| {
        let plain = VitConfig::plain([16, 5, 2], 4, 16);
        let config = VitConfig { drop_path: 0.4, drop_path_uniform: uniform, ..plain };
        (0..5).map(|i| config.block(i).drop_path).collect::<Vec<_>>()
    };
    assert_eq!(rates(true), [0.4; 5]);
    assert_eq!(rates(false), [0.0, 0.1, 0.2, 0.4 * 0.75, 0.4]);
}

#[test]
fn settings_of_before_registers_are_read_as_they_were() {
    let config = VitConfig::named("vit_tiny_patch4_32").unwrap();
    let mut table = toml::Table::try_from(&config).unwrap();
    let new = [
        "class_position",
        "registers",
        "mask_token",
        "mlp",
        "qkv_bias",
        "norm_eps",
        "pre_norm",
        "layer_scale",
        "drop_path_uniform",
    ];
    for key in new {
        assert!(table.remove(key).is_some(), "{key}");
    }
    assert_eq!(table.try_into::<VitConfig>().unwrap(), config);
    let names: Vec<String> = {
        let vars = Vars::new(Device::Cpu);
        Vit::new(&config, &vars).unwrap();
        vars.state().into_iter().map(|(name, _)| name).collect()
    };
    assert!(!names.iter().any(|n| n.contains("ls1") || n.contains("reg_") || n.contains("mask")));
}
