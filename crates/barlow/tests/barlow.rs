//! Barlow Twins' steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_barlow::{Barlow, BarlowConfig};
use portolan_losses::barlow_twins;
use portolan_method::Method;
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, seed, tch};
use portolan_testing::trial::{self, Trial};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

fn barlow(change: impl Fn(&mut BarlowConfig)) -> Barlow {
    let mut config =
        BarlowConfig { hidden: 32, dim: 32, loss_scale: 0.1, ..BarlowConfig::default() };
    change(&mut config);
    Barlow::new(config, &trial::small(), presets::byol(16).into(), CPU).unwrap()
}

#[test]
fn biases_and_batch_norms_have_a_rate_of_their_own() {
    seed(1);
    let mut method = barlow(|config| config.bias_rate = 0.0);
    let batch = trial::noise(&method, 6);
    let sgd = OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, 0.1, method.params()).unwrap();
    let before = trial::state(&method);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    optimizer.step(0.1, 0.0).unwrap();
    let after = trial::state(&method);
    for (name, tensor) in before.iter().filter(|(name, _)| !name.contains("running")) {
        let moves = tensor.dim() > 1 || name.contains("num_batches");
        assert_eq!(*tensor != after[name], moves, "{name}");
    }
}

#[test]
fn the_loss_grows_with_its_scale() {
    let loss = |loss_scale| {
        seed(2);
        let mut method = barlow(|config| config.loss_scale = loss_scale);
        let batch = trial::noise(&method, 6);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[])
    };
    assert!((loss(0.5) / loss(0.1) - 5.0).abs() < 1e-4);
}

/// `main.py` on W GPUs: each sums the correlations of all (an all-reduce), but its gradient is of
/// its own images' part; DistributedDataParallel then averages the W gradients. Its batch norm
/// spans the GPUs, gradient included.
#[test]
fn the_default_scale_is_the_authors_gradient_on_sixteen_gpus() {
    let (gpus, each, dim, lambda) = (16, 2, 3, 0.0051);
    let noise = |shift: f64| {
        let x = Tensor::arange(gpus * each * dim, (Kind::Float, CPU));
        (x * 1.3 + shift).sin().view([-1, dim]).set_requires_grad(true)
    };
    let (z_a, z_b) = (noise(0.0), noise(0.9));
    let norm = |z: &Tensor| {
        let none = None::<Tensor>;
        z.batch_norm(
            none.as_ref(),
            none.as_ref(),
            none.as_ref(),
            none.as_ref(),
            true,
            0.1,
            1e-5,
            false,
        )
    };
    let (a, b) = (norm(&z_a), norm(&z_b));
    let part = |gpu: i64| {
        let own = |z: &Tensor| z.narrow(0, gpu * each, each);
        own(&a).tr().matmul(&own(&b)) / (gpus * each) as f64
    };
    let parts: Vec<Tensor> = (0..gpus).map(part).collect();
    let all = Tensor::stack(&parts, 0).sum_dim_intlist([0i64].as_slice(), false, None::<Kind>);
    let eye = Tensor::eye(dim, (Kind::Float, CPU));
    let weights = &eye + lambda * (1.0 - &eye);
    let of_one = |own: &Tensor| {
        let c = all.detach() - own.detach() + own; // the others' parts carry no gradient
        ((c - &eye).square() * &weights).sum(Kind::Float)
    };
    let losses: Vec<Tensor> = parts.iter().map(of_one).collect();
    (Tensor::stack(&losses, 0).sum(Kind::Float) / gpus as f64).backward();
    let authors = z_a.grad().copy();
    let _ = z_a.grad().zero_();
    let scale = BarlowConfig::default().loss_scale;
    (barlow_twins(&z_a, &z_b, lambda).unwrap() * scale).backward();
    assert!(z_a.grad().allclose(&authors, 1e-4, 1e-7, false), "{} and {authors}", z_a.grad());
    assert_eq!(scale, 1.0 / 16.0);
}

#[test]
fn the_heads_last_bias_has_no_gradient() {
    seed(4);
    let mut method = barlow(|config| config.layers = 2);
    let batch = trial::noise(&method, 6);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    let state: BTreeMap<_, _> = method.state().into_iter().collect();
    let norm = |name: &str| state[name].grad().norm().double_value(&[]);
    let (bias, weight) = (norm("network.head.3.bias"), norm("network.head.3.weight"));
    assert!(bias < 1e-4 * weight, "{bias} beside {weight}");
}

#[test]
fn without_redundancy_reduction_dimensions_are_lost_and_with_it_they_are_kept() {
    let signs = |lambda| {
        seed(3);
        let mut method = barlow(|config| config.lambda = lambda);
        Trial::new(300, 0.05).run(&mut method).collapse.unwrap()
    };
    let (with, without) = (signs(0.05), signs(0.0));
    assert!(without.effective_rank < 0.5 * with.effective_rank, "{without:?}, {with:?}");
    assert!(without.deviation > 0.1, "it does not collapse to a point: {without:?}");
}

#[test]
fn the_example_runs() {
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
