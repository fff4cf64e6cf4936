//! Folders of images as users have them.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, succeeded_printed};
use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;
use std::process::Output;

/// A run of a few seconds, on the folder `data`, into the folder `out`.
fn pretrain(here: &Path, method: &str, data: &str, out: &str) -> Output {
    portolan(
        here,
        &format!(
            "pretrain {method} --recipe shapes --data {data} --out {out} --epochs 1 --batch-size 8 \
             --encoder {} --set k=3 --device cpu --threads 1",
            if method == "mae" { "vit_w8d1h1_patch4_32" } else { "resnet18-w4" }
        ),
    )
}

fn has(printed: &str, words: &[&str]) {
    for word in words {
        assert!(printed.contains(word), "`{word}` is not in: {printed}");
    }
}

fn write_image(path: &Path, format: ImageFormat, level: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| Rgb([level, 3 * x as u8, 5 * y as u8]);
    RgbImage::from_fn(40, 36, pixel).save_with_format(path, format).unwrap();
}

#[test]
fn every_image_is_used_regardless_of_folder_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let photos = here.join("photos");
    for i in 0..11u8 {
        write_image(&photos.join(format!("{i}.jpg")), ImageFormat::Jpeg, 20 * i);
    }
    write_image(&photos.join("one album/a.jpg"), ImageFormat::Jpeg, 9);
    for (name, format) in [
        ("b.tif", ImageFormat::Tiff),
        ("c.gif", ImageFormat::Gif),
        ("d.ppm", ImageFormat::Pnm),
        ("IMG_1.HEIC", ImageFormat::Jpeg),
    ] {
        write_image(&photos.join(name), format, 99);
    }
    for name in ["IMG_2.HEIC", "IMG_3.heic", "notes.txt", ".DS_Store"] {
        std::fs::write(photos.join(name), "not an image").unwrap();
    }
    let printed = succeeded_printed(&pretrain(here, "mae", "photos", "run"));
    has(&printed, &["16 images for training", "left out: 2 .heic, 1 .txt"]);
    // The limits of the recipe are for its own images, and its warm-up for its own number of
    // epochs.
    has(&printed, &["limit 10000", "warmup_epochs 0.25 instead of 5", "knn_every 1"]);
    let config = std::fs::read_to_string(here.join("run/config.toml")).unwrap();
    has(&config, &["limit = 0\n", "limit_test = 0\n", "warmup_epochs = 0.25\n"]);

    let printed = succeeded_printed(&portolan(here, "embed run --out x.csv"));
    has(&printed, &["16 images, 8 features each", "left out: 2 .heic"]);
    let csv = std::fs::read_to_string(here.join("x.csv")).unwrap();
    assert_eq!(csv.lines().count(), 17);
    has(&csv, &["path,f0,f1,f2,f3,f4,f5,f6,f7\n", "one album/a.jpg,", "IMG_1.HEIC,"]);
    succeeded_printed(&portolan(here, "embed run --data photos/IMG_1.HEIC --out one.csv"));
    let one = std::fs::read_to_string(here.join("one.csv")).unwrap();
    let of_file = |text: &str| -> Vec<f32> {
        let line = text.lines().find(|line| line.contains("IMG_1.HEIC")).unwrap();
        line.split(',').skip(1).map(|value| value.parse().unwrap()).collect()
    };
    for (alone, among) in of_file(&one).iter().zip(of_file(&csv)) {
        assert!((alone - among).abs() <= 1e-5 * among.abs().max(1.0), "{alone} is not {among}");
    }
    has(&succeeded_printed(&portolan(here, "inspect photos/b.tif")), &["40×36 px"]);
    let printed = succeeded_printed(&portolan(here, "organize photos --run run --groups 2"));
    has(&printed, &["of 16 images", "left out: 2 .heic, 1 .txt"]);
}

#[test]
fn splits_of_labeling_tools_and_classes_in_one_split_only() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (split, images) in [("train", 8u8), ("valid", 3)] {
        for i in 0..images {
            write_image(&here.join(format!("export/{split}/images/{i}.jpg")), ImageFormat::Jpeg, i);
        }
        std::fs::create_dir_all(here.join(format!("export/{split}/labels"))).unwrap();
        std::fs::write(here.join(format!("export/{split}/labels/0.txt")), "0 0.5 0.5 1 1").unwrap();
    }
    let printed = succeeded_printed(&portolan(here, "inspect export"));
    has(&printed, &["8 images", "3 images", "labels     none", "left out: 2 .txt"]);

    for (class, i) in [("cat", 0u8), ("dog", 120)] {
        for n in 0..6 {
            write_image(&here.join(format!("own/train/{class}/{n}.png")), ImageFormat::Png, i + n);
        }
        write_image(&here.join(format!("own/val/{class}/9.png")), ImageFormat::Png, i + 9);
    }
    write_image(&here.join("own/val/elk/1.png"), ImageFormat::Png, 200);
    write_image(&here.join("own/train/cover.png"), ImageFormat::Png, 200);
    let printed = succeeded_printed(&pretrain(here, "simsiam", "own", "run"));
    has(
        &printed,
        &["13 images for training, 2 for testing", "(such as elk)", "in no class folder"],
    );
    has(&printed, &["kNN (k = 3)"]);
    let printed = succeeded_printed(&portolan(here, "evaluate run --protocol knn"));
    has(&printed, &["12 images for training, 2 for testing", "(such as elk)", "not scored"]);
    let printed = succeeded_printed(&portolan(here, "embed run --out x.csv"));
    has(&printed, &["13 images"]);
    let csv = std::fs::read_to_string(here.join("x.csv")).unwrap();
    has(&csv, &["path,label,f0", "cover.png,-1,", "dog/0.png,1,"]);

    let output = portolan(here, "evaluate run --data export --protocol knn");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    has(&printed, &["error: export has no labeled test split", "folder for each class"]);
}
