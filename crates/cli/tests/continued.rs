//! Runs that go on from trained weights (`--init`).
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded_printed};
use portolan_tensor::{Tensor, io};
use std::collections::BTreeMap;
use std::path::Path;

/// Settings of all runs here: a few built-in images, a transformer of a few thousand parameters.
const TINY: &str = "--data shapes --limit 64 --limit-test 40 --batch-size 16 --set k=5 \
    --set settings.head.hidden=16 --set settings.head.dim=32 --set settings.head.bottleneck=8 \
    --device cpu --threads 1";

/// The run that the others start from, in the folder `first`.
fn first(at: &Path) {
    succeeded_printed(&portolan(
        at,
        &format!(
            "pretrain dinov2 {TINY} --recipe shapes --encoder vit_w16d2h2_patch8_32 --epochs 1 \
             --out first"
        ),
    ));
}

fn weights(path: &Path) -> BTreeMap<String, Tensor> {
    io::load(path).unwrap().0
}

fn report(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("report.json")).unwrap()).unwrap()
}

/// A folder with `n` images of 64 pixels, without labels.
fn write_images(root: &Path, n: u32) {
    std::fs::create_dir_all(root).unwrap();
    for i in 0..n {
        let pixel = |x, y| image::Rgb([(i * 9) as u8, (x * 3) as u8, (y * 3 + i) as u8]);
        image::RgbImage::from_fn(64, 64, pixel).save(root.join(format!("{i:02}.png"))).unwrap();
    }
}

#[test]
fn heads_train_first_then_all_and_the_run_says_whether_it_helped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    first(at);
    let source = weights(&at.join("first/encoder.safetensors"));
    let go_on = |more: &str| {
        succeeded_printed(&portolan(
            at,
            &format!(
                "pretrain dinov2 {TINY} --recipe continue --init first/encoder.safetensors \
                 --set palette=shifted {more}"
            ),
        ))
    };
    let printed = go_on("--epochs 2 --set freeze_encoder=2 --out frozen");
    assert!(printed.contains("init     student.encoder, teacher.encoder"), "{printed}");
    assert!(printed.contains("before") && printed.contains("95 % interval"), "{printed}");
    let start = weights(&at.join("frozen/start.safetensors"));
    assert!(start == source, "the starting point is the source");
    assert!(weights(&at.join("frozen/encoder.safetensors")) == source, "frozen to the bit");
    let found = report(&at.join("frozen"));
    let knn = &found["start"]["knn"];
    assert_eq!((&knn["gained"], &knn["lost"]), (&0.into(), &0.into()), "{knn}");
    assert_eq!(found["start"]["file"], "start.safetensors");
    assert_eq!(found["dataset"]["name"], "shapes (shifted palette)");

    let printed = go_on("--epochs 5 --out moved");
    assert!(printed.contains("freeze_encoder") || printed.contains("settings for"), "{printed}");
    let config = std::fs::read_to_string(at.join("moved/config.toml")).unwrap();
    assert!(config.contains("freeze_encoder = 1.0"), "a fifth of five epochs: {config}");
    assert!(config.contains("recipe = \"continue\"") && config.contains("palette = \"shifted\""));
    assert!(weights(&at.join("moved/start.safetensors")) == source);
    let moved = weights(&at.join("moved/encoder.safetensors"));
    assert!(moved["blocks.0.attn.qkv.weight"] != source["blocks.0.attn.qkv.weight"]);
    let page = std::fs::read_to_string(at.join("moved/report.html")).unwrap();
    assert!(page.contains("Before and after"));
    // The starting point is an encoder file like any other.
    succeeded_printed(&portolan(at, "embed moved/start.safetensors --data shapes --out x.npy"));
    // The settings of the run repeat it.
    succeeded_printed(&portolan(
        at,
        "pretrain dinov2 --config moved/config.toml --threads 1 --out again",
    ));
    assert!(weights(&at.join("again/encoder.safetensors")) == moved);
}

#[test]
fn a_run_of_the_same_method_brings_its_heads() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    first(at);
    let printed = succeeded_printed(&portolan(
        at,
        &format!("pretrain dinov2 {TINY} --recipe continue --init first --epochs 1 --out second"),
    ));
    assert!(printed.contains("init     all networks of first, with their heads"), "{printed}");
    let config = std::fs::read_to_string(at.join("second/config.toml")).unwrap();
    assert!(config.contains("freeze_encoder = 0.0") && config.contains("encoder_rate = 1.0"));
    // Heads of another form begin anew, and the run says so.
    let printed = succeeded_printed(&portolan(
        at,
        &format!(
            "pretrain dinov2 {TINY} --recipe continue --init first --epochs 1 \
             --set settings.head.dim=64 --out third"
        ),
    ));
    assert!(printed.contains("have another form"), "{printed}");
    assert!(printed.contains("init     student.encoder, teacher.encoder"), "{printed}");
}

#[test]
fn a_folder_without_labels_and_with_larger_images_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    first(at);
    write_images(&at.join("mine"), 20);
    let printed = succeeded_printed(&portolan(
        at,
        "pretrain dinov2 --recipe continue --init first/encoder.safetensors --data mine \
         --epochs 1 --batch-size 4 --set settings.head.hidden=16 --set settings.head.dim=32 \
         --set settings.head.bottleneck=8 --device cpu --threads 1 --out second",
    ));
    assert!(printed.contains("for images of 32 px were interpolated to 64 px"), "{printed}");
    assert!(printed.contains("Without labels: feature rank"), "{printed}");
    let [before, after] = ["first", "second"]
        .map(|run| weights(&at.join(run).join("encoder.safetensors"))["pos_embed"].size());
    assert_eq!((before, after), (vec![1, 17, 16], vec![1, 65, 16]));
    let found = report(&at.join("second"));
    assert_eq!(found["start"]["signals"][0]["name"], "feature_rank");
    assert!(found["start"].get("knn").is_none());
    // The images are normalized as those that the encoder was trained on.
    let normalized = |run: &str| {
        let text = std::fs::read_to_string(at.join(run).join("config.toml")).unwrap();
        text.lines().find(|line| line.starts_with("mean = ")).map(str::to_owned)
    };
    assert_eq!(normalized("second"), normalized("first"));
    // A phase at a higher resolution: all networks go on, their positions interpolated.
    let printed = succeeded_printed(&portolan(
        at,
        "pretrain dinov2 --recipe continue --init first --data mine --epochs 1 --batch-size 4 \
         --device cpu --threads 1 --out third",
    ));
    assert!(printed.contains("all networks of first"), "{printed}");
    let third = weights(&at.join("third/start.safetensors"));
    assert_eq!(third["pos_embed"].size(), [1, 65, 16]);
}

#[test]
fn what_cannot_be_started_from_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let go_on = |init: &str| {
        portolan(at, &format!("pretrain dinov2 {TINY} --recipe continue {init} --out run"))
    };
    refused(&go_on(""), &["continue", "--init"]);
    refused(&go_on("--init nowhere.pth"), &["--init", "nowhere.pth"]);
    std::fs::write(at.join("notes.pth"), "no weights").unwrap();
    refused(&go_on("--init notes.pth"), &["notes.pth"]);
    let resnet = "reproduce simclr --recipe shapes --limit 32 --limit-test 16 --epochs 1 \
                  --batch-size 8 --encoder resnet18-w4 --set k=2 --device cpu --threads 1 \
                  --out resnet";
    succeeded_printed(&portolan(at, resnet));
    refused(&go_on("--init resnet"), &["vision transformer"]);
    assert!(!at.join("run").exists(), "a refused run leaves nothing behind");
}
