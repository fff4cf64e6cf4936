//! A batch's views: made by the loader's threads, or begun there and finished on the device.

use anyhow::{Context, Result, anyhow, ensure};
use image::RgbImage;
use portolan_augment::{Draws, Op, ViewSpec, cpu, device as on_device};
use portolan_data::Source;
use portolan_random::{Purpose, Stream, stream};
use portolan_tensor::{Device, Tensor, channels_last, distributed, from_fill, page_locked, upload};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Where views are made of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// On a GPU if the network is there, by the CPU otherwise.
    Auto,
    /// By the loader's threads, each view from a random stream of its own.
    Cpu,
    /// On the network's device, by operations on whole batches. Images of one size that fit stay there; of others the
    /// crop is made by the loader's threads.
    Device,
}

impl Augment {
    /// What `Auto` means for this device of the network.
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

/// Which micro-batch: what its random streams are named by.
#[derive(Clone, Copy)]
pub(crate) struct BatchIndex {
    pub(crate) epoch: u64,
    pub(crate) step: u64,
    pub(crate) micro_batch: u64,
}

/// A batch as it leaves the loader's threads.
pub(crate) struct HostBatch {
    views: Vec<View>,
    pub(crate) ids: Vec<usize>,
}

/// One view of each image of a batch; tensors are on the CPU, page-locked where they go to a GPU.
enum View {
    /// `[batch, 3, size, size]`, float32, normalized.
    Made(Tensor),
    /// Cropped images, `[batch, size, size, 3]`, uint8, and what is to be done with them.
    Cropped(Tensor, Draws),
    /// What is to be done with images that are on the device.
    Drawn(Draws),
}

/// The loader's part: it reads images, and makes or begins their views.
pub(crate) struct HostStage {
    source: Arc<dyn Source>,
    specs: Vec<ViewSpec>,
    seed: u64,
    /// Which process of the job this is.
    rank: usize,
    augment: Augment,
    device: Device,
    /// Width and height of all images, where they are on the device.
    resident: Option<(u32, u32)>,
    pub(crate) skipped: Skipped,
}

/// The device's part: it finishes what was begun.
pub(crate) struct DeviceStage {
    specs: Vec<ViewSpec>,
    device: Device,
    /// All images, `[n, height, width, 3]`, uint8, on the device, where they fit there.
    resident: Option<Tensor>,
}

/// Both parts, the images uploaded where views are made on the device and they fit there. Runs on rayon's threads.
///
/// # Errors
/// When images are wanted on the device and none can be read.
pub(crate) fn parts(
    source: Arc<dyn Source>,
    specs: Vec<ViewSpec>,
    seed: u64,
    augment: Augment,
    device: Device,
) -> Result<(HostStage, DeviceStage)> {
    let (augment, skipped) = (augment.on(device), Skipped::default());
    let finisher = DeviceStage { specs: specs.clone(), device, resident: None };
    let rank = distributed::rank();
    let maker = HostStage { source, specs, seed, rank, augment, device, resident: None, skipped };
    if maker.augment == Augment::Cpu {
        return Ok((maker, finisher));
    }
    ensure!(
        !maker.specs.iter().flat_map(|spec| &spec.ops).any(|op| matches!(op, Op::RandAugment(_))),
        "`rand_augment` is made by the CPU alone; set `augment` to \"cpu\""
    );
    let resident = maker.one_tensor()?;
    let size_of = |images: &Tensor| (images.size()[2] as u32, images.size()[1] as u32);
    Ok((
        HostStage { resident: resident.as_ref().map(size_of), ..maker },
        DeviceStage { resident: resident.map(|images| images.to_device(device)), ..finisher },
    ))
}

impl HostStage {
    /// All images, `[n, height, width, 3]`, if they are few enough and of one size.
    fn one_tensor(&self) -> Result<Option<Tensor>> {
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

    /// The part of a batch's views that is the loader's. Runs on rayon's threads.
    ///
    /// # Errors
    /// When no image can be read.
    pub(crate) fn prepare(&self, moment: BatchIndex, ids: &[usize]) -> Result<HostBatch> {
        let specs = self.specs.iter().enumerate();
        let views = if let Some(size) = self.resident {
            let sizes = vec![size; ids.len()];
            specs.map(|(v, spec)| View::Drawn(self.draws(moment, v, spec, &sizes))).collect()
        } else {
            let read =
                |&id: &usize| self.readable(id, |size| self.looked_at(moment.epoch, id, size));
            let images: Vec<RgbImage> = ids.par_iter().map(read).collect::<Result<_>>()?;
            let images: Vec<&RgbImage> = images.iter().collect();
            let view = |(v, spec)| match self.augment {
                Augment::Device => self.cropped(moment, v, spec, &images, ids),
                _ => self.made(moment.epoch, v, spec, &images, ids),
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
        View::Made(page_locked(&made, self.device))
    }

    /// What a view of the item is drawn from.
    fn stream(&self, epoch: u64, id: usize, v: usize) -> Stream {
        stream(self.seed, Purpose::View, &[epoch, id as u64, v as u64])
    }

    /// The columns and rows that the item's views look at in an image of this size.
    fn looked_at(&self, epoch: u64, id: usize, size: (u32, u32)) -> (Range<u32>, Range<u32>) {
        let views = self.specs.iter().enumerate();
        cpu::needed_area(size, views.map(|(v, spec)| (spec, self.stream(epoch, id, v))))
    }

    fn cropped(
        &self,
        moment: BatchIndex,
        v: usize,
        spec: &ViewSpec,
        images: &[&RgbImage],
        ids: &[usize],
    ) -> View {
        let sizes: Vec<_> = images.iter().map(|image| image.dimensions()).collect();
        let mut draws = self.draws(moment, v, spec, &sizes);
        // By the item and not by the batch, as on the CPU: what is looked at has to be known before an image is decoded.
        let region =
            |(&id, &size)| cpu::crop_region(spec, size, &mut self.stream(moment.epoch, id, v));
        draws.set_regions(ids.iter().zip(&sizes).map(region).collect());
        let size = i64::from(spec.size());
        let cropped = from_fill(&[images.len() as i64, size, size, 3], |levels: &mut [u8]| {
            let each = levels.par_chunks_exact_mut(levels.len() / images.len());
            each.zip(images).enumerate().for_each(|(i, (out, image))| {
                cpu::cropped(&draws, i, image, out);
            });
        });
        View::Cropped(page_locked(&cropped, self.device), draws)
    }

    fn draws(&self, moment: BatchIndex, v: usize, spec: &ViewSpec, sizes: &[(u32, u32)]) -> Draws {
        let mut numbers = vec![moment.step, moment.micro_batch, v as u64];
        // One stream a batch: other processes' parts of it need others.
        numbers.extend((self.rank > 0).then_some(self.rank as u64));
        Draws::new(spec, sizes, &mut stream(self.seed, Purpose::BatchViews, &numbers))
    }

    /// The item's image or, where it cannot be read, the next readable item's: batches keep their size, and
    /// the choice depends on the data alone. `wanted` says of what part of an image the pixels are needed.
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
        Err(anyhow!(
            "none of the {n} images can be read; the first that was tried: {}",
            first.unwrap_or_default()
        ))
    }
}

impl DeviceStage {
    /// Finishes a batch's views: `[batch, 3, size, size]` each, float32, normalized, on the device, the channels last in
    /// memory. To be called where the device's other work is queued, and outside of autocast.
    ///
    /// # Errors
    /// When nothing is on the device though the views were only drawn.
    pub(crate) fn finish(&self, prepared: &HostBatch) -> Result<Vec<Tensor>> {
        let ids: Vec<i64> = prepared.ids.iter().map(|&id| id as i64).collect();
        let images = self
            .resident
            .as_ref()
            .map(|all| all.index_select(0, &upload(&Tensor::from_slice(&ids), self.device)));
        let finish = |view: &View| match view {
            View::Made(made) => Ok(upload(made, self.device)),
            View::Cropped(cropped, draws) => {
                Ok(on_device::views_of_cropped(&upload(cropped, self.device), draws))
            }
            View::Drawn(draws) => {
                let images = images.as_ref().context("the images are not on the device")?;
                Ok(on_device::views(images, draws))
            }
        };
        ensure!(
            prepared.views.len() == self.specs.len(),
            "a batch has a view for each specification"
        );
        let views = prepared.views.iter().map(finish);
        views.map(|view| view.map(|view| channels_last(&view))).collect()
    }
}
