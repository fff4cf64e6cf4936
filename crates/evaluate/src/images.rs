//! Loading images of a source as tensors.

use image::RgbImage;
use portolan_augment::{ViewSpec, cpu};
use portolan_data::Source;
use portolan_random::{Purpose, stream};
use portolan_tensor::Tensor;
use rayon::prelude::*;
use std::sync::mpsc::sync_channel;

use crate::error::{Error, Result};

/// The items of a source that could be read.
#[derive(Debug)]
pub struct LoadedImages {
    /// One row per item: `[n, …]`, float32 on the CPU.
    pub x: Tensor,
    /// The indices of these items.
    pub ids: Vec<usize>,
    /// The items that could not be read, each as `location: reason`, in order.
    pub skipped: Vec<String>,
}

/// The views of these items, `[n, 3, size, size]`, prepared on all of rayon's threads.
///
/// The view of evaluation is deterministic. With a random view, each item has the same draw every
/// time.
///
/// # Errors
/// When the view is invalid. Items that cannot be read are left out.
pub fn images(source: &dyn Source, indices: &[usize], view: &ViewSpec) -> Result<LoadedImages> {
    drawn_images(source, indices, view, 0)
}

/// The same with the `draw`-th draw of each item's view.
pub(crate) fn drawn_images(
    source: &dyn Source,
    indices: &[usize],
    view: &ViewSpec,
    draw: u64,
) -> Result<LoadedImages> {
    view.validate().map_err(Error::dependency)?;
    let size = i64::from(view.size());
    let width = (3 * size * size) as usize;
    let mut read = rows(source, indices, width, |index, image, row| {
        cpu::view(view, image, &mut stream(0, Purpose::View, &[0, index as u64, draw]), row);
    });
    read.x = read.x.view([-1, 3, size, size]);
    Ok(read)
}

/// Calls `work` with the views of each batch of items, and prepares the next batch meanwhile. Stops
/// at the first error.
pub(crate) fn each_batch<'a>(
    source: &dyn Source,
    batches: impl Iterator<Item = &'a [usize]> + Send,
    view: &ViewSpec,
    draw: u64,
    mut work: impl FnMut(LoadedImages) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, read) = sync_channel(1);
        scope.spawn(move || {
            for batch in batches {
                // The receiver is gone once the work on a batch has failed.
                if sender.send(drawn_images(source, batch, view, draw)).is_err() {
                    return;
                }
            }
        });
        read.into_iter().try_for_each(|read| work(read?))
    })
}

/// One row of `width` numbers per item, `[n, width]`, which `fill` computes from the item's index,
/// its image and a row of zeros.
pub(crate) fn rows(
    source: &dyn Source,
    indices: &[usize],
    width: usize,
    fill: impl Fn(usize, &RgbImage, &mut [f32]) + Sync,
) -> LoadedImages {
    let mut values = vec![0f32; indices.len() * width];
    let outcomes: Vec<Result<()>> = values
        .par_chunks_exact_mut(width)
        .zip(indices)
        .map(|(row, &index)| {
            let encoded = source.image(index).map_err(Error::dependency)?;
            fill(index, &encoded.decode().map_err(Error::dependency)?, row);
            Ok(())
        })
        .collect();

    let (mut kept, mut ids, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (outcome, &index)) in outcomes.into_iter().zip(indices).enumerate() {
        match outcome {
            Ok(()) => {
                kept.push(row as i64);
                ids.push(index);
            }
            Err(why) => skipped.push(format!("{}: {}", source.describe(index), why.with_causes())),
        }
    }
    let all = Tensor::from_slice(&values).view([indices.len() as i64, width as i64]);
    let x = if skipped.is_empty() { all } else { all.index_select(0, &Tensor::from_slice(&kept)) };
    LoadedImages { x, ids, skipped }
}
