//! From what `--data` says to a data set.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::cifar::{self, Cifar};
use crate::download;
use crate::fingerprint::{fingerprint, hex};
use crate::folder::{Folder, Layout};
use crate::listing::is_image;
use crate::parquet::Parquet;
use crate::registry::{self, Known, Normalization};
use crate::source::{Source, joined, subset};
use crate::splits;
use crate::stl10::{self, Stl10};
use crate::webdataset::WebDataset;
use portolan_shapes::{self as shapes, Shapes, Split};

/// Of 10,000 training images of `shapes` at 32 pixels; `shapes_are_normalized` holds it to 0.02.
const SHAPES_MEAN: [f32; 3] = [0.467, 0.467, 0.466];
const SHAPES_STD: [f32; 3] = [0.109, 0.109, 0.110];

/// A data set, opened.
#[derive(Clone)]
pub struct Dataset {
    /// `shapes`, `cifar10`, … or the last part of the path.
    pub name: String,
    /// The images to train on, and what classifiers are fitted on.
    pub train: Arc<dyn Source>,
    /// More images to pretrain on, which have no labels: STL-10's, and those beside class folders.
    pub unlabeled: Option<Arc<dyn Source>>,
    /// The images to score on, where the data says which these are.
    pub test: Option<Arc<dyn Source>>,
    /// Names in the order of the labels; empty where there are no labels.
    pub classes: Vec<String>,
    /// Mean of each channel, of pixel values in [0, 1]; [`registry::normalization_for`] says whose.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, likewise.
    pub std: [f32; 3],
    /// What exactly the data is, for telling whether two figures are comparable: a SHA-256 over all files (see
    /// `docs/data.md`), or `sizes:` and one over names and sizes where there are more than 2 GiB of them.
    pub sha256: String,
    /// Whether these are known to be the published data: downloaded here, and of the published checksum.
    pub verified: bool,
    /// What a user should know of it, a sentence each: `left out: 3 .heic, 1 .txt`.
    pub notes: Vec<String>,
}

impl Dataset {
    /// What is pretrained on: the training images, and after them those without labels.
    pub fn to_pretrain_on(&self) -> Arc<dyn Source> {
        match &self.unlabeled {
            Some(more) => joined(Arc::clone(&self.train), Arc::clone(more)),
            None => Arc::clone(&self.train),
        }
    }

    /// Leaves the first `limit` images to pretrain on.
    pub fn limit(&mut self, limit: usize) {
        let rest = limit.saturating_sub(self.train.len());
        self.train = subset(Arc::clone(&self.train), limit);
        self.unlabeled = self.unlabeled.take().filter(|_| rest > 0).map(|more| subset(more, rest));
    }
}

/// What [`open`] cannot know from the data's name.
#[derive(Clone, Debug)]
pub struct Options {
    /// Side of the pictures of `shapes`, in pixels: 32 to 224. Default 32.
    pub size: u32,
    /// Training pictures of `shapes`. Default 10,000.
    pub train: usize,
    /// Test pictures of `shapes`. Default 2,000.
    pub test: usize,
    /// What the pictures of `shapes` are drawn from. Default 0.
    pub seed: u64,
    /// Where downloaded data is kept. Default: [`crate::default_cache`].
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 32, train: 10_000, test: 2_000, seed: 0, cache: None }
    }
}

