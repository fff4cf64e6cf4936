//! Folders of image files: which of them are trained on, which are scored on, and which have a class.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::decode::FORMATS;
use crate::listing::{Listing, list};
use crate::source::{Picture, Source};
use crate::splits::{is_test, is_train, is_validation};

/// Image files, with a class each or without any.
pub(crate) struct Folder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    /// One for each file; empty where the files have no classes.
    labels: Vec<u32>,
}

/// What a folder of images holds, by its layout.
pub(crate) struct Layout {
    /// The images with a class; all of the split where none has one.
    pub(crate) train: Folder,
    /// Where there are classes, the images in no class folder.
    pub(crate) unlabeled: Option<Folder>,
    /// With labels where the training images have them.
    pub(crate) test: Option<Folder>,
    /// The class folders' names in the order of the labels; empty without classes.
    pub(crate) classes: Vec<String>,
    /// What a user should know of it, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Folder {
    /// One image file by itself.
    pub(crate) fn of_file(path: &Path) -> Self {
        Folder { root: PathBuf::new(), files: vec![path.to_owned()], labels: Vec::new() }
    }

    /// Where each image lies.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| self.root.join(file))
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let path = self.root.join(&self.files[index]);
        Ok(Picture::Encoded(
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
        ))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn describe(&self, index: usize) -> String {
        self.root.join(&self.files[index]).display().to_string()
    }
}

/// Every image file below the folder `root`, however deep and without labels, each described by its path; and what a user
/// should know of them, a sentence each, such as what was left out.
///
/// # Errors
/// When `root` is no folder that can be listed, or holds no image file.
pub fn photographs(root: &Path) -> Result<(Box<dyn Source>, Vec<String>)> {
    fs::read_dir(root).with_context(|| format!("cannot list the folder {}", root.display()))?;
    let Listing { images, notes } = listed(root)?;
    Ok((Box::new(Folder { root: root.to_owned(), files: images, labels: Vec::new() }), notes))
}

/// What is below `root`.
///
/// # Errors
/// When that is no image.
fn listed(root: &Path) -> Result<Listing> {
    let listing = list(root)?;
    ensure!(
        !listing.images.is_empty(),
        "there is no {FORMATS} image and no other known data in {}{}",
        root.display(),
        listing.notes.iter().map(|note| format!("; {note}")).collect::<String>()
    );
    Ok(listing)
}

impl Layout {
    /// Reads the layout of the folder `root`.
    ///
    /// - `train/` beside `test/` or `val/` (or by another of their names) is trained on, and the others are not.
    /// - Otherwise all images are trained on, however deep they lie.
    /// - Images have classes where there are two or more class folders; those in none of them have no label, and are
    ///   trained on all the same.
    /// - A folder `images` that holds all images stands for the folder that it is in, and is never a class.
    ///
    /// # Errors
    /// When the folder cannot be listed, or holds nothing to train on.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let Listing { images, mut notes } = listed(root)?;
        let whole = Part { root: root.to_owned(), files: images }.without_images_folder();
        let (train, tests) = whole.splits(&mut notes)?;
        let classes = train.classes();
        let (labeled, others) = train.labeled_by(&classes);
        let mut layout = match classes.is_empty() {
            true => Layout { train: others, unlabeled: None, test: None, classes, notes },
            false => Layout {
                train: labeled,
                unlabeled: Some(others).filter(|others| !others.files.is_empty()),
                test: None,
                classes,
                notes,
            },
        };
        if let Some(others) = &layout.unlabeled {
            layout.notes.push(format!(
                "{} image(s) in no class folder of {}: pretrained on, and without a label",
                others.files.len(),
                train.name()
            ));
        }
        layout.choose_test(&tests);
        Ok(layout)
    }

    /// The first of `tests` with labels, where the training images have them: some data sets (ImageNet) publish their test
    /// images without, and are scored on validation images.
    fn choose_test(&mut self, tests: &[Part]) {
        if self.classes.is_empty() {
            self.test = tests.first().map(|part| part.labeled_by(&[]).1);
            return;
        }
        for part in tests {
            let (labeled, others) = part.labeled_by(&self.classes);
            let strangers: BTreeSet<String> =
                others.files.iter().filter_map(|file| class_of(file)).collect();
            let strangers: Vec<String> = strangers.into_iter().take(5).collect();
            if labeled.files.is_empty() {
                if !strangers.is_empty() {
                    self.notes.push(format!(
                        "{} is not scored on: none of its folders ({}) is a class folder of the training images",
                        part.name(),
                        strangers.join(", ")
                    ));
                }
                continue;
            }
            if !others.files.is_empty() {
                let of = match strangers.is_empty() {
                    true => String::new(),
                    false => format!(" (such as {})", strangers.join(", ")),
                };
                self.notes.push(format!(
                    "{} image(s) of {} in no class folder of the training images{of}: not scored",
                    others.files.len(),
                    part.name()
                ));
            }
            self.test = Some(labeled);
            return;
        }
    }
}

