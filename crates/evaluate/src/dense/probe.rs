//! A linear probe for pixels: segmentation and depth from frozen patch features.

use portolan_encoders::Encoder;
use portolan_optim::{Optimizer, OptimizerConfig, ParamGroup};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Precision, Tensor, Vars, no_grad};
use rand::seq::SliceRandom;

use super::bank::{Bank, Examples};
use super::features::patch_features;
use super::heads::{DepthHead, SegmentationHead};
use super::images::{NO_CLASS, dense_images};
use super::scores::{DepthErrors, DepthScores, SegmentationCounts, SegmentationScores};
use super::task::DenseTask;
use crate::error::{Error, Result};

/// Images per step: 16 in DINOv2's configs for ADE20K and NYU.
const BATCH: usize = 16;
/// AdamW's learning rate, that of DINOv2's config for ADE20K. Its config for NYU has 1e-4 over
/// 38,400 steps, too little for shorter runs.
const LEARNING_RATE: f64 = 1e-3;
/// AdamW's weight decay for segmentation (ADE20K) and for depth (NYU).
const WEIGHT_DECAY: [f64; 2] = [1e-4, 1e-2];
/// The share of steps in which the learning rate rises: 1,500 of 40,000 in the config for ADE20K.
/// It then falls linearly to 0.
const WARM_UP: f64 = 0.0375;
/// Steps in which the depth loss leaves out the variance (`warm_iter` of `sigloss.py`), and at most
/// the share of all steps that the learning rate rises in.
const DEPTH_WARM_UP: u64 = 100;
/// Images per pass when scoring.
const SCORED: usize = 64;

/// The result of a dense probe.
#[derive(Debug)]
pub struct LinearDense {
    /// How well pixels are classified, if there are masks.
    pub segmentation: Option<SegmentationScores>,
    /// How well their depth is predicted, in meters, if there are depth maps.
    pub depth: Option<DepthScores>,
    /// How many images were trained on.
    pub trained_on: usize,
    /// How many images were scored.
    pub scored: usize,
    /// The items that could not be read, each as `location: reason`.
    pub skipped: Vec<String>,
    /// The trained heads.
    pub heads: DenseHeads,
}

/// Trained heads, which predict classes and depth of pixels.
#[derive(Debug)]
pub struct DenseHeads {
    segmentation: Option<SegmentationHead>,
    depth: Option<DepthHead>,
    device: Device,
    precision: Precision,
}

/// What the heads predict, on the CPU.
#[derive(Debug)]
pub struct DensePrediction {
    /// `[n, side, side]`, int64, if there were masks.
    pub classes: Option<Tensor>,
    /// `[n, side, side]`, in meters, if there were depth maps.
    pub depth: Option<Tensor>,
}

impl DenseHeads {
    /// Predicts the pixels of images (`[n, 3, side, side]`, normalized) by the features of
    /// `encoder`, which is the one that the heads were trained on.
    ///
    /// # Errors
    /// When the encoder cannot take the images.
    pub fn predict(&self, encoder: &dyn Encoder, images: &Tensor) -> Result<DensePrediction> {
        let features = patch_features(encoder, images, self.device, self.precision)?;
        let side = images.size()[2];
        Ok(no_grad(|| DensePrediction {
            classes: self.segmentation.as_ref().map(|head| {
                head.logits(&features, side, false).argmax(1, false).to_device(Device::Cpu)
            }),
            depth: self
                .depth
                .as_ref()
                .map(|head| head.depth(&features, side, false).to_device(Device::Cpu)),
        }))
    }
}

/// Trains linear heads on the frozen patch features of `encoder` and scores them, as in DINOv2
/// (Oquab et al. 2023, arXiv 2304.07193, section 7.4, "linear" and "lin. 1"). Nothing is chosen on
/// the test images. Initial values come from libtorch's generator.
///
/// `steps` are those of the optimizer, over 16 images each: 40,000 in DINOv2 for ADE20K, 38,400 for
/// NYU. A tenth of the steps at a time, calls `on_progress` with the steps so far and the mean
/// losses since the last call.
///
/// # Errors
/// When there is nothing to train on or to score, or no image can be read, or a loss is not finite.
pub fn linear_dense(
    encoder: &dyn Encoder,
    on: &DenseTask,
    steps: u64,
    mut on_progress: impl FnMut(u64, &[f64]),
) -> Result<LinearDense> {
    if on.classes < 2 && !on.has_depth {
        return Err(Error::Images(
            "a dense probe needs masks of two classes or more, or depth maps".to_owned(),
        ));
    }
    let bank = Bank::of(encoder, on)?;
    let mut trainer = Trainer::new(on, &bank)?;
    let mut losses = Vec::new();
    for (step, ids) in (0..steps).zip(batches(&bank.ids)) {
        if let Some(batch) = bank.batch(&ids)? {
            losses.push(trainer.step(&batch, step, steps)?);
        }
        if (step + 1) % steps.div_ceil(10) == 0 || step + 1 == steps {
            on_progress(step + 1, &mean_losses(&losses)?);
            losses.clear();
        }
    }
    let heads = trainer.heads;
    let (segmentation, depth, scored, skipped) = score(encoder, on, &heads)?;
    let skipped = bank.skipped.into_iter().chain(skipped).collect();
    let trained_on = bank.ids.len();
    Ok(LinearDense { segmentation, depth, trained_on, scored, skipped, heads })
}

