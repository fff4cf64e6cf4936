//! MoCo's steps, against what the papers say of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_encoders::{EncoderConfig, ResNetConfig};
use portolan_losses::info_nce;
use portolan_method::{Batch, ImageMethod, Method, StepContext};
use portolan_moco::{Head, Moco, MocoConfig};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Precision, Tensor, no_grad, seed, tch};
use portolan_testing::trial;
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;
const CX: StepContext = StepContext::new(0, 10, CPU).with_seed(5);

fn moco(splits: i64, symmetric: bool) -> Moco {
    tch::set_num_threads(1);
    let encoder = ResNetConfig {
        width: 4,
        batch_norm_splits: splits,
        ..ResNetConfig::named("resnet18").unwrap()
    };
    let encoder = encoder.into();
    let config = MocoConfig { queue: 20, dim: 8, momentum: 0.5, symmetric, ..MocoConfig::v2() };
    Moco::new(config, &encoder, vec![presets::moco_v2(32); 2], CPU).unwrap()
}

fn batch() -> Batch {
    let view = || Tensor::randn([8, 3, 32, 32], (Kind::Float, CPU));
    Batch { inputs: vec![view(), view()], ids: (0..8).collect() }
}

fn sgd(moco: &Moco) -> Optimizer {
    let config = OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
    Optimizer::new(config, 0.1, moco.params()).unwrap()
}

#[test]
fn an_update_moves_the_key_network_by_the_moving_average_and_fills_the_queue() {
    seed(1);
    let (mut moco, batch) = (moco(1, false), batch());
    let before = trial::state(&moco);
    let mut optimizer = sgd(&moco);
    moco.loss(&batch, &CX).unwrap().loss.backward();
    optimizer.step(0.1, 0.0).unwrap();
    let query = trial::state(&moco);
    assert_eq!(query["queue.keys"], before["queue.keys"], "no key joins before the update");
    moco.after_update(&CX).unwrap();
    let after = trial::state(&moco);
    let mut moved = 0;
    for (name, key) in after.iter().filter(|(name, _)| name.starts_with("key.")) {
        let query_name = name.replacen("key.", "query.", 1);
        if name.contains("running") || name.contains("num_batches") {
            continue;
        }
        let expected = 0.5 * &before[name] + 0.5 * &query[&query_name];
        assert!(key.allclose(&expected, 1e-5, 1e-7, false), "{name}");
        moved += i32::from(key != &before[name]);
    }
    assert!(moved > 50, "only {moved} tensors of the key network moved");
    assert_eq!(after["queue.pointer"].int64_value(&[0]), 8);
    let kept = |state: &BTreeMap<String, Tensor>| state["queue.keys"].narrow(0, 8, 12);
    assert_eq!(kept(&after), kept(&before), "the rest of the queue stays");
    let length = after["queue.keys"].square().sum_dim_intlist(1, false, Kind::Float);
    assert!(length.allclose(&Tensor::ones([20], (Kind::Float, CPU)), 1e-4, 1e-4, false));
}

#[test]
fn the_loss_is_info_nce_of_queries_keys_and_queue() {
    seed(2);
    let (mut moco, batch) = (moco(1, false), batch());
    let queue = trial::state(&moco)["queue.keys"].copy();
    let loss = moco.loss(&batch, &CX).unwrap().loss.double_value(&[]);
    moco.after_update(&CX).unwrap();
    // The keys that joined are those of the second view; the first view's queries are found again
    // by hand.
    let keys = trial::state(&moco)["queue.keys"].narrow(0, 0, 8);
    let logits = |q: &Tensor| info_nce::logits(q, &keys, &queue, 0.2).unwrap();
    let features = no_grad(|| moco.encoder().forward(&batch.inputs[0], true));
    let named = trial::state(&moco);
    let layer = |x: &Tensor, n: i32| {
        let (w, b) =
            (&named[&format!("query.head.{n}.weight")], &named[&format!("query.head.{n}.bias")]);
        x.linear(w, Some(b))
    };
    let queries = layer(&layer(&features, 0).relu(), 2);
    let expected = info_nce::cross_entropy(&logits(&queries)).unwrap().double_value(&[]);
    assert!((loss - expected).abs() < 1e-5, "{loss} is not {expected}");
}

#[test]
fn the_key_network_gets_no_gradient() {
    seed(3);
    let (mut moco, batch) = (moco(2, true), batch());
    moco.loss(&batch, &CX).unwrap().loss.backward();
    for (name, tensor) in moco.state() {
        let trained = name.starts_with("query.") && tensor.requires_grad();
        assert_eq!(tensor.grad().defined(), trained, "{name}");
    }
}

