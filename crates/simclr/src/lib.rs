//! SimCLR: contrast within a batch.
//!
//! Chen et al. 2020, *A Simple Framework for Contrastive Learning of Visual Representations*, arXiv
//! 2002.05709; the head of three layers is of v2 (*Big Self-Supervised Models are Strong
//! Semi-Supervised Learners*, arXiv 2006.10029).
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_simclr::{Simclr, SimclrConfig};
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let views = vec![presets::simclr(64), presets::simclr(64)];
//! let simclr = Simclr::new(SimclrConfig::default(), &encoder, views, Device::Cpu)?;
//! assert_eq!(simclr.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! The network learns to identify the other view of an image among all views in the batch. There is
//! no second network and no memory bank: all negatives come from the batch, which is why the
//! paper's batches are large. Both views go through the network in one pass, as in the authors'
//! code, so that the batch statistics span both and cannot reveal which views belong together.

mod config;
mod entry;

pub use config::{Objective, SimclrConfig};
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, ProjectionHead};
use portolan_losses::info_nce::hardest_tenth;
use portolan_losses::{alignment, l2_normalize, nt_xent, uniformity};
use portolan_method::{
    Batch, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss, validate_views,
};
use portolan_optim::ParamGroup;
use portolan_tensor::{Device, Tensor, no_grad, prefixed};

/// Images whose negatives are measured at each step: a few say enough.
const SAMPLED: i64 = 16;

/// SimCLR, ready to train.
#[derive(Debug)]
pub struct Simclr {
    config: SimclrConfig,
    views: Vec<ViewSpec>,
    /// f and g.
    network: EncoderWithHead,
}

impl Simclr {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: SimclrConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("SimCLR", &views, 2, encoder)?;
        let widths = |_| ProjectionHead::widths(config.layers, config.hidden, config.dim);
        let network = EncoderWithHead::new(encoder, widths, config.norm, true, device)?;
        Ok(Simclr { config, views, network })
    }
}

impl Simclr {
    /// What the projections of two views, `[batch, dim]` each, should minimize.
    fn objective(&self, z_i: &Tensor, z_j: &Tensor) -> Result<Tensor> {
        match self.config.objective {
            Objective::NtXent => Ok(nt_xent(z_i, z_j, self.config.temperature)?),
            Objective::AlignmentUniformity { alignment: near, uniformity: apart } => {
                let uniform = (uniformity(z_i, 2.0)? + uniformity(z_j, 2.0)?) / 2.0;
                Ok(alignment(z_i, z_j, 2.0)? * near + uniform * apart)
            }
        }
    }

    /// The similarities of a few images to the other images of the batch, over the temperature.
    fn negatives(&self, z_i: &Tensor, z_j: &Tensor) -> Tensor {
        no_grad(|| {
            let few = z_i.narrow(0, 0, z_i.size()[0].min(SAMPLED));
            let similar = l2_normalize(&few).matmul(&l2_normalize(z_j).tr());
            // Its own other view is no negative.
            (similar / self.config.temperature).fill_diagonal_(f64::NEG_INFINITY, false)
        })
    }
}

impl Method for Simclr {
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("network", self.network.vars.parameters())]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        prefixed("network", self.network.vars.state())
    }

    /// Algorithm 1.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (x_i, x_j) = batch.pair()?;
        let n = x_i.size()[0];
        let z = self.network.forward(&Tensor::cat(&[x_i, x_j], 0)); // z = g(f(x)), both views
        let (z_i, z_j) = (cx.all_gather(&z.narrow(0, 0, n))?, cx.all_gather(&z.narrow(0, n, n))?);
        let loss = self.objective(&z_i, &z_j)? * self.config.loss_scale;
        let found = StepLoss::match_top1(&z_i, &z_j);
        let hardest = hardest_tenth(&self.negatives(&z_i, &z_j))?;
        Ok(StepLoss {
            loss,
            metrics: vec![("contrastive_top1", found), ("hardest_tenth", hardest)],
            outputs: Some(z_i.detach()),
        })
    }
}

impl ImageMethod for Simclr {
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
