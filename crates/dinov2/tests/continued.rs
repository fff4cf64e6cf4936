//! New heads on a trained encoder: the encoder keeps still until they are trained.
#![allow(clippy::unwrap_used)]

use portolan_augment::presets;
use portolan_dinov2::{Dinov2, Dinov2Config, HeadConfig};
use portolan_encoders::VitConfig;
use portolan_method::{Batch, Method};
use portolan_optim::{LrRule, Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Tensor, io, seed, tch};
use portolan_testing::trial;
use std::collections::BTreeMap;

const HEAD: HeadConfig = HeadConfig { layers: 2, hidden: 32, bottleneck: 16, dim: 24 };
const ADAMW: OptimizerConfig =
    OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.04 };
/// Steps of an epoch. The encoder is frozen for half of the first.
const PER_EPOCH: u64 = 4;

fn dinov2(change: impl Fn(&mut Dinov2Config)) -> Dinov2 {
    tch::set_num_threads(1);
    let vit = VitConfig::named("vit_w16d2h2_patch2_16").unwrap();
    let vit = VitConfig { mask_token: true, layer_scale: 0.5, registers: 1, ..vit };
    let mut config = Dinov2Config {
        head: HEAD,
        freeze_encoder: 0.5,
        freeze_last_layer: 0,
        ..Dinov2Config::default()
    };
    change(&mut config);
    Dinov2::new(config, &vit.into(), presets::dino(16, 8, 2), Device::Cpu).unwrap()
}

/// The method and its optimizer, the same every time.
fn begun() -> (Dinov2, Optimizer, Batch) {
    seed(11);
    let method = dinov2(|_| ());
    let batch = trial::noise(&method, 4);
    let optimizer = Optimizer::new(ADAMW, 1e-2, method.params()).unwrap();
    (method, optimizer, batch)
}

fn steps(
    method: &mut Dinov2,
    optimizer: &mut Optimizer,
    batch: &Batch,
    range: std::ops::Range<u64>,
) {
    for step in range {
        let cx = trial::step(step, 2 * PER_EPOCH).with_steps_per_epoch(PER_EPOCH);
        optimizer.zero_grad().unwrap();
        method.loss(batch, &cx).unwrap().loss.backward();
        method.before_update(&cx).unwrap();
        optimizer.step(1e-2, cx.epochs_done()).unwrap();
        method.after_update(&cx).unwrap();
    }
}

fn of_encoder(name: &str) -> bool {
    name.contains(".encoder.")
}

#[test]
fn new_heads_train_while_the_encoder_keeps_still_to_the_bit_then_all_move() {
    let (mut method, mut optimizer, batch) = begun();
    let start = trial::state(&method);
    for step in 0..4 {
        steps(&mut method, &mut optimizer, &batch, step..step + 1);
        let now = trial::state(&method);
        let frozen = step < 2;
        for (name, before) in start.iter().filter(|(name, _)| of_encoder(name)) {
            assert!(!frozen || now[name] == *before, "{name} moved in step {step}");
        }
        for network in ["student", "teacher"] {
            let moved = |part: &str| {
                let name = format!("{network}.{part}");
                start[&name] != now[&name]
            };
            assert!(moved("head.mlp.0.weight") && moved("head.last_layer.weight_v"), "{network}");
            assert_eq!(moved("encoder.blocks.0.attn.qkv.weight"), !frozen, "{network}");
        }
    }
    let counts = optimizer.state().into_iter().filter(|(name, _)| name.ends_with(".steps"));
    for (name, count) in counts.filter(|(name, _)| of_encoder(name)) {
        assert_eq!(count.double_value(&[]), 2.0, "{name}: its moments begin when it moves");
    }
}

#[test]
fn a_frozen_encoder_takes_no_backward_pass() {
    let (mut method, _, batch) = begun();
    method.loss(&batch, &trial::step(0, 8)).unwrap().loss.backward();
    for (name, param) in method.params().into_iter().flat_map(|group| group.params) {
        assert_eq!(param.grad().defined(), !of_encoder(&name), "{name}");
    }
}

#[test]
fn a_run_that_stops_while_the_encoder_is_frozen_goes_on_to_the_bit() {
    let all = |method: &Dinov2, optimizer: &Optimizer| -> BTreeMap<String, Tensor> {
        let state = method.state().into_iter().chain(optimizer.state());
        state.map(|(name, tensor)| (name, tensor.detach().copy())).collect()
    };
    let (mut method, mut optimizer, batch) = begun();
    steps(&mut method, &mut optimizer, &batch, 0..6);
    let straight = all(&method, &optimizer);

    let (mut method, mut optimizer, _) = begun();
    steps(&mut method, &mut optimizer, &batch, 0..1);
    let saved = all(&method, &optimizer);
    let (mut method, mut optimizer, _) = begun();
    let state: Vec<_> = method.state().into_iter().chain(optimizer.state()).collect();
    io::copy_into(&state, &saved).unwrap();
    steps(&mut method, &mut optimizer, &batch, 1..6);
    assert!(straight == all(&method, &optimizer), "the two runs differ");
}

#[test]
fn the_encoders_rate_is_a_share_of_the_heads() {
    let method = dinov2(|config| (config.encoder_rate, config.layer_decay) = (0.1, 0.5));
    let mut most = 0f64;
    for group in method.params() {
        let LrRule::Scaled(rate) = group.lr else { panic!("a scaled rate") };
        let encoder = of_encoder(&group.params[0].0);
        assert_eq!(group.frozen_epochs, if encoder { 0.5 } else { 0.0 }, "{}", group.name);
        assert!(encoder || rate == 1.0, "{}: {rate}", group.name);
        most = if encoder { most.max(rate) } else { most };
    }
    assert_eq!(most, 0.1, "the last norm's");
}

#[test]
fn rates_and_spans_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut Dinov2Config)| {
        let mut config = Dinov2Config { head: HEAD, ..Dinov2Config::default() };
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert!(refused(|config| config.encoder_rate = 0.0).contains("encoder_rate is 0"));
    assert!(refused(|config| config.freeze_encoder = -1.0).contains("freeze_encoder is -1"));
}
