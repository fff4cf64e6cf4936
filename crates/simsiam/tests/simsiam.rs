//! SimSiam's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_encoders::HeadNorm;
use portolan_method::{Batch, Method};
use portolan_optim::{LrRule, Optimizer, OptimizerConfig};
use portolan_simsiam::{Simsiam, SimsiamConfig};
use portolan_tensor::{Device, Tensor, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn simsiam(change: impl Fn(&mut SimsiamConfig)) -> Simsiam {
    let config =
        SimsiamConfig { dim: 32, predictor_hidden: 8, layers: 2, ..SimsiamConfig::default() };
    let mut config = config;
    change(&mut config);
    Simsiam::new(config, &trial::small(), vec![presets::moco_v2(16); 2], CPU).unwrap()
}

/// The gradient of the projection head's last layer, for the loss of one batch.
fn gradient(stop_gradient: bool) -> (f64, Tensor) {
    seed(1);
    let mut method = simsiam(|config| config.stop_gradient = stop_gradient);
    let batch = trial::noise(&method, 6);
    let loss = method.loss(&batch, &trial::step(0, 1)).unwrap().loss;
    loss.backward();
    let mut state = method.state().into_iter();
    let last = state.find(|(name, _)| name == "network.head.3.weight").unwrap().1;
    (loss.double_value(&[]), last.grad())
}

#[test]
fn the_gradient_stops_at_the_side_that_is_predicted() {
    let ((stopped, with_stop), (free, without_stop)) = (gradient(true), gradient(false));
    assert!((stopped - free).abs() < 1e-6, "the loss is the same: {stopped} and {free}");
    assert!(!with_stop.allclose(&without_stop, 1e-3, 1e-6, false), "its gradient is not");

    // What flows with the stop is what flows when the other side is a constant.
    seed(1);
    let mut method = simsiam(|_| ());
    let Batch { inputs: views, .. } = trial::noise(&method, 6);
    let twice = Batch { inputs: vec![views[0].copy(), views[0].copy()], ids: (0..6).collect() };
    let loss = method.loss(&twice, &trial::step(0, 1)).unwrap().loss;
    assert!(loss.double_value(&[]) < 1.0 && loss.requires_grad());
}

#[test]
fn the_predictor_keeps_the_base_rate() {
    for (fixed, moves) in [(true, true), (false, false)] {
        seed(2);
        let mut method = simsiam(|config| config.predictor_base_rate = fixed);
        assert_eq!(method.params()[1].lr == LrRule::Base, fixed);
        let batch = trial::noise(&method, 6);
        let sgd = OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
        let mut optimizer = Optimizer::new(sgd, 0.1, method.params()).unwrap();
        let before = trial::state(&method);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
        optimizer.step(0.0, 0.0).unwrap(); // the end of the schedule
        let after = trial::state(&method);
        let moved = |name: &str| before[name] != after[name];
        assert_eq!(moved("predictor.0.weight"), moves);
        assert!(!moved("network.head.0.weight"));
    }
}

#[test]
fn without_the_stop_outputs_collapse_and_with_it_they_do_not() {
    let shown = |stop_gradient| {
        seed(3);
        // A norm of the outputs would keep them from meeting in one point: they would meet on a
        // line.
        let mut method = simsiam(|config| {
            (config.stop_gradient, config.norm) = (stop_gradient, HeadNorm::Hidden);
        });
        Trial::new(300, 0.2).run(&mut method)
    };
    let (with, without) = (shown(true), shown(false));
    assert!(without.collapse.unwrap().deviation < 0.1, "{without:?}");
    assert!(without.loss < -0.99, "the loss is at its least, and means nothing: {without:?}");
    assert!(with.collapse.unwrap().deviation > 0.3, "{with:?}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: SimsiamConfig, views| {
        let views = vec![presets::moco_v2(16); views];
        Simsiam::new(config, &trial::small(), views, CPU).err().unwrap().to_string()
    };
    let default = SimsiamConfig::default;
    assert!(refused(SimsiamConfig { layers: 9, ..default() }, 2).contains("layers"));
    assert!(refused(SimsiamConfig { dim: 0, ..default() }, 2).contains("dim"));
    assert!(refused(default(), 1).contains("2 views"));
}
