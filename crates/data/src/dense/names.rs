//! The names of the classes of masks.

use std::fs;
use std::path::Path;

use crate::error::{Result, WithContext};
use crate::formats::labels::read_class_names;

/// The classes of Pascal VOC, whose masks have these numbers (`VOCcode/VOClabelcolormap.m` of the
/// development kit).
const VOC: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// The names in `classes.txt` (one on each line) or ADE20K's `objectInfo150.txt`, or those of
/// Pascal VOC by its folder.
pub(super) fn class_names(root: &Path) -> Result<Option<Vec<String>>> {
    let list = root.join("classes.txt");
    if list.is_file() {
        return read_class_names(&list).map(Some);
    }
    let table = root.join("objectInfo150.txt");
    if table.is_file() {
        let text = fs::read_to_string(&table)
            .with_context(|| format!("cannot read the class names in {}", table.display()))?;
        // A header, then a line of tabs and numbers that ends in the name for each class.
        let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
        let name = |row: &str| row.split('\t').next_back().unwrap_or_default().trim().to_owned();
        return Ok(Some(rows.map(name).collect()));
    }
    let voc = root.join("JPEGImages").is_dir() && root.join("SegmentationClass").is_dir();
    Ok(voc.then(|| VOC.map(str::to_owned).to_vec()))
}
