//! Encoders of images (ResNets, ConvNeXts and vision transformers) and of text ([`Bert`] and
//! [`Gpt`]), and projection heads. Parameter names, shapes and initial values are those of
//! torchvision, timm and transformers, so that weights can be exchanged with the Python libraries
//! unchanged.
//!
//! ```
//! use portolan_encoders::{ResNetConfig, build};
//! use portolan_tensor::{Device, Kind, Tensor, Vars};
//!
//! let config = ResNetConfig { width: 16, ..ResNetConfig::named("resnet18")? };
//! let encoder = build(&config.into(), &Vars::new(Device::Cpu))?;
//! let images = Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let features = encoder.forward(&images, false);
//! assert_eq!(features.size(), [2, encoder.width()]);
//! # anyhow::Ok(())
//! ```
//!
//! An encoder is built from its settings ([`EncoderConfig`]). A momentum encoder is a second build
//! with copied values. An encoder is a plain struct of layers with a readable `forward`. The layers
//! are thin ones of our own over libtorch's operations, since tch's batch norm draws its weights at
//! random and lacks `num_batches_tracked` and statistics over groups.
//!
//! All that other crates need to know about a family of encoders is in its [`Family`].

mod config;
mod convnext;
mod drop_path;
mod error;
mod family;
mod head;
pub mod layers;
mod resnet;
mod text;
mod transformer;
mod vit;

pub use config::{EncoderConfig, build};
pub use convnext::{ConvNext, ConvNextConfig};
pub use error::{Error, Result};
pub use family::{Family, Finetuned};
pub use head::{HeadNorm, ProjectionHead};
pub use resnet::{Arch, ResNet, ResNetConfig, Stem};
pub use text::{Bert, Gpt, KeyValueCache, TextConfig, TextEncoder, mean_of_tokens};
pub use transformer::{Block, BlockConfig, Init, Mlp, QkvBias};
pub use vit::{Pool, PositionScaling, Positions, Vit, VitConfig, positions};

use portolan_tensor::{Tensor, Vars};

/// A network that turns images into features.
pub trait Encoder: std::fmt::Debug {
    /// The features of images: `[batch, 3, height, width]`, normalized, to `[batch, self.width()]`.
    /// With `train`, batch norms use the batch's statistics and update the running ones; without,
    /// they use the running statistics.
    fn forward(&self, images: &Tensor, train: bool) -> Tensor;

    /// The features before pooling: `[batch, 3, height, width]` to
    /// `[batch, self.width(), rows, columns]`.
    fn feature_map(&self, images: &Tensor, train: bool) -> Tensor;

    /// [`Encoder::forward`] and [`Encoder::feature_map`] of one pass.
    fn features_and_map(&self, images: &Tensor, train: bool) -> (Tensor, Tensor);

    /// [`Encoder::forward`] in evaluation mode without gradients, prepared for many images: it uses
    /// the current values, with batch norms folded into convolutions. The features differ only by
    /// rounding, by parts in a million. It is meant for float32: under autocast the folded weights
    /// would be rounded differently.
    fn frozen(&self) -> Box<dyn Fn(&Tensor) -> Tensor + '_> {
        Box::new(|images| portolan_tensor::no_grad(|| self.forward(images, false)))
    }

    /// The vision transformer that it is, for its tokens; `None` for a convolutional network.
    fn as_vit(&self) -> Option<&Vit> {
        None
    }

    /// The number of features.
    fn width(&self) -> i64;

    /// Its tensors, with the names of torchvision or timm.
    fn vars(&self) -> &Vars;

    /// The layer of a parameter for layer-wise learning rate decay, counted from the input; `None`
    /// for the layers at the top, which have the full rate.
    fn layer_of(&self, _parameter: &str) -> Option<usize> {
        None
    }

    /// Whether fine-tuning leaves this parameter without weight decay (timm's `no_weight_decay`).
    fn no_weight_decay(&self, _parameter: &str) -> bool {
        false
    }

    /// Updates the running statistics of batch norms with `batches`, without training. An untrained
    /// encoder needs it to be a fair baseline: its initial statistics describe no images.
    fn recalibrate(&self, batches: &mut dyn Iterator<Item = Tensor>) {
        portolan_tensor::no_grad(|| {
            for images in batches {
                let _ = self.forward(&images, true);
            }
        });
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