/// Opens `shapes`, a data set known by name (downloading it where necessary) or what lies at a path.
///
/// A path is a Parquet or tar file or an image, or a folder with Parquet or tar files, with CIFAR's or STL-10's binary files, or
/// with images.
///
/// # Errors
/// Where there is nothing such, or it cannot be read or downloaded; pictures are not looked at yet.
pub fn open(data: &str, options: &Options) -> Result<Dataset> {
    if data == "shapes" {
        return open_shapes(options);
    }
    if let Some(known) = registry::known(data)? {
        let cache = options.cache.clone().map_or_else(download::default_cache, Ok)?;
        return open_known(&known, &cache);
    }
    let path = Path::new(data);
    if path.is_file() {
        let (root, files) = (path.parent().unwrap_or(path), vec![path.to_owned()]);
        return match path {
            _ if has_extension(path, "parquet") => open_files(root, files, name_of(path), parquet),
            _ if has_extension(path, "tar") => open_files(root, files, name_of(path), tar),
            _ if is_image(path) => open_image(path),
            _ => bail!(
                "{data} is a file, but not an image and not a .parquet or .tar file; give a folder of images instead"
            ),
        };
    }
    if !path.is_dir() {
        let names: Vec<&str> = registry::names().collect();
        bail!(
            "there is no file or folder {data}, and no data set of that name (there are shapes, {})",
            names.join(", ")
        );
    }
    if let Some(dataset) = open_binary(path)? {
        return Ok(dataset);
    }
    for (extension, open) in [("parquet", parquet as fn(&[PathBuf]) -> _), ("tar", tar)] {
        let files = files_with(path, extension)?;
        if !files.is_empty() {
            return open_files(path, files, name_of(path), open);
        }
    }
    open_folder(path)
}

fn open_shapes(options: &Options) -> Result<Dataset> {
    let train = Shapes::new(Split::Train, options.train, options.size, options.seed)?;
    let test = Shapes::new(Split::Test, options.test, options.size, options.seed)?;
    // All pixels follow from these; some are added, so that a renderer changed by mistake is noticed.
    let Options { size, train: n, test: m, seed, .. } = options;
    let mut digest = Sha256::new();
    digest.update(format!("{} size {size} train {n} test {m} seed {seed}\n", shapes::VERSION));
    for (split, count) in [(&train, *n), (&test, *m)] {
        for index in 0..count.min(16) {
            digest.update(split.picture(index)?.decode()?.as_raw());
        }
    }
    Ok(Dataset {
        name: "shapes".to_owned(),
        train: Arc::new(train),
        unlabeled: None,
        test: Some(Arc::new(test)),
        classes: shapes::CLASSES.map(str::to_owned).to_vec(),
        mean: SHAPES_MEAN,
        std: SHAPES_STD,
        sha256: hex(&digest.finalize()),
        verified: true,
        notes: Vec::new(),
    })
}

fn open_known(known: &Known, cache: &Path) -> Result<Dataset> {
    let folder = download::fetch(known, cache)?;
    let opened = open_binary(&folder)?.filter(|dataset| dataset.name == known.name);
    let opened = opened.with_context(|| {
        format!("{} is not as {} unpacks; remove it and try again", folder.display(), known.title)
    })?;
    let dataset = Dataset { verified: true, ..opened };
    let found = (dataset.train.len(), dataset.test.as_ref().map_or(0, |test| test.len()));
    ensure!(
        found == (known.train, known.test),
        "{} holds {found:?} images for training and testing, not the {:?} of {}; remove it and try again",
        folder.display(),
        (known.train, known.test),
        known.title
    );
    Ok(dataset)
}

/// CIFAR's or STL-10's files, where `folder` holds them.
fn open_binary(folder: &Path) -> Result<Option<Dataset>> {
    if let Some((layout, files)) = cifar::Layout::find(folder) {
        return open_cifar(layout, &files).map(Some);
    }
    stl10::find(folder).map(|files| open_stl10(&files)).transpose()
}

fn open_cifar(layout: &cifar::Layout, folder: &Path) -> Result<Dataset> {
    let classes = layout.classes(folder)?;
    let files: Vec<PathBuf> = [Split::Train, Split::Test]
        .iter()
        .flat_map(|&split| layout.files(split))
        .map(PathBuf::from)
        .collect();
    let known = registry::known(layout.name)?.context("no such file in datasets/")?;
    Ok(Dataset {
        name: layout.name.to_owned(),
        train: Arc::new(Cifar::open(layout, folder, Split::Train, classes.len())?),
        unlabeled: None,
        test: Some(Arc::new(Cifar::open(layout, folder, Split::Test, classes.len())?)),
        classes,
        mean: known.normalization.mean,
        std: known.normalization.std,
        sha256: fingerprint(folder, &files),
        verified: false,
        notes: Vec::new(),
    })
}

