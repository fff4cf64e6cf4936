//! MAE: masked autoencoders.
//!
//! He et al. 2021, *Masked Autoencoders Are Scalable Vision Learners*, arXiv 2111.06377.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::{Positions, VitConfig};
//! use portolan_mae::{Mae, MaeConfig};
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let vit = VitConfig {
//!     positions: Positions::SineCosine,
//!     ..VitConfig::named("vit_w32d2h2_patch8_64")?
//! };
//! let config = MaeConfig { decoder_width: 32, decoder_depth: 1, ..MaeConfig::default() };
//! let mae = Mae::new(config, &vit.into(), vec![presets::mae(64)], Device::Cpu)?;
//! assert_eq!(mae.encoder().width(), 32);
//! # anyhow::Ok(())
//! ```
//!
//! A transformer learns to reconstruct an image from a small part of its patches. The encoder sees
//! only the visible patches, a quarter of them, which makes it cheap. Mask tokens are added in the
//! decoder, which is small and is dropped after training. One view of each image is enough, with
//! hardly any augmentation, because the random mask differs each time.

mod config;
mod decoder;
mod entry;
mod reconstruction;

pub use config::MaeConfig;
pub use entry::METHOD;
pub use reconstruction::{Errors, Reconstruction};

use decoder::Decoder;
use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, Positions, Vit};
use portolan_losses::{mae, mae::normalize_patches, mae::patchify};
use portolan_method::{
    Batch, Error, ImageMethod, Method, Result, StepContext, StepLoss, validate_views,
};
use portolan_metrics::names;
use portolan_optim::ParamGroup;
use portolan_random::Purpose;
use portolan_tensor::{Device, Kind, Tensor, Vars, no_grad, prefixed};
use rand::seq::SliceRandom;

/// MAE, ready to train.
#[derive(Debug)]
pub struct Mae {
    config: MaeConfig,
    views: Vec<ViewSpec>,
    encoder: Vit,
    decoder: Decoder,
    decoder_vars: Vars,
}

/// Which patches of a batch are visible.
#[derive(Debug)]
pub struct Mask {
    /// The visible patches of each image, `[batch, visible]`.
    pub keep: Tensor,
    /// The index of each patch in the list of visible patches followed by hidden ones, `[batch,
    /// patches]`.
    pub restore: Tensor,
    /// 1 where a patch is hidden, `[batch, patches]`.
    pub hidden: Tensor,
}

/// The result of [`Mae::paint`] for a batch.
#[derive(Debug)]
pub struct Painted {
    /// The predicted pixels of each patch, `[batch, patches, patch · patch · 3]`.
    pub pred: Tensor,
    /// The target, of the same shape.
    pub target: Tensor,
    /// The mask.
    pub mask: Mask,
}

impl Mae {
    /// Builds encoder and decoder with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When the encoder is not a vision transformer, or a setting is out of range or contradicts
    /// another; the message names it.
    pub fn new(
        config: MaeConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let EncoderConfig::Vit(vit) = encoder else {
            return Err(Error::Setting(format!(
                "MAE hides the patches of a vision transformer, and {} has none; choose \
                 --encoder vit_tiny_patch4_32, for instance",
                encoder.name()
            )));
        };
        if vit.positions == Positions::Rotary {
            return Err(Error::Setting(format!(
                "MAE encodes the visible patches alone, which {} cannot with its rotary \
                 positions; choose an encoder with learned positions, such as --encoder \
                 vit_tiny_patch4_32",
                encoder.name()
            )));
        }
        validate_views("MAE", &views, 1, encoder)?;
        let size = i64::from(views[0].size());
        if size != vit.image {
            return Err(Error::Views(format!(
                "MAE's view is of {size} pixels and its encoder for {}; make them equal",
                vit.image
            )));
        }
        config.visible((vit.image / vit.patch).pow(2))?;
        let encoder = Vit::new(vit, &Vars::new(device))?;
        let decoder_vars = Vars::new(device);
        let decoder = Decoder::new(&decoder_vars, vit, &config);
        Ok(Mae { config, views, encoder, decoder, decoder_vars })
    }

    /// A random mask for each image: the first patches of a random permutation stay visible
    /// (section 3, "Simple implementation").
    ///
    /// # Errors
    /// When the mask ratio leaves no patch visible, or none hidden.
    pub fn mask(&self, batch: i64, patches: i64, cx: &StepContext) -> Result<Mask> {
        let visible = self.config.visible(patches)?;
        let whole = batch * cx.processes();
        let order = cx.tensor_input(move |cx| {
            let mut rng = cx.rng(Purpose::Mask, 0);
            let mut order: Vec<i64> = Vec::with_capacity((whole * patches) as usize);
            for _ in 0..whole {
                let start = order.len();
                order.extend(0..patches);
                order[start..].shuffle(&mut rng);
            }
            cx.shard(&Tensor::from_slice(&order).view([whole, patches]), 0).contiguous()
        });
        let restore = order.argsort(1, false);
        Ok(Mask {
            keep: order.narrow(1, 0, visible),
            hidden: restore.ge(visible).to_kind(Kind::Float),
            restore,
        })
    }

    /// Masks patches of `images`, `[batch, 3, size, size]`, and reconstructs them.
    ///
    /// # Errors
    /// When the images are not of the encoder's size.
    pub fn paint(&self, images: &Tensor, cx: &StepContext, train: bool) -> Result<Painted> {
        let size = self.encoder.config().image;
        if images.size()[2..] != [size, size] {
            return Err(Error::Batch(format!(
                "MAE paints images of {size} pixels, and these have the shape {:?}",
                images.size()
            )));
        }
        let patches = self.encoder.patches(images)?;
        let mask = self.mask(patches.size()[0], patches.size()[1], cx)?;
        let index = mask.keep.unsqueeze(-1).expand([-1, -1, patches.size()[2]], false);
        let tokens = self.encoder.encode(&patches.gather(1, &index, false), train)?;
        // The decoder gets the class token and the patches; registers stay in the encoder.
        let prefix = self.encoder.prefix_tokens();
        let patches = tokens.narrow(1, prefix, tokens.size()[1] - prefix);
        let tokens = Tensor::cat(&[tokens.narrow(1, 0, 1), patches], 1);
        let pred = self.decoder.forward(&tokens, &mask.restore, train);
        let mut target = patchify(images, self.encoder.config().patch)?;
        if self.config.normalize_patches {
            target = normalize_patches(&target)?;
        }
        Ok(Painted { pred, target, mask })
    }
}

impl Method for Mae {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("encoder", self.encoder.vars().parameters());
        params.extend(prefixed("decoder", self.decoder_vars.parameters()));
        vec![ParamGroup::all("autoencoder", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("encoder", self.encoder.vars().state());
        state.extend(prefixed("decoder", self.decoder_vars.state()));
        state
    }

    /// The mean squared error on hidden patches (section 3, "Reconstruction target").
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let Painted { pred, target, mask } = self.paint(batch.single()?, cx, true)?;
        let loss = mae(&pred, &target, &mask.hidden)?;
        // The loss of predicting the mean color, which is zero because images and patches are
        // normalized.
        let plain = no_grad(|| mae(&target.zeros_like(), &target, &mask.hidden))?;
        let explained: Tensor = 1.0 - loss.detach() / plain;
        Ok(StepLoss { loss, metrics: vec![(names::EXPLAINED, explained)], outputs: None })
    }
}

impl ImageMethod for Mae {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
struct Readme;
