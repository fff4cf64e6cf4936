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
//! Three plain terms, each doing one thing: both views' outputs are alike (invariance), every
//! number of an output varies over the batch (variance, which alone prevents a collapse), no two
//! vary together (covariance). They are logged apart, because a run that goes wrong shows in one of
//! them first.

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
    /// When the settings contradict each other; the message says which.
    pub fn new(
        config: VicregConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("VICReg", &views, 2, encoder)?;
        let widths = |_| ProjectionHead::widths(config.layers, config.hidden, config.dim);
        // The authors' last layer has no bias. Here it has one, which the loss cancels.
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
