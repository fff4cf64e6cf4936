//! Which files below a folder are images.

use image::ImageFormat;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

use crate::decode::format_of;
use crate::error::{Error, Result, WithContext};

/// Files with these extensions count as images without being read: reading the start of each of
/// ImageNet's would take minutes.
pub(crate) const EXTENSIONS: [&str; 15] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm",
    "pnm", "pam",
];

/// Files that Windows puts into every folder of images.
const SYSTEM_FILES: [&str; 2] = ["thumbs.db", "desktop.ini"];

/// The files below a folder.
pub(crate) struct Listing {
    /// The images, relative to the folder, in the order of torchvision's `ImageFolder`: by folder,
    /// then by file name.
    pub(crate) images: Vec<PathBuf>,
    /// Files that are no images, as `left out: 3 .heic, 1 .txt`, and broken links.
    pub(crate) notes: Vec<String>,
}

/// Finds the images below `root`, at any depth.
///
/// Links are followed. Hidden files and folders, `Thumbs.db` and `desktop.ini` are skipped. All
/// other files that are no images are counted.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let (mut images, mut others, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(is_visible) {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap_or(path).to_owned();
                let known = EXTENSIONS.contains(&&*extension_of(&path));
                if known { &mut images } else { &mut others }.push(path);
            }
            Ok(_) => {}
            Err(error) if is_broken_link(&error) => notes.push(format!("left out: {error}")),
            Err(error) => {
                return Err(Error::Io(error.into()))
                    .with_context(|| format!("cannot list the folder {}", root.display()));
            }
        }
    }
    let (found, others): (Vec<_>, Vec<_>) =
        others.into_par_iter().partition(|path| looks_like_image(&root.join(path)));
    images.extend(found);
    images.sort_by(|a, b| (a.parent(), a.file_name()).cmp(&(b.parent(), b.file_name())));
    notes.extend(left_out(&others));
    Ok(Listing { images, notes })
}

/// Whether the file at `path` is an image of a supported format, by its extension or else its
/// content.
pub fn is_image(path: &Path) -> bool {
    EXTENSIONS.contains(&&*extension_of(path)) || looks_like_image(path)
}

/// Whether the content of a file is certainly an image, whatever its name.
///
/// TIFF and PNM are told by their extensions alone: camera raw files are TIFF inside, and any text
/// may begin as a PNM does.
fn looks_like_image(path: &Path) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let mut start = Vec::new();
    let Ok(file) = File::open(path) else { return false };
    if file.take(16).read_to_end(&mut start).is_err() {
        return false;
    }
    match format_of(&start) {
        Some(Jpeg | Png | Gif | WebP) => true,
        // Two letters are a weak sign; the four reserved bytes behind the size are zero.
        Some(Bmp) => start.get(6..10) == Some(&[0; 4]),
        _ => false,
    }
}

/// In lower case, without the dot.
fn extension_of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// How many files of each extension these are, the most frequent first.
fn left_out(files: &[PathBuf]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        *counts.entry(extension_of(file)).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let say = |(extension, count): &(String, usize)| match extension.as_str() {
        "" => format!("{count} without an extension"),
        extension => format!("{count} .{extension}"),
    };
    let said: Vec<String> = counts.iter().map(say).collect();
    (!said.is_empty()).then(|| format!("left out: {}", said.join(", ")))
}

fn is_visible(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy().to_lowercase();
    entry.depth() == 0 || !(name.starts_with('.') || SYSTEM_FILES.contains(&&*name))
}

/// A link to one of its own parents, or to nothing.
fn is_broken_link(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some()
        || error.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use image::RgbImage;

    /// A folder with these files, which are no images.
    pub(crate) fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "no image").unwrap();
        }
        folder
    }

    pub(crate) fn names(files: &[PathBuf]) -> Vec<&str> {
        files.iter().map(|file| file.to_str().unwrap()).collect()
    }

    #[test]
    fn images_are_told_by_extension_then_by_content_and_the_rest_is_counted() {
        let folder = folder_with(&[
            "a.TIF",
            "b.gif",
            "c.ppm",
            "d.jfif",
            "IMG_1.HEIC",
            "IMG_2.heic",
            "notes.txt",
            "LICENSE",
            ".DS_Store",
            "Thumbs.db",
            ".hidden/x.jpg",
            "raw.nef",
        ]);
        let at = |name: &str| folder.path().join(name);
        // An "IMG_3.HEIC" that a program converted to JPEG, and an image without an extension.
        let image = RgbImage::from_pixel(2, 2, image::Rgb([9, 9, 9]));
        image.save_with_format(at("IMG_3.HEIC"), ImageFormat::Jpeg).unwrap();
        image.save_with_format(at("scan"), ImageFormat::Bmp).unwrap();
        std::fs::write(at("raw.nef"), b"II*\0 and a thumbnail").unwrap();
        std::fs::write(at("notes.txt"), "P6 is where we met; BMX is what we rode").unwrap();
        let found = list(folder.path()).unwrap();
        assert_eq!(
            names(&found.images),
            ["IMG_3.HEIC", "a.TIF", "b.gif", "c.ppm", "d.jfif", "scan"]
        );
        assert_eq!(found.notes, ["left out: 2 .heic, 1 without an extension, 1 .nef, 1 .txt"]);
        assert!(is_image(&at("scan")) && is_image(&at("gone.png")) && !is_image(&at("IMG_1.HEIC")));
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
        let found = list(folder.path()).unwrap();
        assert_eq!(names(&found.images), ["cat/1.png", "dog/3.png"]);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    }
}
