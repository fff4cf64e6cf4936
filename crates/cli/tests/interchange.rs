//! Encoder files: inspected, evaluated and used as initial weights.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded_printed};
use portolan_tensor::{Tensor, io};
use std::path::{Path, PathBuf};

/// Settings of all runs here: 64 built-in images, a network of a few thousand parameters, and
/// epochs of at most a second.
const TINY: &str = "--recipe shapes --limit 64 --limit-test 32 --epochs 1 --batch-size 16 \
    --encoder resnet18-w4 --set k=5 --device cpu --threads 1";

/// A checkpoint with the tensor names of the authors, from the tests of the crate that reads it.
fn authors(name: &str) -> String {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interchange/tests/files");
    files.join(name).display().to_string()
}

/// A folder with 12 small images of each of two classes, for training and for testing.
fn write_images(root: &Path) -> PathBuf {
    for split in ["train", "test"] {
        for (class, base) in [("dark", 20u8), ("light", 180)] {
            let folder = root.join("images").join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..12 {
                let pixel = |x, y| image::Rgb([base + i, base + x as u8, base + y as u8]);
                image::RgbImage::from_fn(40, 36, pixel)
                    .save(folder.join(format!("{i}.png")))
                    .unwrap();
            }
        }
    }
    root.join("images")
}

fn weights(path: &Path) -> std::collections::BTreeMap<String, Tensor> {
    io::load(path).unwrap().0
}

#[test]
fn a_file_and_a_hub_folder_give_the_features_of_their_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_images(at);
    succeeded_printed(&portolan(at, &format!("reproduce simclr {TINY} --out run")));
    succeeded_printed(&portolan(at, "export run --out hub"));
    let features = |from: &str, out: &str| {
        succeeded_printed(&portolan(
            at,
            &format!("embed {from} --data images --split test --out {out}"),
        ));
        weights(&at.join(out)).remove("features").unwrap()
    };
    let of_run = features("run", "a.safetensors");
    assert_eq!(of_run.size(), [24, 32]);
    for from in ["run/encoder.safetensors", "hub"] {
        assert_eq!(features(from, "b.safetensors"), of_run, "{from}");
    }
    let evaluated =
        succeeded_printed(&portolan(at, "evaluate hub --data images --protocol knn,linear"));
    assert!(
        evaluated.contains("24 images for training") && evaluated.contains("linear probe"),
        "{evaluated}"
    );
    assert!(at.join("hub/evaluation.json").exists());
    refused(&portolan(at, "evaluate hub"), &["--data"]);
}

#[test]
fn init_also_sets_the_momentum_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeded_printed(&portolan(at, &format!("reproduce simclr {TINY} --out first")));
    // At this learning rate, the initial weights hardly change.
    let still = "--set learning_rate=1e-9";
    let printed = succeeded_printed(&portolan(
        at,
        &format!("reproduce byol {TINY} {still} --init first --out second"),
    ));
    assert!(printed.contains("init     online.encoder, target.encoder"), "{printed}");
    let (first, second) =
        ["first", "second"].map(|run| weights(&at.join(run).join("encoder.safetensors"))).into();
    for (name, tensor) in first.iter().filter(|(name, _)| name.ends_with("weight")) {
        assert!(tensor.allclose(&second[name], 0.0, 1e-6, false), "{name}");
    }
    let config = std::fs::read_to_string(at.join("second/config.toml")).unwrap();
    assert!(config.contains("init = \"first\""), "{config}");
    let report = std::fs::read_to_string(at.join("second/report.json")).unwrap();
    assert!(report.contains("training started from the encoder in first"), "{report}");

    let refusal = portolan(
        at,
        &format!("reproduce moco {TINY} --init {} --out third", authors("vicreg_resnet50.pth")),
    );
    refused(&refusal, &["--init", "resnet18-w4"]);
    assert!(!at.join("third").exists(), "a refused run leaves nothing behind");
}

#[test]
fn checkpoints_of_authors_are_recognized_and_harmful_files_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let printed = succeeded_printed(&portolan(
        at,
        &format!("inspect {}", authors("moco_v2_800ep_pretrain.pth.tar")),
    ));
    assert!(
        printed.contains("resnet50")
            && printed.contains("encoder_q")
            && printed.contains("encoder_k (318)"),
        "{printed}"
    );
    write_images(at);
    let embed = |file: &str| portolan(at, &format!("embed {file} --data images --out x.npy"));
    refused(&embed(&authors("harm.pth")), &["posix.system", "nothing was executed"]);
    refused(&embed(&authors("resnext50_32x4d.pth")), &["it is resnext50_32x4d"]);
    refused(&embed("images"), &["config.toml", "config.json"]);
    refused(&embed("nowhere.safetensors"), &["there is no nowhere.safetensors"]);
    std::fs::write(at.join("short.safetensors"), [9, 0, 0]).unwrap();
    refused(&embed("short.safetensors"), &["not a whole safetensors file"]);
    assert!(!at.join("x.npy").exists());
}
