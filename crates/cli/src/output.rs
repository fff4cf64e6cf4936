//! Files that the commands write.

pub(crate) mod embeddings;
pub(crate) mod hub;
pub(crate) mod image_files;
pub(crate) mod overlays;
pub(crate) mod table;
