//! What a self-supervised method is to the training loop, and what methods share.
//!
//! A [`Method`] says which views it wants, which tensors the optimizer moves, what its loss is and what
//! happens after an update. The loop in `portolan-train` knows no more than that; a loop of one's own
//! needs no more either. An encoder with its projection head ([`Network`]), the momentum encoder
//! ([`EmaUpdater`]), the queue of negatives ([`Queue`]) and the signs of a collapse are here because several
//! methods have them.
//!
//! ```
//! use portolan_method::Queue;
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! // Any size will do, also one that the batch does not divide: the oldest keys make room.
//! let queue = Queue::new(5, 4, Device::Cpu);
//! let keys = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
//! queue.enqueue(&keys);
//! queue.enqueue(&(&keys * 2.0));
//! assert_eq!(queue.keys().get(0).double_value(&[0]), 2.0); // the sixth key took the first one's place
//! ```
//!
//! A method is an object with state that is updated in place, and not a function of its state, because
//! libtorch's tensors are: a checkpoint is the list of them ([`Method::state`]), loaded by copying.

mod collapse;
mod ema;
mod loss_scale;
mod network;
mod queue;
mod step;
mod step_inputs;

pub use collapse::{CollapseMetrics, output_deviation, output_rank, signs_of_collapse};
pub use ema::EmaUpdater;
pub use loss_scale::check_loss_scale;
pub use network::{Network, check_views};
pub use queue::Queue;
pub use step::{Batch, StepContext, StepLoss};
pub use step_inputs::StepInputs;

use anyhow::Result;
use portolan_augment::ViewSpec;
use portolan_encoders::Encoder;
use portolan_optim::ParamGroup;
use portolan_tensor::Tensor;

/// A self-supervised method, as the training loop sees it.
pub trait Method {
    /// The views it wants of every image: two for most methods.
    fn views(&self) -> &[ViewSpec];

    /// What the optimizer moves.
    fn params(&self) -> Vec<ParamGroup>;

    /// Every named tensor that a checkpoint must hold, as shallow clones: networks, momentum encoder,
    /// queue and its pointer. They are only ever updated in place, and loaded by copying into them.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// The training loss of one batch, with figures to log. Called once a micro-batch.
    ///
    /// # Errors
    /// When the batch does not fit the method.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss>;

    /// Between backward and the optimizer's step: gradients to be dropped. Usually empty.
    ///
    /// # Errors
    /// When libtorch fails.
    fn before_update(&mut self, _cx: &StepContext) -> Result<()> {
        Ok(())
    }

    /// After the optimizer's step: momentum encoder, queue.
    ///
    /// # Errors
    /// When libtorch fails.
    fn after_update(&mut self, cx: &StepContext) -> Result<()>;

    /// The network that it is all for, without its heads.
    fn encoder(&self) -> &dyn Encoder;

    /// What the projection head makes of features (`[n, encoder width]`) in evaluation mode, for methods that
    /// have one: some publish figures on it.
    fn project(&self, _features: &Tensor) -> Option<Tensor> {
        None
    }
}
