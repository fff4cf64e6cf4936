//! CIFAR-10 and CIFAR-100 in their binary form: records of label bytes and 32×32 pixels, one plane
//! after another.

use image::{Rgb, RgbImage};
use portolan_shapes::Split;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, WithContext, ensure};
use crate::formats::labels::read_class_names;
use crate::source::{ImageData, Source};

const SIDE: u32 = 32;
const PLANE: usize = (SIDE * SIDE) as usize;

/// The files of one of the two data sets, as its authors' archive unpacks.
pub(crate) struct Layout {
    /// Its name in `datasets/`.
    pub(crate) name: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    classes: &'static str,
    /// Label bytes before the pixels; the last of them is the class (CIFAR-100: superclass, then
    /// class).
    label_bytes: usize,
}

static LAYOUTS: [Layout; 2] = [
    Layout {
        name: "cifar10",
        folder: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        classes: "batches.meta.txt",
        label_bytes: 1,
    },
    Layout {
        name: "cifar100",
        folder: "cifar-100-binary",
        train: &["train.bin"],
        test: &["test.bin"],
        classes: "fine_label_names.txt",
        label_bytes: 2,
    },
];

impl Layout {
    /// The layout of the files in `root`, and the folder they are in: `root` or the archive's
    /// folder below it.
    pub(crate) fn find(root: &Path) -> Option<(&'static Layout, PathBuf)> {
        LAYOUTS.iter().find_map(|layout| {
            let folders = [root.to_owned(), root.join(layout.folder)];
            let folder =
                folders.into_iter().find(|folder| folder.join(layout.train[0]).is_file())?;
            Some((layout, folder))
        })
    }

    /// The files of both splits, for the checksum.
    pub(crate) fn all_files(&self) -> Vec<PathBuf> {
        self.train.iter().chain(self.test).map(PathBuf::from).collect()
    }

    /// The files of one split.
    fn files(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }

    /// The class names, from the file beside the data.
    pub(crate) fn classes(&self, folder: &Path) -> Result<Vec<String>> {
        read_class_names(&folder.join(self.classes))
    }
}

/// One split, kept in memory as it is stored (150 MB for training, 30 MB for testing).
pub(crate) struct Cifar {
    files: Vec<(PathBuf, Vec<u8>)>,
    label_bytes: usize,
}

impl Cifar {
    /// Reads a split and checks the files' lengths and labels.
    pub(crate) fn open(
        layout: &Layout,
        folder: &Path,
        split: Split,
        classes: usize,
    ) -> Result<Self> {
        let mut source = Self { files: Vec::new(), label_bytes: layout.label_bytes };
        for name in layout.files(split) {
            let path = folder.join(name);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                bytes.len().is_multiple_of(source.record()) && !bytes.is_empty(),
                Damaged,
                "{} is cut short: its {} bytes are not whole records of {}; get it again",
                path.display(),
                bytes.len(),
                source.record()
            );
            source.files.push((path, bytes));
        }
        for index in 0..source.len() {
            let label = source.bytes(index)[source.label_bytes - 1];
            ensure!(
                usize::from(label) < classes,
                Damaged,
                "{} has the label {label}, but there are {classes} classes",
                source.describe(index)
            );
        }
        Ok(source)
    }

    /// Bytes of one record.
    fn record(&self) -> usize {
        self.label_bytes + 3 * PLANE
    }

    /// The file of an item, and its record in there.
    fn locate(&self, index: usize) -> (&Path, &[u8], usize) {
        let mut record = index;
        for (path, bytes) in &self.files {
            let records = bytes.len() / self.record();
            if record < records {
                return (path, bytes, record);
            }
            record -= records;
        }
        panic!("item {index} of {}", self.len())
    }

    fn bytes(&self, index: usize) -> &[u8] {
        let (_, bytes, record) = self.locate(index);
        &bytes[record * self.record()..][..self.record()]
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len() / self.record()).sum()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let planes = &self.bytes(index)[self.label_bytes..];
        Ok(ImageData::Decoded(RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let at = (y * SIDE + x) as usize;
            Rgb([planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
        })))
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(u32::from(self.bytes(index)[self.label_bytes - 1]))
    }

    fn describe(&self, index: usize) -> String {
        let (path, _, record) = self.locate(index);
        format!("record {record} of {}", path.display())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// Writes a whole data set with two records a file; record r of file f has the label (2 f + r)
    /// and pixels that tell plane, row and column.
    pub(crate) fn write(name: &str, root: &Path) -> PathBuf {
        let layout = LAYOUTS.iter().find(|layout| layout.name == name).unwrap();
        let folder = root.join(layout.folder);
        fs::create_dir_all(&folder).unwrap();
        for (f, file) in layout.train.iter().chain(layout.test).enumerate() {
            let mut bytes = Vec::new();
            for r in 0..2 {
                let label = (2 * f + r) as u8 % 10;
                bytes.extend([vec![99; layout.label_bytes - 1], vec![label]].concat());
                for plane in 0..3_u32 {
                    bytes.extend(
                        (0..PLANE as u32).map(|at| (plane * 80 + at / SIDE + at % SIDE) as u8),
                    );
                }
            }
            fs::write(folder.join(file), bytes).unwrap();
        }
        fs::write(folder.join(layout.classes), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        folder
    }

    #[test]
    fn both_layouts_are_read() {
        for (name, train) in [("cifar10", 10), ("cifar100", 2)] {
            let root = tempfile::tempdir().unwrap();
            write(name, root.path());
            let (layout, folder) = Layout::find(root.path()).unwrap();
            assert_eq!(layout.name, name);
            assert_eq!(layout.classes(&folder).unwrap().len(), 10);
            let source = Cifar::open(layout, &folder, Split::Train, 10).unwrap();
            assert_eq!(source.len(), train);
            assert_eq!(source.label(train - 1), Some(train as u32 - 1));
            let image = source.image(train - 1).unwrap().decode().unwrap();
            assert_eq!(image.get_pixel(3, 20).0, [23, 103, 183]);
            assert_eq!(Cifar::open(layout, &folder, Split::Test, 10).unwrap().len(), 2);
        }
    }

    #[test]
    fn items_know_their_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = write("cifar10", root.path());
        let (layout, found) = Layout::find(&folder).unwrap();
        let source = Cifar::open(layout, &found, Split::Train, 10).unwrap();
        assert_eq!(
            source.describe(3),
            format!("record 1 of {}", folder.join("data_batch_2.bin").display())
        );
    }

    #[test]
    fn a_cut_file_and_a_wrong_label_are_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = write("cifar10", root.path());
        let (layout, _) = Layout::find(&folder).unwrap();
        let refused = |classes| match Cifar::open(layout, &folder, Split::Train, classes) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        assert!(refused(9).contains("record 1 of"), "{}", refused(9));
        let path = folder.join("data_batch_3.bin");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(refused(10).contains("data_batch_3.bin is cut short"), "{}", refused(10));
    }
}
