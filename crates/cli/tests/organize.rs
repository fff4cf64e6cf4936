//! `portolan organize` with correct and incorrect arguments, on a handful of tiny images.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded};
use image::{Rgb, RgbImage};
use std::path::Path;

/// Twelve images in nested folders, one of them twice, and a file that is not an image.
fn write_images(root: &Path) {
    let deep = root.join("2024/summer");
    std::fs::create_dir_all(&deep).unwrap();
    for i in 0..12u8 {
        let pixel = |x: u32, y: u32| Rgb([20 * i, (x * u32::from(i + 1)) as u8, (y * 5) as u8]);
        RgbImage::from_fn(40, 36, pixel).save(deep.join(format!("{i:02}.png"))).unwrap();
    }
    std::fs::copy(deep.join("03.png"), root.join("copy.png")).unwrap();
    std::fs::write(root.join("torn.jpg"), "not an image").unwrap();
}

#[test]
fn images_are_organized_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("photos"));
    refused(&portolan(here, "organize photos"), &["--encoder FILE"]);
    succeeded(&portolan(
        here,
        "pretrain moco --recipe shapes --limit 32 --limit-test 16 --epochs 1 --batch-size 16 \
         --encoder resnet18-w4 --set queue=32 --set k=5 --device cpu --threads 1 --out run",
    ));
    refused(&portolan(here, "organize nowhere --run run"), &["cannot list the folder nowhere"]);
    refused(&portolan(here, "organize photos --run run --groups 99"), &["ask for fewer"]);

    succeeded(&portolan(here, "export run --out encoder.safetensors"));
    let printed =
        succeeded(&portolan(here, "organize photos --encoder encoder.safetensors --groups 3"));
    assert!(printed.contains("of 13 images") && printed.contains("unreadable  1"), "{printed}");
    assert!(printed.contains("duplicates  1\n"), "{printed}");
    let page = std::fs::read_to_string(here.join("organized/gallery.html")).unwrap();
    assert!(page.contains("2024/summer/07.png") && page.contains("torn.jpg"));
    assert!(here.join("organized/groups.parquet").exists());

    refused(&portolan(here, "organize photos --run run"), &["already exists"]);
    refused(
        &portolan(&here.join("photos"), "organize . --run ../run"),
        &["inside the folder of images"],
    );
}