#[test]
fn the_symmetric_form_enqueues_the_keys_of_both_directions_after_both_losses() {
    seed(4);
    let (mut moco, batch) = (moco(2, true), batch());
    moco.loss(&batch, &CX).unwrap();
    moco.after_update(&CX).unwrap();
    assert_eq!(trial::state(&moco)["queue.pointer"].int64_value(&[0]), 16);
}

#[test]
fn shuffling_changes_the_groups_of_split_batch_norm_and_nothing_else() {
    let loss = |splits, step| {
        seed(5);
        let mut moco = moco(splits, false);
        let batch = batch();
        moco.loss(&batch, &CX.with_step(step)).unwrap().loss.double_value(&[])
    };
    // Another step draws another permutation: it matters only where groups are normalized apart.
    assert!((loss(1, 0) - loss(1, 1)).abs() < 1e-6);
    assert!((loss(4, 0) - loss(4, 1)).abs() > 1e-6);
}

#[test]
fn one_step_runs_on_every_encoder_in_both_precisions() {
    for name in ["resnet18-w4", "resnet34-w4", "resnet50-w4"] {
        for precision in [Precision::Fp32, Precision::Bf16] {
            for head in [Head::Linear, Head::Mlp] {
                let encoder = EncoderConfig::named(name).unwrap();
                let config = MocoConfig { head, queue: 16, ..MocoConfig::v2() };
                let mut moco =
                    Moco::new(config, &encoder, vec![presets::moco_v2(16); 2], CPU).unwrap();
                let view = || Tensor::randn([2, 3, 16, 16], (Kind::Float, CPU));
                let batch = Batch { inputs: vec![view(), view()], ids: vec![0, 1] };
                let step = precision.run(CPU, || moco.loss(&batch, &CX)).unwrap().unwrap();
                assert_eq!(step.loss.kind(), Kind::Float);
                assert!(step.loss.double_value(&[]).is_finite());
                step.loss.backward();
                sgd(&moco).step(0.1, 0.0).unwrap();
                moco.after_update(&CX).unwrap();
            }
        }
    }
}

#[test]
fn a_few_steps_learn_to_find_the_right_key() {
    seed(6);
    let mut moco = moco(1, false);
    let mut optimizer = sgd(&moco);
    let images = Tensor::randn([8, 3, 32, 32], (Kind::Float, CPU));
    let mut found = Vec::new();
    for step in 0..30 {
        let view = || &images + 0.05 * images.randn_like();
        let batch = Batch { inputs: vec![view(), view()], ids: (0..8).collect() };
        let cx = CX.with_step(step);
        let out = moco.loss(&batch, &cx).unwrap();
        optimizer.zero_grad().unwrap();
        out.loss.backward();
        optimizer.step(0.05, 0.0).unwrap();
        moco.after_update(&cx).unwrap();
        found.push(out.metrics[0].1.double_value(&[]));
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&found[25..]) > mean(&found[..5]) + 0.2, "{found:?}");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let encoder = EncoderConfig::named("resnet18-w4").unwrap();
    let build = |config, views| Moco::new(config, &encoder, views, CPU).err().unwrap().to_string();
    let two = || vec![presets::moco_v2(32); 2];
    assert!(
        build(MocoConfig { temperature: 0.0, ..MocoConfig::v2() }, two()).contains("temperature")
    );
    assert!(build(MocoConfig { momentum: 1.5, ..MocoConfig::v2() }, two()).contains("momentum"));
    assert!(build(MocoConfig { queue: 0, ..MocoConfig::v2() }, two()).contains("queue"));
    assert!(build(MocoConfig::v2(), vec![presets::moco_v2(32)]).contains("2 views"));
}

#[test]
fn recipes_hold_the_papers_settings() {
    let recipe = |name| portolan_moco::METHOD.recipe(name).unwrap();
    let settings = |name| -> MocoConfig { recipe(name)["settings"].clone().try_into().unwrap() };
    assert_eq!(settings("imagenet"), MocoConfig::v2());
    let demonstration = MocoConfig {
        queue: 4096,
        momentum: 0.99,
        temperature: 0.1,
        symmetric: true,
        ..MocoConfig::v1()
    };
    assert_eq!(settings("cifar10"), demonstration);
    let views: Vec<portolan_augment::Views> =
        recipe("imagenet")["views"].clone().try_into().unwrap();
    assert_eq!(portolan_augment::Views::each(&views), vec![presets::moco_v2(224); 2]);
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}
