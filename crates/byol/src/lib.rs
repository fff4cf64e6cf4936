//! BYOL: predicting the projections of a momentum encoder, without negatives.
//!
//! Grill et al. 2020, *Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning*,
//! arXiv 2006.07733.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_byol::{Byol, ByolConfig};
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let byol = Byol::new(ByolConfig::default(), &encoder, presets::byol(64).into(), Device::Cpu)?;
//! assert_eq!(byol.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! From one view, the online network predicts the target network's projection of the other view.
//! The target is an exponential moving average of the online network. There are no negatives that
//! push different images apart: the predictor and the slow target together keep the outputs from
//! collapsing. [`ByolConfig::predictor`] and [`ByolConfig::target`] can turn both off to show this.
//! Views go through the networks one at a time, so that each view has its own batch statistics.

mod config;
mod entry;

pub use config::ByolConfig;
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead};
use portolan_losses::byol;
use portolan_method::{
    Batch, EmaUpdater, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss,
    validate_views,
};
use portolan_optim::{ParamGroup, schedule::momentum_cosine};
use portolan_tensor::{Device, Tensor, Vars, no_grad, prefixed};

/// BYOL, ready to train.
#[derive(Debug)]
pub struct Byol {
    config: ByolConfig,
    views: Vec<ViewSpec>,
    /// The online network: f_θ and g_θ.
    online: EncoderWithHead,
    /// The target network: f_ξ and g_ξ.
    target: EncoderWithHead,
    ema: EmaUpdater,
    /// q_θ.
    predictor: ProjectionHead,
    predictor_vars: Vars,
}

impl Byol {
    /// Builds online and target network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: ByolConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("BYOL", &views, 2, encoder)?;
        let widths = |_| vec![config.hidden, config.dim];
        let network =
            || EncoderWithHead::new(encoder, widths, HeadNorm::Hidden, config.last_bias, device);
        let (online, target) = (network()?, network()?);
        let ema = EmaUpdater::new(&online.vars, &target.vars)?;
        let predictor_vars = Vars::new(device);
        let widths = [config.dim, config.hidden, config.dim];
        let splits = encoder.batch_norm_splits();
        let predictor = ProjectionHead::new(
            &predictor_vars,
            &widths,
            HeadNorm::Hidden,
            config.last_bias,
            splits,
        );
        Ok(Byol { config, views, online, target, ema, predictor, predictor_vars })
    }

    /// The target network's projection of a view, without gradients.
    fn target(&self, x: &Tensor) -> Tensor {
        no_grad(|| self.target.forward(x))
    }
}

impl Method for Byol {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("online", self.online.vars.parameters());
        if self.config.predictor {
            params.extend(prefixed("predictor", self.predictor_vars.parameters()));
        }
        vec![ParamGroup::all("online", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("online", self.online.vars.state());
        state.extend(prefixed("target", self.target.vars.state()));
        state.extend(prefixed("predictor", self.predictor_vars.state()));
        state
    }

    /// Equation 2, both directions.
    fn loss(&mut self, batch: &Batch, _cx: &StepContext) -> Result<StepLoss> {
        let (v, w) = batch.pair()?;
        // z′_ξ of each view.
        let targets = self.config.target.then(|| (self.target(v), self.target(w)));
        let (z_v, z_w) = (self.online.forward(v), self.online.forward(w));
        let predict = |z: &Tensor| {
            if self.config.predictor { self.predictor.forward(z, true) } else { z.shallow_clone() }
        };
        let (q_v, q_w) = (predict(&z_v), predict(&z_w));
        let loss = match &targets {
            Some((t_v, t_w)) => byol(&q_v, t_w)? + byol(&q_w, t_v)?,
            // Gradients flow into both sides: into the predictions through `value`, and into the
            // projections through `other`.
            None => {
                let value = byol(&q_v, &z_w)? + byol(&q_w, &z_v)?;
                let other = byol(&z_w, &q_v)? + byol(&z_v, &q_w)?;
                value + &other - other.detach()
            }
        };
        Ok(StepLoss {
            loss: loss * self.config.loss_scale,
            metrics: Vec::new(),
            outputs: Some(z_v.detach()),
        })
    }

    /// ξ ← τ ξ + (1 − τ) θ (equation 1), where τ rises from its initial value to 1 over training
    /// (section 3.3).
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let first = self.config.momentum;
        let momentum = move |cx: &StepContext| momentum_cosine(cx.step, cx.total_steps, first, 1.0);
        self.ema.update(&cx.scalar_input(momentum))
    }
}

impl ImageMethod for Byol {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.online.encoder
    }

    fn project(&self, features: &Tensor) -> Option<Tensor> {
        Some(self.online.project(features))
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
