//! Dense tasks: what is in each pixel, how far away it is, and where an object is.

mod bank;
pub(crate) mod features;
mod heads;
pub(crate) mod images;
pub(crate) mod lost;
pub(crate) mod probe;
pub(crate) mod scores;
pub(crate) mod task;
