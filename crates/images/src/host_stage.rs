//! The loader's first stage: threads read images and compute their views, or draw the parameters
//! for the device.

use image::RgbImage;
use portolan_augment::{Draws, ViewSpec, cpu};
use portolan_data::Source;
use portolan_random::{Purpose, Stream, stream};
use portolan_tensor::{Device, Tensor, from_fill, pin_memory};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};

/// Where the views of images are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// On the GPU if the network is there, otherwise on the CPU.
    Auto,
    /// On the loader's threads; each view has its own random stream.
    Cpu,
    /// On the network's device, with operations on whole batches. If all images have one size and
    /// fit in its memory, they stay there; otherwise the loader's threads crop them.
    Device,
}

impl Augment {
    /// Resolves `Auto` for the device of the network.
    #[must_use]
    pub fn on(self, device: Device) -> Augment {
        match self {
            Augment::Auto if device.is_cuda() => Augment::Device,
            Augment::Auto => Augment::Cpu,
            chosen => chosen,
        }
    }
}

/// The most bytes of images that stay on the device.
const RESIDENT: u64 = 2 << 30;

/// The items that could not be read, with the reason: `describe: why`.
pub(crate) type Skipped = Arc<Mutex<BTreeMap<usize, String>>>;

/// The position of a micro-batch in the run, which names its random streams.
#[derive(Clone, Copy)]
pub(crate) struct BatchIndex {
    pub(crate) epoch: u64,
    pub(crate) step: u64,
    pub(crate) micro_batch: u64,
}

/// A batch as it leaves the loader's threads.
pub(crate) struct HostBatch {
    pub(crate) views: Vec<View>,
    pub(crate) ids: Vec<usize>,
}

/// One view of each image of a batch; tensors are on the CPU, page-locked where they go to a GPU.
pub(crate) enum View {
    /// `[batch, 3, size, size]`, float32, normalized.
    Made(Tensor),
    /// Cropped images, `[batch, size, size, 3]`, uint8, and the remaining operations.
    Cropped(Tensor, Draws),
    /// The operations on images that are on the device.
    Drawn(Draws),
}

/// Reads images, and computes or begins their views.
pub(crate) struct HostStage {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) specs: Vec<ViewSpec>,
    pub(crate) seed: u64,
    /// The rank of this process.
    pub(crate) rank: usize,
    pub(crate) augment: Augment,
    pub(crate) device: Device,
    /// Width and height of all images, if they are on the device.
    pub(crate) resident: Option<(u32, u32)>,
    pub(crate) skipped: Skipped,
}

