//! Which files of a folder belong together, and which of them are for training.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Files;
use super::maps::Numbering;
use super::names::class_names;
use crate::error::{Result, WithContext, ensure};
use crate::formats::listing::list;
use crate::formats::splits::{is_test, is_train, is_validation};

/// The names of folders of images, the usual one first.
const IMAGES: [&str; 3] = ["images", "JPEGImages", "rgb"];
/// The names of folders of masks: plain, Pascal VOC's and ADE20K's.
const MASKS: [&str; 3] = ["masks", "SegmentationClass", ANNOTATIONS];
/// ADE20K's folder of masks, in which 0 is no class.
const ANNOTATIONS: &str = "annotations";
/// The names of folders of depth maps.
const DEPTHS: [&str; 2] = ["depth", "depths"];
/// How files are named that lie in one folder, as NYU Depth v2 is often unpacked (BTS, DINOv2).
const BESIDE: [&str; 2] = ["rgb_", "sync_depth_"];
/// Without a split, one image of this many is for scoring.
const HELD_OUT: usize = 5;

/// What a folder holds.
pub(super) struct Layout {
    pub(super) train: Vec<Files>,
    pub(super) test: Vec<Files>,
    pub(super) numbering: Numbering,
    /// The names of the classes, if a file or the layout gives them.
    pub(super) classes: Option<Vec<String>>,
    pub(super) notes: Vec<String>,
}

/// Items by the path of their image below the folder of images, without extension.
type Items = BTreeMap<PathBuf, Files>;

/// The folders of images and maps below one folder.
struct Folders {
    images: PathBuf,
    masks: Option<PathBuf>,
    depths: Option<PathBuf>,
}

impl Folders {
    fn find(root: &Path) -> Result<Option<Self>> {
        let folders = subfolders(root)?;
        let named = |names: &[&str]| {
            let is = |name: &&str| folders.iter().find(|folder| folder.eq_ignore_ascii_case(name));
            names.iter().find_map(is).map(|folder| root.join(folder))
        };
        let (masks, depths) = (named(&MASKS), named(&DEPTHS));
        let images = named(&IMAGES).filter(|_| masks.is_some() || depths.is_some());
        Ok(images.map(|images| Folders { images, masks, depths }))
    }

    fn numbering(&self) -> Numbering {
        let name = self.masks.as_ref().and_then(|masks| masks.file_name());
        let ade = name.is_some_and(|name| name.eq_ignore_ascii_case(ANNOTATIONS));
        if ade { Numbering::FromOne } else { Numbering::FromZero }
    }

    fn items(&self, notes: &mut Vec<String>) -> Result<Items> {
        let listing = list(&self.images)?;
        notes.extend(listing.notes);
        let mut masks = self.masks.as_deref().map(|masks| maps(masks, notes)).transpose()?;
        let mut depths = self.depths.as_deref().map(|depths| maps(depths, notes)).transpose()?;
        let of = |maps: &mut Option<Maps>, key: &Path| {
            let maps = maps.as_mut()?;
            maps.used.insert(key.to_owned());
            maps.files.get(key).cloned()
        };
        let (mut items, mut alone) = (Items::new(), Vec::new());
        for file in listing.images {
            let key = file.with_extension("");
            let (mask, depth) = (of(&mut masks, &key), of(&mut depths, &key));
            if mask.is_none() && depth.is_none() {
                alone.push(file);
                continue;
            }
            items.insert(key, Files { image: self.images.join(file), mask, depth });
        }
        notes.extend(left_out(&alone, "image", "without a mask or depth map of the same name"));
        let (with_masks, with_depth) = (
            items.values().filter(|files| files.mask.is_some()).count(),
            items.values().filter(|files| files.depth.is_some()).count(),
        );
        for (maps, count, what) in
            [(&masks, with_masks, "mask"), (&depths, with_depth, "depth map")]
        {
            let Some(maps) = maps else { continue };
            let unused: Vec<PathBuf> = maps.unused();
            notes.extend(left_out(&unused, what, "without an image of the same name"));
            if count < items.len() {
                notes.push(format!(
                    "{} of {} images have no {what}",
                    items.len() - count,
                    items.len()
                ));
            }
        }
        ensure!(
            !items.is_empty(),
            Missing,
            "no image of {} has a mask or depth map of the same name; images and maps differ only \
             in their folder and extension, as in images/a.jpg and masks/a.png",
            self.images.display()
        );
        Ok(items)
    }
}

