//! VICReg's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_method::Method;
use portolan_tensor::{Device, seed, tch};
use portolan_testing::trial::{self, Trial};
use portolan_vicreg::{Vicreg, VicregConfig};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

fn vicreg(change: impl Fn(&mut VicregConfig)) -> Vicreg {
    let mut config = VicregConfig { hidden: 32, dim: 32, ..VicregConfig::default() };
    change(&mut config);
    Vicreg::new(config, &trial::small(), presets::byol(16).into(), CPU).unwrap()
}

#[test]
fn the_terms_are_logged_apart_and_add_up() {
    seed(1);
    let mut method = vicreg(|_| ());
    let batch = trial::noise(&method, 6);
    let out = method.loss(&batch, &trial::step(0, 1)).unwrap();
    let terms: Vec<f64> = out.metrics.iter().map(|(_, x)| x.double_value(&[])).collect();
    let names: Vec<&str> = out.metrics.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["invariance", "variance", "covariance"]);
    let sum = 25.0 * terms[0] + 25.0 * terms[1] + terms[2];
    assert!((out.loss.double_value(&[]) - sum).abs() < 1e-3 * sum);
}

#[test]
fn the_heads_last_bias_has_no_gradient() {
    seed(4);
    let mut method = vicreg(|config| config.layers = 2);
    let batch = trial::noise(&method, 6);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    let state: BTreeMap<_, _> = method.state().into_iter().collect();
    let norm = |name: &str| state[name].grad().norm().double_value(&[]);
    let (bias, weight) = (norm("network.head.3.bias"), norm("network.head.3.weight"));
    assert!(bias < 1e-4 * weight, "{bias} beside {weight}");
}

#[test]
fn without_the_variance_term_outputs_collapse_and_with_it_they_do_not() {
    let shown = |variance| {
        seed(2);
        let mut method = vicreg(|config| config.variance = variance);
        // The noisier the views, the faster the term that is left draws everything together.
        Trial { noise: 0.5, ..Trial::new(300, 0.06) }.run(&mut method)
    };
    let (with, without) = (shown(25.0), shown(0.0));
    assert!(without.collapse.unwrap().deviation < 0.1, "{without:?}");
    assert!(with.collapse.unwrap().deviation > 0.3, "{with:?}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: VicregConfig| {
        Vicreg::new(config, &trial::small(), presets::byol(16).into(), CPU)
            .err()
            .unwrap()
            .to_string()
    };
    let default = VicregConfig::default;
    assert!(refused(VicregConfig { variance: -1.0, ..default() }).contains("variance"));
    assert!(refused(VicregConfig { hidden: 0, ..default() }).contains("hidden"));
}
