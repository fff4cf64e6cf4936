//! From the value of `--data` to images with masks or depth maps.

use portolan_shapes::{Shapes, Split};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

use super::folder::{DenseFolder, Files, read};
use super::item::{DenseDataset, IGNORED};
use super::layout::Layout;
use super::maps::{Numbering, read_classes};
use super::shapes::{self, DenseShapes};
use crate::error::{Error, Result, ensure};
use crate::formats::labels::numbered_classes;
use crate::open::{Options, name_of, shapes_name};

/// The most classes of a data set. Masks with more are usually numbers of objects, not classes.
const MAX_CLASSES: usize = 1_000;

/// Opens `shapes`, or a folder of images with masks, depth maps or both (`docs/data.md` lists the
/// layouts).
///
/// # Errors
/// If there is no such folder, it has another layout, or its masks are not of classes. Images are
/// not decoded yet.
pub fn open_dense(data: &str, options: &Options) -> Result<DenseDataset> {
    if data == "shapes" {
        return open_shapes(options);
    }
    let root = Path::new(data);
    ensure!(
        root.is_dir(),
        Missing,
        "{data} has no masks or depth maps; give --data shapes, or a folder with images/ beside \
         masks/ or depth/"
    );
    let Layout { train, test, numbering, classes, notes } = Layout::of(root)?;
    let has = |of: fn(&Files) -> bool| train.iter().any(of);
    let (has_masks, has_depth) = (has(|files| files.mask.is_some()), has(|f| f.depth.is_some()));
    let classes = match classes {
        _ if !has_masks => Vec::new(),
        Some(names) => names,
        None => numbered_classes(u32::from(count_classes(&train, numbering)?)),
    };
    ensure!(
        classes.len() <= MAX_CLASSES,
        Unsupported,
        "the masks of {data} have {} classes, and at most {MAX_CLASSES} are possible; are their \
         numbers objects instead of classes?",
        classes.len()
    );
    let source = |files| Arc::new(DenseFolder { files, numbering, classes: classes.len() });
    let (train, test) = (source(train), source(test));
    Ok(DenseDataset {
        name: name_of(root),
        train,
        test,
        classes,
        has_depth,
        single_objects: false,
        notes,
    })
}

fn open_shapes(options: &Options) -> Result<DenseDataset> {
    let &Options { size, train, test, seed, palette, .. } = options;
    let of = |split, count| -> Result<Arc<DenseShapes>> {
        let shapes = Shapes::new(split, count, size, seed)?.with_palette(palette);
        Ok(Arc::new(DenseShapes(shapes)))
    };
    Ok(DenseDataset {
        name: shapes_name(palette),
        train: of(Split::Train, train)?,
        test: of(Split::Test, test)?,
        classes: shapes::classes(),
        has_depth: true,
        single_objects: true,
        notes: Vec::new(),
    })
}

/// The number of classes by the greatest number in the masks. Damaged masks are skipped here; they
/// are reported when they are read.
fn count_classes(files: &[Files], numbering: Numbering) -> Result<u16> {
    let greatest = files
        .par_iter()
        .filter_map(|files| {
            let classes = read_classes(&read(files.mask.as_ref()?).ok()?, numbering).ok()?;
            classes.pixels().map(|pixel| pixel[0]).filter(|&class| class != IGNORED).max()
        })
        .max();
    let none = || Error::Damaged("no pixel of any mask for training has a class".to_owned());
    greatest.map(|greatest| greatest + 1).ok_or_else(none)
}

#[cfg(test)]
mod tests;
