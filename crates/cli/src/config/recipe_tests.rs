//! Compares the recipes with the code that they follow: every setting is either equal or a listed
//! difference.
#![allow(clippy::unwrap_used)]

use portolan::METHODS;
use portolan_augment::{Op, ViewSpec};
use portolan_method::Recipe;
use toml::{Table, Value};

use crate::config::build::build_method;
use crate::config::{PublishedAccuracy, RunConfig};
use crate::methods;

/// The settings of lightly's cifar10_benchmark.py at commit 42a6a924 with its batch of 512: the
/// method, the path in the recipe, the value, and a word that must be in `differs` if the recipe
/// has another value.
const LIGHTLY: &[(&str, &str, &str, &str)] = &[
    ("simclr", "settings.hidden", "512", ""),
    ("simclr", "settings.dim", "128", ""),
    ("simclr", "settings.temperature", "0.5", ""),
    ("simclr", "settings.loss_scale", "1.0", ""),
    ("simclr", "rate", "0.24", ""),
    ("moco", "settings.head", "'mlp'", "MLP head"),
    ("moco", "settings.dim", "128", ""),
    ("moco", "settings.queue", "8192", "8,192 keys"),
    ("moco", "settings.momentum", "0.99", ""),
    ("moco", "settings.temperature", "0.1", ""),
    ("moco", "settings.symmetric", "true", ""),
    ("moco", "encoder.batch_norm_splits", "8", ""),
    ("moco", "rate", "0.24", "learning rate of 0.24 on the mean"),
    ("byol", "settings.hidden", "1024", ""),
    ("byol", "settings.dim", "256", ""),
    ("byol", "settings.last_bias", "true", ""),
    ("byol", "settings.loss_scale", "0.25", ""), // ½ Σ −cos, where 1 is Σ (2 − 2 cos)
    ("byol", "rate", "0.24", ""),
    ("simsiam", "settings.layers", "2", ""),
    ("simsiam", "settings.dim", "2048", ""),
    ("simsiam", "settings.predictor_hidden", "512", ""),
    ("simsiam", "settings.predictor_base_rate", "false", ""),
    ("simsiam", "rate", "0.06", ""),
    ("barlow", "settings.layers", "2", ""),
    ("barlow", "settings.hidden", "2048", ""),
    ("barlow", "settings.dim", "2048", ""),
    ("barlow", "settings.lambda", "0.005", ""),
    ("barlow", "settings.loss_scale", "1.0", ""),
    ("barlow", "settings.bias_rate", "1.0", ""),
    ("barlow", "rate", "0.24", ""),
    ("dino", "settings.layers", "2", ""),
    ("dino", "settings.hidden", "2048", ""),
    ("dino", "settings.bottleneck", "256", ""),
    ("dino", "settings.dim", "2048", ""),
    ("dino", "settings.batch_norm", "true", ""),
    ("dino", "settings.norm_last_layer", "true", ""),
    ("dino", "settings.teacher_temperature", "0.04", ""),
    ("dino", "settings.teacher_temperature_start", "0.04", ""),
    ("dino", "settings.student_temperature", "0.1", ""),
    ("dino", "settings.center_momentum", "0.9", ""),
    ("dino", "settings.freeze_last_layer", "0", ""),
    ("dino", "settings.clip", "0.0", ""),
    ("dino", "rate", "0.24", ""),
];

/// The settings that all methods of lightly share.
const LIGHTLY_ALL: &[(&str, &str)] = &[
    ("encoder.arch", "'resnet18'"),
    ("encoder.stem", "'cifar'"),
    ("training.epochs", "200"),
    ("training.batch_size", "512"),
    ("training.precision", "'fp32'"),
    ("training.decay", "'all'"),
    ("training.optimizer.kind", "'sgd'"),
    ("training.optimizer.momentum", "0.9"),
    ("training.optimizer.weight_decay", "5e-4"),
    ("training.optimizer.nesterov", "false"),
    ("training.schedule.kind", "'cosine'"),
    ("training.schedule.per", "'epoch'"),
    ("training.schedule.warmup_epochs", "0"),
    ("training.knn_every", "1"),
    ("evaluation.knn.k", "200"),
    ("evaluation.knn.temperature", "0.1"),
];

/// What lightly does that no setting expresses, by words in `differs`.
const LIGHTLY_ELSE: &[(&str, &[&str])] = &[
    ("simclr", &["one pass for each view", "last batch norm"]),
    ("moco", &["among the second's negatives"]),
    ("byol", &["momentum stays at 0.99"]),
    ("simsiam", &["last batch norm"]),
    ("barlow", &["unbiased deviation"]),
    (
        "dino",
        &[
            "momentum stays at 0.99",
            "teacher's head is drawn anew",
            "hidden layers begin",
            "one pass for each view",
            "student's backbone",
        ],
    ),
];

