//! Folders of image files: which images are for training, which for scoring, and which have a
//! class.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::decode::FORMATS;
use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::listing::{Listing, list};
use crate::formats::splits::{is_test, is_train, is_validation};
use crate::source::{ImageData, Source};

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
    /// What a user should know about the data, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Folder {
    /// One image file by itself.
    pub(crate) fn of_file(path: &Path) -> Self {
        Folder { root: PathBuf::new(), files: vec![path.to_owned()], labels: Vec::new() }
    }

    /// The path of each image.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| self.root.join(file))
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let path = self.root.join(&self.files[index]);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(ImageData::Encoded(bytes))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn describe(&self, index: usize) -> String {
        self.root.join(&self.files[index]).display().to_string()
    }
}

/// Every image file below the folder `root`, at any depth and without labels, each described by its
/// path; and notes for the user, a sentence each, such as what was left out.
///
/// # Errors
/// If `root` is not a folder that can be listed, or holds no image file.
pub fn unlabeled_folder(root: &Path) -> Result<(Box<dyn Source>, Vec<String>)> {
    fs::read_dir(root).with_context(|| format!("cannot list the folder {}", root.display()))?;
    let Listing { images, notes } = listed(root)?;
    Ok((Box::new(Folder { root: root.to_owned(), files: images, labels: Vec::new() }), notes))
}

/// The images below `root`.
///
/// # Errors
/// If there are none.
fn listed(root: &Path) -> Result<Listing> {
    let listing = list(root)?;
    ensure!(
        !listing.images.is_empty(),
        Missing,
        "there is no {FORMATS} image and no other known data in {}{}",
        root.display(),
        listing.notes.iter().map(|note| format!("; {note}")).collect::<String>()
    );
    Ok(listing)
}

impl Layout {
    /// Reads the layout of the folder `root`.
    ///
    /// - If `train/` is beside `test/` or `val/` (or other common names), only `train/` is for
    ///   training.
    /// - Otherwise all images are for training, at any depth.
    /// - Images have classes if there are two or more class folders. Images outside them have no
    ///   label, and are for training too.
    /// - A folder `images` that holds all images is ignored, and is never a class.
    ///
    /// # Errors
    /// If the folder cannot be listed, or holds nothing to train on.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let Listing { images, mut notes } = listed(root)?;
        let whole = Part { root: root.to_owned(), files: images }.without_images_folder();
        let (train, tests) = whole.splits(&mut notes)?;
        let classes = train.classes();
        let (labeled, others) = train.labeled_by(&classes);
        let (chosen, unlabeled) = if classes.is_empty() {
            (others, None)
        } else {
            (labeled, Some(others).filter(|others| !others.files.is_empty()))
        };
        let mut layout = Layout { train: chosen, unlabeled, test: None, classes, notes };
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

    /// Takes the first of `tests`; if the training images have labels, the first with labels. Some
    /// data sets (ImageNet) publish their test images without, and are scored on validation images.
    fn choose_test(&mut self, tests: &[Part]) {
        if self.classes.is_empty() {
            self.test = tests.first().map(|part| part.labeled_by(&[]).1);
            return;
        }
        for part in tests {
            let (labeled, others) = part.labeled_by(&self.classes);
            let unknown: BTreeSet<String> =
                others.files.iter().filter_map(|file| class_of(file)).collect();
            let unknown: Vec<String> = unknown.into_iter().take(5).collect();
            if labeled.files.is_empty() {
                if !unknown.is_empty() {
                    self.notes.push(format!(
                        "{} is not scored on: none of its folders ({}) is a class folder of the \
                         training images",
                        part.name(),
                        unknown.join(", ")
                    ));
                }
                continue;
            }
            if !others.files.is_empty() {
                let examples = if unknown.is_empty() {
                    String::new()
                } else {
                    format!(" (such as {})", unknown.join(", "))
                };
                self.notes.push(format!(
                    "{} image(s) of {} in no class folder of the training images{examples}: not \
                     scored",
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
    /// The images in the folder `name`.
    fn below(&self, name: &str) -> Part {
        let files = self.files.iter().filter(|file| class_of(file).as_deref() == Some(name));
        let files = files.filter_map(|file| file.strip_prefix(name).ok()).map(Path::to_owned);
        Part { root: self.root.join(name), files: files.collect() }
    }

    /// The same, without a folder `images` that holds all: labeling tools put one beside `labels`.
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

    /// The images for training and the candidates for scoring: test images, then validation images.
    fn splits(self, notes: &mut Vec<String>) -> Result<(Part, Vec<Part>)> {
        let folders = self.folders();
        let named = |says: fn(&str) -> bool| folders.iter().filter(move |name| says(name));
        let tests: Vec<&String> = named(is_test).chain(named(is_validation)).collect();
        let Some(train) = named(is_train).next() else {
            if tests.len() == folders.len() && !tests.is_empty() && self.loose() == 0 {
                return Err(Error::Missing(format!(
                    "{} holds no images to train on, and {} {} for scoring; give --data {} to use \
                     these images as they are",
                    self.name(),
                    tests.iter().map(|name| format!("{name}/")).collect::<Vec<_>>().join(" and "),
                    if tests.len() == 1 { "is" } else { "are" },
                    self.root.join(tests[0]).display()
                )));
            }
            return Ok((self, Vec::new()));
        };
        let part = |name: &str| self.below(name).without_images_folder();
        let beside = self.files.len()
            - tests.iter().map(|name| part(name).files.len()).sum::<usize>()
            - part(train).files.len();
        if tests.is_empty() && beside > 0 {
            return Ok((self, Vec::new())); // `train` is one of many classes: railway trains
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

    /// The names of the class folders; none if there are fewer than two.
    fn classes(&self) -> Vec<String> {
        let folders = self.folders();
        let are_classes =
            folders.len() >= 2 && !folders.iter().any(|folder| is_images_folder(folder));
        if are_classes { folders } else { Vec::new() }
    }

    /// The images in the folders of `classes`, which are sorted, with labels; and all others.
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
