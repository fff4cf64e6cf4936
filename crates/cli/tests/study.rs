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

/// One seed, few images, one epoch.
const TOY: &str = "--seeds 0 --device cpu --threads 1 --jobs 2 --set evaluation.knn.k=5 \
    --set training.epochs=1 --set training.batch_size=16";
/// The images of [`write_images`].
const IMAGES: &str = "--set data.source=images";
/// Few images of `shapes`, with masks and factors.
const SHAPES: &str =
    "--set data.source=shapes --set data.limit=100 --set data.limit_test=100 --set data.size=32";
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

/// Conducts these studies at toy size, on such data and with encoders of this width.
fn conduct(studies: &[&str], data: &str, width: u32) {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("images"));
    for study in studies {
        let output = portolan(
            folder.path(),
            &format!("study {study} {TOY} {data} {CALM} --set encoder.width={width}"),
        );
        let text = succeeded(&output);
        assert!(text.starts_with(&format!("{study}: ")), "{text}");
        let of_study = folder.path().join("runs/studies").join(study);
        let page = std::fs::read_to_string(of_study.join("study.html")).unwrap();
        assert!(page.contains("<svg") && page.contains("[[rule]]"), "{study}");
        let pictures = page.matches("<image").count();
        assert_eq!(pictures > 2, *study == "redundancy", "{study}: {pictures} pictures");
        let json = std::fs::read_to_string(of_study.join("study.json")).unwrap();
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        for series in found["series"].as_array().unwrap() {
            for point in series["points"].as_array().unwrap() {
                for (metric, values) in point["values"].as_object().unwrap() {
                    // Every run has every metric, but only one transformer is trained with labels.
                    let missing = metric == "over_labels" && series["name"] != "DINO";
                    assert_eq!(values[0].is_null(), missing, "{study}: {metric} of {series}");
                }
            }
        }
    }
}

#[test]
fn studies_of_contrast_run() {
    conduct(&["batch", "queue", "momentum", "temperature"], IMAGES, 4);
}

#[test]
fn studies_of_cost_and_views_run() {
    conduct(&["augmentation", "cost"], IMAGES, 4);
}

#[test]
fn studies_of_other_methods_run() {
    conduct(&["collapse", "redundancy"], IMAGES, 4);
    conduct(&["masking"], IMAGES, 12);
}

#[test]
fn studies_that_measure_features_run() {
    conduct(&["alignment", "head"], IMAGES, 4);
    conduct(&["invariance", "probe"], IMAGES, 12);
}

#[test]
fn studies_of_factors_and_masks_run() {
    conduct(&["properties", "segmentation"], SHAPES, 12);
}

#[test]
fn the_study_of_transfer_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(&at.join("images"));
    // Two sets of images in place of shapes and Fashion-MNIST.
    std::fs::create_dir(at.join("more")).unwrap();
    write_images(&at.join("more"));
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/studies/pretext.toml"),
    );
    let text = text.unwrap();
    let own = text.replace("--data fashion-mnist", "--data images");
    let own = own.replace("--data shapes", "--data more");
    assert_ne!(own, text);
    std::fs::write(at.join("transfer.toml"), own).unwrap();
    let small = "--set encoder.width=4 --set data.size=32";
    let found = succeeded(&portolan(at, &format!("study transfer.toml {TOY} {IMAGES} {small}")));
    assert!(found.contains("better features for Fashion-MNIST"), "{found}");
}

#[test]
fn the_study_of_text_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (author, words) in [("kyd", "revenge ghost play king "), ("lyly", "love nymph moon court ")]
    {
        std::fs::create_dir_all(at.join("notes").join(author)).unwrap();
        let text = words.repeat(120);
        std::fs::write(at.join("notes").join(author).join("play.txt"), text).unwrap();
    }
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/studies/masking-text.toml"),
    );
    // The labels of a folder are classes.
    let (text, kinds) = (text.unwrap(), ["author", "genre", "title"]);
    let of_class = |text: String, kind: &str| {
        text.replace(&format!("\"probes\", \"{kind}\""), "\"probes\", \"class\"")
    };
    let own = kinds.into_iter().fold(text.clone(), of_class);
    assert_ne!(own, text);
    std::fs::write(at.join("words.toml"), own).unwrap();
    let tiny = "--seeds 0 --device cpu --threads 1 --jobs 2 --set data.source=notes \
        --set tokenizer.size=300 --set positions=16 --set width=16 --set depth=1 --set heads=2 \
        --set batch_size=8 --set epochs=1";
    let found = succeeded(&portolan(at, &format!("study words.toml {tiny}")));
    assert!(found.contains("0.15 is better than 0.3: probe for the genre"), "{found}");
}

#[test]
fn a_study_of_ones_own_is_judged_and_its_runs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(&at.join("images"));
    std::fs::write(at.join("mine.toml"), MINE).unwrap();
    let run = || portolan(at, &format!("study mine.toml {TOY} {IMAGES}"));
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

    // A metric that no run has is refused after the first run.
    std::fs::write(at.join("metric.toml"), MINE.replace("knn\"", "kn\"")).unwrap();
    let output = portolan(at, &format!("study metric.toml {TOY} {IMAGES}"));
    refused(&output, &["MoCo, ", "seed 0 has no kn"]);

    std::fs::write(at.join("wrong.toml"), MINE.replace("settings.queue", "settings.que")).unwrap();
    let output = portolan(at, &format!("study wrong.toml {TOY} {IMAGES}"));
    refused(&output, &["wrong", "MoCo, ", "seed 0", "queue", "all of it"]);
}

#[test]
fn a_run_that_diverges_counts_as_knowing_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(&at.join("images"));
    let wild = MINE.replace("set.training.knn_every = 7", "set.training.learning_rate = 1e30");
    std::fs::write(at.join("wild.toml"), wild).unwrap();
    let found = succeeded(&portolan(at, &format!("study wild.toml {TOY} {IMAGES}")));
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