/// What the authors' ImageNet code does that no setting expresses.
const IMAGENET_ELSE: &[(&str, &[&str])] = &[
    (
        "simclr",
        &["0 to 1", "antialiasing", "brightness", "contrast", "HSV", "zeros", "has a scale"],
    ),
    ("byol", &["antialiasing", "brightness", "contrast", "HSV", "zeros"]),
    ("barlow", &["PIL", "float16"]),
    ("vicreg", &["PIL", "float16"]),
    ("simsiam", &["PIL"]),
    ("moco", &["PIL"]),
    ("moco-v3", &["PIL", "float16"]),
    ("dino", &["PIL", "float16"]),
];

fn recipe(method: &str, name: &str) -> Table {
    methods::find(method).unwrap().recipe(name).unwrap()
}

fn config(method: &str, name: &str) -> RunConfig {
    recipe(method, name).try_into().unwrap()
}

fn literal(text: &str) -> Value {
    format!("x = {text}").parse::<Table>().unwrap().remove("x").unwrap()
}

/// The value at a path of a recipe; `rate` is the peak learning rate.
fn at(table: &Table, path: &str) -> Value {
    if path == "rate" {
        let config: RunConfig = table.clone().try_into().unwrap();
        let training = config.training;
        let rate = training.scaling.scale(training.learning_rate, training.batch_size as u64);
        return Value::Float((rate * 1e9).round() / 1e9);
    }
    let mut parts = path.split('.');
    let first = table[parts.next().unwrap()].clone();
    parts.fold(first, |value, part| value[part].clone())
}

fn lists(published: &PublishedAccuracy, word: &str) -> bool {
    !word.is_empty() && published.differs.iter().any(|entry| entry.contains(word))
}

fn lightlys(config: &RunConfig) -> &PublishedAccuracy {
    config.published.iter().find(|published| published.source.starts_with("lightly")).unwrap()
}

#[test]
fn settings_equal_lightlys_or_are_listed_as_differences() {
    for (method, path, value, word) in LIGHTLY {
        let (table, config) = (recipe(method, "cifar10"), config(method, "cifar10"));
        let same = at(&table, path) == literal(value);
        assert_ne!(same, lists(lightlys(&config), word), "{path} of {method}, there {value}");
    }
    for (method, _) in LIGHTLY_ELSE {
        let table = recipe(method, "cifar10");
        for (path, value) in LIGHTLY_ALL {
            assert_eq!(at(&table, path), literal(value), "{path} of {method}");
        }
    }
}

#[test]
fn differences_without_a_setting_are_listed() {
    for (method, words) in LIGHTLY_ELSE {
        let config = config(method, "cifar10");
        let all = ["no ReLU", "convolutions begin", "normalized by ImageNet's"];
        for word in all.iter().chain(*words) {
            assert!(lists(lightlys(&config), word), "{word} of {method}");
        }
    }
    for (method, words) in IMAGENET_ELSE {
        let config = config(method, "imagenet");
        for word in *words {
            assert!(lists(&config.published[0], word), "{word} of {method}");
        }
    }
    for method in ["moco-v3", "vicreg"] {
        let config = config(method, "cifar10");
        for word in ["pads by 2", "first convolution begins", "16-bit"] {
            assert!(lists(&config.published[0], word), "{word} of {method}");
        }
    }
}

/// The header refers to `differs` instead of repeating the list, so that the two cannot diverge.
#[test]
fn every_published_accuracy_lists_its_differences_and_the_header_does_not() {
    for method in METHODS {
        for Recipe { name, toml } in method.recipes {
            let config = config(method.name, name);
            for published in &config.published {
                assert!(
                    !published.differs.is_empty(),
                    "{} {name}: {}",
                    method.name,
                    published.source
                );
            }
            let header = toml.split("method =").next().unwrap();
            let listed = header.contains("What differs:");
            assert!(config.published.is_empty() || !listed, "{} {name}", method.name);
        }
    }
}

/// The operations of each view without the normalization, which depends on the data set.
fn views(config: &RunConfig) -> Vec<Vec<Op>> {
    let kept = |op: &Op| !matches!(op, Op::Normalize { .. });
    let views = config.each_view().into_iter();
    views.map(|view| view.ops.into_iter().filter(kept).collect()).collect()
}

/// Parses operations from TOML.
fn view(ops: &str) -> Vec<Op> {
    toml::from_str::<ViewSpec>(&format!("ops = [{ops}]")).unwrap().ops
}

