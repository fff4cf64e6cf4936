//! `portolan study`: every study at toy size, and one of the user's own.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded};
use std::path::Path;

/// Writes dark and light images of noise, with a training and a test split.
fn write_images(root: &Path) {
    for (split, count) in [("train", 16u32), ("test", 8)] {
        for (class, base) in [("dark", 30u32), ("light", 150)] {
            let folder = root.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let pixel =
                    |x, y| image::Luma([(base + (x * 7 + y * 13 + i * 31 + x * y) % 90) as u8]);
                image::GrayImage::from_fn(28, 28, pixel)
                    .save(folder.join(format!("{i}.png")))
                    .unwrap();
            }
        }
    }
}

/// One seed, 32 images, one epoch.
const TOY: &str = "--seeds 0 --device cpu --threads 1 --set data.source=images \
    --set evaluation.knn.k=5 --set training.epochs=1 --set training.batch_size=16";
/// With so few images, VICReg would diverge at its usual rate.
const CALM: &str = "--set training.learning_rate=0.001";

/// A study of two runs that differ in nothing that changes them.
const MINE: &str = r#"
title = "Mine"
claim = "Two equal runs differ."
source = "nobody"
published = "nothing"
minutes = 1
seeds = [0, 1]
by = "name"
metrics = ["knn", "seconds"]
[[series]]
name = "MoCo"
method = "moco"
recipe = "fashion"
set.settings.queue = 64
[[point]]
name = "a"
[[point]]
name = "b"
set.training.knn_every = 7
[[rule]]
claim = "a is above b"
metric = "knn"
above = ["a"]
below = ["b"]
"#;

/// Conducts these studies at toy size, with encoders of this width.
fn conduct(names: &[&str], width: u32) {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("images"));
    for name in names {
        let output = portolan(
            folder.path(),
            &format!("study {name} {TOY} {CALM} --set encoder.width={width}"),
        );
        let text = succeeded(&output);
        assert!(text.starts_with(&format!("{name}: ")), "{text}");
        let of_study = folder.path().join("runs/studies").join(name);
        let page = std::fs::read_to_string(of_study.join("study.html")).unwrap();
        assert!(page.contains("<svg") && page.contains("[[rule]]"), "{name}");
        let json = std::fs::read_to_string(of_study.join("study.json")).unwrap();
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        // Every run has every metric.
        for point in found["series"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|it| it["points"].as_array().unwrap())
        {
            for (metric, values) in point["values"].as_object().unwrap() {
                assert!(values[0].is_number(), "{name}: {metric} of {point}");
            }
        }
    }
}

#[test]
fn studies_of_contrast_run() {
    conduct(&["batch", "queue", "momentum", "temperature"], 4);
}

#[test]
fn studies_of_cost_and_views_run() {
    conduct(&["head", "augmentation", "cost"], 4);
}

#[test]
fn studies_of_other_methods_run() {
    conduct(&["collapse", "redundancy"], 4);
    conduct(&["masking"], 12);
}

#[test]
fn a_study_of_ones_own_is_judged_and_its_runs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(&at.join("images"));
    std::fs::write(at.join("mine.toml"), MINE).unwrap();
    let run = || portolan(at, &format!("study mine.toml {TOY}"));
    let first = succeeded(&run());
    assert!(first.contains("mine: does not hold at this size"), "{first}");
    assert!(first.contains("a is above b: kNN +0.0 points (one seed)"), "{first}");
    let logs = || {
        let entries = std::fs::read_dir(at.join("runs/studies/runs")).unwrap();
        let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
        found
            .iter()
            .map(|path| std::fs::metadata(path).unwrap().modified().unwrap())
            .collect::<Vec<_>>()
    };
    let before = logs();
    assert_eq!(succeeded(&run()), first);
    assert_eq!(logs(), before, "no run is repeated");

    std::fs::write(at.join("wrong.toml"), MINE.replace("settings.queue", "settings.que")).unwrap();
    let output = portolan(at, &format!("study wrong.toml {TOY}"));
    refused(&output, &["wrong", "MoCo, a, seed 0", "queue", "all of it"]);
}

#[test]
fn a_run_that_diverges_counts_as_knowing_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(&at.join("images"));
    let wild = MINE.replace("set.training.knn_every = 7", "set.training.learning_rate = 1e30");
    std::fs::write(at.join("wild.toml"), wild).unwrap();
    let found = succeeded(&portolan(at, &format!("study wild.toml {TOY}")));
    assert!(found.contains("wild: holds"), "{found}");
    assert!(found.contains("counted as 0: MoCo, b, seed 0"), "{found}");
}

#[test]
fn studies_are_listed_and_a_wrong_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = succeeded(&portolan(folder.path(), "study --list"));
    assert!(list.contains("momentum") && list.contains("minutes on one core"), "{list}");
    let output = portolan(folder.path(), "study momentun");
    refused(&output, &["momentun", "momentum, temperature"]);
    refused(&portolan(folder.path(), "study none.toml"), &["none.toml"]);
}
