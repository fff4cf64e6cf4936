//! What `--data` opens.
#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};

use super::*;
use crate::error::with_causes;
use crate::formats::{cifar, idx, parquet, stl10, webdataset};
use crate::source::subset;

fn options() -> Options {
    Options { train: 40, test: 20, ..Options::default() }
}

fn refusal(data: &str) -> String {
    match open(data, &options()) {
        Ok(_) => panic!("{data} was accepted"),
        Err(error) => with_causes(&error),
    }
}

fn png_at(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(2, 2, Rgb([1, 2, 3])).save(path).unwrap();
}

/// Mean and standard deviation of each channel over the given items, in [0, 1].
fn moments(source: &dyn Source, count: usize) -> ([f32; 3], [f32; 3]) {
    let (mut sum, mut square, mut pixels) = ([0_f64; 3], [0_f64; 3], 0.0);
    for index in 0..count {
        for pixel in source.image(index).unwrap().decode().unwrap().pixels() {
            for channel in 0..3 {
                let value = f64::from(pixel.0[channel]) / 255.0;
                sum[channel] += value;
                square[channel] += value * value;
            }
            pixels += 1.0;
        }
    }
    let mean = sum.map(|sum| sum / pixels);
    let std: [f64; 3] = std::array::from_fn(|c| (square[c] / pixels - mean[c] * mean[c]).sqrt());
    (mean.map(|m| m as f32), std.map(|s| s as f32))
}

fn assert_near(found: [f32; 3], wanted: [f32; 3], tolerance: f32) {
    let near = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(near, "{found:?} is not {wanted:?}");
}

#[test]
fn shapes_are_normalized() {
    let shapes = open("shapes", &Options { train: 2_000, ..Options::default() }).unwrap();
    let (mean, std) = moments(&*shapes.train, 2_000);
    assert_near(mean, SHAPES_MEAN, 0.02);
    assert_near(std, SHAPES_STD, 0.02);
}

#[test]
fn the_checksum_of_shapes_tells_seeds_counts_and_sizes_apart() {
    let of = |options: Options| open("shapes", &options).unwrap().sha256;
    let base = of(options());
    assert_eq!(base, of(options()));
    for other in [
        Options { seed: 1, ..options() },
        Options { size: 48, ..options() },
        Options { train: 41, ..options() },
        Options { test: 21, ..options() },
    ] {
        assert_ne!(base, of(other));
    }
}

#[test]
fn train_and_val_folders_are_the_splits_where_test_has_no_classes() {
    let root = tempfile::tempdir().unwrap();
    for file in ["train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/4.png"] {
        png_at(&root.path().join(file));
    }
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    let test = data.test.unwrap();
    assert_eq!((data.train.len(), test.len(), test.label(0)), (2, 1, Some(1)));
    assert_eq!(data.classes, ["cat", "dog"]);
    png_at(&root.path().join("test/cat/5.png"));
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert!(data.test.unwrap().describe(0).ends_with("5.png"), "test goes before val");
}

#[test]
fn a_folder_without_splits_is_all_training() {
    let root = tempfile::tempdir().unwrap();
    png_at(&root.path().join("holiday.png"));
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert!(data.test.is_none() && data.classes.is_empty());
    assert_eq!(data.train.image(0).unwrap().decode().unwrap().get_pixel(0, 0).0, [1, 2, 3]);
}

#[test]
fn images_beside_class_folders_are_pretrained_on() {
    let root = tempfile::tempdir().unwrap();
    for file in ["cover.png", "cat/1.png", "dog/2.png"] {
        png_at(&root.path().join(file));
    }
    fs::write(root.path().join("IMG_1.HEIC"), "no image").unwrap();
    let mut data = open(root.path().to_str().unwrap(), &options()).unwrap();
    let all = data.pretraining();
    let labels: Vec<_> = (0..all.len()).map(|i| all.label(i)).collect();
    assert_eq!((labels.as_slice(), data.train.len()), (&[Some(0), Some(1), None][..], 2));
    assert_eq!(data.notes[0], "left out: 1 .heic");
    let before = data.sha256.clone();
    fs::remove_file(root.path().join("cover.png")).unwrap();
    data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert_ne!(data.sha256, before, "all that is trained on is in the checksum");
}

#[test]
fn one_image_is_data() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("photo.png");
    png_at(&path);
    let unnamed = root.path().join("photo.HEIC");
    fs::copy(&path, &unnamed).unwrap();
    for path in [path, unnamed] {
        let data = open(path.to_str().unwrap(), &options()).unwrap();
        assert_eq!((data.train.len(), data.test.is_none(), data.classes.len()), (1, true, 0));
        assert_eq!(data.train.describe(0), path.display().to_string());
        assert_eq!(data.train.image(0).unwrap().decode().unwrap().get_pixel(0, 0).0, [1, 2, 3]);
    }
}

#[test]
fn more_classes_in_the_test_split_stop_nothing() {
    let root = tempfile::tempdir().unwrap();
    for (file, label) in [("train-0", b"1"), ("test-0", b"2")] {
        let path = root.path().join(format!("{file}.tar"));
        webdataset::tests::write(&path, &[("a.gif", b"x"), ("a.cls", label)]);
    }
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert!(data.test.is_none());
    assert!(data.notes[0].contains("3 classes and those to train on 2"), "{:?}", data.notes);
}

