//! What can be drawn of features and attention.

pub(crate) mod attention;
pub(crate) mod outliers;
pub(crate) mod patches;
pub(crate) mod pca;
pub(crate) mod tsne;
