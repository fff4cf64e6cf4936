//! The training loop's task for methods that learn from sequences of tokens, the features of a
//! trained encoder, and fine-tuning.
//!
//! ```
//! use portolan_sequences::Sequences;
//! use portolan_tensor::Device;
//!
//! let sequences = Sequences::new(vec![vec![1, 5, 6, 2], vec![1, 7, 2]], /* padding */ Some(0));
//! let inputs = sequences.batch(&[1, 0], Device::Cpu);
//! assert_eq!(inputs[0].size(), [2, 4]); // token ids
//! assert_eq!(inputs[1].size(), [2, 4]); // false at padding
//! ```
//!
//! All sequences are in memory as token ids, four bytes each: the text of a whole encyclopedia
//! fits. Their order in an epoch depends on the seed alone, so that a resumed run and several
//! processes see the batches of an uninterrupted one.

mod features;
mod finetune;
mod sequences;
mod task;

pub use features::{bag_of_words, features};
pub use finetune::{FinetuneConfig, finetune};
pub use sequences::Sequences;
pub use task::{AtEpochEnd, TextTask, score};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
