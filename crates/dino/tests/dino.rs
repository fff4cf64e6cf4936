//! DINO's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_dino::{Dino, DinoConfig};
use portolan_encoders::{EncoderConfig, VitConfig};
use portolan_method::{ImageMethod, Method};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, no_grad, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn dino(encoder: &EncoderConfig, change: impl Fn(&mut DinoConfig)) -> Dino {
    let mut config = DinoConfig {
        hidden: 32,
        bottleneck: 16,
        dim: 24,
        batch_norm: true,
        momentum: 0.9,
        teacher_temperature: 0.04,
        teacher_temperature_epochs: 0,
        ..DinoConfig::default()
    };
    change(&mut config);
    Dino::new(config, encoder, presets::dino(16, 8, 2), CPU).unwrap()
}

fn vit() -> EncoderConfig {
    let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
    VitConfig { drop_path: 0.5, ..config }.into()
}

const SGD: OptimizerConfig =
    OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };

#[test]
fn the_teacher_gets_no_gradient_and_no_stochastic_depth_and_is_what_is_evaluated() {
    seed(1);
    let mut method = dino(&vit(), |_| ());
    let batch = trial::noise(&method, 4);
    let cx = trial::step(0, 2);
    method.loss(&batch, &cx).unwrap().loss.backward();
    for (name, tensor) in method.state() {
        let trained = name.starts_with("student.") && tensor.requires_grad();
        assert_eq!(tensor.grad().defined(), trained, "{name}");
    }
    let teacher = || no_grad(|| method.encoder().forward(&batch.inputs[0], true));
    assert_eq!(teacher(), teacher(), "nothing is left out of the teacher");
    let names: Vec<String> = method
        .encoder()
        .vars()
        .parameters()
        .iter()
        .map(|(_, x)| format!("{:?}", x.data_ptr()))
        .collect();
    let of_teacher = |(name, x): &(String, Tensor)| {
        name.starts_with("teacher.encoder") && names.contains(&format!("{:?}", x.data_ptr()))
    };
    assert!(method.state().iter().filter(|entry| of_teacher(entry)).count() >= names.len());
}

#[test]
fn the_last_layer_keeps_still_for_an_epoch_and_the_rest_moves() {
    seed(2);
    let mut method = dino(&vit(), |_| ());
    let batch = trial::noise(&method, 4);
    let mut optimizer = Optimizer::new(SGD, 0.1, method.params()).unwrap();
    let (last, other) = ("student.head.last_layer.weight_v", "student.head.mlp.0.weight");
    for (epoch, moves) in [(0.0, false), (1.0, true)] {
        let before = trial::state(&method);
        optimizer.zero_grad().unwrap();
        method.loss(&batch, &trial::step(0, 2)).unwrap().loss.backward();
        method.before_update(&trial::step(0, 2)).unwrap();
        optimizer.step(0.1, epoch).unwrap();
        method.after_update(&trial::step(0, 2)).unwrap();
        let after = trial::state(&method);
        assert_eq!(before[last] != after[last], moves, "epoch {epoch}");
        assert_ne!(before[other], after[other]);
    }
}

#[test]
fn each_parameters_gradient_is_clipped_for_itself() {
    seed(3);
    let mut method = dino(&trial::small(), |config| config.clip = 1e-3);
    let batch = trial::noise(&method, 4);
    method.loss(&batch, &trial::step(0, 2)).unwrap().loss.backward();
    method.before_update(&trial::step(0, 2)).unwrap();
    let mut at_the_limit = 0;
    for group in method.params() {
        for (name, param) in group.params {
            let norm = param.grad().norm().double_value(&[]);
            assert!(norm < 1.001e-3, "{name}: {norm}");
            at_the_limit += i32::from(norm > 0.99e-3);
        }
    }
    assert!(at_the_limit > 10, "many were longer, not one sum of them");
}

#[test]
fn teacher_and_center_follow_after_the_update() {
    seed(4);
    let mut method = dino(&trial::small(), |config| config.center_momentum = 0.75);
    let batch = trial::noise(&method, 4);
    let cx = trial::step(0, 10);
    let loss = method.loss(&batch, &cx).unwrap();
    assert_eq!(trial::state(&method)["center"].abs().max().double_value(&[]), 0.0);
    loss.loss.backward();
    Optimizer::new(SGD, 0.1, method.params()).unwrap().step(0.1, 1.0).unwrap();
    method.after_update(&cx).unwrap();
    let state = trial::state(&method);
    assert!(state["center"].abs().max().double_value(&[]) > 0.0);
    let name = "encoder.layer1.0.conv1.weight";
    assert_ne!(state[&format!("teacher.{name}")], state[&format!("student.{name}")]);
}

/// The teacher's entropy after 300 steps, as a share of ln K.
fn entropy(change: impl Fn(&mut DinoConfig)) -> f64 {
    seed(5);
    let mut method = dino(&trial::small(), change);
    Trial::new(300, 0.1).run(&mut method).metrics["teacher_entropy"]
}

#[test]
fn without_centering_one_output_takes_all_and_without_sharpening_none_does() {
    let uncentered = entropy(|config| config.center_momentum = 1.0);
    let unsharpened = entropy(|config| {
        (config.teacher_temperature, config.teacher_temperature_start) = (1.0, 1.0);
    });
    let guarded = entropy(|_| ());
    assert!(uncentered < 0.05, "without centering {uncentered}");
    assert!(unsharpened > 0.99, "without sharpening {unsharpened}");
    assert!((0.05..0.99).contains(&guarded), "with both {guarded}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: DinoConfig, views| {
        Dino::new(config, &vit(), views, CPU).err().unwrap().to_string()
    };
    let default = || DinoConfig { hidden: 8, dim: 16, ..DinoConfig::default() };
    let larger = refused(default(), presets::dino(16, 20, 1));
    assert!(larger.contains("20 pixels is larger than the global ones of 16"), "{larger}");
    assert!(refused(default(), presets::dino(16, 10, 1)).contains("patches of 4"));
    assert!(refused(default(), presets::dino(16, 8, 1)[..1].to_vec()).contains("two global views"));
    let cold = DinoConfig { teacher_temperature: 0.0, ..default() };
    assert!(refused(cold, presets::dino(16, 8, 1)).contains("teacher_temperature"));
    let mut method = dino(&trial::small(), |_| ());
    let mut batch = trial::noise(&method, 4);
    batch.inputs.pop();
    let error = method.loss(&batch, &trial::step(0, 1)).unwrap_err().to_string();
    assert!(error.contains("4 views") && error.contains('3'), "{error}");
    assert_eq!(batch.inputs[0].kind(), Kind::Float);
}
