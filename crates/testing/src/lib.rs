//! Helpers that the tests of several crates share; crates use it only as a dev-dependency.
//!
//! ```
//! use portolan_testing::golden;
//! use portolan_tensor::Tensor;
//! use std::collections::BTreeMap;
//!
//! let tensors = |value: f32| BTreeMap::from([("out.loss".to_owned(), Tensor::from(value))]);
//! assert!(golden::compare(&tensors(2.0), &tensors(2.0), 1e-5).is_ok());
//! assert!(golden::compare(&tensors(2.0), &tensors(2.1), 1e-5).is_err());
//! ```
//!
//! Its functions panic where a test should: a test that cannot read its values must fail.
#![allow(clippy::unwrap_used)]

pub mod formula;
pub mod golden;
pub mod trial;
