//! BYOL's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_byol::{Byol, ByolConfig};
use portolan_method::Method;
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn byol(change: impl Fn(&mut ByolConfig)) -> Byol {
    let mut config = ByolConfig { hidden: 32, dim: 16, momentum: 0.9, ..ByolConfig::default() };
    change(&mut config);
    Byol::new(config, &trial::small(), presets::byol(16).into(), CPU).unwrap()
}

#[test]
fn the_target_carries_no_gradient() {
    seed(1);
    let mut method = byol(|_| ());
    let batch = trial::noise(&method, 6);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    for (name, tensor) in method.state() {
        let trained = !name.starts_with("target.") && tensor.requires_grad();
        assert_eq!(tensor.grad().defined(), trained, "{name}");
    }
}

#[test]
fn the_target_follows_and_its_momentum_ends_at_one() {
    seed(2);
    let mut method = byol(|_| ());
    let batch = trial::noise(&method, 6);
    let sgd = OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, 0.1, method.params()).unwrap();
    let before = trial::state(&method);
    method.loss(&batch, &trial::step(0, 10)).unwrap().loss.backward();
    optimizer.step(0.1, 0.0).unwrap();
    method.after_update(&trial::step(0, 10)).unwrap();
    let after = trial::state(&method);
    let name = "encoder.layer4.1.conv2.weight";
    let (old, online) = (&before[&format!("target.{name}")], &after[&format!("online.{name}")]);
    let expected = 0.9 * old + 0.1 * online;
    assert!(after[&format!("target.{name}")].allclose(&expected, 1e-5, 1e-7, false));
    assert_ne!(&after[&format!("target.{name}")], old);

    method.after_update(&trial::step(9, 10)).unwrap(); // the last step: m = 1
    assert_eq!(trial::state(&method)[&format!("target.{name}")], after[&format!("target.{name}")]);
}

#[test]
fn the_loss_sums_both_directions_times_its_scale() {
    let loss = |scale| {
        seed(3);
        let mut method = byol(|config| config.loss_scale = scale);
        let batch = trial::noise(&method, 6);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[])
    };
    // Predictions and targets are unrelated at first: two directions of about 2 − 2 · 0.
    assert!((loss(1.0) - 4.0).abs() < 1.0, "{}", loss(1.0));
    assert!((loss(0.25) - 0.25 * loss(1.0)).abs() < 1e-6);
}

/// `utils/networks.py`, MLP: `hk.Linear(output_size, with_bias=False)`.
#[test]
fn projector_and_predictor_end_without_a_bias_as_the_authors_do() {
    let biases = |last_bias| {
        let state = byol(|config| config.last_bias = last_bias).state();
        let names = state.into_iter().map(|(name, _)| name);
        names
            .filter(|name| name.ends_with("3.bias") && !name.contains("encoder"))
            .collect::<Vec<_>>()
    };
    assert!(!ByolConfig::default().last_bias);
    assert!(biases(false).is_empty(), "{:?}", biases(false));
    assert_eq!(biases(true), ["online.head.3.bias", "target.head.3.bias", "predictor.3.bias"]);
}

#[test]
fn without_predictor_and_target_outputs_collapse_and_with_them_they_do_not() {
    let deviation = |guarded| {
        seed(4);
        let mut method = byol(|config| (config.predictor, config.target) = (guarded, guarded));
        Trial::new(300, 0.05).run(&mut method).collapse.unwrap().deviation
    };
    let (with, without) = (deviation(true), deviation(false));
    assert!(without < 0.1, "{without} without its guards");
    assert!(with > 0.3, "{with} with them");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: ByolConfig, views: Vec<_>| {
        Byol::new(config, &trial::small(), views, CPU).err().unwrap().to_string()
    };
    let default = ByolConfig::default;
    let two = || presets::byol(16).to_vec();
    assert!(refused(ByolConfig { momentum: 1.1, ..default() }, two()).contains("momentum"));
    assert!(refused(ByolConfig { loss_scale: 0.0, ..default() }, two()).contains("loss_scale"));
    assert!(refused(default(), two()[..1].to_vec()).contains("2 views"));
}
