//! Protocols that score an encoder with labels.

pub(crate) mod classifiers;
pub(crate) mod finetune;
pub(crate) mod knn;
pub(crate) mod linear_dinov2;
pub(crate) mod linear_sweep;
pub(crate) mod low_shot;
pub(crate) mod probe;
