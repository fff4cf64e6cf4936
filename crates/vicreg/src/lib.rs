//! VICReg: variance, invariance, covariance.
//!
//! Bardes, Ponce, LeCun 2021, *VICReg: Variance-Invariance-Covariance Regularization for
//! Self-Supervised Learning*, arXiv 2105.04906.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//! use portolan_vicreg::{Vicreg, VicregConfig};
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let config = VicregConfig { hidden: 256, dim: 256, ..VicregConfig::default() };
//! let vicreg = Vicreg::new(config, &encoder, presets::byol(64).into(), Device::Cpu)?;
//! assert_eq!(vicreg.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! The loss has three terms. Invariance makes the outputs of both views similar. Variance keeps the
//! standard deviation of every dimension over the batch above a threshold; this term alone prevents
//! a collapse. Covariance decorrelates the dimensions. The terms are logged separately, because a
//! failing run shows in one of them first.

mod config;
mod entry;

pub use config::VicregConfig;
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead};
use portolan_losses::vicreg;
use portolan_method::{
    Batch, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss, validate_views,
};
use portolan_metrics::names;
use portolan_optim::ParamGroup;
use portolan_tensor::{Device, Tensor, prefixed};

/// VICReg, ready to train.
#[derive(Debug)]
pub struct Vicreg {
    config: VicregConfig,
    views: Vec<ViewSpec>,
    /// f and the expander h.
    network: EncoderWithHead,
}

impl Vicreg {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: VicregConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("VICReg", &views, 2, encoder)?;
        let widths = |_| ProjectionHead::widths(config.layers, config.hidden, config.dim);
        // The authors' last layer has no bias. This one has, but it does not affect the loss.
        let network = EncoderWithHead::new(encoder, widths, HeadNorm::Hidden, true, device)?;
        Ok(Vicreg { config, views, network })
    }
}

impl Method for Vicreg {
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("network", self.network.vars.parameters())]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        prefixed("network", self.network.vars.state())
    }

    /// Algorithm 1.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (x_a, x_b) = batch.pair()?;
        let z_a = cx.all_gather(&self.network.forward(x_a))?;
        let z_b = cx.all_gather(&self.network.forward(x_b))?;
        let loss = vicreg(&z_a, &z_b, &self.config.weights())?;
        Ok(StepLoss {
            loss: loss.total,
            metrics: vec![
                ("invariance", loss.invariance.detach()),
                (names::VARIANCE, loss.variance.detach()),
                ("covariance", loss.covariance.detach()),
            ],
            outputs: Some(z_a.detach()),
        })
    }
}

impl ImageMethod for Vicreg {
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
