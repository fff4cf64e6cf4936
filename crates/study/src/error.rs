//! What can go wrong.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no study with this name.
    #[error("there is no study `{name}`; there are {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A study's file is not TOML, lacks a key or has an unknown one.
    #[error("the study {name} cannot be read: {reason}")]
    Parse {
        /// Its name or path.
        name: String,
        /// What is wrong, in one line.
        reason: String,
    },
    /// A study contradicts itself.
    #[error("the study {name} {reason}")]
    Invalid {
        /// Its name or path.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A run that a rule needs gave no value.
    #[error("{run} has no {metric}, which a rule of the study needs")]
    Missing {
        /// The run.
        run: String,
        /// The metric.
        metric: String,
    },
}
