//! What can go wrong in this crate.

use std::path::PathBuf;
use tch::TchError;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of libtorch, of a file of tensors, or of a group of processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No device has this name, or it is absent. The message says what to do.
    #[error("{0}")]
    Device(String),
    /// The launcher's environment variables are incomplete or malformed.
    #[error("{0}")]
    Launch(String),
    /// Tensors do not fit together: in number, name or shape.
    #[error("{0}")]
    Mismatch(String),
    /// A file holds, or should hold, a type of number that the other side does not know.
    #[error("{0}")]
    Unsupported(String),
    /// libtorch threw an exception. This is the first line of its message.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// An operation of tch failed.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// The body of [`Graph::capture`](crate::Graph::capture) panicked.
    #[error("the captured work panicked")]
    Panicked,
    /// This process is in a group already.
    #[error("this process has joined a group already")]
    AlreadyJoined,
    /// The other processes did not all come in time.
    #[error("process {rank} of {world_size} could not join the others at {address}")]
    Join {
        /// This process.
        rank: usize,
        /// The number of processes.
        world_size: usize,
        /// Where process 0 was expected, with the port.
        address: String,
        /// What libtorch said.
        source: Box<Error>,
    },
    /// A collective operation failed: almost always because another process is gone.
    #[error(
        "process {rank} of {world_size} lost the others: one of them has ended, or does not \
         answer; see what it said last"
    )]
    Lost {
        /// This process.
        rank: usize,
        /// The number of processes.
        world_size: usize,
        /// What libtorch said.
        source: Box<Error>,
    },
    /// [`check_alone`](crate::distributed::check_alone) found a wrong result.
    #[error("{0} of one process is wrong")]
    WrongCollective(&'static str),
    /// A socket on this machine could not be opened.
    #[error("no port is free")]
    Port(#[source] std::io::Error),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(
        "cannot write {} ({bytes} bytes): free some space there or choose another folder",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The size that it would have had.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is cut short, changed, or of another format.
    #[error("{} is not a whole safetensors file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The safetensors format does not allow this.
    #[error(transparent)]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The numbers in a file are not those that were written.
    #[error("its numbers are not those that were written: their checksum differs")]
    Checksum,
}

impl Error {
    /// The message and those of its causes, separated by colons.
    pub fn with_causes(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |error| error.source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }
}
