//! Barlow Twins' steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_barlow::{Barlow, BarlowConfig};
use portolan_method::Method;
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn barlow(change: impl Fn(&mut BarlowConfig)) -> Barlow {
    let mut config =
        BarlowConfig { hidden: 32, dim: 32, loss_scale: 0.1, ..BarlowConfig::default() };
    change(&mut config);
    Barlow::new(config, &trial::small(), presets::byol(16).into(), CPU).unwrap()
}

#[test]
fn biases_and_batch_norms_have_a_rate_of_their_own() {
    let _turn = trial::GENERATOR.lock();
    seed(1);
    let mut method = barlow(|config| config.bias_rate = 0.0);
    let batch = trial::noise(&method, 6);
    let sgd = OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, 0.1, method.params()).unwrap();
    let before = trial::state(&method);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    optimizer.step(0.1, 0).unwrap();
    let after = trial::state(&method);
    for (name, tensor) in before.iter().filter(|(name, _)| !name.contains("running")) {
        let moves = tensor.dim() > 1 || name.contains("num_batches");
        assert_eq!(*tensor != after[name], moves, "{name}");
    }
}

#[test]
fn the_loss_grows_with_its_scale() {
    let _turn = trial::GENERATOR.lock();
    let loss = |loss_scale| {
        seed(2);
        let mut method = barlow(|config| config.loss_scale = loss_scale);
        let batch = trial::noise(&method, 6);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[])
    };
    assert!((loss(0.5) / loss(0.1) - 5.0).abs() < 1e-4);
}

#[test]
fn without_redundancy_reduction_dimensions_are_lost_and_with_it_they_are_kept() {
    let _turn = trial::GENERATOR.lock();
    let signs = |lambda| {
        seed(3);
        let mut method = barlow(|config| config.lambda = lambda);
        Trial::new(300, 0.05).run(&mut method).signs.unwrap()
    };
    let (with, without) = (signs(0.05), signs(0.0));
    assert!(without.effective_rank < 0.5 * with.effective_rank, "{without:?}, {with:?}");
    assert!(without.deviation > 0.1, "it does not collapse to a point: {without:?}");
}

#[test]
fn the_example_runs() {
    let _turn = trial::GENERATOR.lock();
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: BarlowConfig| {
        Barlow::new(config, &trial::small(), presets::byol(16).into(), CPU)
            .err()
            .unwrap()
            .to_string()
    };
    let default = BarlowConfig::default;
    assert!(refused(BarlowConfig { lambda: -1.0, ..default() }).contains("lambda"));
    assert!(refused(BarlowConfig { dim: 1, ..default() }).contains("dim"));
    assert!(refused(BarlowConfig { loss_scale: f64::NAN, ..default() }).contains("loss_scale"));
}
