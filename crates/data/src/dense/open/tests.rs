#![allow(clippy::unwrap_used)]

use image::RgbImage;
use png::{BitDepth, ColorType};
use portolan_shapes::Palette;
use std::path::Path;
use tempfile::TempDir;

use super::*;
use crate::dense::maps::tests::png;

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn image(root: &Path, name: &str, (width, height): (u32, u32)) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, image::Rgb([9, 9, 9])).save(path).unwrap();
}

/// A mask of 4 × 2 pixels with a palette, all of one class but the first, which is ignored.
fn mask(root: &Path, name: &str, class: u8) {
    let rows = [255, class, class, class, class, class, class, class];
    write(&root.join(name), &png((4, 2), ColorType::Indexed, BitDepth::Eight, &rows));
}

/// A depth map of 4 × 2 pixels, 1.5 m away but the first, which is missing.
fn depth(root: &Path, name: &str) {
    let rows: Vec<u8> = [0u16].into_iter().chain([1500; 7]).flat_map(u16::to_be_bytes).collect();
    write(&root.join(name), &png((4, 2), ColorType::Grayscale, BitDepth::Sixteen, &rows));
}

fn open(root: &Path) -> Result<DenseDataset> {
    open_dense(root.to_str().unwrap(), &Options::default())
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn shapes_have_classes_and_depth() {
    let options = Options { train: 30, test: 20, ..Options::default() };
    let shapes = open_dense("shapes", &options).unwrap();
    assert_eq!((shapes.train.len(), shapes.test.len(), shapes.classes.len()), (30, 20, 11));
    for index in 0..10 {
        let item = shapes.train.item(index).unwrap();
        let classes = item.classes.unwrap();
        assert_eq!(classes.dimensions(), item.image.dimensions());
        let found = classes.pixels().map(|pixel| usize::from(pixel[0])).filter(|&c| c != 0);
        assert!(found.clone().count() > 20 && found.clone().all(|class| class == index + 1));
        let depth = item.depth.unwrap();
        let nearer = depth.pixels().filter(|pixel| pixel[0] < crate::shapes::WALL).count();
        assert!(nearer.abs_diff(found.count()) < 40);
    }
    assert_eq!(shapes.classes[1 + 3], "star");
    assert!(shapes.single_objects);
    let shifted = Options { palette: Palette::Shifted, ..options };
    let shifted = open_dense("shapes", &shifted).unwrap();
    assert_eq!(shifted.name, "shapes (shifted palette)");
    let [standard, shifted] = [&shapes, &shifted].map(|data| data.test.item(0).unwrap());
    assert_ne!(standard.image, shifted.image);
    assert_eq!(standard.classes, shifted.classes);
    assert!(shapes.train.describe(3).contains("star 3"));
}

#[test]
fn voc_is_split_by_its_lists_and_what_is_left_out_is_counted() {
    let folder = folder();
    let root = folder.path();
    for name in ["a", "b", "c", "d", "e"] {
        image(root, &format!("JPEGImages/{name}.jpg"), (4, 2));
    }
    for (name, class) in [("a", 1), ("b", 20), ("c", 3), ("e", 2), ("lost", 1)] {
        mask(root, &format!("SegmentationClass/{name}.png"), class);
    }
    write(&root.join("ImageSets/Segmentation/train.txt"), b"a\nc\n");
    write(&root.join("ImageSets/Segmentation/val.txt"), b"b\ngone\n");
    let voc = open(root).unwrap();
    assert_eq!((voc.train.len(), voc.test.len(), voc.classes.len()), (2, 1, 21));
    assert!(!voc.has_depth && voc.classes[20] == "tvmonitor");
    let classes = voc.test.item(0).unwrap().classes.unwrap();
    assert_eq!(classes.as_raw()[..3], [IGNORED, 20, 20]);
    let notes = voc.notes.join("\n");
    for part in [
        "1 image(s) without a mask or depth map of the same name, the first d.jpg",
        "1 mask(s) without an image",
        "1 image(s) that the lists name",
        "1 image(s) that train.txt and val.txt do not name",
    ] {
        assert!(notes.contains(part), "`{part}` is not in {notes}");
    }
}

#[test]
fn ade20k_counts_from_one_and_ignores_zero() {
    let folder = folder();
    let root = folder.path();
    for (split, name, class) in
        [("training", "t_1", 1), ("training", "t_2", 0), ("validation", "v_1", 3)]
    {
        image(root, &format!("images/{split}/{name}.jpg"), (4, 2));
        mask(root, &format!("annotations/{split}/{name}.png"), class);
    }
    let table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n\
                 1\t0.1\t9\t9\t1\twall\n\
                 2\t0.1\t9\t9\t1\tbuilding, edifice\n";
    write(&root.join("objectInfo150.txt"), table.as_bytes());
    let ade = open(root).unwrap();
    assert_eq!(ade.classes, ["wall", "building, edifice"]);
    assert_eq!((ade.train.len(), ade.test.len()), (2, 1));
    let classes = |index| ade.train.item(index).unwrap().classes.unwrap().into_raw();
    assert_eq!(classes(0)[1..], [0; 7]);
    assert!(classes(1).iter().all(|&class| class == IGNORED));
    // A class that the table does not name.
    let why = ade.test.item(0).unwrap_err().to_string();
    assert!(why.contains("v_1.png") && why.contains("class 2"), "{why}");
}

#[test]
fn masks_and_depth_are_read_together_and_a_fifth_is_held_out() {
    let folder = folder();
    let root = folder.path();
    for i in 0..10 {
        image(root, &format!("images/{i}.png"), (4, 2));
        mask(root, &format!("masks/{i}.png"), i % 3);
        if i != 4 {
            depth(root, &format!("depth/{i}.png"));
        }
    }
    write(&root.join("masks/notes.bmp"), b"BM");
    let data = open(root).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (8, 2));
    assert_eq!(data.classes, ["0", "1", "2"]);
    let item = data.train.item(0).unwrap();
    assert_eq!(item.depth.unwrap().as_raw()[..2], [0.0, 1.5]);
    assert!(data.test.item(0).unwrap().depth.is_none());
    let notes = data.notes.join("\n");
    for part in ["1 map(s) that is no PNG", "1 of 10 images have no depth map", "every fifth"] {
        assert!(notes.contains(part), "`{part}` is not in {notes}");
    }
}

