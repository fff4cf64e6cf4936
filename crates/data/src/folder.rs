//! Folders of image files: class folders give labels, a flat folder gives none.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::{DirEntry, WalkDir};

use crate::source::{Picture, Source};

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// The images below one folder, in torchvision's `ImageFolder` order: by folder, then by file name.
pub(crate) struct Folder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    /// One for each file; empty where the folder is flat.
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Folder {
    /// Finds the images below `root`.
    ///
    /// Links are followed, hidden files and folders left out, and what is no image by its extension too.
    /// Where there are images in subfolders, the first level of these names the classes, numbered in
    /// sorted order, and images beside them are left out with a warning.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let mut files = images_below(root)?;
        if files.is_empty() {
            bail!(
                "there is no JPEG, PNG, WebP or BMP image and no other known data in {}",
                root.display()
            );
        }
        let count = files.len();
        if files.iter().any(|file| class_of(file).is_some()) {
            files.retain(|file| class_of(file).is_some());
        }
        if files.len() < count {
            tracing::warn!(
                "{} images beside the class folders of {} have no class and are left out",
                count - files.len(),
                root.display()
            );
        }
        let classes: BTreeSet<String> = files.iter().filter_map(|file| class_of(file)).collect();
        let classes: Vec<String> = classes.into_iter().collect();
        let labels = number(&files, &classes, root)?;
        Ok(Self { root: root.to_owned(), files, labels, classes })
    }

    /// Every image below `root`, however deep: the folders are no classes.
    fn unlabelled(root: &Path) -> Result<Self> {
        let files = images_below(root)?;
        Ok(Self { root: root.to_owned(), files, labels: Vec::new(), classes: Vec::new() })
    }

    /// The same images with the labels that `classes` (another split's) gives to their class folders.
    pub(crate) fn with_classes(mut self, classes: &[String]) -> Result<Self> {
        self.labels = number(&self.files, classes, &self.root)?;
        self.classes = classes.to_vec();
        Ok(self)
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    pub(crate) fn is_labelled(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Where each image lies.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| self.root.join(file))
    }
}

/// Every image file below the folder `root`, however deep and without labels, each described by its path.
///
/// # Errors
/// When `root` is no folder that can be listed, or holds no image file.
pub fn photographs(root: &Path) -> Result<Box<dyn Source>> {
    fs::read_dir(root).with_context(|| format!("cannot list the folder {}", root.display()))?;
    let folder = Folder::unlabelled(root)?;
    if folder.is_empty() {
        bail!("there is no JPEG, PNG, WebP or BMP image in {}", root.display());
    }
    Ok(Box::new(folder))
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

/// The first folder on a file's path; `None` for a file at the root.
fn class_of(file: &Path) -> Option<String> {
    let mut parts = file.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// The labels of `files`: the places of their classes in `classes`, which are sorted.
fn number(files: &[PathBuf], classes: &[String], root: &Path) -> Result<Vec<u32>> {
    let mut labels = Vec::new();
    for class in files.iter().filter_map(|file| class_of(file)) {
        let Ok(label) = classes.binary_search(&class) else {
            bail!(
                "the class folder {} has no counterpart in the training split",
                root.join(class).display()
            );
        };
        labels.push(u32::try_from(label)?);
    }
    Ok(labels)
}

fn images_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(is_visible) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                files.push(entry.path().strip_prefix(root)?.to_owned());
            }
            Ok(_) => {}
            Err(error) if leads_nowhere(&error) => tracing::warn!("left out: {error}"),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot list the folder {}", root.display()));
            }
        }
    }
    files.sort_by(|a, b| (a.parent(), a.file_name()).cmp(&(b.parent(), b.file_name())));
    Ok(files)
}

fn is_visible(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// A link to one of its own parents, or to nothing.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some()
        || error.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "no image, and nobody looks before decoding").unwrap();
        }
        folder
    }

    fn listed(folder: &Folder) -> Vec<(String, Option<u32>)> {
        (0..folder.len())
            .map(|i| (folder.files[i].to_string_lossy().into_owned(), folder.label(i)))
            .collect()
    }

    #[test]
    fn class_folders_are_numbered_and_ordered_as_in_torchvision() {
        let folder = folder_with(&[
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
        let folder = Folder::open(folder.path()).unwrap();
        assert_eq!(folder.classes(), ["Ant", "cat", "dog"]);
        let wanted = [
            ("Ant/1.bmp", 0),
            ("cat/z.webp", 1),
            ("dog/a.JPEG", 2),
            ("dog/b.jpg", 2),
            ("dog/sub/0.png", 2),
        ];
        assert_eq!(listed(&folder), wanted.map(|(path, label)| (path.to_owned(), Some(label))));
    }

    #[test]
    fn a_flat_folder_has_no_labels() {
        let folder = folder_with(&["b.png", "a.png"]);
        let folder = Folder::open(folder.path()).unwrap();
        assert_eq!(listed(&folder), [("a.png".to_owned(), None), ("b.png".to_owned(), None)]);
        assert!(!folder.is_labelled());
        assert!(folder.describe(1).ends_with("b.png"));
    }

    #[test]
    fn images_beside_class_folders_are_left_out() {
        let folder = folder_with(&["cover.png", "cat/1.png"]);
        assert_eq!(
            listed(&Folder::open(folder.path()).unwrap()),
            [("cat/1.png".to_owned(), Some(0))]
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_and_broken_links_are_not() {
        use std::os::unix::fs::symlink;
        let other = folder_with(&["3.png"]);
        let folder = folder_with(&["cat/1.png"]);
        symlink(folder.path(), folder.path().join("cat/loop")).unwrap();
        symlink("/nowhere/at/all.png", folder.path().join("cat/2.png")).unwrap();
        symlink(other.path(), folder.path().join("dog")).unwrap();
        assert_eq!(
            listed(&Folder::open(folder.path()).unwrap()),
            [("cat/1.png".to_owned(), Some(0)), ("dog/3.png".to_owned(), Some(1))]
        );
    }

    #[test]
    fn a_test_split_takes_the_training_classes() {
        let folder = folder_with(&["dog/1.png"]);
        let classes = ["cat".to_owned(), "dog".to_owned()];
        let test = Folder::open(folder.path()).unwrap().with_classes(&classes).unwrap();
        assert_eq!((test.label(0), test.classes()), (Some(1), classes.as_slice()));
        let Err(error) = Folder::open(folder.path()).unwrap().with_classes(&classes[..1]) else {
            panic!("an unknown class was accepted")
        };
        assert!(error.to_string().contains("dog has no counterpart"), "{error}");
    }

    #[test]
    fn an_empty_folder_says_so() {
        let folder = folder_with(&["readme.txt"]);
        let Err(error) = Folder::open(folder.path()) else {
            panic!("an empty folder was accepted")
        };
        assert!(error.to_string().contains("no JPEG, PNG, WebP or BMP image"));
    }
}
