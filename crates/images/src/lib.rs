//! Pretraining on images: the loader, and the task for the training loop of `portolan-train`.
//!
//! A batch passes through these files: `sampler.rs` decides the order of the images,
//! `host_stage.rs` reads them and computes their views (or draws the parameters for the device),
//! `device_stage.rs` finishes the views on the device, and `loader.rs` runs both stages ahead of
//! the loop. [`ImageTask`] combines the loader, a method and the evaluation at the end of an epoch.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_images::{Augment, Loader, LoaderConfig};
//! use portolan_tensor::Device;
//! use portolan_train::{BatchSource, Clock, StepPlan};
//!
//! let images = portolan_data::open("shapes", &portolan_data::Options::default())?.train;
//! let config = LoaderConfig {
//!     images,
//!     views: vec![presets::simclr(32), presets::simclr(32)],
//!     plan: StepPlan { items: 64, batch_size: 16, epochs: 1 },
//!     accumulate: 1,
//!     seed: 0,
//!     augment: Augment::Cpu,
//!     device: Device::Cpu,
//! };
//! let batch = Loader::start(config, 0, 2)?.next_batch(&mut Clock::stopped())?;
//! assert_eq!(batch.inputs[1].size(), [16, 3, 32, 32]);
//! # anyhow::Ok(())
//! ```
//!
//! There are two stages because a GPU computes the views of a whole batch at once but cannot read
//! files; [`Augment`] decides how much the host stage does. The order and every view depend only on
//! the seed, not on the number of threads, so a resumed run needs no replay.

mod device_stage;
mod error;
mod host_stage;
mod loader;
mod sampler;
mod task;

pub use error::{Error, Result};
pub use host_stage::Augment;
pub use loader::{Loader, LoaderConfig};
pub use task::{EpochKnn, ImageTask};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
