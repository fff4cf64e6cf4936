//! Vision encoders and projection heads with the parameter names, shapes and initial values that
//! torchvision (ResNets) and timm (vision transformers) have, so that weights move between Portolan and the Python libraries as they are.
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
//! An encoder is built from its config, so that a momentum encoder is a second build and a copy of
//! the values, and is a plain struct of layers with a `forward` one can read. The layers are our own
//! thin ones over libtorch's operations, since tch's batch norm draws its weights at random and has
//! neither `num_batches_tracked` nor statistics over groups.

mod config;
mod folded;
mod head;
pub mod layers;
pub mod positions;
mod resnet;
mod resnet_config;
mod transformer;
mod vit;
mod vit_config;

pub use config::{EncoderConfig, build};
pub use head::{HeadNorm, ProjectionHead};
pub use resnet::ResNet;
pub use resnet_config::{Arch, ResNetConfig, Stem};
pub use transformer::{Block, Init};
pub use vit::Vit;
pub use vit_config::{Pool, PositionScaling, Positions, VitConfig};

use portolan_tensor::{Tensor, Vars};

/// A network that turns images into features: what pretraining is for.
pub trait Encoder {
    /// `[batch, 3, height, width]`, normalized, to `[batch, self.width()]`. With `train`, batch norms
    /// use and record the batch's statistics; without, the recorded ones.
    fn forward(&self, images: &Tensor, train: bool) -> Tensor;

    /// The features of every place before they are pooled: `[batch, self.width(), rows, columns]`.
    fn map(&self, images: &Tensor, train: bool) -> Tensor;

    /// [`Encoder::forward`] in evaluation mode without gradients, made ready for many images: with the parameters and
    /// statistics of now, batch norms folded into convolutions. The features are the same but for rounding, of parts in a million. For
    /// float32 alone: under autocast the folded weights would be rounded in other places.
    fn frozen(&self) -> Box<dyn Fn(&Tensor) -> Tensor + '_> {
        Box::new(|images| portolan_tensor::no_grad(|| self.forward(images, false)))
    }

    /// How many features an image, or a place, has.
    fn width(&self) -> i64;

    /// Its named tensors, as torchvision or timm names them.
    fn vars(&self) -> &Vars;

    /// Brings the batch norms' recorded statistics up to date with `batches`, without training. An
    /// untrained encoder is an unfairly poor baseline without it: its statistics describe no images.
    fn recalibrate(&self, batches: &mut dyn Iterator<Item = Tensor>) {
        portolan_tensor::no_grad(|| {
            for images in batches {
                let _ = self.forward(&images, true);
            }
        });
    }
}
