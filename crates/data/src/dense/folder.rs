//! A folder of images with masks or depth maps in files.

use image::{ImageBuffer, Pixel, RgbImage};
use portolan_shapes::DepthMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::item::{ClassMap, DenseItem, DenseSource, IGNORED};
use super::maps::{Numbering, read_classes, read_depth};
use crate::decode::decode;
use crate::error::{Result, WithContext, ensure};

/// The files of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) image: PathBuf,
    pub(super) mask: Option<PathBuf>,
    pub(super) depth: Option<PathBuf>,
}

/// Items in files.
pub(super) struct DenseFolder {
    pub(super) files: Vec<Files>,
    pub(super) numbering: Numbering,
    /// The number of classes.
    pub(super) classes: usize,
}

impl DenseSource for DenseFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn item(&self, index: usize) -> Result<DenseItem> {
        let Files { image, mask, depth } = &self.files[index];
        let image = decode(&read(image)?)?;
        let classes = mask.as_ref().map(|path| self.classes(path, &image)).transpose()?;
        let depth = depth.as_ref().map(|path| depth_of(path, &image)).transpose()?;
        Ok(DenseItem { image, classes, depth })
    }

    fn describe(&self, index: usize) -> String {
        self.files[index].image.display().to_string()
    }
}

impl DenseFolder {
    fn classes(&self, path: &Path, image: &RgbImage) -> Result<ClassMap> {
        let classes = read_classes(&read(path)?, self.numbering).with_context(|| cannot(path))?;
        let greatest = classes.pixels().map(|pixel| pixel[0]).filter(|&c| c != IGNORED).max();
        ensure!(
            greatest.is_none_or(|greatest| usize::from(greatest) < self.classes),
            Damaged,
            "{} has the class {}, and there are only {}, counted from 0",
            path.display(),
            greatest.unwrap_or(0),
            self.classes
        );
        same_size(image, &classes, path)?;
        Ok(classes)
    }
}

fn depth_of(path: &Path, image: &RgbImage) -> Result<DepthMap> {
    let depth = read_depth(&read(path)?).with_context(|| cannot(path))?;
    same_size(image, &depth, path)?;
    Ok(depth)
}

fn same_size<P: Pixel>(
    image: &RgbImage,
    map: &ImageBuffer<P, Vec<P::Subpixel>>,
    path: &Path,
) -> Result<()> {
    let ((width, height), (of_map, by)) = (image.dimensions(), map.dimensions());
    ensure!(
        (width, height) == (of_map, by),
        Damaged,
        "the image has {width}×{height} pixels, and {} has {of_map}×{by}",
        path.display()
    );
    Ok(())
}

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| cannot(path))
}

fn cannot(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
