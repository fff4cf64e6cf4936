//! What a frozen encoder makes of a source's images.

use crate::images::{Readable, drawn_images, images};
use anyhow::{Context, Result, bail, ensure};
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_random::{Purpose, stream};
use portolan_tensor::{
    Device, Kind, Precision, Tensor, channels_last, distributed, no_grad, upload,
};
use rand::seq::SliceRandom;
use std::fmt;
use std::sync::mpsc::sync_channel;

/// Images of one forward pass, and fewer where they are large: this many pixels at most. A CPU does best with what stays
/// near its caches: ten images at 224 px.
const BATCH: usize = 256;
const BATCH_PIXELS: usize = 1 << 22;
const BATCH_PIXELS_ON_CPU: usize = 1 << 19;

/// Images of one batch when statistics are recalibrated.
const RECALIBRATION_BATCH: usize = 256;

/// The features of the images that could be read.
#[derive(Debug)]
pub struct Features {
    /// `[n, width]`, float32 on the CPU.
    pub x: Tensor,
    /// `[n]`, int64, where every one of the images has a label.
    pub labels: Option<Tensor>,
    /// Which items of the source these are.
    pub ids: Vec<usize>,
    /// The items that could not be read, each as `where it lies: why`, in order.
    pub skipped: Vec<String>,
}

impl Features {
    /// Adds the labels to the rows that were made of `source`.
    pub(crate) fn new(source: &dyn Source, rows: Readable) -> Result<Self> {
        let Readable { x, ids, skipped } = rows;
        if ids.is_empty() {
            bail!(unreadable(&skipped));
        }
        let labels: Option<Vec<i64>> =
            ids.iter().map(|&id| source.label(id).map(i64::from)).collect();
        Ok(Features { x, labels: labels.map(|labels| Tensor::from_slice(&labels)), ids, skipped })
    }

    /// The labels, for a measure that needs them.
    ///
    /// # Errors
    /// When the images have none; the message says how folders give them.
    pub fn labels(&self) -> Result<&Tensor> {
        self.labels.as_ref().context(
            "accuracies need labeled images, and these have no labels: \
             put each class's images into a folder of its own",
        )
    }
}

/// One pass over `source` with the encoder in evaluation mode: no gradients, and neither parameters nor
/// batch statistics move. The next images are prepared while the encoder is at work on the last.
///
/// In a job of several processes all have to call it: each embeds a part of the images, and knows what it could not read of it.
///
/// # Errors
/// When no image can be read, the view is not a possible one, or the encoder's features are not finite.
pub fn features(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    device: Device,
    precision: Precision,
) -> Result<Features> {
    features_of_draw(encoder, source, view, 0, device, precision)
}

/// Features that are no numbers, as an error that callers can tell from others.
#[derive(Debug)]
pub struct NotFinite;

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the encoder's features are not finite numbers: its training diverged, or its weights are damaged",
        )
    }
}

impl std::error::Error for NotFinite {}

/// The same on the `draw`-th draw of a view that draws at random.
///
/// # Errors
/// As [`features`].
pub fn features_of_draw(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    draw: u64,
    device: Device,
    precision: Precision,
) -> Result<Features> {
    // In a job of several processes each embeds a part, and all get the whole.
    let (rank, processes) = (distributed::rank(), distributed::world_size());
    let part = |rank: usize| source.len() * rank / processes;
    let indices: Vec<usize> = (part(rank)..part(rank + 1)).collect();
    let pixels = (view.size() as usize).pow(2).max(1);
    let most = if device.is_cuda() { BATCH_PIXELS } else { BATCH_PIXELS_ON_CPU };
    let batch = (most / pixels).clamp(1, BATCH);
    let frozen = (precision == Precision::Fp32).then(|| encoder.frozen());
    let forward = |x: &Tensor| match &frozen {
        Some(frozen) => Ok(frozen(x)),
        None => no_grad(|| precision.run(device, || encoder.forward(x, /* train */ false))),
    };
    let mut blocks = Vec::new();
    let (mut ids, mut skipped) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            for part in indices.chunks(batch) {
                // Nobody listens any more once the encoder has failed.
                if sender.send(drawn_images(source, part, view, draw)).is_err() {
                    return;
                }
            }
        });
        for read in batches {
            let read = read?;
            if !read.ids.is_empty() {
                let x = channels_last(&upload(&read.x, device));
                blocks.push(forward(&x)?.to_device(Device::Cpu).to_kind(Kind::Float));
            }
            ids.extend(read.ids);
            skipped.extend(read.skipped);
        }
        Ok(())
    })?;
    let x = match &blocks[..] {
        [] => Tensor::zeros([0, encoder.width()], (Kind::Float, Device::Cpu)),
        blocks => Tensor::cat(blocks, 0),
    };
    let x = distributed::all_gather_ragged(&x)?;
    ensure!(bool::try_from(x.isfinite().all())?, NotFinite); // asked of the whole: all processes say the same
    let ids: Vec<i64> = ids.into_iter().map(|id| id as i64).collect();
    let ids: Vec<i64> = Vec::try_from(distributed::all_gather_ragged(&Tensor::from_slice(&ids))?)?;
    let ids = ids.into_iter().map(|id| id as usize).collect();
    Features::new(source, Readable { x, ids, skipped })
}

/// Brings the batch statistics of an untrained encoder up to date with `count` training images, drawn at
/// random (again from the start where the source has fewer). Nothing else of the encoder moves. A batch of
/// 256 replaces a tenth of the statistics: 10,000 images leave less than 2 % of what they were.
///
/// Without it the statistics describe no images, and the encoder may be an unfairly poor baseline. It may also be
/// a better one: a deep random network whose batch norms work tends to make all images alike in direction.
/// Say which of the two a figure is.
///
/// # Errors
/// When the images cannot be read or the view is not a possible one.
pub fn recalibrate(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    device: Device,
    count: usize,
    seed: u64,
) -> Result<()> {
    ensure!(!source.is_empty() && count > 0, "no image to recalibrate batch statistics with");
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.shuffle(&mut stream(seed, Purpose::Subset, &[]));
    let drawn: Vec<usize> = order.into_iter().cycle().take(count).collect();
    let mut outcome = Ok(());
    // Whole batches only: a small one's statistics are poor, and would weigh as much as the others'.
    let batches = drawn.chunks_exact(RECALIBRATION_BATCH.min(count));
    let mut batches = batches.map_while(|part| match readable(source, part, view) {
        Ok(x) => Some(x.to_device(device)),
        Err(why) => {
            outcome = Err(why);
            None
        }
    });
    encoder.recalibrate(&mut batches);
    outcome
}

/// The views of those of these items that can be read; at least one.
fn readable(source: &dyn Source, part: &[usize], view: &ViewSpec) -> Result<Tensor> {
    let read = images(source, part, view)?;
    if read.ids.is_empty() {
        bail!(unreadable(&read.skipped));
    }
    Ok(read.x)
}

fn unreadable(skipped: &[String]) -> String {
    match skipped.first() {
        Some(first) => {
            format!("none of the {} images can be read; the first: {first}", skipped.len())
        }
        None => "there is no image to look at".to_owned(),
    }
}
