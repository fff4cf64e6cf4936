//! From the value of `--data` to a data set.

use portolan_shapes::{CLASSES, Palette, Shapes, Split, VERSION};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::download::{self, default_cache};
use crate::catalog::fingerprint::{fingerprint, hex};
use crate::catalog::{self, KnownDataset, Normalization};
use crate::dataset::Dataset;
use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::cifar::{self, Cifar};
use crate::formats::folder::{Folder, Layout};
use crate::formats::idx;
use crate::formats::listing::is_image;
use crate::formats::parquet::Parquet;
use crate::formats::splits;
use crate::formats::stl10::{self, Stl10};
use crate::formats::webdataset::WebDataset;
use crate::source::Source;

/// Over 10,000 training images of `shapes` at 32 pixels. The test `shapes_are_normalized` checks it
/// to 0.02.
const SHAPES_MEAN: [f32; 3] = [0.467, 0.467, 0.466];
const SHAPES_STD: [f32; 3] = [0.109, 0.109, 0.110];

/// Options of [`open`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Side of the images of `shapes`, in pixels: 32 to 224. Default 32.
    pub size: u32,
    /// Training images of `shapes`. Default 10,000.
    pub train: usize,
    /// Test images of `shapes`. Default 2,000.
    pub test: usize,
    /// Seed of the images of `shapes`. Default 0.
    pub seed: u64,
    /// Paints of `shapes`. Default: those of the standard palette.
    pub palette: Palette,
    /// Where downloaded data is kept. Default: [`default_cache`].
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 32,
            train: 10_000,
            test: 2_000,
            seed: 0,
            palette: Palette::Standard,
            cache: None,
        }
    }
}

