//! SimSiam: a siamese network with a predictor and a stop-gradient.
//!
//! Chen, He 2020, *Exploring Simple Siamese Representation Learning*, arXiv 2011.10566.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_simsiam::{Simsiam, SimsiamConfig};
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let views = vec![presets::moco_v2(64); 2]; // MoCo v2's, as main_simsiam.py
//! let simsiam = Simsiam::new(SimsiamConfig::default(), &encoder, views, Device::Cpu)?;
//! assert_eq!(simsiam.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! The predictor maps the projection of one view to that of the other, into which no gradient
//! flows. SimSiam needs neither negatives, nor a momentum encoder, nor large batches. The loss
//! detaches the predicted projection; [`SimsiamConfig::stop_gradient`] can turn this off to show
//! the collapse. Views go through the network one at a time, as in the paper's pseudo-code.

mod config;
mod entry;

pub use config::SimsiamConfig;
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead};
use portolan_losses::negative_cosine;
use portolan_method::{
    Batch, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss, validate_views,
};
use portolan_optim::{LrRule, ParamGroup};
use portolan_tensor::{Device, Tensor, Vars, prefixed};

/// SimSiam, ready to train.
#[derive(Debug)]
pub struct Simsiam {
    config: SimsiamConfig,
    views: Vec<ViewSpec>,
    /// f, the backbone and its projection head.
    network: EncoderWithHead,
    /// The predictor h.
    predictor: ProjectionHead,
    predictor_vars: Vars,
}

impl Simsiam {
    /// Builds the networks with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: SimsiamConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("SimSiam", &views, 2, encoder)?;
        let widths = |_| vec![config.dim; config.layers];
        let network = EncoderWithHead::new(encoder, widths, config.norm, true, device)?;
        let predictor_vars = Vars::new(device);
        let widths = [config.dim, config.predictor_hidden, config.dim];
        let splits = encoder.batch_norm_splits();
        let predictor =
            ProjectionHead::new(&predictor_vars, &widths, HeadNorm::Hidden, true, splits);
        Ok(Simsiam { config, views, network, predictor, predictor_vars })
    }

    /// D(p, stopgrad(z)), or D(p, z) without the stop-gradient.
    fn distance(&self, p: &Tensor, z: &Tensor) -> Result<Tensor> {
        let stopped = negative_cosine(p, z)?;
        if self.config.stop_gradient {
            return Ok(stopped);
        }
        let other = negative_cosine(z, p)?; // the same value, with the gradient into z
        Ok(stopped + &other - other.detach())
    }
}

impl Method for Simsiam {
    fn params(&self) -> Vec<ParamGroup> {
        let network = prefixed("network", self.network.vars.parameters());
        let predictor = prefixed("predictor", self.predictor_vars.parameters());
        let mut predictor = ParamGroup::all("predictor", predictor);
        if self.config.predictor_base_rate {
            predictor.lr = LrRule::Base;
        }
        vec![ParamGroup::all("network", network), predictor]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("network", self.network.vars.state());
        state.extend(prefixed("predictor", self.predictor_vars.state()));
        state
    }

    /// Algorithm 1.
    fn loss(&mut self, batch: &Batch, _cx: &StepContext) -> Result<StepLoss> {
        let (x_1, x_2) = batch.pair()?;
        let (z_1, z_2) = (self.network.forward(x_1), self.network.forward(x_2));
        let (p_1, p_2) = (self.predictor.forward(&z_1, true), self.predictor.forward(&z_2, true));
        let loss = (self.distance(&p_1, &z_2)? + self.distance(&p_2, &z_1)?) / 2.0;
        Ok(StepLoss { loss, metrics: Vec::new(), outputs: Some(z_1.detach()) })
    }
}

impl ImageMethod for Simsiam {
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
