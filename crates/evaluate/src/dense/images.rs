//! Loading images with their classes and depth as tensors.

use portolan_augment::{Op, ViewSpec, cpu, ops};
use portolan_data::{DenseItem, DenseSource, IGNORED};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Kind, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// The class of pixels that are neither trained on nor scored, in tensors.
pub(crate) const NO_CLASS: i64 = -1;

/// Images and the maps of their pixels.
#[derive(Debug)]
pub struct DenseImages {
    /// The views, `[n, 3, size, size]`, float32 on the CPU.
    pub x: Tensor,
    /// `[n, size, size]`, int16: the classes, -1 where a pixel has none.
    pub classes: Tensor,
    /// `[n, size, size]`, float32: the depth in meters, 0 where it is missing.
    pub depth: Tensor,
    /// The indices of these items in the source.
    pub ids: Vec<usize>,
    /// The items that could not be read, each as `location: reason`, in order.
    pub skipped: Vec<String>,
}

/// What is read of an item.
struct Pixels {
    view: Vec<f32>,
    classes: Vec<i16>,
    depth: Vec<f32>,
}

/// Loads these items. Images are resized and cropped by `view`; maps are too, by taking the nearest
/// pixel, since the mean of two classes or depths is neither.
///
/// # Errors
/// When the view is not a center crop, as that of an evaluation. Items that cannot be read are left
/// out.
pub fn dense_images(
    source: &dyn DenseSource,
    indices: &[usize],
    view: &ViewSpec,
) -> Result<DenseImages> {
    view.validate().map_err(Error::dependency)?;
    let Some(&Op::CenterCrop { resize, size, .. }) = view.ops.first() else {
        return Err(Error::Setting(
            "dense tasks need a view that begins with a center crop".to_owned(),
        ));
    };
    let read: Vec<Result<Pixels>> = indices
        .par_iter()
        .map(|&index| {
            let item = source.item(index).map_err(Error::dependency)?;
            Ok(pixels(&item, view, resize, size as usize))
        })
        .collect();
    let side = i64::from(size);
    let (mut x, mut classes, mut depth) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ids, mut skipped) = (Vec::new(), Vec::new());
    for (outcome, &index) in read.into_iter().zip(indices) {
        match outcome {
            Ok(item) => {
                x.extend(item.view);
                classes.extend(item.classes);
                depth.extend(item.depth);
                ids.push(index);
            }
            Err(why) => skipped.push(format!("{}: {}", source.describe(index), why.with_causes())),
        }
    }
    let n = ids.len() as i64;
    Ok(DenseImages {
        x: Tensor::from_slice(&x).view([n, 3, side, side]),
        classes: Tensor::from_slice(&classes).view([n, side, side]),
        depth: Tensor::from_slice(&depth).view([n, side, side]),
        ids,
        skipped,
    })
}

fn pixels(item: &DenseItem, view: &ViewSpec, resize: u32, size: usize) -> Pixels {
    let mut planes = vec![0f32; 3 * size * size];
    // The view of an evaluation draws nothing.
    cpu::view(view, &item.image, &mut stream(0, Purpose::View, &[]), &mut planes);
    let (width, height) = item.image.dimensions();
    let [columns, rows] = ops::center_crop_nearest(width, height, resize, size);
    let places = || rows.iter().flat_map(|&y| columns.iter().map(move |&x| (x, y)));
    let class = |value: u16| if value == IGNORED { NO_CLASS as i16 } else { value as i16 };
    let classes = item.classes.as_ref().map_or_else(
        || vec![NO_CLASS as i16; size * size],
        |map| places().map(|(x, y)| class(map.get_pixel(x, y)[0])).collect(),
    );
    let depth = item.depth.as_ref().map_or_else(
        || vec![0.0; size * size],
        |map| places().map(|(x, y)| map.get_pixel(x, y)[0]).collect(),
    );
    Pixels { view: planes, classes, depth }
}

impl DenseImages {
    /// The classes as int64, for losses and scores.
    pub fn labels(&self) -> Tensor {
        self.classes.to_kind(Kind::Int64)
    }
}
