//! IDX, the format of MNIST and the data sets made in its image: Fashion-MNIST, KMNIST and EMNIST.
//! A file of gray pixels and one of labels for each split, compressed by gzip or not.

use flate2::read::GzDecoder;
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::catalog::fingerprint::hex;
use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::labels::{count_classes, numbered_classes};
use crate::source::{ImageData, Source};

/// The first four bytes of a file of images: unsigned bytes in three dimensions.
const IMAGES: u32 = 0x0803;
/// Of a file of labels: unsigned bytes in one dimension.
const LABELS: u32 = 0x0801;
/// A file that unpacks to more is refused. EMNIST's largest has 550 MB.
const MAX_UNPACKED: u64 = 2 << 30;

/// The files of a data set.
pub(crate) struct Files {
    folder: PathBuf,
    /// What precedes `train-images`: nothing, or `emnist-balanced-`.
    prefix: String,
}

impl Files {
    /// The files in `root`, or in the folder `raw` below it as torchvision keeps them.
    pub(crate) fn find(root: &Path) -> Result<Option<Files>> {
        for folder in [root.to_owned(), root.join("raw")].into_iter().filter(|path| path.is_dir()) {
            let mut prefixes = BTreeSet::new();
            for entry in fs::read_dir(&folder)
                .with_context(|| format!("cannot list the folder {}", folder.display()))?
            {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let stem = unpacked_name(&name).replace(".idx", "-idx");
                prefixes.extend(stem.strip_suffix("train-images-idx3-ubyte").map(str::to_owned));
            }
            ensure!(
                prefixes.len() < 2,
                Unsupported,
                "{} holds the IDX files of several data sets ({}); put those of one into a folder \
                 of their own",
                folder.display(),
                Vec::from_iter(prefixes.iter().map(|prefix| prefix.trim_end_matches('-')))
                    .join(", ")
            );
            if let Some(prefix) = prefixes.into_iter().next() {
                return Ok(Some(Files { folder, prefix }));
            }
        }
        Ok(None)
    }

    /// The file of a split and kind, such as `train` and `images-idx3`, if it is there.
    fn file(&self, split: &str, kind: &str) -> Option<PathBuf> {
        let of = |kind: &str| format!("{}{split}-{kind}-ubyte", self.prefix);
        let names = [of(kind), of(&kind.replace('-', "."))];
        let names = names.into_iter().flat_map(|name| [format!("{name}.gz"), name]);
        names.map(|name| self.folder.join(name)).find(|path| path.is_file())
    }

    /// Reads all splits.
    pub(crate) fn open(&self) -> Result<Opened> {
        let mut sums = Vec::new();
        let train = self.split("train", &mut sums)?;
        // MNIST's files for testing begin with `t10k`, EMNIST's with `test`.
        let test = ["t10k", "test"].into_iter().find(|split| {
            self.file(split, "images-idx3").is_some() || self.file(split, "labels-idx1").is_some()
        });
        let test = test.map(|split| self.split(split, &mut sums)).transpose()?;
        let splits = [Some(&train), test.as_ref()];
        let labels = splits.into_iter().flatten().flat_map(|split| split.labels.iter());
        let classes = numbered_classes(count_classes(labels.map(|&label| Some(label.into()))));
        sums.sort_by(|(a, _), (b, _)| a.cmp(b));
        let lines = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n"));
        let sha256 = hex(&Sha256::digest(lines.collect::<String>()));
        Ok(Opened { train, test, classes, sha256 })
    }

