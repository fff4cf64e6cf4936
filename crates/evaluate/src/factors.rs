//! How well a representation encodes the factors that images of `shapes` are drawn from, and which
//! of them it ignores.

mod images;
mod ridge;
mod scene;
mod table;

pub use images::FactorImages;
pub use table::{FactorRow, FactorTable, factor_table};
