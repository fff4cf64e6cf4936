#![allow(clippy::unwrap_used)]
use portolan::METHODS;
use portolan_augment::Op;
use portolan_tensor::{Device, Precision, tch};

use super::*;
use crate::args::RunArgs;
use crate::config::build::build_method;
use crate::config::build::tests::shrink;
use crate::config::resolve::resolve;
use crate::methods::find;

const CPU: Machine = Machine { gpu: false, memory: 16 << 30, cores: 2 };
const GPU: Machine = Machine { gpu: true, memory: 80 << 30, cores: 16 };

fn images(count: usize, side: u32) -> Images {
    Images { count, side, gray: false, bank: count }
}

fn settings(name: &str, images: &Images, machine: &Machine) -> RunConfig {
    let chosen = choose(find(name).unwrap(), images, machine, &Given::default(), None).unwrap();
    chosen.table(10).unwrap().try_into().unwrap()
}

/// Few and many, small and large images, on a CPU and a GPU.
fn cases() -> Vec<(Images, Machine)> {
    let little = Machine { memory: 6 << 30, ..GPU };
    let sizes =
        [(5, 28), (143, 480), (286, 100), (2_000, 32), (2_000, 50), (60_000, 64), (1_200_000, 400)];
    let machines = [CPU, Machine { cores: 32, ..CPU }, GPU, little];
    let mut cases = Vec::new();
    for (count, side) in sizes {
        cases.extend(machines.iter().map(|machine| (images(count, side), machine.clone())));
    }
    cases
}

#[test]
fn settings_of_every_method_suit_any_images_and_machine() {
    for method in METHODS {
        for (images, machine) in cases() {
            let config = settings(method.name, &images, &machine);
            let what = format!("{} of {images:?} on {machine:?}", method.name);
            // Validated as for a CPU: the test machine may have no GPU.
            config.training.validate(images.count, Device::Cpu).expect(&what);
            config.evaluation.knn.validate(images.bank).expect(&what);
            config.encoder.validate().expect(&what);
            for view in config.each_view() {
                view.validate().expect(&what);
                let side = i64::from(view.size());
                if method.name != "jigsaw" {
                    config.encoder.validate_size(side).expect(&what);
                }
            }
            let batch = config.training.batch_size;
            assert!(images.count < 8 || images.count / batch >= 4, "{batch} {what}");
            if let Some(queue) = config.settings.get("queue").and_then(Value::as_integer) {
                assert!(queue as usize <= images.count.max(batch), "{queue} {what}");
            }
            assert_eq!((config.recipe.as_str(), config.data.limit), (NAME, 0), "{what}");
            assert!(config.published.is_empty(), "{what}");
        }
    }
}

#[test]
fn settings_of_every_method_can_be_built() {
    tch::set_num_threads(1);
    for method in METHODS {
        for (images, machine) in cases() {
            let mut config = settings(method.name, &images, &machine);
            let tile = config.settings.get("tile").cloned();
            shrink(&mut config);
            if let Some(tile) = tile {
                // The chosen tile must fit the view.
                config.settings.insert("tile".to_owned(), tile);
            }
            let built = build_method(&config, Device::Cpu);
            assert!(built.is_ok(), "{} of {images:?}: {:#}", method.name, built.err().unwrap());
        }
    }
}

#[test]
fn photos_on_a_cpu() {
    let config = settings("simclr", &images(286, 480), &CPU);
    assert_eq!(config.encoder.name(), "resnet18-w32");
    assert_eq!((config.evaluation.size, config.evaluation.resize), (96, 109));
    assert_eq!(config.training.batch_size, 64);
    assert_eq!(config.training.learning_rate, 0.03, "0.06 for batches of 128");
    assert_eq!(config.training.precision, Precision::Fp32);
    let views = config.each_view();
    assert_eq!((views.len(), views[0].size()), (2, 96));
    let blur =
        Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0].map(|s| s * (96.0 / 224.0)), kernel: 9 };
    assert!(views[0].ops.contains(&blur), "{views:?}");
    let chosen =
        choose(find("simclr").unwrap(), &images(286, 480), &CPU, &Given::default(), None).unwrap();
    let text = chosen.text(&config).unwrap();
    assert!(text.contains("286 images, so that an epoch has at least 4 steps"), "{text}");
    assert!(text.contains("2 of 96 px") && text.contains("resnet18-w32"), "{text}");
}