impl HostStage {
    /// All images, `[n, height, width, 3]`, if they are few enough and of one size.
    pub(crate) fn one_tensor(&self) -> Result<Option<Tensor>> {
        let whole = |(width, height)| (0..width, 0..height);
        let first = self.readable(0, whole)?;
        let (n, bytes) = (self.source.len(), first.as_raw().len());
        if bytes as u64 * n as u64 > RESIDENT {
            return Ok(None);
        }
        let (width, height) = first.dimensions();
        let shape = [n as i64, i64::from(height), i64::from(width), 3];
        let mut outcome = Ok(());
        let images = from_fill(&shape, |levels: &mut [u8]| {
            let each = levels.par_chunks_exact_mut(bytes).enumerate();
            outcome = each.try_for_each(|(i, out)| {
                let image = self.readable(i, whole).map_err(Some)?;
                if image.dimensions() != first.dimensions() {
                    return Err(None); // the others need not be read
                }
                out.copy_from_slice(image.as_raw());
                Ok(())
            });
        });
        match outcome {
            Ok(()) => Ok(Some(images)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// Computes or begins the views of a batch. Runs on rayon's threads.
    ///
    /// # Errors
    /// When no image can be read.
    pub(crate) fn prepare(&self, index: BatchIndex, ids: &[usize]) -> Result<HostBatch> {
        let specs = self.specs.iter().enumerate();
        let views = if let Some(size) = self.resident {
            let sizes = vec![size; ids.len()];
            specs.map(|(v, spec)| View::Drawn(self.draws(index, v, spec, &sizes))).collect()
        } else {
            let read =
                |&id: &usize| self.readable(id, |size| self.needed_area(index.epoch, id, size));
            let images: Vec<RgbImage> = ids.par_iter().map(read).collect::<Result<_>>()?;
            let images: Vec<&RgbImage> = images.iter().collect();
            let view = |(v, spec)| match self.augment {
                Augment::Device => self.cropped(index, v, spec, &images, ids),
                _ => self.made(index.epoch, v, spec, &images, ids),
            };
            specs.map(view).collect()
        };
        Ok(HostBatch { views, ids: ids.to_vec() })
    }

    fn made(
        &self,
        epoch: u64,
        v: usize,
        spec: &ViewSpec,
        images: &[&RgbImage],
        ids: &[usize],
    ) -> View {
        let size = i64::from(spec.size());
        let name = |i: usize| self.stream(epoch, ids[i], v);
        let made = from_fill(&[images.len() as i64, 3, size, size], |values: &mut [f32]| {
            cpu::batch(spec, images, name, values);
        });
        View::Made(pin_memory(&made, self.device))
    }

    /// The random stream of one view of an item.
    fn stream(&self, epoch: u64, id: usize, v: usize) -> Stream {
        stream(self.seed, Purpose::View, &[epoch, id as u64, v as u64])
    }

    /// The columns and rows of an image of this size that the item's views need.
    fn needed_area(&self, epoch: u64, id: usize, size: (u32, u32)) -> (Range<u32>, Range<u32>) {
        let views = self.specs.iter().enumerate();
        cpu::needed_area(size, views.map(|(v, spec)| (spec, self.stream(epoch, id, v))))
    }

    fn cropped(
        &self,
        index: BatchIndex,
        v: usize,
        spec: &ViewSpec,
        images: &[&RgbImage],
        ids: &[usize],
    ) -> View {
        let sizes: Vec<_> = images.iter().map(|image| image.dimensions()).collect();
        let mut draws = self.draws(index, v, spec, &sizes);
        // The crop is drawn for each item, not for the batch, as on the CPU: it must be known
        // before an image is decoded.
        let region =
            |(&id, &size)| cpu::crop_region(spec, size, &mut self.stream(index.epoch, id, v));
        draws.set_regions(ids.iter().zip(&sizes).map(region).collect());
        let size = i64::from(spec.size());
        let cropped = from_fill(&[images.len() as i64, size, size, 3], |levels: &mut [u8]| {
            let each = levels.par_chunks_exact_mut(levels.len() / images.len());
            each.zip(images).enumerate().for_each(|(i, (out, image))| {
                cpu::cropped(&draws, i, image, out);
            });
        });
        View::Cropped(pin_memory(&cropped, self.device), draws)
    }

    fn draws(&self, index: BatchIndex, v: usize, spec: &ViewSpec, sizes: &[(u32, u32)]) -> Draws {
        let mut numbers = vec![index.step, index.micro_batch, v as u64];
        // There is one stream for each batch, so other processes need other streams for their
        // parts.
        numbers.extend((self.rank > 0).then_some(self.rank as u64));
        Draws::new(spec, sizes, &mut stream(self.seed, Purpose::BatchViews, &numbers))
    }

    /// The item's image, or the next readable item's if it cannot be read. Batches thus keep their
    /// size, and the choice depends only on the data. `wanted` returns the columns and rows that
    /// are needed of an image of the given size.
    fn readable(
        &self,
        id: usize,
        wanted: impl Fn((u32, u32)) -> (Range<u32>, Range<u32>),
    ) -> Result<RgbImage> {
        let n = self.source.len();
        let mut first = None;
        for offset in 0..n {
            let candidate = (id + offset) % n;
            let image = self.source.image(candidate);
            match image.and_then(|one| one.decode_region(|width, height| wanted((width, height)))) {
                Ok(image) => return Ok(image),
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    let why = format!("{}: {error:#}", self.source.describe(candidate));
                    first.get_or_insert_with(|| why.clone());
                    if let Ok(mut skipped) = self.skipped.lock() {
                        skipped.insert(candidate, why);
                    }
                }
            }
        }
        Err(Error::Unreadable { images: n, first: first.unwrap_or_default() })
    }
}