#[test]
fn splits_may_be_above_the_folders() {
    let folder = folder();
    let root = folder.path();
    for (split, name) in [("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")] {
        image(root, &format!("{split}/images/{name}.jpg"), (4, 2));
        mask(root, &format!("{split}/masks/{name}.png"), 1);
    }
    let data = open(root).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (2, 1));
    assert!(data.test.describe(0).ends_with("d.jpg"));
    assert!(data.notes.join("\n").contains("1 image(s) of no split"), "{:?}", data.notes);
}

#[test]
fn nyu_depth_may_lie_beside_its_images() {
    let folder = folder();
    let root = folder.path();
    for (scene, number) in [("train/bath", 1), ("train/bath", 2), ("test/study", 1)] {
        image(root, &format!("{scene}/rgb_{number}.jpg"), (4, 2));
        depth(root, &format!("{scene}/sync_depth_{number}.png"));
    }
    image(root, "train/bath/rgb_3.jpg", (4, 2));
    let nyu = open(root).unwrap();
    assert_eq!((nyu.train.len(), nyu.test.len(), nyu.has_depth), (2, 1, true));
    assert!(nyu.classes.is_empty());
    assert!(nyu.notes.join("\n").contains("1 image(s) without a depth map"));
}

#[test]
fn damaged_items_say_what_is_wrong_with_them() {
    let folder = folder();
    let root = folder.path();
    for name in ["a", "b", "c", "d"] {
        image(root, &format!("images/{name}.png"), (4, 2));
    }
    mask(root, "masks/a.png", 1);
    image(root, "images/b.png", (4, 3));
    mask(root, "masks/b.png", 1);
    write(&root.join("masks/c.png"), b"words");
    image(root, "masks/d.png", (4, 2));
    let data = open(root).unwrap();
    let complaint = |index| crate::error::with_causes(&data.train.item(index).unwrap_err());
    assert!(data.train.item(0).is_ok());
    assert!(complaint(1).contains("4×3") && complaint(1).contains("4×2"), "{}", complaint(1));
    assert!(complaint(2).contains("c.png") && complaint(2).contains("no PNG"), "{}", complaint(2));
    assert!(complaint(3).contains("colors"), "{}", complaint(3));
}

#[test]
fn other_folders_are_refused() {
    let folder = folder();
    let root = folder.path();
    image(root, "cat/1.png", (4, 2));
    let complaint = |root: &Path| open(root).unwrap_err().to_string();
    assert!(complaint(root).contains("expected are images/"), "{}", complaint(root));
    assert!(complaint(&root.join("nowhere")).contains("no masks or depth maps"));
    image(root, "images/1.png", (4, 2));
    mask(root, "masks/2.png", 1);
    assert!(complaint(root).contains("no image of"), "{}", complaint(root));
    // Numbers of objects are no classes.
    let objects: Vec<u8> = (0..8u16).flat_map(|i| (300 * i).to_be_bytes()).collect();
    let wide = png((4, 2), ColorType::Grayscale, BitDepth::Sixteen, &objects);
    write(&root.join("masks/1.png"), &wide);
    assert!(complaint(root).contains("2101 classes"), "{}", complaint(root));
}
