//! How images are stored: a file for each format, which implements [`Source`](crate::Source).

pub(crate) mod cifar;
pub(crate) mod folder;
pub(crate) mod idx;
pub(crate) mod labels;
pub(crate) mod listing;
pub(crate) mod memory;
pub(crate) mod pack;
pub(crate) mod parquet;
pub(crate) mod shapes;
pub(crate) mod splits;
pub(crate) mod stl10;
pub(crate) mod webdataset;
