//! From a source's items to the tensors that evaluation takes.

use anyhow::Result;
use image::RgbImage;
use portolan_augment::{ViewSpec, cpu};
use portolan_data::Source;
use portolan_random::{Purpose, stream};
use portolan_tensor::Tensor;
use rayon::prelude::*;

/// What could be read of some items of a source.
#[derive(Debug)]
pub struct Readable {
    /// One row an item that could be read: `[n, …]`, float32 on the CPU.
    pub x: Tensor,
    /// Which items these are.
    pub ids: Vec<usize>,
    /// The others, each as `where it lies: why`, in order.
    pub skipped: Vec<String>,
}

/// The views of these items, `[n, 3, size, size]`, prepared on all of rayon's threads.
///
/// The view of evaluation draws nothing at random. Of one that does, each item has the same draw every time.
///
/// # Errors
/// When the view is not a possible one; items that cannot be read are left out.
pub fn images(source: &dyn Source, indices: &[usize], view: &ViewSpec) -> Result<Readable> {
    drawn_images(source, indices, view, 0)
}

/// The same with the `draw`-th draw of each item's view.
pub(crate) fn drawn_images(
    source: &dyn Source,
    indices: &[usize],
    view: &ViewSpec,
    draw: u64,
) -> Result<Readable> {
    view.validate()?;
    let size = i64::from(view.size());
    let width = (3 * size * size) as usize;
    let mut read = rows(source, indices, width, |index, image, row| {
        cpu::view(view, image, &mut stream(0, Purpose::View, &[0, index as u64, draw]), row);
    });
    read.x = read.x.view([-1, 3, size, size]);
    Ok(read)
}

/// A row of `width` numbers an item, `[n, width]`: `fill` is given the item, its picture and its row of zeros.
pub(crate) fn rows(
    source: &dyn Source,
    indices: &[usize],
    width: usize,
    fill: impl Fn(usize, &RgbImage, &mut [f32]) + Sync,
) -> Readable {
    let mut values = vec![0f32; indices.len() * width];
    let outcomes: Vec<Result<()>> = values
        .par_chunks_exact_mut(width)
        .zip(indices)
        .map(|(row, &index)| {
            fill(index, &source.image(index)?.decode()?, row);
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
            Err(why) => skipped.push(format!("{}: {why:#}", source.describe(index))),
        }
    }
    let all = Tensor::from_slice(&values).view([indices.len() as i64, width as i64]);
    let x = if skipped.is_empty() { all } else { all.index_select(0, &Tensor::from_slice(&kept)) };
    Readable { x, ids, skipped }
}
