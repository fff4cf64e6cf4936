//! Images with a class or a depth for each pixel.

mod folder;
pub(crate) mod images;
pub(crate) mod item;
mod layout;
mod maps;
mod names;
pub(crate) mod open;
mod shapes;