/// Batches of these images without end, in a new order at every epoch.
fn batches(ids: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    (0..).flat_map(move |epoch| {
        let mut order = ids.to_vec();
        order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        order.chunks(BATCH).map(<[usize]>::to_vec).collect::<Vec<_>>()
    })
}

fn mean_losses(losses: &[Tensor]) -> Result<Vec<f64>> {
    if losses.is_empty() {
        return Err(Error::Images("none of the images can be read any longer".to_owned()));
    }
    let means = Vec::<f64>::try_from(Tensor::stack(losses, 0).to_kind(Kind::Double).mean_dim(
        0,
        false,
        Kind::Double,
    ))?;
    if means.iter().all(|loss| loss.is_finite()) {
        return Ok(means);
    }
    Err(Error::Diverged("the dense probe diverged: its loss is not a number".to_owned()))
}

/// The heads and their optimizers.
struct Trainer {
    heads: DenseHeads,
    optimizers: Vec<Optimizer>,
}

impl Trainer {
    fn new(on: &DenseTask, bank: &Bank) -> Result<Self> {
        let first = bank.first()?;
        let width = first.features.map.size()[1];
        let segmentation = (on.classes >= 2)
            .then(|| SegmentationHead::new(Vars::new(on.device), width, on.classes as i64));
        let depth = on
            .has_depth
            .then(|| DepthHead::new(Vars::new(on.device), &first.features, bank.farthest));
        let vars = [
            segmentation.as_ref().map(SegmentationHead::vars),
            depth.as_ref().map(DepthHead::vars),
        ];
        let trained = vars.into_iter().zip(WEIGHT_DECAY);
        let trained = trained.filter_map(|(vars, decay)| vars.map(|vars| (vars, decay)));
        let optimizer = |(vars, weight_decay): (&Vars, f64)| {
            let adamw = OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay };
            let group = ParamGroup::all("head", vars.parameters());
            Optimizer::new(adamw, LEARNING_RATE, vec![group]).map_err(Error::dependency)
        };
        let optimizers = trained.map(optimizer).collect::<Result<_>>()?;
        let (device, precision) = (on.device, on.precision);
        Ok(Trainer { heads: DenseHeads { segmentation, depth, device, precision }, optimizers })
    }

    /// One step; the losses of segmentation and depth, of those there are.
    fn step(&mut self, batch: &Examples, step: u64, total: u64) -> Result<Tensor> {
        let side = batch.classes.size()[1];
        let mut losses = Vec::new();
        if let Some(head) = &self.heads.segmentation {
            let logits = head.logits(&batch.features, side, /* train */ true);
            losses.push(SegmentationHead::loss(&logits, &batch.classes.to_kind(Kind::Int64)));
        }
        if let Some(head) = &self.heads.depth {
            let depth = head.depth(&batch.features, side, /* train */ true);
            losses.push(DepthHead::loss(
                &depth,
                &batch.depth,
                step < DEPTH_WARM_UP.min((WARM_UP * total as f64) as u64),
            ));
        }
        let rate = LEARNING_RATE * share_of_rate(step, total);
        for optimizer in &mut self.optimizers {
            optimizer.zero_grad().map_err(Error::dependency)?;
        }
        let losses = Tensor::stack(&losses, 0);
        losses.sum(Kind::Float).backward();
        for optimizer in &mut self.optimizers {
            optimizer.step(rate, 0.0).map_err(Error::dependency)?;
        }
        Ok(losses.detach())
    }
}

/// A linear rise over [`WARM_UP`] of the steps, then a linear fall to 0.
fn share_of_rate(step: u64, total: u64) -> f64 {
    let (step, total) = ((step + 1) as f64, total as f64);
    (step / (WARM_UP * total).max(1.0)).min(1.0) * (1.0 - (step - 1.0) / total)
}

type Scored = (Option<SegmentationScores>, Option<DepthScores>, usize, Vec<String>);

fn score(encoder: &dyn Encoder, on: &DenseTask, heads: &DenseHeads) -> Result<Scored> {
    let mut counts = SegmentationCounts::new(on.classes.max(1) as i64, NO_CLASS);
    let mut errors = DepthErrors::default();
    let (mut scored, mut skipped) = (0, Vec::new());
    let indices: Vec<usize> = (0..on.test.len()).collect();
    for part in indices.chunks(SCORED) {
        let read = dense_images(on.test, part, on.view)?;
        scored += read.ids.len();
        if !read.ids.is_empty() {
            let predicted = heads.predict(encoder, &read.x)?;
            if let Some(classes) = predicted.classes {
                counts.add(&classes, &read.labels())?;
            }
            if let Some(depth) = predicted.depth {
                errors.add(&depth, &read.depth)?;
            }
        }
        skipped.extend(read.skipped);
    }
    if scored == 0 {
        return Err(Error::Images(match skipped.first() {
            Some(first) => format!("none of the test images can be read; the first: {first}"),
            None => "there is no test image to score".to_owned(),
        }));
    }
    let segmentation = heads.segmentation.as_ref().map(|_| counts.scores()).transpose()?;
    let depth = heads.depth.as_ref().map(|_| errors.scores()).transpose()?;
    Ok((segmentation, depth, scored, skipped))
}

#[cfg(test)]
mod tests;
