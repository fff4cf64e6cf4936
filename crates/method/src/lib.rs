//! The trait of a self-supervised method, and the parts that methods share.
//!
//! A [`Method`] defines which tensors the optimizer updates, the loss of a batch, and what happens
//! after an update. The training loop in `portolan-train` needs nothing else, and neither does a
//! loop of your own. An [`ImageMethod`] adds the views and the encoder that is kept after training,
//! a [`TextMethod`] the encoder and a score of its predictions.
//! A [`MethodEntry`] registers a method with programs.
//!
//! This crate also has what several methods share: an encoder with its projection head
//! ([`EncoderWithHead`]), DINO's projection head ([`DinoHead`]), the momentum encoder
//! ([`EmaUpdater`]), the queue of negatives ([`Queue`]) and the metrics of collapse
//! ([`CollapseMetrics`]).
//!
//! ```
//! use portolan_method::Queue;
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! // The queue's size need not be a multiple of the batch: new keys replace the oldest ones.
//! let queue = Queue::new(5, 4, Device::Cpu);
//! let keys = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
//! queue.enqueue(&keys);
//! queue.enqueue(&(&keys * 2.0));
//! // The sixth key replaced the first.
//! assert_eq!(queue.keys().get(0).double_value(&[0]), 2.0);
//! ```
//!
//! A method is an object whose state is updated in place, because libtorch's tensors are updated in
//! place: a checkpoint is the list of these tensors ([`Method::state`]), and loading copies into
//! them.

mod collapse_metrics;
mod dino_head;
mod ema;
mod encoder_with_head;
mod entry;
mod error;
mod loss_scale;
mod queue;
mod step;
mod text;

pub use collapse_metrics::{CollapseMetrics, collapse_metrics, output_deviation, output_rank};
pub use dino_head::{DinoHead, DinoHeadConfig};
pub use ema::EmaUpdater;
pub use encoder_with_head::{EncoderWithHead, GLOBAL_VIEWS, validate_multi_crop, validate_views};
pub use entry::{BoxedMethod, MethodEntry, Recipe, parse_settings};
pub use error::{Error, Result, ensure_setting};
pub use loss_scale::validate_loss_scale;
pub use portolan_metrics::{Family, MethodTraits};
pub use queue::Queue;
pub use step::{Batch, StepContext, StepInputs, StepLoss};
pub use text::{
    BoxedTextMethod, Sampling, TextMethod, TextMethodEntry, TextScore, Vocabulary, text_inputs,
};

use portolan_augment::ViewSpec;
use portolan_encoders::Encoder;
use portolan_optim::ParamGroup;
use portolan_tensor::Tensor;

/// A self-supervised method for any kind of data.
pub trait Method {
    /// The parameters that the optimizer updates.
    fn params(&self) -> Vec<ParamGroup>;

    /// Every named tensor that a checkpoint must hold, as shallow clones: networks, momentum
    /// encoder, queue and its pointer. They are always updated in place; loading a checkpoint
    /// copies into them.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// The training loss of one batch, with metrics to log. Called once per micro-batch.
    ///
    /// # Errors
    /// When the batch does not fit the method.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss>;

    /// Runs between the backward pass and the optimizer's step, for instance to drop gradients.
    ///
    /// # Errors
    /// When libtorch fails.
    fn before_update(&mut self, _cx: &StepContext) -> Result<()> {
        Ok(())
    }

    /// The first rows and columns of the correlation matrix in the last loss, `[n, n]`, if the loss
    /// has one. Training draws it five times.
    fn correlation(&self) -> Option<Tensor> {
        None
    }

    /// Runs after the optimizer's step: updates the momentum encoder, the queue or the center.
    ///
    /// # Errors
    /// When libtorch fails.
    fn after_update(&mut self, _cx: &StepContext) -> Result<()> {
        Ok(())
    }
}

/// A method that learns an image encoder from views of images.
pub trait ImageMethod: Method {
    /// The views of every image that the method needs: two for most methods.
    fn views(&self) -> &[ViewSpec];

    /// The encoder without its heads, which is the result of pretraining.
    fn encoder(&self) -> &dyn Encoder;

    /// The projection head's outputs for features (`[n, encoder width]`) in evaluation mode, for
    /// methods that have a head. Some papers report accuracies on these outputs.
    fn project(&self, _features: &Tensor) -> Option<Tensor> {
        None
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
