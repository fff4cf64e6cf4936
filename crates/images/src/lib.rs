//! Pretraining on images: what the training loop of `portolan-train` is handed.
//!
//! A batch's way, a file each: `sampler.rs` decides the order of the images, `host_stage.rs` reads
//! them and makes their views (or draws what the device will do), `device_stage.rs` finishes the
//! views on the device, `loader.rs` runs the two stages ahead of the loop. [`ImageTask`] joins the
//! loader with a method and with what is measured at the end of an epoch.
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
//! Two stages, because a GPU makes views of a whole batch at once, but cannot read files: the host
//! stage does as little or as much as [`Augment`] says. The order and every view depend on the seed
//! alone, not on the number of threads, so a run that resumes needs no replay.

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