#[test]
fn views_are_lightlys_at_that_commit() {
    let jitter = |saturation: &str| {
        format!(
            "{{ op = 'horizontal_flip', p = 0.5 }}, \
             {{ op = 'color_jitter', p = 0.8, brightness = 0.4, contrast = 0.4, \
             saturation = {saturation}, hue = 0.1 }}, \
             {{ op = 'grayscale', p = 0.2 }}"
        )
    };
    let crop = |from: &str, how: &str| {
        format!("{{ op = 'random_resized_crop', size = 32, scale = [{from}, 1.0]{how} }}, ")
    };
    // SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0), used by four methods at
    // this commit.
    let simclr = view(&(crop("0.08", "") + &jitter("0.4")));
    for method in ["simclr", "moco", "byol", "barlow"] {
        assert_eq!(views(&config(method, "cifar10")), vec![simclr.clone(); 2], "{method}");
    }
    // SimSiamTransform(input_size=32, gaussian_blur=0.0).
    let simsiam = view(&(crop("0.2", "") + &jitter("0.4")));
    assert_eq!(views(&config("simsiam", "cifar10")), vec![simsiam; 2]);
    // DINOTransform(global_crop_size=32, n_local_views=0, cj_strength=0.5,
    // gaussian_blur=(0, 0, 0)).
    let first = crop("0.4", ", interpolation = 'bicubic'") + &jitter("0.2");
    let second = format!("{first}, {{ op = 'solarize', p = 0.2, threshold = 128 }}");
    assert_eq!(views(&config("dino", "cifar10")), [view(&first), view(&second)]);
}

#[test]
fn vicregs_views_are_those_of_its_authors_code() {
    let [first, second] = &config("vicreg", "imagenet").each_view()[..] else {
        panic!("two views")
    };
    let blur = |view: &ViewSpec| {
        view.ops.iter().find_map(|op| match op {
            Op::GaussianBlur { p, .. } => Some(*p),
            _ => None,
        })
    };
    let solarize = |view: &ViewSpec| {
        view.ops.iter().find_map(|op| match op {
            Op::Solarize { p, .. } => Some(*p),
            _ => None,
        })
    };
    assert_eq!((blur(first), blur(second)), (Some(1.0), Some(0.1)));
    assert_eq!((solarize(first), solarize(second)), (None, Some(0.2)));
    let barlow = config("barlow", "imagenet").each_view();
    assert_eq!([first, second], [&barlow[0], &barlow[1]], "augmentations.py has main.py's views");
}

#[test]
fn losses_heads_and_lars_are_those_of_the_authors_code() {
    for (method, name, path, value) in [
        ("barlow", "imagenet", "settings.loss_scale", "0.0625"), // 1/16
        ("simclr", "imagenet", "settings.loss_scale", "2.0"),
        ("byol", "imagenet", "settings.loss_scale", "1.0"),
        ("byol", "imagenet", "settings.last_bias", "false"),
        ("moco-v3", "imagenet", "settings.last_bias", "false"),
        ("moco-v3", "cifar10", "settings.last_bias", "false"),
        ("moco-v3", "shapes", "settings.last_bias", "false"),
        ("simclr", "imagenet", "training.optimizer.form", "'simclr'"),
        ("byol", "imagenet", "training.optimizer.form", "'authors'"),
        ("barlow", "imagenet", "training.optimizer.form", "'authors'"),
        ("vicreg", "imagenet", "training.optimizer.form", "'authors'"),
        ("moco-v3", "cifar10", "training.optimizer.form", "'solo_learn'"),
        ("vicreg", "cifar10", "training.optimizer.form", "'solo_learn'"),
    ] {
        assert_eq!(at(&recipe(method, name), path), literal(value), "{path} of {method} {name}");
    }
}

#[test]
fn settings_of_runs_from_before_they_were_made_load_as_they_ran() {
    for (method, key, bias) in
        [("byol", "last_bias", "predictor.3.bias"), ("moco-v3", "last_bias", "predictor.3.bias")]
    {
        let has_bias = |old: bool| {
            let mut config = config(method, "shapes");
            crate::config::build::tests::shrink(&mut config);
            config.settings.insert(key.to_owned(), false.into());
            if old {
                config.settings.remove(key).unwrap();
            }
            let built = build_method(&config, portolan_tensor::Device::Cpu).unwrap();
            built.state().iter().any(|(name, _)| name == bias)
        };
        assert!(has_bias(true) && !has_bias(false), "{method}");
    }
    let mut simclr = config("simclr", "shapes");
    simclr.settings.remove("loss_scale").unwrap();
    let settings: portolan::simclr::SimclrConfig =
        Value::Table(simclr.settings).try_into().unwrap();
    assert_eq!(settings.loss_scale, 1.0);
}
