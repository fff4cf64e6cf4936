//! DINOv2's steps, against what the paper and the authors' code say of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_dinov2::{Centering, Dinov2, Dinov2Config, HeadConfig};
use portolan_encoders::VitConfig;
use portolan_method::{Batch, ImageMethod, Method};
use portolan_optim::{Decay, LrRule, Optimizer, OptimizerConfig, ParamGroup};
use portolan_tensor::{Device, Precision, no_grad, seed, tch};
use portolan_testing::trial::{self, Trial};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;
const SGD: OptimizerConfig =
    OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
const HEAD: HeadConfig = HeadConfig { layers: 2, hidden: 32, bottleneck: 16, dim: 24 };

/// Global views of 8 by 8 patches, local ones of 4 by 4.
fn vit() -> VitConfig {
    tch::set_num_threads(1);
    let config = VitConfig::named("vit_w16d2h2_patch2_16").unwrap();
    VitConfig { mask_token: true, layer_scale: 0.5, registers: 1, ..config }
}

fn dinov2(vit: VitConfig, change: impl Fn(&mut Dinov2Config)) -> Dinov2 {
    let mut config = Dinov2Config {
        head: HEAD,
        teacher_temperature: 0.04,
        teacher_temperature_epochs: 0,
        ..Dinov2Config::default()
    };
    change(&mut config);
    Dinov2::new(config, &vit.into(), presets::dino(16, 8, 2), CPU).unwrap()
}

/// The loss and the metrics of step 0.
fn losses(method: &mut Dinov2, batch: &Batch) -> (f64, BTreeMap<&'static str, f64>) {
    let out = method.loss(batch, &trial::step(0, 10)).unwrap();
    let metrics = out.metrics.iter().map(|(name, x)| (*name, x.double_value(&[]))).collect();
    (out.loss.double_value(&[]), metrics)
}

fn fill(method: &Dinov2, name: &str, value: f64) {
    let (_, tensor) = method.state().into_iter().find(|(own, _)| own == name).unwrap();
    let _ = no_grad(|| tensor.shallow_clone().fill_(value));
}

#[test]
fn the_loss_is_the_sum_of_its_scaled_terms() {
    seed(1);
    let mut method = dinov2(vit(), |config| {
        (config.dino_loss_scale, config.ibot_loss_scale, config.koleo_loss_scale) = (0.5, 2.0, 0.1);
    });
    let batch = trial::noise(&method, 4);
    let (loss, metrics) = losses(&mut method, &batch);
    // KoLeo's term is a sum over the two global views.
    let sum =
        0.5 * metrics["dino_loss"] + 2.0 * metrics["ibot_loss"] + 0.1 * 2.0 * metrics["koleo_loss"];
    assert!((loss - sum).abs() < 1e-5, "{loss} and {sum}");
}

#[test]
fn a_scale_of_zero_turns_a_term_off() {
    seed(2);
    for (off, name) in ["dino_loss", "ibot_loss", "koleo_loss"].into_iter().enumerate() {
        let mut method = dinov2(vit(), |config| {
            let scales = [
                &mut config.dino_loss_scale,
                &mut config.ibot_loss_scale,
                &mut config.koleo_loss_scale,
            ];
            *scales.into_iter().nth(off).unwrap() = 0.0;
        });
        let batch = trial::noise(&method, 4);
        let (loss, metrics) = losses(&mut method, &batch);
        let terms: Vec<_> = metrics.keys().filter(|name| name.ends_with("_loss")).collect();
        assert!(loss.is_finite() && terms.len() == 2 && !metrics.contains_key(name), "{metrics:?}");
    }
}

#[test]
fn only_the_student_sees_masks_and_only_with_ibot() {
    seed(3);
    let mut method = dinov2(vit(), |_| ());
    let batch = trial::noise(&method, 4);
    let before = losses(&mut method, &batch).0;
    fill(&method, "teacher.encoder.mask_token", f64::NAN);
    assert_eq!(losses(&mut method, &batch).0, before);
    fill(&method, "student.encoder.mask_token", f64::NAN);
    assert!(losses(&mut method, &batch).0.is_nan());
    let mut whole = dinov2(vit(), |config| config.ibot_loss_scale = 0.0);
    fill(&whole, "student.encoder.mask_token", f64::NAN);
    assert!(losses(&mut whole, &batch).0.is_finite());
}

