//! Features of a frozen encoder.

use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_random::{Purpose, stream};
use portolan_tensor::{
    Device, Kind, Precision, Tensor, channels_last, distributed, no_grad, upload,
};
use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::images::{LoadedImages, each_batch, images};

/// Images per forward pass, if they are small.
const BATCH: usize = 256;
/// Pixels per forward pass, which limit the number of large images.
const BATCH_PIXELS: usize = 1 << 22;
/// The same on a CPU, which is fastest when activations stay near its caches: ten images at 224 px.
const BATCH_PIXELS_ON_CPU: usize = 1 << 19;

/// Images per batch when statistics are recalibrated.
const RECALIBRATION_BATCH: usize = 256;

/// The features of the images that could be read.
#[derive(Debug)]
pub struct Features {
    /// `[n, width]`, float32 on the CPU.
    pub x: Tensor,
    /// `[n]`, int64, if every image has a label.
    pub labels: Option<Tensor>,
    /// The indices of these images in the source.
    pub ids: Vec<usize>,
    /// The items that could not be read, each as `location: reason`, in order.
    pub skipped: Vec<String>,
}

impl Features {
    /// Adds the labels to rows that were computed from `source`.
    pub(crate) fn new(source: &dyn Source, rows: LoadedImages) -> Result<Self> {
        let LoadedImages { x, ids, skipped } = rows;
        if ids.is_empty() {
            return Err(unreadable(&skipped));
        }
        let labels: Option<Vec<i64>> =
            ids.iter().map(|&id| source.label(id).map(i64::from)).collect();
        Ok(Features { x, labels: labels.map(|labels| Tensor::from_slice(&labels)), ids, skipped })
    }

    /// The labels.
    ///
    /// # Errors
    /// When there are none. The message says how folders define them.
    pub fn labels(&self) -> Result<&Tensor> {
        self.labels.as_ref().ok_or(Error::Unlabeled(
            "accuracies need labeled images, and these have no labels: \
             put each class's images into a folder of its own",
        ))
    }
}

/// The features of all images of `source`, from one pass with the encoder in evaluation mode:
/// without gradients, and without changing parameters or batch statistics. Images are prepared
/// while the encoder works on the previous ones.
///
/// In a job of several processes, all must call it: each embeds a part of the images, and lists the
/// unreadable images of its part only.
///
/// # Errors
/// When no image can be read, the view is invalid, or the features are not finite
/// ([`Error::NotFinite`]).
pub fn features(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    device: Device,
    precision: Precision,
) -> Result<Features> {
    features_of_draw(encoder, source, view, 0, device, precision)
}

/// The same for the `draw`-th draw of a random view.
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
    // In a job of several processes, each embeds a part and all gather the whole.
    let (rank, processes) = (distributed::rank(), distributed::world_size());
    let part = |rank: usize| source.len() * rank / processes;
    let indices: Vec<usize> = (part(rank)..part(rank + 1)).collect();
    let pixels = (view.size() as usize).pow(2).max(1);
    let most = if device.is_cuda() { BATCH_PIXELS } else { BATCH_PIXELS_ON_CPU };
    let batch = (most / pixels).clamp(1, BATCH);
    let frozen = (precision == Precision::Fp32).then(|| encoder.frozen());
    let forward = |x: &Tensor| match &frozen {
        Some(frozen) => Ok(frozen(x)),
        None => no_grad(|| precision.run(device, || encoder.forward(x, /* train */ false)))
            .map_err(Error::dependency),
    };
    let mut blocks = Vec::new();
    let (mut ids, mut skipped) = (Vec::new(), Vec::new());
    each_batch(source, indices.chunks(batch), view, draw, |read| {
        if !read.ids.is_empty() {
            let x = channels_last(&upload(&read.x, device));
            blocks.push(forward(&x)?.to_device(Device::Cpu).to_kind(Kind::Float));
        }
        ids.extend(read.ids);
        skipped.extend(read.skipped);
        Ok(())
    })?;
    let x = match &blocks[..] {
        [] => Tensor::zeros([0, encoder.width()], (Kind::Float, Device::Cpu)),
        blocks => Tensor::cat(blocks, 0),
    };
    let gather = |x: &Tensor| distributed::all_gather_ragged(x).map_err(Error::dependency);
    let x = gather(&x)?;
    // Checked after gathering, so that all processes agree.
    if !bool::try_from(x.isfinite().all())? {
        return Err(Error::NotFinite);
    }
    let ids: Vec<i64> = ids.into_iter().map(|id| id as i64).collect();
    let ids: Vec<i64> = Vec::try_from(gather(&Tensor::from_slice(&ids))?)?;
    let ids = ids.into_iter().map(|id| id as usize).collect();
    Features::new(source, LoadedImages { x, ids, skipped })
}

/// Recalibrates the batch statistics of an untrained encoder with `count` random training images
/// (repeated if the source has fewer). Nothing else of the encoder changes. A batch of 256 replaces
/// a tenth of the statistics: 10,000 images leave less than 2 % of the initial ones.
///
/// The initial statistics describe no images, which may make the encoder an unfairly poor baseline.
/// They may also make it a better one: a deep random network with working batch norms tends to give
/// all images similar directions. Reports should say which of the two they show.
///
/// # Errors
/// When the images cannot be read or the view is invalid.
pub fn recalibrate(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    device: Device,
    count: usize,
    seed: u64,
) -> Result<()> {
    if source.is_empty() || count == 0 {
        return Err(Error::Images("no image to recalibrate batch statistics with".to_owned()));
    }
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.shuffle(&mut stream(seed, Purpose::Subset, &[]));
    let drawn: Vec<usize> = order.into_iter().cycle().take(count).collect();
    let mut outcome = Ok(());
    // Whole batches only: statistics of a small one are poor, and would weigh as much as the
    // others.
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

/// The views of the readable items, at least one.
fn readable(source: &dyn Source, part: &[usize], view: &ViewSpec) -> Result<Tensor> {
    let read = images(source, part, view)?;
    if read.ids.is_empty() {
        return Err(unreadable(&read.skipped));
    }
    Ok(read.x)
}

fn unreadable(skipped: &[String]) -> Error {
    Error::Images(match skipped.first() {
        Some(first) => {
            format!("none of the {} images can be read; the first: {first}", skipped.len())
        }
        None => "there is no image to evaluate".to_owned(),
    })
}