/// The maps in a folder.
struct Maps {
    /// By their path without extension.
    files: BTreeMap<PathBuf, PathBuf>,
    /// The keys that images have asked for.
    used: BTreeSet<PathBuf>,
}

impl Maps {
    fn unused(&self) -> Vec<PathBuf> {
        let files = self.files.iter().filter(|(key, _)| !self.used.contains(*key));
        files.map(|(_, path)| path.clone()).collect()
    }
}

fn maps(folder: &Path, notes: &mut Vec<String>) -> Result<Maps> {
    let listing = list(folder)?;
    notes.extend(listing.notes);
    let is_png = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
    };
    let (files, others): (Vec<_>, Vec<_>) = listing.images.into_iter().partition(is_png);
    notes.extend(left_out(&others, "map", "that is no PNG"));
    let files = files.into_iter().map(|file| (file.with_extension(""), folder.join(file)));
    Ok(Maps { files: files.collect(), used: BTreeSet::new() })
}

/// How many files these are, if any, and which is the first.
fn left_out(files: &[PathBuf], what: &str, why: &str) -> Option<String> {
    let first = files.first()?.display();
    Some(format!("left out: {} {what}(s) {why}, the first {first}", files.len()))
}

fn subfolders(root: &Path) -> Result<Vec<String>> {
    let listed = || format!("cannot list the folder {}", root.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(root).with_context(listed)? {
        let entry = entry.with_context(listed)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Layout {
    /// Reads the layout of `root`: images and maps in folders, with splits above or below them, or
    /// NYU's `rgb_1.jpg` beside `sync_depth_1.png`.
    ///
    /// # Errors
    /// If the folder cannot be listed, or is none of these.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let mut notes = Vec::new();
        let mut numbering = Numbering::FromZero;
        let [train, test] = if let Some(folders) = Folders::find(root)? {
            numbering = folders.numbering();
            let items = folders.items(&mut notes)?;
            match listed_splits(root)? {
                Some(lists) => by_lists(items, &lists, &mut notes),
                None => by_folder(items, &mut notes),
            }
        } else if let Some((splits, of_splits)) = split_folders(root, &mut notes)? {
            numbering = of_splits;
            by_folder(splits, &mut notes)
        } else {
            by_folder(beside(root, &mut notes)?, &mut notes)
        };
        let (train, test) = held_out(train, test, &mut notes);
        let classes = class_names(root)?;
        Ok(Layout { train, test, numbering, classes, notes })
    }
}

/// `train/images`, `train/masks`, `val/images`, …: the items with the split in front of their path.
fn split_folders(root: &Path, notes: &mut Vec<String>) -> Result<Option<(Items, Numbering)>> {
    let is_split = |name: &&String| is_train(name) || is_test(name) || is_validation(name);
    let (mut items, mut numbering) = (Items::new(), None);
    for split in subfolders(root)?.iter().filter(is_split) {
        let Some(folders) = Folders::find(&root.join(split))? else { continue };
        numbering = Some(folders.numbering());
        let of_split = folders.items(notes)?;
        items.extend(of_split.into_iter().map(|(key, files)| (Path::new(split).join(key), files)));
    }
    Ok(numbering.map(|numbering| (items, numbering)))
}

/// `rgb_1.jpg` beside `sync_depth_1.png`, at any depth.
fn beside(root: &Path, notes: &mut Vec<String>) -> Result<Items> {
    let listing = list(root)?;
    let keyed = |prefix: &str| -> BTreeMap<PathBuf, PathBuf> {
        let key = |file: &PathBuf| {
            let stem = file.file_stem()?.to_string_lossy().strip_prefix(prefix)?.to_owned();
            Some((file.with_file_name(stem), root.join(file)))
        };
        listing.images.iter().filter_map(key).collect()
    };
    let [images, mut depths] = BESIDE.map(keyed);
    ensure!(
        !images.is_empty() && !depths.is_empty(),
        Missing,
        "{} is no folder of images with masks or depth maps; expected are images/ (or JPEGImages/, \
         rgb/) beside masks/ (or SegmentationClass/, annotations/) or depth/, or rgb_1.jpg beside \
         sync_depth_1.png",
        root.display()
    );
    notes.extend(listing.notes);
    let (mut items, mut alone) = (Items::new(), Vec::new());
    for (key, image) in images {
        match depths.remove(&key) {
            Some(depth) => drop(items.insert(key, Files { image, mask: None, depth: Some(depth) })),
            None => alone.push(image),
        }
    }
    notes.extend(left_out(&alone, "image", "without a depth map"));
    let unused: Vec<PathBuf> = depths.into_values().collect();
    notes.extend(left_out(&unused, "depth map", "without an image"));
    Ok(items)
}

/// The names of the images for training and for scoring, in Pascal VOC's lists.
fn listed_splits(root: &Path) -> Result<Option<[BTreeSet<PathBuf>; 2]>> {
    let lists = root.join("ImageSets/Segmentation");
    let [train, test] = ["train.txt", "val.txt"].map(|name| lists.join(name));
    if !train.is_file() || !test.is_file() {
        return Ok(None);
    }
    let read = |path: &Path| -> Result<BTreeSet<PathBuf>> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(PathBuf::from).collect())
    };
    Ok(Some([read(&train)?, read(&test)?]))
}