#[test]
fn the_teacher_gets_no_gradient_and_no_stochastic_depth_and_is_what_is_evaluated() {
    seed(4);
    let vit = VitConfig { drop_path: 0.5, drop_path_uniform: true, ..vit() };
    let mut method = dinov2(vit, |_| ());
    let batch = trial::noise(&method, 4);
    let loss = |method: &mut Dinov2| method.loss(&batch, &trial::step(0, 2)).unwrap();
    loss(&mut method).loss.backward();
    for (name, tensor) in method.state() {
        let trained = name.starts_with("student.") && tensor.requires_grad();
        assert_eq!(tensor.grad().defined(), trained, "{name}");
    }
    let features = |method: &mut Dinov2| loss(method).outputs.unwrap();
    assert_eq!(features(&mut method), features(&mut method), "the teacher skips nothing");
    fill(&method, "teacher.encoder.norm.weight", 0.0);
    fill(&method, "teacher.encoder.norm.bias", 3.0);
    let evaluated = no_grad(|| method.encoder().forward(&batch.inputs[0], false));
    assert_eq!((evaluated - 3.0).abs().max().double_value(&[]), 0.0);
}

#[test]
fn the_teacher_follows_and_its_momentum_rises_to_one() {
    seed(5);
    let mut method = dinov2(vit(), |config| config.momentum = 0.8);
    let name = "encoder.blocks.0.attn.qkv.bias";
    let student = format!("student.{name}");
    // 1 + (0.8 − 1) · ½ (1 + cos(π step / 10)).
    for (step, momentum) in [(0, 0.8), (5, 0.9)] {
        fill(&method, &student, 1.0);
        let before = trial::state(&method)[&format!("teacher.{name}")].double_value(&[0]);
        method.after_update(&trial::step(step, 10)).unwrap();
        let after = trial::state(&method)[&format!("teacher.{name}")].double_value(&[0]);
        assert!((after - (momentum * before + 1.0 - momentum)).abs() < 1e-6, "step {step}");
    }
}

#[test]
fn the_last_layers_keep_still_for_an_epoch_and_the_rest_moves() {
    seed(6);
    let mut method = dinov2(vit(), |config| config.ibot_head = Some(HEAD));
    let batch = trial::noise(&method, 4);
    let mut optimizer = Optimizer::new(SGD, 0.1, method.params()).unwrap();
    for (epoch, moves) in [(0.0, false), (1.0, true)] {
        let before = trial::state(&method);
        optimizer.zero_grad().unwrap();
        method.loss(&batch, &trial::step(0, 2)).unwrap().loss.backward();
        method.before_update(&trial::step(0, 2)).unwrap();
        optimizer.step(0.1, epoch).unwrap();
        let after = trial::state(&method);
        let moved = |name: &str| before[name] != after[name];
        for head in ["head", "ibot_head"] {
            for last in ["last_layer.weight_v", "last_layer.weight_g"] {
                assert_eq!(moved(&format!("student.{head}.{last}")), moves, "{head}.{last}");
            }
            assert!(moved(&format!("student.{head}.mlp.0.weight")));
        }
        assert!(moved("student.encoder.mask_token"));
    }
}

#[test]
fn encoder_and_heads_are_clipped_each_by_their_own_norm() {
    seed(7);
    let mut method = dinov2(vit(), |config| {
        (config.clip, config.ibot_head) = (1e-3, Some(HEAD));
    });
    let batch = trial::noise(&method, 4);
    method.loss(&batch, &trial::step(0, 2)).unwrap().loss.backward();
    method.before_update(&trial::step(0, 2)).unwrap();
    let mut squares: BTreeMap<String, f64> = BTreeMap::new();
    for (name, param) in method.params().into_iter().flat_map(|group| group.params) {
        let part = name.split('.').nth(1).unwrap().to_owned();
        *squares.entry(part).or_default() += param.grad().norm().double_value(&[]).powi(2);
    }
    assert_eq!(squares.len(), 3, "encoder, head, ibot_head");
    for (part, square) in squares {
        assert!((square.sqrt() / 1e-3 - 1.0).abs() < 2e-3, "{part}: {}", square.sqrt());
    }
}

#[test]
fn rates_decay_towards_the_input_and_biases_norms_and_layer_scale_have_no_weight_decay() {
    let method = dinov2(vit(), |config| config.layer_decay = 0.5);
    let groups = Decay::Matrices.apply(method.params());
    let found = |parameter: &str| -> (LrRule, bool) {
        let has = |group: &&ParamGroup| group.params.iter().any(|(name, _)| name == parameter);
        let group = groups.iter().find(has).unwrap();
        (group.lr, group.weight_decay)
    };
    // get_vit_lr_decay_rate: 0.5^(depth + 1 − layer) with a depth of 2, times 0.2 for the patches.
    for (parameter, rate, decays) in [
        ("encoder.patch_embed.proj.weight", 0.2 * 0.125, true),
        ("encoder.patch_embed.proj.bias", 0.2 * 0.125, false),
        ("encoder.cls_token", 0.125, true),
        ("encoder.reg_token", 0.125, true),
        ("encoder.mask_token", 0.125, true),
        ("encoder.pos_embed", 0.125, true),
        ("encoder.blocks.0.mlp.fc1.weight", 0.25, true),
        ("encoder.blocks.1.ls1.gamma", 0.5, false),
        ("encoder.blocks.1.norm1.weight", 0.5, false),
        ("encoder.norm.weight", 1.0, false),
        ("head.mlp.0.weight", 1.0, true),
        ("head.mlp.0.bias", 1.0, false),
        ("head.last_layer.weight_v", 1.0, true),
    ] {
        let expected = (LrRule::Scaled(rate), decays);
        assert_eq!(found(&format!("student.{parameter}")), expected, "{parameter}");
    }
}

