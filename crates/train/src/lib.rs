//! The training engine: the loop, checkpoints, recovery and progress.
//!
//! It depends on no single method and on no kind of data: a [`Task`] hands it the method, the
//! batches and the evaluation at the end of an epoch (`portolan-images` has the one for images).
//!
//! ```
//! use portolan_train::StepPlan;
//!
//! // A run's position is its number of steps; everything else follows from it.
//! let plan = StepPlan { items: 1000, batch_size: 256, epochs: 10 };
//! assert_eq!(plan.steps_per_epoch(), 3); // the last, smaller batch is left out
//! assert_eq!(plan.total_steps(), 30);
//! assert_eq!(plan.epoch_of(7), 2);
//! ```
//!
//! All randomness comes from streams named by seed, epoch, item and step, and every tensor that
//! training changes is in the checkpoint. Resuming therefore needs no replay: the loop simply goes
//! on at a step, and on the CPU arrives at the same bits as if it had never stopped.

mod checkpoint;
mod clock;
mod config;
mod correlation;
mod cuda_graph;
mod job;
mod metrics_writer;
mod pretrain;
mod progress;
mod step;
mod step_plan;
mod task;
mod tensorboard;

pub use checkpoint::{Checkpoint, checkpoint_bytes, checkpoints, newest, step_of};
pub use clock::{Clock, Stage};
pub use config::{OnDivergence, TrainConfig};
pub use correlation::correlations;
pub use cuda_graph::Steps;
pub use job::{Job, Outcome};
pub use pretrain::{Divergence, optimizer, pretrain};
pub use progress::duration;
pub use step::{Training, step};
pub use step_plan::StepPlan;
pub use task::{BatchSource, Evaluation, Task};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
