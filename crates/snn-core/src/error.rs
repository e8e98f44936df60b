//! What can go wrong in this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of snn-core. Every message names the argument, layer or file at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// An argument is outside its domain.
    #[error("{name}: {message}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What is wrong with it, and what it should be.
        message: String,
    },

    /// A layer of a topology cannot be built or run.
    #[error("layer {index} ({kind}): {message}")]
    Layer {
        /// Position in the topology, from 0.
        index: usize,
        /// The layer's kind, as in its serialised form.
        kind: &'static str,
        /// What is wrong with it.
        message: String,
    },

    /// A checkpoint is not what it should be.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },

    /// The watcher of the work asked it to stop; see [`crate::progress`].
    #[error("interrupted")]
    Interrupted,

    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn argument(name: &'static str, message: impl Into<String>) -> Self {
        Self::Argument {
            name,
            message: message.into(),
        }
    }
}
