//! What an optimizer does with groups, missing gradients and saved state.
#![allow(clippy::unwrap_used)]

use portolan_optim::{LarsForm, LrRule, Optimizer, OptimizerConfig, ParamGroup};
use portolan_tensor::{Device, Kind, Tensor, io};
use std::collections::BTreeMap;

/// The rate that schedules start from.
const BASE: f64 = 0.1;
const SGD: OptimizerConfig =
    OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: false };

fn every_kind() -> Vec<OptimizerConfig> {
    let lars = |form| OptimizerConfig::Lars {
        momentum: 0.9,
        weight_decay: 0.1,
        trust_coefficient: 0.01,
        form,
    };
    vec![
        SGD,
        OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: true },
        OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.1, nesterov: false },
        lars(LarsForm::Lightly),
        lars(LarsForm::Authors),
        lars(LarsForm::Simclr),
        lars(LarsForm::SoloLearn),
        OptimizerConfig::Adamw { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1 },
    ]
}

/// A matrix and a vector, always the same.
fn params() -> Vec<(String, Tensor)> {
    let values = Tensor::arange(6, (Kind::Float, Device::Cpu)) / 4.0 - 1.0;
    let weight = values.view([2, 3]).set_requires_grad(true);
    let bias = Tensor::from_slice(&[0.5f32, -0.5]).set_requires_grad(true);
    vec![("weight".to_owned(), weight), ("bias".to_owned(), bias)]
}

fn clones(params: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    params.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect()
}

fn values(params: &[(String, Tensor)]) -> Vec<Tensor> {
    params.iter().map(|(_, x)| x.detach().copy()).collect()
}

/// Backward of a loss that pulls everything towards one.
fn give_gradients(params: &[(String, Tensor)]) {
    for (_, x) in params {
        (x - 1.0).square().sum(Kind::Float).backward();
    }
}

fn train(optimizer: &mut Optimizer, params: &[(String, Tensor)], steps: std::ops::Range<u64>) {
    for step in steps {
        optimizer.zero_grad().unwrap();
        give_gradients(params);
        optimizer.step(0.1, step as f64).unwrap();
    }
}

#[test]
fn a_saved_optimizer_continues_to_the_same_bits() {
    for config in every_kind() {
        let params_a = params();
        let groups = ParamGroup::split_decay("model", clones(&params_a));
        let mut a = Optimizer::new(config.clone(), BASE, groups).unwrap();
        let names: Vec<_> = a.state().into_iter().map(|(name, _)| name).collect();
        train(&mut a, &params_a, 0..2);
        let saved: BTreeMap<_, _> = a.state().into_iter().map(|(n, x)| (n, x.copy())).collect();

        let params_b = params();
        let by_name = clones(&params_a).into_iter().map(|(n, x)| (n, x.detach().copy())).collect();
        io::copy_into(&params_b, &by_name).unwrap();
        let groups = ParamGroup::split_decay("model", clones(&params_b));
        let mut b = Optimizer::new(config.clone(), BASE, groups).unwrap();
        assert!(
            b.state().iter().map(|(name, _)| name).eq(&names),
            "names are there from the start"
        );
        io::copy_into(&b.state(), &saved).unwrap();

        train(&mut a, &params_a, 2..3);
        train(&mut b, &params_b, 2..3);
        assert_eq!(values(&params_a), values(&params_b), "{config:?}");

        let fresh = params();
        io::copy_into(&fresh, &by_name).unwrap();
        let groups = ParamGroup::split_decay("model", clones(&fresh));
        train(&mut Optimizer::new(config, BASE, groups).unwrap(), &fresh, 2..3);
        let forgetful = values(&fresh) != values(&params_a);
        assert_eq!(forgetful, !saved.is_empty(), "the state matters where there is any");
    }
}

#[test]
fn gradients_are_let_go_of_or_set_to_zero_in_place() {
    let params = params();
    let mut optimizer =
        Optimizer::new(SGD, BASE, vec![ParamGroup::all("model", clones(&params))]).unwrap();
    optimizer.zero_grad().unwrap(); // nothing is there yet
    give_gradients(&params);
    let place = params[0].1.grad().data_ptr();
    optimizer.zero_grad_in_place().unwrap();
    assert_eq!(params[0].1.grad(), params[0].1.detach().zeros_like());
    assert_eq!(params[0].1.grad().data_ptr(), place);
    optimizer.zero_grad().unwrap();
    assert!(params.iter().all(|(_, param)| !param.grad().defined()));
}

