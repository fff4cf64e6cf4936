//! Barlow Twins: redundancy reduction between the features of two views.
//!
//! Zbontar et al. 2021, *Barlow Twins: Self-Supervised Learning via Redundancy Reduction*, arXiv
//! 2103.03230.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_barlow::{Barlow, BarlowConfig};
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let config = BarlowConfig { hidden: 256, dim: 256, ..BarlowConfig::default() };
//! let barlow = Barlow::new(config, &encoder, presets::byol(64).into(), Device::Cpu)?;
//! assert_eq!(barlow.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! The loss pulls the cross-correlation matrix of the two views' outputs over a batch towards the
//! identity. A diagonal of one makes each feature invariant to the augmentations; zeros elsewhere
//! make the features non-redundant. There is one network, with no negatives and no stop-gradient:
//! the off-diagonal terms keep the outputs from collapsing.

mod config;
mod entry;

pub use config::BarlowConfig;
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead};
use portolan_losses::barlow_twins::{correlation, from_correlation};
use portolan_method::{
    Batch, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss, validate_views,
};
use portolan_optim::{LrRule, ParamGroup};
use portolan_tensor::{Device, Kind, Tensor, no_grad, prefixed};

/// Barlow Twins, ready to train.
#[derive(Debug)]
pub struct Barlow {
    config: BarlowConfig,
    views: Vec<ViewSpec>,
    network: EncoderWithHead,
    /// The corner of the matrix in the last loss.
    correlation: Option<Tensor>,
}

/// How much of the matrix is kept to be drawn, in rows and columns: all of a wide head's would be
/// hundreds of megabytes.
const KEPT: i64 = 64;

impl Barlow {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: BarlowConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("Barlow Twins", &views, 2, encoder)?;
        let widths = |_| ProjectionHead::widths(config.layers, config.hidden, config.dim);
        // The authors' last layer has no bias. This one has, but it does not affect the loss.
        let network = EncoderWithHead::new(encoder, widths, HeadNorm::Hidden, true, device)?;
        Ok(Barlow { config, views, network, correlation: None })
    }
}

impl Method for Barlow {
    /// Two groups: weights, and biases with batch norms, which have their own learning rate
    /// (section 2.2).
    fn params(&self) -> Vec<ParamGroup> {
        let all = self.network.vars.parameters().into_iter();
        let (biases, weights): (Vec<_>, Vec<_>) = all.partition(|(_, p)| p.dim() <= 1);
        let mut biases = ParamGroup::all("biases", biases);
        biases.lr = LrRule::Scaled(self.config.bias_rate);
        vec![ParamGroup::all("weights", weights), biases]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        prefixed("network", self.network.vars.state())
    }

    /// Algorithm 1.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (y_a, y_b) = batch.pair()?;
        let z_a = cx.all_gather(&self.network.forward(y_a))?;
        let z_b = cx.all_gather(&self.network.forward(y_b))?;
        let c = correlation(&z_a, &z_b)?;
        let loss = from_correlation(&c, self.config.lambda)? * self.config.loss_scale;
        let [diagonal, off_diagonal] = sizes(&c);
        let kept = KEPT.min(c.size()[0]);
        self.correlation = Some(c.detach().narrow(0, 0, kept).narrow(1, 0, kept).copy());
        let metrics = vec![("diagonal", diagonal), ("off_diagonal", off_diagonal)];
        Ok(StepLoss { loss, metrics, outputs: Some(z_a.detach()) })
    }

    fn correlation(&self) -> Option<Tensor> {
        self.correlation.as_ref().map(Tensor::shallow_clone)
    }
}

/// The mean of the matrix's diagonal, and the root mean square of its other entries: 1 and 0 for
/// the identity.
fn sizes(correlation: &Tensor) -> [Tensor; 2] {
    no_grad(|| {
        let diagonal = correlation.diagonal(0, 0, 1);
        let dim = correlation.size()[0];
        let others = correlation.square().sum(Kind::Float) - diagonal.square().sum(Kind::Float);
        let count = (dim * (dim - 1)).max(1) as f64;
        // Rounding can leave the sum a little below 0.
        [diagonal.mean(Kind::Float), (others / count).clamp_min(0.0).sqrt()]
    })
}

impl ImageMethod for Barlow {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.network.encoder
    }

    fn project(&self, features: &Tensor) -> Option<Tensor> {
        Some(self.network.project(features))
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