/// Some of the images: those below one folder.
struct Part {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
}

impl Part {
    /// The images below the folder `name` of this.
    fn below(&self, name: &str) -> Part {
        let files = self.files.iter().filter(|file| class_of(file).as_deref() == Some(name));
        let files = files.filter_map(|file| file.strip_prefix(name).ok()).map(Path::to_owned);
        Part { root: self.root.join(name), files: files.collect() }
    }

    /// The same, without a folder `images` around all of it: labeling tools put one beside `labels`.
    fn without_images_folder(self) -> Part {
        match &self.folders()[..] {
            [only] if is_images_folder(only) && self.loose() == 0 => self.below(only),
            _ => self,
        }
    }

    /// The first folders on the paths of the images, sorted.
    fn folders(&self) -> Vec<String> {
        let folders: BTreeSet<String> =
            self.files.iter().filter_map(|file| class_of(file)).collect();
        folders.into_iter().collect()
    }

    /// How many of the images are in no folder.
    fn loose(&self) -> usize {
        self.files.iter().filter(|file| class_of(file).is_none()).count()
    }

    fn name(&self) -> String {
        format!("{}/", self.root.display())
    }

    /// What to train on, and what to score on: test images, then validation images.
    fn splits(self, notes: &mut Vec<String>) -> Result<(Part, Vec<Part>)> {
        let folders = self.folders();
        let named = |says: fn(&str) -> bool| folders.iter().filter(move |name| says(name));
        let tests: Vec<&String> = named(is_test).chain(named(is_validation)).collect();
        let Some(train) = named(is_train).next() else {
            if tests.len() == folders.len() && !tests.is_empty() && self.loose() == 0 {
                bail!(
                    "{} holds no images to train on, and {} {} for scoring; give --data {} to use these images as they are",
                    self.name(),
                    tests.iter().map(|name| format!("{name}/")).collect::<Vec<_>>().join(" and "),
                    if tests.len() == 1 { "is" } else { "are" },
                    self.root.join(tests[0]).display()
                );
            }
            return Ok((self, Vec::new()));
        };
        let part = |name: &str| self.below(name).without_images_folder();
        let beside = self.files.len()
            - tests.iter().map(|name| part(name).files.len()).sum::<usize>()
            - part(train).files.len();
        if tests.is_empty() && beside > 0 {
            return Ok((self, Vec::new())); // `train` is one folder of many, and may hold locomotives
        }
        if beside > 0 {
            notes.push(format!(
                "{beside} image(s) of {} neither in {train}/ nor in {}/: left out",
                self.name(),
                tests[0]
            ));
        }
        Ok((part(train), tests.into_iter().map(|name| part(name)).collect()))
    }

    /// The names of the class folders; none where there are fewer than two.
    fn classes(&self) -> Vec<String> {
        let folders = self.folders();
        let are_classes =
            folders.len() >= 2 && !folders.iter().any(|folder| is_images_folder(folder));
        if are_classes { folders } else { Vec::new() }
    }

    /// The images in the folders of `classes`, which are sorted, with their labels; and the others.
    fn labeled_by(&self, classes: &[String]) -> (Folder, Folder) {
        let empty = || Folder { root: self.root.clone(), files: Vec::new(), labels: Vec::new() };
        let (mut labeled, mut others) = (empty(), empty());
        for file in &self.files {
            let class = class_of(file).and_then(|class| classes.binary_search(&class).ok());
            match class {
                Some(label) => {
                    labeled.files.push(file.clone());
                    labeled.labels.push(label as u32);
                }
                None => others.files.push(file.clone()),
            }
        }
        (labeled, others)
    }
}

fn is_images_folder(name: &str) -> bool {
    name.eq_ignore_ascii_case("images")
}

/// The first folder on a file's path; `None` for a file at the root.
fn class_of(file: &Path) -> Option<String> {
    let mut parts = file.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