#[test]
fn a_gpu_with_many_photos_uses_the_recipe_of_the_paper() {
    let config = settings("dino", &images(1_200_000, 400), &GPU);
    assert_eq!(config.encoder.name(), "vit_small_patch16_224");
    let sides: Vec<u32> = config.each_view().iter().map(|view| view.size()).collect();
    assert_eq!(sides, [[224; 2].as_slice(), &[96; 8]].concat());
    assert_eq!(config.training.precision, Precision::Bf16);
    let few = settings("simclr", &images(1_200_000, 400), &Machine { memory: 6 << 30, ..GPU });
    assert!(few.training.batch_size < 128 && few.encoder.name() == "resnet18", "{few:?}");
}

#[test]
fn gray_images_lose_no_colors() {
    let gray = Images { gray: true, ..images(500, 32) };
    let config = settings("moco", &gray, &CPU);
    for op in config.each_view().iter().flat_map(|view| &view.ops) {
        match *op {
            Op::Grayscale { .. } => panic!("gray images are made gray"),
            Op::ColorJitter { saturation, hue, .. } => assert_eq!((saturation, hue), (0.0, 0.0)),
            _ => {}
        }
    }
    let refused =
        choose(find("colorization").unwrap(), &gray, &CPU, &Given::default(), None).err().unwrap();
    assert!(refused.to_string().contains("gray"), "{refused}");
    assert!(choose(find("moco").unwrap(), &images(1, 32), &CPU, &Given::default(), None).is_err());
}

#[test]
fn settings_that_depend_on_the_batch_follow_the_users_batch() {
    let (moco, some) = (find("moco").unwrap(), images(2_000, 32));
    let chosen = choose(moco, &some, &CPU, &Given::default(), Some(32)).unwrap();
    let config: RunConfig = chosen.table(10).unwrap().try_into().unwrap();
    assert_eq!(config.training.learning_rate, 0.03 * 32.0 / 128.0);
    assert_eq!(
        config.settings["queue"].as_integer(),
        Some(992),
        "half of the images, in batches of 32"
    );
    // The learning rate of AdamW scales with the square root.
    let config = choose(find("barlow").unwrap(), &some, &CPU, &Given::default(), Some(32)).unwrap();
    let config: RunConfig = config.table(10).unwrap().try_into().unwrap();
    assert_eq!(config.training.learning_rate, 0.002 * 0.5);
}

#[test]
fn flags_override_their_own_choice_alone() {
    let chosen =
        choose(find("simclr").unwrap(), &images(286, 480), &CPU, &Given::default(), None).unwrap();
    let args = RunArgs {
        encoder: Some("resnet50-w8".to_owned()),
        set: vec!["temperature=0.5".to_owned()],
        ..RunArgs::default()
    };
    let (config, _) = resolve(chosen.table(7).unwrap(), &args).unwrap();
    assert_eq!(config.encoder.name(), "resnet50-w8");
    assert_eq!((config.training.epochs, config.training.batch_size), (7, 64));
    let text = chosen.text(&config).unwrap();
    assert!(!text.contains("  encoder") && text.contains("  batch_size"), "{text}");
}

#[test]
fn settings_that_count_epochs_scale_with_the_run() {
    let chosen =
        choose(find("mae").unwrap(), &images(2_000, 32), &CPU, &Given::default(), None).unwrap();
    let warm_up = |epochs| {
        let config: RunConfig = chosen.table(epochs).unwrap().try_into().unwrap();
        config.training.schedule.validate(epochs).unwrap();
        let Schedule::Cosine { warmup_epochs, .. } = config.training.schedule else { panic!() };
        (warmup_epochs, config.training.knn_every)
    };
    // 5 of 22 epochs in the recipe; one evaluation after each fifth of the run.
    assert_eq!(warm_up(220), (50.0, 44));
    assert_eq!(warm_up(11), (2.5, 2));
}
