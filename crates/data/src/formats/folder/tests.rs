//! Layouts of folders.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::formats::listing::tests::{folder_with, names};

fn read(files: &[&str]) -> Layout {
    Layout::of(folder_with(files).path()).unwrap()
}

fn listed(folder: &Folder) -> Vec<(&str, Option<u32>)> {
    let labels = (0..folder.len()).map(|i| folder.label(i));
    names(&folder.files).into_iter().zip(labels).collect()
}

fn test_of(layout: &Layout) -> Vec<(&str, Option<u32>)> {
    layout.test.as_ref().map_or(Vec::new(), listed)
}

#[test]
fn class_folders_are_numbered_and_ordered_as_in_torchvision() {
    let layout = read(&[
        "dog/b.jpg",
        "dog/a.JPEG",
        "dog/sub/0.png",
        "cat/z.webp",
        "Ant/1.bmp", // a capital sorts first
        "cat/notes.txt",
        "cat/.hidden.png",
        ".git/x.png",
        "empty/readme.md",
    ]);
    assert_eq!(layout.classes, ["Ant", "cat", "dog"]);
    let wanted = [
        ("Ant/1.bmp", Some(0)),
        ("cat/z.webp", Some(1)),
        ("dog/a.JPEG", Some(2)),
        ("dog/b.jpg", Some(2)),
        ("dog/sub/0.png", Some(2)),
    ];
    assert_eq!(listed(&layout.train), wanted);
    assert!(layout.unlabeled.is_none());
}

#[test]
fn a_flat_folder_has_no_labels() {
    let layout = read(&["b.png", "a.png"]);
    assert_eq!(listed(&layout.train), [("a.png", None), ("b.png", None)]);
    assert!(layout.classes.is_empty() && layout.train.describe(1).ends_with("b.png"));
}

#[test]
fn loose_photographs_beside_one_folder_are_all_used() {
    let layout = read(&["1.jpg", "2.jpg", "holiday/3.jpg", "holiday/deep/4.jpg"]);
    assert_eq!((layout.train.len(), layout.classes.len()), (4, 0));
    assert!(layout.train.label(0).is_none() && layout.notes.is_empty(), "{:?}", layout.notes);
}

#[test]
fn images_in_no_class_folder_have_no_label_and_are_kept() {
    let layout = read(&["cover.png", "cat/1.png", "dog/2.png"]);
    assert_eq!(listed(&layout.train), [("cat/1.png", Some(0)), ("dog/2.png", Some(1))]);
    assert_eq!(listed(layout.unlabeled.as_ref().unwrap()), [("cover.png", None)]);
    assert!(layout.notes[0].starts_with("1 image(s) in no class folder of "));
}

#[test]
fn splits_go_by_all_their_names() {
    for (train, test) in
        [("train", "test"), ("Train", "VALID"), ("training", "validation"), ("train", "testing")]
    {
        let files = [
            format!("{train}/cat/1.png"),
            format!("{train}/dog/2.png"),
            format!("{test}/dog/3.png"),
        ];
        let layout = read(&files.each_ref().map(String::as_str));
        assert_eq!(listed(&layout.train), [("cat/1.png", Some(0)), ("dog/2.png", Some(1))]);
        assert_eq!(test_of(&layout), [("dog/3.png", Some(1))]);
    }
}

#[test]
fn what_labeling_tools_export_has_splits_and_no_class_named_images() {
    let layout = read(&[
        "train/images/1.jpg",
        "train/labels/1.txt",
        "valid/images/2.jpg",
        "valid/labels/2.txt",
        "data.yaml",
    ]);
    assert_eq!(
        (listed(&layout.train), test_of(&layout)),
        (vec![("1.jpg", None)], vec![("2.jpg", None)])
    );
    assert!(layout.classes.is_empty());
    assert_eq!(layout.notes, ["left out: 2 .txt, 1 .yaml"]);
    // Ultralytics has the splits below `images`.
    let layout = read(&["images/train/1.jpg", "images/val/2.jpg", "labels/train/1.txt"]);
    assert_eq!(
        (listed(&layout.train), test_of(&layout)),
        (vec![("1.jpg", None)], vec![("2.jpg", None)])
    );
    // Masks are images too, but `images` is no class beside them.
    let layout = read(&["train/images/1.jpg", "train/masks/1.png"]);
    assert_eq!((layout.train.len(), layout.classes.len()), (2, 0));
}

#[test]
fn a_class_that_is_only_in_the_test_split_stops_nothing() {
    let layout = read(&["train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "val/elk/4.png"]);
    assert_eq!(layout.classes, ["cat", "dog"]);
    assert_eq!(test_of(&layout), [("dog/3.png", Some(1))]);
    let note = &layout.notes[0];
    assert!(
        note.starts_with("1 image(s) of ") && note.contains("val/") && note.contains("elk"),
        "{note}"
    );
    let layout = read(&["train/cat/1.png", "train/dog/2.png", "val/Dog/3.png"]);
    assert!(layout.test.is_none());
    assert!(layout.notes[0].contains("none of its folders (Dog)"), "{:?}", layout.notes);
}

#[test]
fn train_may_be_a_class_among_others_but_a_test_split_is_never_trained_on() {
    let layout = read(&["bus/1.png", "train/2.png"]);
    assert_eq!(layout.classes, ["bus", "train"]);
    let layout = read(&["train/1.png", "test/2.png", "elsewhere/3.png", "4.png"]);
    assert_eq!((layout.train.len(), layout.test.as_ref().unwrap().len()), (1, 1));
    assert!(layout.notes[0].starts_with("2 image(s) of "), "{:?}", layout.notes);
    let folder = folder_with(&["train/1.heic", "test/2.png"]);
    let error = Layout::of(folder.path()).err().unwrap().to_string();
    assert!(error.contains("test/ is for scoring") && error.contains("--data"), "{error}");
}

#[test]
fn an_empty_folder_says_so_and_what_is_there() {
    let folder = folder_with(&["a.heic", "b.heic", "readme.txt"]);
    let error = Layout::of(folder.path()).err().unwrap().to_string();
    assert!(error.contains("no JPEG, PNG, WebP, BMP, GIF, TIFF or PNM image"), "{error}");
    assert!(error.ends_with("left out: 2 .heic, 1 .txt"), "{error}");
    let (images, notes) = unlabeled_folder(folder_with(&["a/b.png", "c.txt"]).path()).unwrap();
    assert_eq!((images.len(), notes.as_slice()), (1, &["left out: 1 .txt".to_owned()][..]));
}