#[test]
fn without_a_gradient_nothing_moves() {
    for config in every_kind() {
        let params = params();
        let mut optimizer =
            Optimizer::new(config, BASE, vec![ParamGroup::all("model", clones(&params))]).unwrap();
        let before = values(&params);
        give_gradients(&params[..1]);
        optimizer.step(0.1, 0.0).unwrap();
        let after = values(&params);
        assert_ne!(before[0], after[0]);
        assert_eq!(before[1], after[1]);
    }
}

#[test]
fn a_frozen_group_waits_for_its_epoch() {
    for config in every_kind() {
        let params = params();
        let mut group = ParamGroup::all("last", clones(&params));
        group.frozen_epochs = 1.5; // an epoch and a half, where a step is an epoch
        let mut optimizer = Optimizer::new(config, BASE, vec![group]).unwrap();
        let before = values(&params);
        train(&mut optimizer, &params, 0..2);
        assert_eq!(before, values(&params));
        for (name, buffer) in optimizer.state() {
            assert_eq!(buffer.abs().max().double_value(&[]), 0.0, "{name}");
        }
        train(&mut optimizer, &params, 2..3);
        assert_ne!(before, values(&params));
    }
}

#[test]
fn groups_scale_or_fix_the_rate() {
    let moved = |rule, lr| {
        let params = params();
        let mut group = ParamGroup::all("predictor", clones(&params));
        group.lr = rule;
        let mut optimizer = Optimizer::new(SGD, BASE, vec![group]).unwrap();
        give_gradients(&params);
        optimizer.step(lr, 0.0).unwrap();
        values(&params)
    };
    assert_eq!(moved(LrRule::Scaled(0.5), 0.2), moved(LrRule::Scaled(1.0), 0.1));
    assert_eq!(moved(LrRule::Base, 0.7), moved(LrRule::Scaled(1.0), BASE));
    assert_ne!(moved(LrRule::Scaled(1.0), 0.2), moved(LrRule::Scaled(1.0), 0.1));
}

#[test]
fn weight_decay_reaches_only_the_groups_that_decay() {
    for config in every_kind() {
        let after_one_step = |weight_decay: f64| {
            let params = params();
            let groups = ParamGroup::split_decay("model", clones(&params));
            let mut optimizer = Optimizer::new(config.clone(), BASE, groups).unwrap();
            optimizer.set_weight_decay(weight_decay).unwrap();
            give_gradients(&params);
            optimizer.step(0.1, 0.0).unwrap();
            values(&params)
        };
        let (little, much) = (after_one_step(0.01), after_one_step(0.5));
        assert_ne!(little[0], much[0], "{config:?}: the matrix decays");
        assert_eq!(little[1], much[1], "{config:?}: the bias does not");
    }
}

#[test]
fn lars_leaves_a_zero_parameter_unscaled() {
    let forms = [LarsForm::Lightly, LarsForm::Authors, LarsForm::Simclr, LarsForm::SoloLearn];
    for form in forms {
        let config = OptimizerConfig::Lars {
            momentum: 0.0,
            weight_decay: 0.1,
            trust_coefficient: 1e-3,
            form,
        };
        let zero = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let params = vec![("zero".to_owned(), zero)];
        let group = ParamGroup::all("model", clones(&params));
        let mut optimizer = Optimizer::new(config, BASE, vec![group]).unwrap();
        give_gradients(&params); // −2 everywhere
        optimizer.step(0.5, 0.0).unwrap();
        assert_eq!(values(&params)[0], Tensor::ones([2, 2], (Kind::Float, Device::Cpu)));
    }
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    let refused = |groups| Optimizer::new(SGD, BASE, groups).unwrap_err().to_string();
    let group = |params| ParamGroup::all("model", params);
    assert!(refused(vec![]).contains("no parameters"));
    let twice = refused(vec![group(params()), group(params())]);
    assert!(twice.contains("`weight`") && twice.contains("twice"), "{twice}");
    let (name, tensor) = params().remove(0);
    let alias = refused(vec![group(vec![(name, tensor.shallow_clone()), ("twin".into(), tensor)])]);
    assert!(alias.contains("`twin`") && alias.contains("same tensor"), "{alias}");
    let frozen = params().into_iter().map(|(n, x)| (n, x.set_requires_grad(false))).collect();
    assert!(refused(vec![group(frozen)]).contains("requires no gradient"));
}

#[test]
fn a_bad_rate_moves_nothing() {
    let params = params();
    let group = ParamGroup::all("model", clones(&params));
    let mut optimizer = Optimizer::new(SGD, BASE, vec![group]).unwrap();
    let before = values(&params);
    give_gradients(&params);
    for lr in [f64::NAN, f64::INFINITY, -0.1] {
        assert!(optimizer.step(lr, 0.0).unwrap_err().to_string().contains("`lr`"));
    }
    assert_eq!(before, values(&params));
}