#[test]
fn koleo_stays_finite_on_the_equal_tokens_of_a_new_encoder_in_bfloat16() {
    seed(8);
    let mut method = dinov2(VitConfig { layer_scale: 1e-5, ..vit() }, |_| ());
    let batch = trial::noise(&method, 8);
    let cx = trial::step(0, 2);
    let out = Precision::Bf16.run(CPU, || method.loss(&batch, &cx)).unwrap().unwrap();
    let metrics: BTreeMap<_, _> = out.metrics.iter().map(|(n, x)| (*n, x)).collect();
    // −log ρ of distances ρ of some 1e-5, far from −log(1e-8 √16) of equal tokens.
    let koleo = metrics["koleo_loss"].double_value(&[]);
    assert!((5.0..15.0).contains(&koleo), "{koleo}");
    assert_eq!(metrics["duplicates"].double_value(&[]), 0.0);
    out.loss.backward();
    for (name, param) in method.params().into_iter().flat_map(|group| group.params) {
        assert!(bool::try_from(param.grad().isfinite().all()).unwrap(), "{name}");
    }
}

#[test]
fn duplicates_in_a_batch_are_counted_and_cost_no_step() {
    seed(9);
    let mut method = dinov2(vit(), |_| ());
    let batch = trial::noise(&method, 8);
    for view in &batch.inputs {
        view.get(5).copy_(&view.get(2));
    }
    let out = method.loss(&batch, &trial::step(0, 2)).unwrap();
    let duplicates = out.metrics.iter().find(|(name, _)| *name == "duplicates").unwrap();
    assert_eq!(duplicates.1.double_value(&[]), 2.0 / 8.0);
    out.loss.backward();
    method.before_update(&trial::step(0, 2)).unwrap();
    for (name, param) in method.params().into_iter().flat_map(|group| group.params) {
        assert!(param.grad().norm().double_value(&[]) < 3.01, "{name}");
    }
}

/// The last metrics after 200 steps.
fn metrics(change: impl Fn(&mut Dinov2Config)) -> BTreeMap<&'static str, f64> {
    seed(10);
    let mut method = dinov2(VitConfig { patch: 4, ..vit() }, change);
    let optimizer = OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.04 };
    Trial { optimizer, ..Trial::new(200, 3e-3) }.run(&mut method).metrics
}

#[test]
fn both_centerings_learn_and_none_collapses() {
    for centering in [Centering::Softmax, Centering::SinkhornKnopp] {
        let found = metrics(|config| config.centering = centering);
        let divergence = found["teacher_student_divergence"];
        let entropy = found["teacher_entropy"];
        assert!(divergence < 1.0, "{centering:?}: the student learns the targets, {found:?}");
        assert!((0.05..0.95).contains(&entropy), "{centering:?}: {found:?}");
    }
    let found = metrics(|config| config.center_momentum = 1.0);
    assert!(found["teacher_entropy"] < 0.05, "without centering one output takes all: {found:?}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |encoder: portolan_encoders::EncoderConfig, config: Dinov2Config| {
        Dinov2::new(config, &encoder, presets::dino(16, 8, 1), CPU).err().unwrap().to_string()
    };
    let default = || Dinov2Config { head: HEAD, ..Dinov2Config::default() };
    assert!(refused(trial::small(), default()).contains("vision transformer"));
    let plain = VitConfig { mask_token: false, ..vit() };
    assert!(refused(plain.into(), default()).contains("mask_token = true"));
    let change = |change: fn(&mut Dinov2Config)| {
        let mut config = default();
        change(&mut config);
        refused(vit().into(), config)
    };
    assert!(change(|config| config.mask_ratio = [0.5, 0.1]).contains("the smaller first"));
    assert!(change(|config| config.koleo_loss_scale = -0.1).contains("koleo_loss_scale"));
    let nothing = |config: &mut Dinov2Config| {
        (config.dino_loss_scale, config.ibot_loss_scale) = (0.0, 0.0);
    };
    assert!(change(nothing).contains("one must be above 0"));
    assert!(change(|config| config.head.layers = 0).contains("head.layers"));
    let mut method = dinov2(vit(), |_| ());
    let mut batch = trial::noise(&method, 4);
    let _ = batch.inputs.pop();
    let error = method.loss(&batch, &trial::step(0, 1)).unwrap_err().to_string();
    assert!(error.contains("4 views") && error.contains('3'), "{error}");
}
