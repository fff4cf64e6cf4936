//! MoCo: momentum contrast.
//!
//! - v1: He et al. 2019, *Momentum Contrast for Unsupervised Visual Representation Learning*, arXiv
//!   1911.05722 (a linear head, the views of [`portolan_augment::presets::moco_v1`]).
//! - v2: Chen et al. 2020, *Improved Baselines with Momentum Contrastive Learning*, arXiv
//!   2003.04297 (an MLP head, stronger views, a cosine schedule).
//! - The symmetric form of the authors' CIFAR-10 demonstration, in which each view is once the
//!   query and once the key.
//! - v3: Chen et al. 2021, arXiv 2104.02057 ([`MocoV3`]), which keeps the momentum encoder and
//!   drops the queue.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_moco::{Moco, MocoConfig};
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let config = MocoConfig { queue: 512, ..MocoConfig::v2() };
//! let views = vec![presets::moco_v2(64), presets::moco_v2(64)];
//! let moco = Moco::new(config, &encoder, views, Device::Cpu)?;
//! assert_eq!(moco.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! The encoder learns to match a query to its key among many keys. The keys come from a momentum
//! encoder, which changes so slowly that keys from many batches ago are still consistent. The queue
//! is therefore a dictionary far larger than a batch, which is why MoCo needs no large batches.

mod config;
mod entry;
mod v3;

pub use config::{Head, MocoConfig};
pub use entry::{METHOD, METHOD_V3};
pub use v3::{MocoV3, MocoV3Config};

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm};
use portolan_losses::info_nce::hardest_tenth;
use portolan_losses::{info_nce, l2_normalize};
use portolan_method::{
    Batch, EmaUpdater, EncoderWithHead, ImageMethod, Method, Queue, Result, StepContext, StepLoss,
    validate_views,
};
use portolan_optim::ParamGroup;
use portolan_tensor::{Device, Kind, Tensor, at_least_f32, no_grad, prefixed};

/// Queries whose negatives are measured at each step: a few say enough.
const SAMPLED: i64 = 16;

/// MoCo, ready to train.
#[derive(Debug)]
pub struct Moco {
    config: MocoConfig,
    views: Vec<ViewSpec>,
    query: EncoderWithHead,
    key: EncoderWithHead,
    ema: EmaUpdater,
    queue: Queue,
    /// Whether batch norms work on groups of the batch, so that keys must be shuffled.
    split_batch_norm: bool,
    /// Keys of this step, enqueued once all its losses are computed.
    fresh_keys: Vec<Tensor>,
}

impl Moco {
    /// Builds query and key network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: MocoConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("MoCo", &views, 2, encoder)?;
        let widths = |width| match config.head {
            Head::Linear => vec![config.dim],
            Head::Mlp => vec![width, config.dim],
        };
        let network = || EncoderWithHead::new(encoder, widths, HeadNorm::None, true, device);
        let (query, key) = (network()?, network()?);
        let ema = EmaUpdater::new(&query.vars, &key.vars)?;
        let queue = Queue::new(config.queue, config.dim, device);
        let split_batch_norm = encoder.batch_norm_splits() > 1;
        let fresh_keys = Vec::new();
        Ok(Moco { config, views, query, key, ema, queue, split_batch_norm, fresh_keys })
    }

    /// k = f_k(x), l2-normalized and without gradients. With shuffled batch norm (v1, section 3.3),
    /// a key is normalized in a group of other images than its query; otherwise the batch
    /// statistics would reveal the pairs.
    fn keys(&self, x: &Tensor, cx: &StepContext, draw: u64) -> Result<Tensor> {
        no_grad(|| -> Result<Tensor> {
            if !self.split_batch_norm {
                return Ok(l2_normalize(&at_least_f32(&self.key.forward(x))));
            }
            // The shuffle spans all processes: each encodes its part of the shuffled batch, then
            // gets the keys of its own images back.
            let images = cx.all_gather(x)?;
            let shuffle = cx.permutation(images.size()[0], draw);
            let keys = self.key.forward(&images.index_select(0, &cx.shard(&shuffle, 0)));
            let keys = cx.all_gather(&l2_normalize(&at_least_f32(&keys)))?;
            Ok(keys.index_select(0, &cx.shard(&shuffle.argsort(0, false), 0)))
        })
    }

    /// The mean cosine similarity between this step's keys and those in the queue. It is near 1
    /// when all keys are alike.
    fn queue_similarity(&self) -> Tensor {
        no_grad(|| {
            let mean = |keys: &Tensor| keys.mean_dim([0i64].as_slice(), false, Kind::Float);
            let fresh = Tensor::cat(&self.fresh_keys, 0);
            mean(&fresh).dot(&mean(&self.queue.keys()))
        })
    }

    /// The logits of one direction: the queries of `x_q` against the keys of `x_k` and of the
    /// queue. The new keys are kept for the queue.
    fn contrast(
        &mut self,
        x_q: &Tensor,
        x_k: &Tensor,
        cx: &StepContext,
        draw: u64,
    ) -> Result<Tensor> {
        let k = self.keys(x_k, cx, draw)?;
        let q = self.query.forward(x_q);
        let logits = info_nce::logits(&q, &k, &self.queue.keys(), self.config.temperature)?;
        self.fresh_keys.push(k);
        Ok(logits)
    }
}

/// The negatives in the logits of a few queries.
fn negatives(logits: &Tensor) -> Tensor {
    let few = logits.size()[0].min(SAMPLED);
    logits.narrow(0, 0, few).narrow(1, 1, logits.size()[1] - 1)
}

impl Method for Moco {
    /// One group: MoCo applies weight decay to all parameters, biases and batch norms included.
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("query", self.query.vars.parameters())]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("query", self.query.vars.state());
        state.extend(prefixed("key", self.key.vars.state()));
        state.extend(prefixed("queue", self.queue.state()));
        state
    }

    /// Algorithm 1 of v1. The symmetric form is the sum of both directions, as in the
    /// demonstration.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (x_1, x_2) = batch.pair()?;
        if cx.micro_batch == 0 {
            self.fresh_keys.clear(); // of a step that came to nothing
        }
        let mut logits = vec![self.contrast(x_1, x_2, cx, 0)?];
        if self.config.symmetric {
            logits.push(self.contrast(x_2, x_1, cx, 1)?);
        }
        let mut loss = info_nce::cross_entropy(&logits[0])?;
        for direction in &logits[1..] {
            loss += info_nce::cross_entropy(direction)?;
        }
        // How often the positive key is the most similar one.
        let hits = no_grad(|| Tensor::cat(&logits, 0).argmax(1, false).eq(0));
        Ok(StepLoss {
            loss,
            metrics: vec![
                ("contrastive_top1", StepLoss::fraction(&hits)),
                ("hardest_tenth", hardest_tenth(&negatives(&logits[0]))?),
                ("queue_similarity", self.queue_similarity()),
            ],
            outputs: self.fresh_keys.last().map(Tensor::shallow_clone),
        })
    }

    /// θ_k ← m θ_k + (1 − m) θ_q (v1, equation 2), then this step's keys enter the queue.
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let momentum = self.config.momentum;
        self.ema.update(&cx.scalar_input(move |_| momentum))?;
        for keys in self.fresh_keys.drain(..) {
            self.queue.enqueue(&cx.all_gather(&keys)?);
        }
        Ok(())
    }
}

impl ImageMethod for Moco {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.query.encoder
    }

    fn project(&self, features: &Tensor) -> Option<Tensor> {
        Some(self.query.project(features))
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
