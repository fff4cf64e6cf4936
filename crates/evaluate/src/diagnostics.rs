//! What features look like, without labels.

use crate::images::drawn_images;
use anyhow::{Result, ensure};
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_losses::{alignment, effective_rank, koleo, uniformity};
use portolan_tensor::{Device, Kind, Precision, Tensor, no_grad};

/// Images that are looked at, evenly spread over the source.
const IMAGES: usize = 512;

/// CollapseMetrics of how features spread over the sphere. None of them is a figure of merit by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diagnostics {
    /// Mean squared distance of two random views of an image: 0 where views do not matter (Wang, Isola 2020).
    pub alignment: f64,
    /// How unevenly images fill the sphere, 0 where all are one point; the lower, the more even (the same).
    pub uniformity: f64,
    /// −log of the distance to the nearest other image, on average: high where images crowd (Sablayrolles 2018).
    pub koleo: f64,
    /// How many directions the features use (RankMe, Garrido et al. 2022).
    pub effective_rank: f64,
}

/// Reads the signs off some images of `source`: alignment on two draws of `training_view`, the others on `eval_view`.
///
/// # Errors
/// When fewer than two images can be read.
pub fn diagnose(
    encoder: &dyn Encoder,
    source: &dyn Source,
    eval_view: &ViewSpec,
    training_view: &ViewSpec,
    device: Device,
    precision: Precision,
) -> Result<Diagnostics> {
    let count = source.len().min(IMAGES);
    let items: Vec<usize> = (0..count).map(|i| i * source.len() / count).collect();
    let features = |view: &ViewSpec, draw: u64| -> Result<Tensor> {
        let images = drawn_images(source, &items, view, draw)?.x;
        ensure!(images.size()[0] >= 2, "fewer than two images can be read");
        let x = images.to_device(device);
        let features = no_grad(|| precision.run(device, || encoder.forward(&x, false)))?;
        Ok(features.to_device(Device::Cpu).to_kind(Kind::Float))
    };
    let plain = features(eval_view, 0)?;
    let (first, second) = (features(training_view, 0)?, features(training_view, 1)?);
    let number = |x: Tensor| x.double_value(&[]);
    Ok(Diagnostics {
        alignment: number(alignment(&first, &second, 2.0)?),
        uniformity: number(uniformity(&plain, 2.0)?),
        koleo: number(koleo(&plain, 1e-8)?),
        effective_rank: number(effective_rank(&plain)?),
    })
}
