//! The pretext tasks' steps, against what their papers say of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_method::{ImageMethod, Method};
use portolan_pretext::{Colorization, ColorizationConfig, Jigsaw, JigsawConfig, Rotation};
use portolan_tensor::{Device, Kind, Tensor, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

#[test]
fn a_few_steps_learn_every_task() {
    seed(1);
    let view = || vec![presets::mae(24)];
    let jigsaw = JigsawConfig { permutations: 4, tile: 6, tile_dim: 16, hidden: 32 };
    let colorization = ColorizationConfig { grid: 6, hidden: 8, ..ColorizationConfig::default() };
    // Name, task, rate, chance. Colors have no chance level worth the name: rare ones are given
    // weight.
    let tasks: [(&str, Box<dyn ImageMethod>, f64, f64); 3] = [
        ("rotation", Box::new(Rotation::new(&trial::small(), view(), CPU).unwrap()), 0.03, 0.25),
        (
            "jigsaw",
            Box::new(Jigsaw::new(jigsaw, &trial::small(), view(), CPU).unwrap()),
            0.03,
            0.25,
        ),
        (
            "colorization",
            Box::new(Colorization::new(colorization, &trial::small(), view(), CPU).unwrap()),
            0.3, // 261 classes that are weighted by their rarity from the first step on
            0.0,
        ),
    ];
    for (name, mut task, rate, chance) in tasks {
        let shown = Trial::new(80, rate).run(&mut *task);
        assert!(shown.loss < 0.85 * shown.first_loss, "{name}: {shown:?}");
        assert!(shown.metrics["task_top1"] > 1.3 * chance, "{name}: {shown:?}");
    }
}

#[test]
fn colors_are_counted_once_a_step() {
    seed(2);
    let config = ColorizationConfig { grid: 4, hidden: 4, ..ColorizationConfig::default() };
    let mut task = Colorization::new(config, &trial::small(), vec![presets::mae(16)], CPU).unwrap();
    let before = trial::state(&task)["prior"].copy();
    let batch = trial::noise(&task, 4);
    task.loss(&batch, &trial::step(0, 1)).unwrap();
    assert_eq!(trial::state(&task)["prior"], before);
    task.after_update(&trial::step(0, 1)).unwrap();
    let after = trial::state(&task)["prior"].copy();
    assert_ne!(after, before);
    assert!((after.sum(Kind::Float).double_value(&[]) - 1.0).abs() < 1e-4);
}

#[test]
fn the_loss_of_a_network_that_does_not_learn_stays_where_it_is() {
    seed(3);
    let config = ColorizationConfig { grid: 4, hidden: 4, ..ColorizationConfig::default() };
    let mut task = Colorization::new(config, &trial::small(), vec![presets::mae(16)], CPU).unwrap();
    // Gray images with a little of another color: the weights of the classes depend on how common
    // these are.
    let mut batch = trial::noise(&task, 8);
    let gray = Tensor::zeros([8, 3, 16, 16], (Kind::Float, CPU));
    let _ = gray.narrow(0, 0, 1).narrow(1, 0, 1).narrow(2, 0, 4).fill_(2.0);
    batch.inputs = vec![gray];
    let mut losses = Vec::new();
    for step in 0..20 {
        let cx = trial::step(step, 20);
        losses.push(task.loss(&batch, &cx).unwrap().loss.double_value(&[]));
        task.after_update(&cx).unwrap();
    }
    let all_alike = 261f64.ln(); // what guessing every class alike costs
    assert!(losses.iter().all(|loss| (loss / all_alike - 1.0).abs() < 0.1), "{losses:?}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}
