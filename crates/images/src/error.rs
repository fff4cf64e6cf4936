//! What can go wrong in the loader.

/// The result of an operation of the loader.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the loader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threads that make views could not be started.
    #[error("cannot start the loader's threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// The thread that hands out batches could not be started.
    #[error("cannot start the loader's thread")]
    Thread(#[source] std::io::Error),
    /// The views cannot be made where `augment` says. The message says where they can.
    #[error("{0}")]
    Setting(String),
    /// No image can be read.
    #[error("none of the {images} images can be read; the first that was tried: {first}")]
    Unreadable {
        /// The number of images.
        images: usize,
        /// The first image that was tried, and why it could not be read.
        first: String,
    },
    /// The loader's thread ended before the run did: with this panic message, if it panicked.
    #[error("the loader stopped: {0}")]
    Stopped(String),
    /// A batch's views are to be made of images on the device, and there are none.
    #[error("the images are not on the device")]
    NotResident,
}
