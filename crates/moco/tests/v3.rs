//! MoCo v3's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

use portolan_augment::presets;
use portolan_encoders::{EncoderConfig, HeadNorm, Positions, VitConfig};
use portolan_method::Method;
use portolan_moco::{MocoV3, MocoV3Config};
use portolan_tensor::{Device, seed, tch};
use portolan_testing::trial::{self, Trial};

fn moco(encoder: &EncoderConfig) -> MocoV3 {
    tch::set_num_threads(1);
    let config = MocoV3Config { hidden: 32, dim: 16, ..MocoV3Config::default() };
    MocoV3::new(config, encoder, presets::byol(16).into(), Device::Cpu).unwrap()
}

fn vit() -> EncoderConfig {
    let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
    let positions = Positions::SineCosine;
    VitConfig { positions, frozen_patches: true, ..config }.into()
}

#[test]
fn the_key_network_and_the_patches_projection_get_no_gradient() {
    seed(1);
    let mut method = moco(&vit());
    let batch = trial::noise(&method, 6);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    for (name, tensor) in method.state() {
        let fixed = name.starts_with("key.") || name.contains("patch_embed");
        assert_eq!(tensor.grad().defined(), !fixed && tensor.requires_grad(), "{name}");
    }
}

#[test]
fn a_few_steps_learn_to_find_the_key_and_projections_stay_frozen() {
    seed(2);
    for encoder in [vit(), EncoderConfig::named("resnet18-w4").unwrap()] {
        let mut method = moco(&encoder);
        let before = trial::state(&method);
        let shown = Trial::new(80, 0.05).run(&mut method);
        assert!(shown.loss < shown.first_loss, "{shown:?}");
        assert!(shown.metrics["contrastive_top1"] > 0.1, "64 to choose from: {shown:?}");
        assert!(shown.collapse.unwrap().deviation > 0.3, "{shown:?}");
        let after = trial::state(&method);
        for (name, tensor) in before.iter().filter(|(name, _)| name.contains("patch_embed")) {
            assert_eq!(*tensor, after[name], "{name}");
        }
    }
}

/// `moco/builder.py`, `_build_mlp`: every layer has `bias=False`. Only a predictor without a last
/// batch norm, a ResNet's, could have one.
#[test]
fn the_predictor_ends_without_a_bias_as_the_authors_do() {
    let biases = |last_bias, predictor_norm| {
        let config = MocoV3Config {
            hidden: 32,
            dim: 16,
            last_bias,
            predictor_norm,
            ..MocoV3Config::default()
        };
        let resnet = EncoderConfig::named("resnet18-w4").unwrap();
        let built = MocoV3::new(config, &resnet, presets::byol(16).into(), Device::Cpu).unwrap();
        let names = built.state().into_iter().map(|(name, _)| name);
        names.filter(|name| name == "predictor.3.bias" || name == "query.head.6.bias").count()
    };
    assert!(!MocoV3Config::default().last_bias);
    assert_eq!(biases(false, HeadNorm::Hidden), 0);
    assert_eq!(biases(true, HeadNorm::Hidden), 1);
    assert_eq!(biases(true, HeadNorm::All), 0);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |config: MocoV3Config| {
        let built = MocoV3::new(config, &vit(), presets::byol(16).into(), Device::Cpu);
        built.err().unwrap().to_string()
    };
    let default = MocoV3Config::default;
    assert!(refused(MocoV3Config { temperature: -1.0, ..default() }).contains("temperature"));
    assert!(refused(MocoV3Config { layers: 0, ..default() }).contains("layers"));
    let norm = MocoV3Config { predictor_norm: HeadNorm::Hidden, momentum: 2.0, ..default() };
    assert!(refused(norm).contains("momentum"));
}
