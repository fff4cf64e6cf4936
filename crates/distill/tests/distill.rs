//! Distillation's steps, against what lightly-train's code does.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::{ViewSpec, presets};
use portolan_distill::{Distill, DistillConfig, METHOD, Teacher, TeacherConfig};
use portolan_encoders::{EncoderConfig, build};
use portolan_method::Method;
use portolan_optim::OptimizerConfig;
use portolan_tensor::{Device, Kind, Tensor, Vars, no_grad, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn view() -> ViewSpec {
    presets::small_images(16)
}

fn teacher(encoder: &str) -> Teacher {
    let (mean, std) = view().normalization().unwrap();
    let encoder = EncoderConfig::named(encoder).unwrap();
    let config =
        TeacherConfig { file: String::new(), size: 16, mean, std, grayscale: false, encoder };
    Teacher::new(config, CPU).unwrap()
}

fn distill(change: impl Fn(&mut DistillConfig)) -> Distill {
    let mut config = DistillConfig { queue: 24, ..DistillConfig::default() };
    change(&mut config);
    let teacher = teacher("vit_w16d1h2_patch8_16");
    Distill::new(config, &trial::small(), teacher, vec![view()]).unwrap()
}

#[test]
fn the_student_learns_and_the_teacher_stays() {
    seed(1);
    let mut method = distill(|_| ());
    let before = trial::state(&method);
    let optimizer = OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
    let result = Trial { optimizer, ..Trial::new(100, 3e-3) }.run(&mut method);
    // The student's map has one place here, so that the local loss can hardly fall.
    assert!(result.loss < result.first_loss, "{result:?}");
    assert!(result.metrics["global_loss"] < 0.2, "{result:?}");
    assert!(result.metrics["teacher_similarity"] > 0.5, "{result:?}");
    let after = trial::state(&method);
    let moved = |part: &str| {
        let mut of = before.keys().filter(|name| name.starts_with(part));
        of.any(|name| before[name] != after[name])
    };
    assert!(moved("student.encoder.") && moved("student.global.") && moved("student.local."));
    assert!(!moved("teacher."), "not even its statistics");
}

#[test]
fn only_the_student_has_gradients_and_is_trained() {
    seed(2);
    let mut method = distill(|_| ());
    let names: Vec<String> = method.params()[0].params.iter().map(|it| it.0.clone()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("student.")));
    let batch = trial::noise(&method, 6);
    method.loss(&batch, &trial::step(0, 1)).unwrap().loss.backward();
    for (name, tensor) in method.state() {
        let trained = names.contains(&name);
        assert_eq!(tensor.grad().defined(), trained, "{name}");
    }
}

#[test]
fn the_queue_gets_the_teacher_s_features_after_the_step() {
    seed(3);
    let mut method = distill(|_| ());
    let batch = trial::noise(&method, 6);
    let keys = |method: &Distill| trial::state(method)["queue.keys"].copy();
    let before = keys(&method);
    method.loss(&batch, &trial::step(0, 1)).unwrap();
    assert!(keys(&method).equal(&before));
    method.after_update(&trial::step(0, 1)).unwrap();
    let after = keys(&method);
    assert!(after.narrow(0, 6, 18).equal(&before.narrow(0, 6, 18)));
    let lengths = after.narrow(0, 0, 6).norm_scalaropt_dim(2, [1], false);
    assert!(lengths.allclose(&lengths.ones_like(), 1e-5, 1e-5, false));
    assert!(!after.narrow(0, 0, 6).equal(&before.narrow(0, 0, 6)));
}

#[test]
fn without_the_local_loss_only_whole_images_count() {
    seed(4);
    let mut method = distill(|config| config.local_loss_scale = 0.0);
    let batch = trial::noise(&method, 6);
    let out = method.loss(&batch, &trial::step(0, 1)).unwrap();
    assert!(out.metrics.iter().all(|(name, _)| *name != "local_loss"));
    out.loss.backward();
    let state: std::collections::BTreeMap<_, _> = method.state().into_iter().collect();
    assert!(state["student.global.weight"].grad().defined());
    assert!(!state["student.local.weight"].grad().defined());
}

#[test]
fn a_student_equal_to_the_teacher_has_nothing_to_learn() {
    seed(5);
    // A transformer, in which training and evaluation are the same.
    let name = "vit_w16d1h2_patch8_16";
    let config = DistillConfig { queue: 24, ..DistillConfig::default() };
    let student = EncoderConfig::named(name).unwrap();
    let mut method = Distill::new(config, &student, teacher(name), vec![view()]).unwrap();
    let state: std::collections::BTreeMap<_, _> = method.state().into_iter().collect();
    let copy = |to: &str, from: &Tensor| no_grad(|| state[to].shallow_clone().copy_(from));
    for (name, _) in build(&student, &Vars::new(CPU)).unwrap().vars().state() {
        copy(&format!("student.encoder.{name}"), &state[&format!("teacher.{name}")]);
    }
    for layer in ["global", "local"] {
        copy(&format!("student.{layer}.weight"), &Tensor::eye(16, (Kind::Float, CPU)));
        copy(&format!("student.{layer}.bias"), &Tensor::zeros([16], (Kind::Float, CPU)));
    }
    let batch = trial::noise(&method, 6);
    let loss = method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[]);
    assert!(loss.abs() < 1e-5, "{loss}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: DistillConfig, views| {
        let teacher = teacher("vit_w16d1h2_patch8_16");
        let views = vec![view(); views];
        Distill::new(config, &trial::small(), teacher, views).err().unwrap().to_string()
    };
    let default = DistillConfig::default;
    assert!(refused(DistillConfig { queue: 0, ..default() }, 1).contains("queue"));
    assert!(refused(DistillConfig { temperature: 0.0, ..default() }, 1).contains("temperature"));
    let negative = DistillConfig { local_loss_scale: -1.0, ..default() };
    assert!(refused(negative, 1).contains("local_loss_scale"));
    assert!(refused(default(), 2).contains("1 view"));
    let settings = METHOD.recipe("shapes").unwrap()["settings"].as_table().unwrap().clone();
    let without = (METHOD.build)(settings, &trial::small(), vec![view()], CPU).err().unwrap();
    assert!(without.to_string().contains("--teacher FILE"), "{without}");
}
