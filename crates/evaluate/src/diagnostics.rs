//! Metrics of features without labels.

use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_losses::{alignment, effective_rank, koleo, uniformity};
use portolan_tensor::{Device, Kind, Precision, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::images::drawn_images;

/// The number of images, evenly spread over the source.
const IMAGES: usize = 512;

/// How features spread over the sphere. None of these metrics alone says how good the features are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diagnostics {
    /// Mean squared distance between two random views of an image: 0 if the features are invariant
    /// (Wang and Isola 2020).
    pub alignment: f64,
    /// How unevenly images fill the sphere: 0 if all are one point, and lower if more even (ibid.).
    pub uniformity: f64,
    /// The mean of −log of the distance to the nearest other image: high if images crowd
    /// (Sablayrolles et al. 2018).
    pub koleo: f64,
    /// The effective number of dimensions (RankMe, Garrido et al. 2022).
    pub effective_rank: f64,
}

/// Computes the metrics on some images of `source`: alignment on two draws of `training_view`, the
/// others on `eval_view`.
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
        if images.size()[0] < 2 {
            return Err(Error::Images("fewer than two images can be read".to_owned()));
        }
        let x = images.to_device(device);
        let features = no_grad(|| precision.run(device, || encoder.forward(&x, false)))
            .map_err(Error::dependency)?;
        Ok(features.to_device(Device::Cpu).to_kind(Kind::Float))
    };
    let plain = features(eval_view, 0)?;
    let (first, second) = (features(training_view, 0)?, features(training_view, 1)?);
    let number = |x: Tensor| x.double_value(&[]);
    Ok(Diagnostics {
        alignment: number(alignment(&first, &second, 2.0).map_err(Error::dependency)?),
        uniformity: number(uniformity(&plain, 2.0).map_err(Error::dependency)?),
        koleo: number(koleo(&plain, 1e-8).map_err(Error::dependency)?),
        effective_rank: number(effective_rank(&plain).map_err(Error::dependency)?),
    })
}