#[test]
fn parquet_files_are_told_apart_by_their_names() {
    let root = tempfile::tempdir().unwrap();
    let names = Some(r#"["cat", "dog"]"#);
    for file in ["train-00000-of-00002", "train-00001-of-00002", "validation-0", "test-0"] {
        let label = if file == "test-0" { -1 } else { 1 };
        let path = root.path().join(format!("{file}.parquet"));
        parquet::tests::write(&path, &[&[(Some(b"x"), Some(label))]], names);
    }
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    let test = data.test.unwrap();
    assert_eq!((data.train.len(), test.len()), (2, 1));
    assert!(test.describe(0).contains("validation-0"), "the test labels are unpublished");
    let one = open(root.path().join("test-0.parquet").to_str().unwrap(), &options()).unwrap();
    assert_eq!((one.train.len(), one.test.is_none()), (1, true));
}

#[test]
fn tar_shards_are_told_apart_by_their_names() {
    let root = tempfile::tempdir().unwrap();
    for file in ["in-train-000000", "in-train-000001", "in-validation-00"] {
        let path = root.path().join(format!("{file}.tar"));
        webdataset::tests::write(
            &path,
            &[("a.jpg", b"x"), ("a.cls", b"1"), ("b.jpg", b"x"), ("b.cls", b"0")],
        );
    }
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert_eq!((data.train.len(), data.test.unwrap().len()), (4, 2));
    assert_eq!(data.classes, ["0", "1"]);
    assert_eq!(data.train.shards(), [0..2, 2..4]);
    assert_eq!(subset(data.train, 3).shards(), [0..2, 2..3]);
}

#[test]
fn stl10_is_pretrained_on_its_unlabeled_images_too() {
    let root = tempfile::tempdir().unwrap();
    stl10::write(&root.path().join("stl10_binary"), 4, 2, 3);
    let mut data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert_eq!((data.name.as_str(), data.classes[7].as_str()), ("stl10", "monkey"));
    assert_eq!((data.train.len(), data.test.as_ref().unwrap().len()), (4, 2));
    let all = data.pretraining();
    let labels: Vec<_> = (0..all.len()).map(|i| all.label(i)).collect();
    assert_eq!(labels, [Some(0), Some(1), Some(2), Some(3), None, None, None]);
    assert!(
        all.describe(5).starts_with("image 1 of") && all.describe(5).ends_with("unlabeled_X.bin")
    );
    data.limit(5);
    assert_eq!((data.train.len(), data.pretraining().len()), (4, 5));
    data.limit(2);
    assert_eq!((data.train.len(), data.pretraining().len()), (2, 2));
}

#[test]
fn cifar_folders_are_recognized() {
    let root = tempfile::tempdir().unwrap();
    cifar::tests::write("cifar100", root.path());
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert_eq!(
        (data.name.as_str(), data.train.len(), data.test.unwrap().len()),
        ("cifar100", 2, 2)
    );
    assert_eq!(data.mean, [0.5071, 0.4865, 0.4409]);
}

#[test]
fn idx_files_are_recognized_and_normalized_by_their_pixels() {
    let root = tempfile::tempdir().unwrap();
    idx::tests::write(root.path(), "train", 1, true);
    idx::tests::write(root.path(), "t10k", 2, true);
    let data = open(root.path().to_str().unwrap(), &options()).unwrap();
    assert_eq!((data.train.len(), data.test.unwrap().len()), (1, 2));
    assert_near(data.mean, [2.5 / 255.0; 3], 1e-6);
    assert!(!data.verified && data.name != "fashion-mnist");
}

#[test]
fn fashion_mnist_is_known_by_its_content() {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    if !folder.is_dir() {
        println!("skipped: the package dataset-fashion-mnist is not installed");
        return;
    }
    for name in ["fashion-mnist", folder.to_str().unwrap()] {
        let data = open(name, &options()).unwrap();
        assert!(data.verified && data.name == "fashion-mnist");
        assert_eq!((data.train.len(), data.test.unwrap().len()), (60_000, 10_000));
        let (mean, std) = moments(&*data.train, 2_000);
        assert_near(mean, data.mean, 0.01);
        assert_near(std, data.std, 0.01);
        assert_eq!(data.classes[data.train.label(0).unwrap() as usize], "ankle boot");
    }
}

#[test]
fn what_is_not_there_is_named_with_what_there_is() {
    assert!(
        refusal("cifar11")
            .contains("there are shapes, cifar10, cifar100, fashion-mnist, imagenet, stl10")
    );
    assert!(refusal("imagenet").contains("Accept its terms"));
    let root = tempfile::tempdir().unwrap();
    assert!(
        refusal(root.path().to_str().unwrap())
            .contains("no JPEG, PNG, WebP, BMP, GIF, TIFF or PNM image")
    );
    let text = root.path().join("list.txt");
    fs::write(&text, "x").unwrap();
    assert!(refusal(text.to_str().unwrap()).contains("not a .parquet or .tar file"));
}

#[test]
fn the_real_files_are_cifar10_by_its_classes_and_moments() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/datasets/cifar10-jpeg");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let data = open(folder.to_str().unwrap(), &options()).unwrap();
    assert_eq!((data.train.len(), data.test.unwrap().len()), (50_000, 10_000));
    assert_eq!(data.mean, [0.4914, 0.4822, 0.4465]);
    let (mean, std) = moments(&*data.train, 5_000);
    assert_near(mean, data.mean, 0.01);
    assert_near(std, data.std, 0.01);
}