    /// One split. Adds the names of its files and the checksums of what they unpack to.
    fn split(&self, split: &str, sums: &mut Vec<(String, String)>) -> Result<Idx> {
        let mut read = |kind: &str, magic: u32, dimensions: usize| {
            let path = self.file(split, kind).ok_or_else(|| {
                Error::Missing(format!(
                    "{} has no {}{split}-{kind}-ubyte; get it from where the other files are from",
                    self.folder.display(),
                    self.prefix
                ))
            })?;
            let bytes = unpacked(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            sums.push((unpacked_name(&name).to_owned(), hex(&Sha256::digest(&bytes))));
            let sizes = sizes(&path, &bytes, magic, dimensions)?;
            Ok::<_, Error>((path, sizes, bytes))
        };
        let (path, sizes, pixels) = read("images-idx3", IMAGES, 3)?;
        let (label_path, label_sizes, mut labels) = read("labels-idx1", LABELS, 1)?;
        ensure!(
            sizes[0] == label_sizes[0],
            Damaged,
            "{} has {} labels for {} images; get it again",
            label_path.display(),
            label_sizes[0],
            sizes[0]
        );
        labels.drain(..header(1));
        // EMNIST stores its images column after column.
        let by_columns = self.prefix.starts_with("emnist");
        Ok(Idx { path, pixels, rows: sizes[1], columns: sizes[2], labels, by_columns })
    }
}

/// A data set that has been read.
pub(crate) struct Opened {
    pub(crate) train: Idx,
    pub(crate) test: Option<Idx>,
    /// The numbers of the classes.
    pub(crate) classes: Vec<String>,
    /// The SHA-256 of the listing that `sha256sum` prints for the unpacked files.
    pub(crate) sha256: String,
}

/// One split, in memory as its file stores it.
pub(crate) struct Idx {
    path: PathBuf,
    pixels: Vec<u8>,
    rows: u32,
    columns: u32,
    labels: Vec<u8>,
    by_columns: bool,
}

impl Idx {
    /// The mean and standard deviation of all pixels, in [0, 1].
    pub(crate) fn moments(&self) -> (f32, f32) {
        let mut counts = [0u64; 256];
        for &pixel in &self.pixels[header(3)..] {
            counts[usize::from(pixel)] += 1;
        }
        let mean_of = |f: &dyn Fn(f64) -> f64| {
            let sum: f64 = (0..).zip(counts).map(|(v, n)| f(f64::from(v) / 255.0) * n as f64).sum();
            sum / counts.iter().sum::<u64>() as f64
        };
        let mean = mean_of(&|value| value);
        let variance = mean_of(&|value| (value - mean).powi(2));
        (mean as f32, variance.sqrt() as f32)
    }
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let (rows, columns) = (self.rows as usize, self.columns as usize);
        let pixels = &self.pixels[header(3) + index * rows * columns..][..rows * columns];
        Ok(ImageData::Decoded(RgbImage::from_fn(self.columns, self.rows, |x, y| {
            let (x, y) = (x as usize, y as usize);
            let at = if self.by_columns { x * rows + y } else { y * columns + x };
            Rgb([pixels[at]; 3])
        })))
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(u32::from(self.labels[index]))
    }

    fn describe(&self, index: usize) -> String {
        format!("image {index} of {}", self.path.display())
    }
}

/// A file's name without `.gz`.
fn unpacked_name(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut content = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .take(MAX_UNPACKED)
        .read_to_end(&mut content)
        .with_context(|| format!("{} is damaged or cut short; get it again", path.display()))?;
    Ok(content)
}

/// The bytes before the values of a file of so many dimensions.
const fn header(dimensions: usize) -> usize {
    4 + 4 * dimensions
}

