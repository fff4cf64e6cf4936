//! What can go wrong in this crate.

use portolan_tensor::Device;

/// The result of a loss.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Inputs or settings for which a loss is not defined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input has the wrong shape. The message names the inputs and their shapes.
    #[error("{0}")]
    Shape(String),
    /// A batch is too small for the loss to be defined.
    #[error("`{name}` has {rows} row(s), and this loss needs a batch of at least {least}")]
    SmallBatch {
        /// The input.
        name: String,
        /// Its number of rows.
        rows: i64,
        /// The smallest number of rows that is allowed.
        least: i64,
    },
    /// A setting is not a positive number.
    #[error("`{name}` is {value}, but must be positive")]
    NotPositive {
        /// The setting.
        name: String,
        /// Its value.
        value: f64,
    },
    /// The inputs are on different devices.
    #[error("the inputs of a loss lie on {first:?} and {other:?}; move them to one device")]
    Devices {
        /// The device of the first input.
        first: Device,
        /// Another input's.
        other: Device,
    },
    /// An input contains infinities or NaN.
    #[error("`{0}` holds numbers that are not finite")]
    NotFinite(&'static str),
    /// An error of libtorch.
    #[error(transparent)]
    Tensor(#[from] portolan_tensor::Error),
}
