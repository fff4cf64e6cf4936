//! The commands that draw what an encoder has learned, on tiny runs.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded};
use std::path::Path;

/// A run of about a second, in a folder with the name of its method.
fn train(folder: &Path, method: &str, encoder: &str) {
    let tiny = "--limit 64 --limit-test 32 --epochs 1 --batch-size 32 --set k=5 \
                --set warmup_epochs=0 --device cpu --threads 1 --tensorboard";
    let args = format!("reproduce {method} --encoder {encoder} {tiny} --out {method}");
    succeeded(&portolan(folder, &args));
}

/// An image that is wider than high.
fn write_image(path: &Path) {
    let pixel = |x, y| image::Rgb([3 * x as u8, 5 * y as u8, 90]);
    image::RgbImage::from_fn(60, 40, pixel).save(path).unwrap();
}

fn size(path: &Path) -> (u32, u32) {
    image::image_dimensions(path).unwrap()
}

#[test]
fn a_vision_transformer_is_drawn_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train(here, "mae", "vit_w8d1h2_patch4_32");
    std::fs::create_dir(here.join("more")).unwrap();
    write_image(&here.join("a.jpg"));
    write_image(&here.join("more/a.png"));

    // The image, two heads and their mean: two rows of images of 192 pixels with 6 pixels between
    // them.
    let printed = succeeded(&portolan(here, "attention mae a.jpg more/a.png --out drawn"));
    assert!(printed.contains("heads 1 to 2"), "{printed}");
    assert_eq!(size(&here.join("drawn/a-attention.png")), (4 * 198 - 6, 2 * 198 - 6));
    assert!(here.join("drawn/a-2-attention.png").exists(), "two files have one name");
    succeeded(&portolan(here, "reconstruct mae a.jpg --out drawn"));
    assert_eq!(size(&here.join("drawn/a-reconstruction.png")), (4 * 198 - 6, 192));
    succeeded(&portolan(here, "patches mae a.jpg more/a.png --out drawn"));
    assert_eq!(size(&here.join("drawn/a-2-patches.png")), (2 * 198 - 6, 192));

    let scored = succeeded(&portolan(here, "attention mae --score"));
    assert!(scored.contains("32 test images") && scored.contains("best of 2 heads"), "{scored}");
    let json = std::fs::read_to_string(here.join("mae/attention.json")).unwrap();
    let scores: serde_json::Value = serde_json::from_str(&json).unwrap();
    let largest = scores["trained"]["patch_norms"]["largest"].as_f64().unwrap();
    assert!(largest >= 1.0 && scored.contains("the longest, in medians"), "{scored}");
    // A file has no run, so shapes are all that it is scored on.
    let file = "attention mae/encoder.safetensors";
    succeeded(&portolan(here, &format!("{file} --score --out scores.json")));
    let json = std::fs::read_to_string(here.join("scores.json")).unwrap();
    let of_file: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(of_file["images"].as_u64().unwrap() > 32);
    succeeded(&portolan(here, &format!("{file} a.jpg --out of-file")));
    let drawn = |folder: &str| std::fs::read(here.join(folder).join("a-attention.png")).unwrap();
    assert_eq!(drawn("of-file"), drawn("drawn"));
    let scored = succeeded(&portolan(here, "reconstruct mae --score"));
    let ratio = scored.lines().find_map(|line| line.strip_prefix("ratio")).unwrap();
    assert!((0.1..10.0).contains(&ratio.trim().parse::<f64>().unwrap()), "{scored}");

    std::fs::write(here.join("words.jpg"), "these are words").unwrap();
    refused(&portolan(here, "attention mae words.jpg --out x"), &["words.jpg", "not a JPEG"]);
    refused(&portolan(here, "patches mae missing.jpg --out x"), &["missing.jpg"]);
    refused(&portolan(here, "patches mae a.jpg --out words.jpg"), &["words.jpg", "folder"]);
    assert!(!here.join("x").exists(), "a refused command leaves nothing behind");
    std::fs::remove_dir_all(here.join("mae/checkpoints")).unwrap();
    refused(&portolan(here, "reconstruct mae --score"), &["decoder", "checkpoint"]);
}

#[test]
fn a_network_without_patches_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train(here, "simclr", "resnet18-w4");
    for command in ["attention simclr --score", "patches simclr a.jpg --out x"] {
        refused(&portolan(here, command), &["resnet18-w4", "vision transformer"]);
    }
    refused(&portolan(here, "reconstruct simclr --score"), &["simclr", "MAE"]);
    refused(&portolan(here, "attention nowhere --score"), &["nowhere"]);
}

#[test]
fn runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train(here, "simclr", "resnet18-w4");
    train(here, "byol", "resnet18-w4");
    std::fs::create_dir(here.join("pages")).unwrap();
    let files = std::fs::read_dir(here.join("byol")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("events.out.tfevents.")).count(), 1);
    let printed = succeeded(&portolan(here, "compare simclr byol --out pages/both.html"));
    assert!(printed.contains("SimCLR, simclr") && printed.contains("BYOL, byol"), "{printed}");
    let page = std::fs::read_to_string(here.join("pages/both.html")).unwrap();
    assert!(page.contains("2 runs on shapes") && page.contains("href=\"../byol/report.html\""));
    refused(&portolan(here, "compare simclr nowhere --out x.html"), &["nowhere", "finished run"]);
    refused(&portolan(here, "compare simclr byol --out x.pdf"), &["x.pdf", ".html"]);
}