/// The sizes in a file's header: its magic number, then a number for each dimension, the first byte
/// the greatest.
fn sizes(path: &Path, bytes: &[u8], magic: u32, dimensions: usize) -> Result<Vec<u32>> {
    let number = |i: usize| Some(u32::from_be_bytes(bytes.get(4 * i..)?.first_chunk().copied()?));
    let sizes: Option<Vec<u32>> = (1..=dimensions).map(number).collect();
    let sizes = sizes.filter(|_| number(0) == Some(magic)).ok_or_else(|| {
        Error::Damaged(format!("{} is not an IDX file of this kind; get it again", path.display()))
    })?;
    let values = sizes.iter().try_fold(1u64, |all, &size| all.checked_mul(size.into()));
    ensure!(
        values.is_some_and(|values| values > 0
            && values.checked_add(header(dimensions) as u64) == Some(bytes.len() as u64)),
        Damaged,
        "{} is cut short or damaged: it has {} bytes, and its header names {sizes:?} values; get \
         it again",
        path.display(),
        bytes.len()
    );
    Ok(sizes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    use super::*;

    /// Writes `count` images of 3 rows and 2 columns. A pixel tells its image, row and column.
    pub(crate) fn write(folder: &Path, name: &str, count: u32, gzip: bool) {
        fs::create_dir_all(folder).unwrap();
        let number = |n: u32| n.to_be_bytes();
        let mut images = [IMAGES, count, 3, 2].map(number).concat();
        images.extend((0..count).flat_map(|i| (0..6).map(move |at| (10 * i + at) as u8)));
        let mut labels = [LABELS, count].map(number).concat();
        labels.extend((0..count).map(|i| (i % 10) as u8));
        for (kind, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            let path = folder.join(format!("{name}-{kind}-ubyte"));
            if !gzip {
                fs::write(path, bytes).unwrap();
                continue;
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&bytes).unwrap();
            fs::write(path.with_extension("gz"), encoder.finish().unwrap()).unwrap();
        }
    }

    fn opened(folder: &Path) -> Opened {
        Files::find(folder).unwrap().unwrap().open().unwrap()
    }

    fn refusal(folder: &Path) -> String {
        match Files::find(folder).and_then(|files| files.unwrap().open()) {
            Ok(_) => panic!("accepted"),
            Err(error) => crate::error::with_causes(&error),
        }
    }

    #[test]
    fn packed_or_not_the_images_and_the_checksum_are_the_same() {
        let (root, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, count) in [("train", 12), ("t10k", 2)] {
            write(&root.path().join("raw"), name, count, false);
            write(packed.path(), name, count, true);
        }
        let (plain, packed) = (opened(root.path()), opened(packed.path()));
        assert_eq!(plain.sha256, packed.sha256);
        for data in [plain, packed] {
            assert_eq!((data.train.len(), data.test.unwrap().len()), (12, 2));
            assert_eq!(data.classes.len(), 10);
            assert_eq!(data.train.label(11), Some(1));
            let image = data.train.image(3).unwrap().decode().unwrap();
            assert_eq!(image.dimensions(), (2, 3));
            assert_eq!(image.get_pixel(1, 2).0, [35; 3]);
        }
    }

    #[test]
    fn the_moments_are_those_of_the_pixels() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "train", 1, false); // the pixels 0 to 5
        let (mean, std) = opened(root.path()).train.moments();
        assert!((255.0 * mean - 2.5).abs() < 1e-4, "{mean}");
        assert!((255.0 * std - (35.0f32 / 12.0).sqrt()).abs() < 1e-4, "{std}");
    }

    #[test]
    fn emnist_lies_column_after_column() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "emnist-letters-train", 2, true);
        let data = opened(root.path());
        assert!(data.test.is_none());
        assert_eq!(data.train.image(1).unwrap().decode().unwrap().get_pixel(1, 0).0, [13; 3]);
        write(root.path(), "emnist-digits-train", 2, true);
        assert!(refusal(root.path()).contains("(emnist-digits, emnist-letters)"));
    }

    #[test]
    fn damaged_and_missing_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "train", 3, false);
        let images = root.path().join("train-images-idx3-ubyte");
        let whole = fs::read(&images).unwrap();
        fs::write(&images, &whole[..whole.len() - 1]).unwrap();
        assert!(refusal(root.path()).contains("train-images-idx3-ubyte is cut short"));
        fs::write(&images, &whole[1..]).unwrap();
        assert!(refusal(root.path()).contains("not an IDX file"));
        fs::write(&images, whole).unwrap();
        fs::remove_file(root.path().join("train-labels-idx1-ubyte")).unwrap();
        assert!(refusal(root.path()).contains("has no train-labels-idx1-ubyte"));
        write(root.path(), "train", 3, true);
        let packed = root.path().join("train-images-idx3-ubyte.gz");
        fs::write(&packed, &fs::read(&packed).unwrap()[..20]).unwrap();
        assert!(refusal(root.path()).contains("damaged or cut short"), "{}", refusal(root.path()));
    }
}
