//! STL-10 in its binary form: 96×96 pixels in one file, plane by plane and column by column, and
//! labels in another.

use image::{Rgb, RgbImage};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::labels::read_class_names;
use crate::source::{ImageData, Source};

/// As its authors' archive unpacks.
const FOLDER: &str = "stl10_binary";
const CLASSES: &str = "class_names.txt";
const SIDE: u32 = 96;
const PLANE: usize = (SIDE * SIDE) as usize;
const IMAGE: usize = 3 * PLANE;

/// The files in use, for the checksum.
pub(crate) const FILES: [&str; 5] =
    ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin"];

/// The folder with the files: `root`, or the archive's folder below it.
pub(crate) fn find(root: &Path) -> Option<PathBuf> {
    [root.to_owned(), root.join(FOLDER)]
        .into_iter()
        .find(|folder| folder.join("train_X.bin").is_file())
}

/// The class names, from the file beside the data.
pub(crate) fn classes(folder: &Path) -> Result<Vec<String>> {
    read_class_names(&folder.join(CLASSES))
}

/// The images of one file. They are read on request, since all files have 3 GB.
pub(crate) struct Stl10 {
    pixels: PathBuf,
    images: usize,
    /// One for each image; empty for those without labels.
    labels: Vec<u32>,
}

impl Stl10 {
    /// Checks the lengths of `train`'s or `test`'s files, and the labels.
    pub(crate) fn labeled(folder: &Path, split: &str, classes: usize) -> Result<Self> {
        let source = Self::unlabeled(folder, split)?;
        let path = folder.join(format!("{split}_y.bin"));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            bytes.len() == source.images,
            Damaged,
            "{} has {} labels for {} images; get it again",
            path.display(),
            bytes.len(),
            source.images
        );
        let wrong = bytes.iter().find(|&&label| !(1..=classes).contains(&usize::from(label)));
        if let Some(wrong) = wrong {
            return Err(Error::Damaged(format!(
                "{} has the label {wrong}, not 1 to {classes}",
                path.display()
            )));
        }
        Ok(Self { labels: bytes.iter().map(|&label| u32::from(label) - 1).collect(), ..source })
    }

    /// The images of `unlabeled`, or of a split whose labels are read elsewhere.
    pub(crate) fn unlabeled(folder: &Path, split: &str) -> Result<Self> {
        let pixels = folder.join(format!("{split}_X.bin"));
        let bytes =
            pixels.metadata().with_context(|| format!("cannot read {}", pixels.display()))?.len()
                as usize;
        ensure!(
            bytes.is_multiple_of(IMAGE) && bytes > 0,
            Damaged,
            "{} is cut short: its {bytes} bytes are not whole images of {IMAGE}; get it again",
            pixels.display()
        );
        Ok(Self { pixels, images: bytes / IMAGE, labels: Vec::new() })
    }
}

impl Source for Stl10 {
    fn len(&self) -> usize {
        self.images
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let mut planes = vec![0; IMAGE];
        // Opened for each read: threads would disturb each other's position in a shared file.
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.pixels)?;
            file.seek(SeekFrom::Start((index * IMAGE) as u64))?;
            file.read_exact(&mut planes)
        };
        read().with_context(|| format!("cannot read {}", self.describe(index)))?;
        Ok(ImageData::Decoded(RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let at = (x * SIDE + y) as usize;
            Rgb([planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
        })))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn describe(&self, index: usize) -> String {
        format!("image {index} of {}", self.pixels.display())
    }
}

/// Writes a small STL-10: `train` and `test` labeled images, `unlabeled` others.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn write(folder: &Path, train: usize, test: usize, unlabeled: usize) {
    fs::create_dir_all(folder).unwrap();
    for (name, images) in [("train", train), ("test", test), ("unlabeled", unlabeled)] {
        let pixels: Vec<u8> = (0..images).flat_map(image_of).collect();
        fs::write(folder.join(format!("{name}_X.bin")), pixels).unwrap();
        let labels: Vec<u8> = (0..images).map(|i| (i % 10) as u8 + 1).collect();
        if name != "unlabeled" {
            fs::write(folder.join(format!("{name}_y.bin")), labels).unwrap();
        }
    }
    let names = "airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n";
    fs::write(folder.join(CLASSES), names).unwrap();
}

/// Black, but for a red pixel in the first column, a green one in the second row, and the number in
/// blue at the end.
#[cfg(test)]
fn image_of(number: usize) -> Vec<u8> {
    let mut planes = vec![0; IMAGE];
    planes[5] = 200;
    planes[PLANE + 7 * SIDE as usize + 1] = 100;
    planes[IMAGE - 1] = number as u8;
    planes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::with_causes;

    #[test]
    fn pixels_lie_column_after_column_and_labels_begin_with_one() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 12, 3, 4);
        let train = Stl10::labeled(folder.path(), "train", 10).unwrap();
        assert_eq!((train.len(), train.label(0), train.label(11)), (12, Some(0), Some(1)));
        let image = train.image(11).unwrap().decode().unwrap();
        assert_eq!(image.get_pixel(0, 5).0, [200, 0, 0]);
        assert_eq!(image.get_pixel(7, 1).0, [0, 100, 0]);
        assert_eq!(image.get_pixel(95, 95).0, [0, 0, 11]);
        let more = Stl10::unlabeled(folder.path(), "unlabeled").unwrap();
        assert_eq!((more.len(), more.label(0)), (4, None));
    }

    #[test]
    fn files_cut_short_and_wrong_labels_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || {
            let opened = Stl10::labeled(folder.path(), "train", 10);
            with_causes(&opened.err().expect("it was accepted"))
        };
        write(folder.path(), 3, 1, 1);
        fs::write(folder.path().join("train_y.bin"), [1, 2, 11]).unwrap();
        assert!(refusal().contains("has the label 11, not 1 to 10"), "{}", refusal());
        fs::write(folder.path().join("train_y.bin"), [1, 2]).unwrap();
        assert!(refusal().contains("2 labels for 3 images"), "{}", refusal());
        fs::write(folder.path().join("train_X.bin"), [0; 100]).unwrap();
        assert!(refusal().contains("train_X.bin is cut short"), "{}", refusal());
    }
}