fn by_lists(
    items: Items,
    [train, test]: &[BTreeSet<PathBuf>; 2],
    notes: &mut Vec<String>,
) -> [Vec<Files>; 2] {
    let missing: Vec<PathBuf> =
        train.union(test).filter(|key| !items.contains_key(*key)).cloned().collect();
    notes.extend(left_out(&missing, "image", "that the lists name and that are not there"));
    let (mut of_train, mut of_test, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for (key, files) in items {
        if train.contains(&key) {
            of_train.push(files);
        } else if test.contains(&key) {
            of_test.push(files);
        } else {
            rest.push(files.image);
        }
    }
    notes.extend(left_out(&rest, "image", "that train.txt and val.txt do not name"));
    [of_train, of_test]
}

/// The splits by the first folder of each path; without `train/`, all images are for training.
fn by_folder(items: Items, notes: &mut Vec<String>) -> [Vec<Files>; 2] {
    let split = |key: &Path| {
        let folder = key.components().next().filter(|_| key.components().count() > 1);
        folder.map_or_else(String::new, |name| name.as_os_str().to_string_lossy().into_owned())
    };
    let named = |says: fn(&str) -> bool| items.keys().any(|key| says(&split(key)));
    if !named(is_train) {
        return [items.into_values().collect(), Vec::new()];
    }
    let is_scored = if named(is_test) { is_test } else { is_validation };
    let (mut train, mut test, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for (key, files) in items {
        match split(&key) {
            name if is_train(&name) => train.push(files),
            name if is_scored(&name) => test.push(files),
            _ => rest.push(files.image),
        }
    }
    notes.extend(left_out(&rest, "image", "of no split that is used"));
    [train, test]
}

/// Holds out a part of the training images if no others are for scoring.
fn held_out(
    train: Vec<Files>,
    test: Vec<Files>,
    notes: &mut Vec<String>,
) -> (Vec<Files>, Vec<Files>) {
    if !test.is_empty() {
        return (train, test);
    }
    let numbered = train.into_iter().enumerate();
    let (test, train): (Vec<_>, Vec<_>) =
        numbered.partition(|(index, _)| index % HELD_OUT == HELD_OUT - 1);
    let files = |items: Vec<(usize, Files)>| items.into_iter().map(|(_, files)| files).collect();
    notes.push(format!(
        "there is no split for scoring: every fifth image is held out for it, {} in all",
        test.len()
    ));
    (files(train), files(test))
}