/// Opens `shapes`, a data set known by name (downloading it if necessary), or the data at a path.
///
/// A path is a Parquet file, a tar file or an image, or a folder with Parquet files, tar files, the
/// binary files of CIFAR, STL-10 or MNIST (IDX), or images.
///
/// # Errors
/// If there is no such data, or it cannot be read or downloaded. Images are not decoded yet.
pub fn open(data: &str, options: &Options) -> Result<Dataset> {
    if data == "shapes" {
        return open_shapes(options);
    }
    if let Some(known) = catalog::find(data)? {
        let cache = options.cache.clone().map_or_else(default_cache, Ok)?;
        return open_known(&known, &cache);
    }
    let path = Path::new(data);
    if path.is_file() {
        let (root, files) = (path.parent().unwrap_or(path), vec![path.to_owned()]);
        return match path {
            _ if has_extension(path, "parquet") => open_files(root, files, name_of(path), parquet),
            _ if has_extension(path, "tar") => open_files(root, files, name_of(path), tar),
            _ if is_image(path) => open_image(path),
            _ => Err(Error::Unsupported(format!(
                "{data} is a file, but not an image and not a .parquet or .tar file; give a folder \
                 of images instead"
            ))),
        };
    }
    if !path.is_dir() {
        let names: Vec<&str> = catalog::names().collect();
        return Err(Error::Missing(format!(
            "there is no file or folder {data}, and no data set of that name (there are shapes, \
             {})",
            names.join(", ")
        )));
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
    let &Options { size, train: n, test: m, seed, palette, .. } = options;
    let train = Shapes::new(Split::Train, n, size, seed)?.with_palette(palette);
    let test = Shapes::new(Split::Test, m, size, seed)?.with_palette(palette);
    // These decide every pixel. Some pixels are added to notice a renderer changed by mistake.
    let mut digest = Sha256::new();
    digest.update(format!("{VERSION} size {size} train {n} test {m} seed {seed}\n"));
    for (split, count) in [(&train, n), (&test, m)] {
        for index in 0..count.min(16) {
            digest.update(split.render(index).image.as_raw());
        }
    }
    let normalization = Normalization {
        mean: SHAPES_MEAN,
        std: SHAPES_STD,
        source: "measured on the images of the standard palette".to_owned(),
    };
    let name = shapes_name(palette);
    let classes = CLASSES.map(str::to_owned).to_vec();
    let (test, sha256) = (Some(Arc::new(test) as _), hex(&digest.finalize()));
    let dataset = assemble(name, Arc::new(train), test, classes, normalization, sha256);
    Ok(Dataset { verified: true, ..dataset })
}

fn open_known(known: &KnownDataset, cache: &Path) -> Result<Dataset> {
    let folder = download::fetch(known, cache)?;
    let opened = open_binary(&folder)?.filter(|dataset| dataset.name == known.name);
    let opened = opened.ok_or_else(|| {
        Error::Damaged(format!(
            "{} is not as {} unpacks; remove it and try again",
            folder.display(),
            known.title
        ))
    })?;
    let dataset = Dataset { verified: true, ..opened };
    let found = (dataset.train.len(), dataset.test.as_ref().map_or(0, |test| test.len()));
    ensure!(
        found == (known.train, known.test),
        Damaged,
        "{} holds {found:?} images for training and testing, not the {:?} of {}; remove it and try \
         again",
        folder.display(),
        (known.train, known.test),
        known.title
    );
    Ok(dataset)
}

/// The binary files of CIFAR, STL-10 or MNIST, if `folder` holds them.
fn open_binary(folder: &Path) -> Result<Option<Dataset>> {
    if let Some((layout, files)) = cifar::Layout::find(folder) {
        return open_cifar(layout, &files).map(Some);
    }
    if let Some(files) = idx::Files::find(folder)? {
        return open_idx(&files, folder).map(Some);
    }
    stl10::find(folder).map(|files| open_stl10(&files)).transpose()
}

fn open_cifar(layout: &cifar::Layout, folder: &Path) -> Result<Dataset> {
    let classes = layout.classes(folder)?;
    let train = Arc::new(Cifar::open(layout, folder, Split::Train, classes.len())?);
    let test = Arc::new(Cifar::open(layout, folder, Split::Test, classes.len())?);
    let normalization = catalog::get(layout.name)?.normalization;
    let sha256 = fingerprint(folder, &layout.all_files());
    Ok(assemble(layout.name.to_owned(), train, Some(test), classes, normalization, sha256))
}

/// Known by their content, since many data sets have files of these names.
fn open_idx(files: &idx::Files, folder: &Path) -> Result<Dataset> {
    let idx::Opened { train, test, classes, sha256 } = files.open()?;
    let (mean, std) = train.moments();
    let measured = Normalization {
        mean: [mean; 3],
        std: [std; 3],
        source: "measured on these training images".to_owned(),
    };
    let test = test.map(|test| Arc::new(test) as _);
    Ok(match catalog::by_content(&sha256)? {
        Some(known) => {
            let name = known.name.to_owned();
            let train = Arc::new(train);
            let opened = assemble(name, train, test, known.classes, known.normalization, sha256);
            Dataset { verified: true, ..opened }
        }
        None => assemble(name_of(folder), Arc::new(train), test, classes, measured, sha256),
    })
}

fn open_stl10(folder: &Path) -> Result<Dataset> {
    let classes = stl10::classes(folder)?;
    let train = Arc::new(Stl10::labeled(folder, "train", classes.len())?);
    let unlabeled = Some(Arc::new(Stl10::unlabeled(folder, "unlabeled")?) as _);
    let test = Arc::new(Stl10::labeled(folder, "test", classes.len())?);
    let normalization = catalog::get("stl10")?.normalization;
    let sha256 = fingerprint(folder, &stl10::FILES.map(PathBuf::from));
    let name = "stl10".to_owned();
    let labeled = assemble(name, train, Some(test), classes, normalization, sha256);
    Ok(Dataset { unlabeled, ..labeled })
}

/// Images by the layout of their folder.
fn open_folder(root: &Path) -> Result<Dataset> {
    let Layout { train, unlabeled, test, classes, notes } = Layout::of(root)?;
    let all = [Some(&train), unlabeled.as_ref(), test.as_ref()];
    let sha256 =
        fingerprint(root, &relative(root, all.into_iter().flatten().flat_map(Folder::paths)));
    let test = test.map(|test| Arc::new(test) as _);
    let normalization = catalog::normalization_for(&classes)?;
    let labeled = assemble(name_of(root), Arc::new(train), test, classes, normalization, sha256);
    let unlabeled = unlabeled.map(|more| Arc::new(more) as _);
    Ok(Dataset { unlabeled, notes, ..labeled })
}

/// One image, which has no label.
fn open_image(path: &Path) -> Result<Dataset> {
    let root = path.parent().unwrap_or(path);
    let sha256 = fingerprint(root, &relative(root, [path.to_owned()].into_iter()));
    let normalization = catalog::normalization_for(&[])?;
    let source = Arc::new(Folder::of_file(path));
    Ok(assemble(name_of(path), source, None, Vec::new(), normalization, sha256))
}

/// A split in Parquet files or tar shards, and the names of its classes.
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
        let (found, test_classes) = open(&files)?;
        // Some data sets publish their test images without labels. These cannot be scored on.
        if test.is_some() || test_classes.is_empty() != classes.is_empty() {
            continue;
        }
        if test_classes.len() > classes.len() {
            notes.push(format!(
                "the test images have {} classes and those to train on {}: they are not scored on",
                test_classes.len(),
                classes.len()
            ));
            continue;
        }
        used.extend(files);
        test = Some(found);
    }
    let sha256 = fingerprint(root, &relative(root, used.into_iter()));
    let normalization = catalog::normalization_for(&classes)?;
    Ok(Dataset { notes, ..assemble(name, train, test, classes, normalization, sha256) })
}

/// A data set without unlabeled images and notes, and not verified.
fn assemble(
    name: String,
    train: Arc<dyn Source>,
    test: Option<Arc<dyn Source>>,
    classes: Vec<String>,
    Normalization { mean, std, .. }: Normalization,
    sha256: String,
) -> Dataset {
    let (unlabeled, verified, notes) = (None, false, Vec::new());
    Dataset { name, train, unlabeled, test, classes, mean, std, sha256, verified, notes }
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

/// The paths, all below `root`, relative to it.
fn relative(root: &Path, paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    paths.map(|path| path.strip_prefix(root).unwrap_or(&path).to_owned()).collect()
}

/// The name of the built-in images in these paints.
pub(crate) fn shapes_name(palette: Palette) -> String {
    match palette {
        Palette::Standard => "shapes".to_owned(),
        other => format!("shapes ({other} palette)"),
    }
}

/// The last part of a path, also of `.` and `photos/..`.
pub(crate) fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or(path.to_owned());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