fn open_stl10(folder: &Path) -> Result<Dataset> {
    let classes = stl10::classes(folder)?;
    let known = registry::known("stl10")?.context("no such file in datasets/")?;
    let files: Vec<PathBuf> = stl10::FILES.iter().map(PathBuf::from).collect();
    Ok(Dataset {
        name: "stl10".to_owned(),
        train: Arc::new(Stl10::labeled(folder, "train", classes.len())?),
        unlabeled: Some(Arc::new(Stl10::unlabeled(folder, "unlabeled")?)),
        test: Some(Arc::new(Stl10::labeled(folder, "test", classes.len())?)),
        classes,
        mean: known.normalization.mean,
        std: known.normalization.std,
        sha256: fingerprint(folder, &files),
        verified: false,
        notes: Vec::new(),
    })
}

/// Images by the layout of their folder.
fn open_folder(root: &Path) -> Result<Dataset> {
    let Layout { train, unlabeled, test, classes, notes } = Layout::of(root)?;
    let all = [Some(&train), unlabeled.as_ref(), test.as_ref()];
    let sha256 =
        fingerprint(root, &relative(root, all.into_iter().flatten().flat_map(Folder::paths))?);
    let test = test.map(|test| Arc::new(test) as _);
    let dataset = assemble(name_of(root), Arc::new(train), test, classes, sha256)?;
    let unlabeled = unlabeled.map(|more| Arc::new(more) as _);
    Ok(Dataset { unlabeled, notes, ..dataset })
}

/// One image, which has no label.
fn open_image(path: &Path) -> Result<Dataset> {
    let root = path.parent().unwrap_or(path);
    let sha256 = fingerprint(root, &relative(root, [path.to_owned()].into_iter())?);
    assemble(name_of(path), Arc::new(Folder::of_file(path)), None, Vec::new(), sha256)
}

/// A split of Parquet files or tar shards, and the names of its classes.
type Opened = (Arc<dyn Source>, Vec<String>);

fn parquet(files: &[PathBuf]) -> Result<Opened> {
    let source = Parquet::open(files)?;
    let classes = source.classes().to_vec();
    Ok((Arc::new(source), classes))
}

fn tar(files: &[PathBuf]) -> Result<Opened> {
    let source = WebDataset::open(files)?;
    let classes = source.classes().to_vec();
    Ok((Arc::new(source), classes))
}

/// `train-*` with `test-*` or `validation-*`, or all files for training.
fn open_files(
    root: &Path,
    files: Vec<PathBuf>,
    name: String,
    open: fn(&[PathBuf]) -> Result<Opened>,
) -> Result<Dataset> {
    let (mut used, tests) = splits::of_files(&files);
    let (train, classes) = open(&used)?;
    let (mut test, mut notes) = (None, Vec::new());
    for files in tests {
        let (found, its_classes) = open(&files)?;
        // Test images are published without their labels, sometimes: no use here.
        if test.is_some() || its_classes.is_empty() != classes.is_empty() {
            continue;
        }
        if its_classes.len() > classes.len() {
            notes.push(format!(
                "the test images have {} classes and those to train on {}: they are not scored on",
                its_classes.len(),
                classes.len()
            ));
            continue;
        }
        used.extend(files);
        test = Some(found);
    }
    let sha256 = fingerprint(root, &relative(root, used.into_iter())?);
    Ok(Dataset { notes, ..assemble(name, train, test, classes, sha256)? })
}

fn assemble(
    name: String,
    train: Arc<dyn Source>,
    test: Option<Arc<dyn Source>>,
    classes: Vec<String>,
    sha256: String,
) -> Result<Dataset> {
    let Normalization { mean, std, .. } = registry::normalization_for(&classes)?;
    let (unlabeled, verified, notes) = (None, false, Vec::new());
    Ok(Dataset { name, train, unlabeled, test, classes, mean, std, sha256, verified, notes })
}

/// The files of `folder` with this extension, by name.
fn files_with(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)
        .with_context(|| format!("cannot list the folder {}", folder.display()))?
    {
        let path = entry?.path();
        if has_extension(&path, extension) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn relative(root: &Path, paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    paths.map(|path| Ok(path.strip_prefix(root)?.to_owned())).collect()
}

/// The last part of a path, also of `.` and `photos/..`.
fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or(path.to_owned());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
