//! What can go wrong in this crate.

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an attack or a metric.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Spiking network, topology, or the watcher's wish to stop.
    #[error(transparent)]
    Core(#[from] snn_core::Error),

    /// Source network or judge.
    #[error(transparent)]
    Ann(#[from] ann::Error),

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

    /// The ascent left the finite numbers.
    #[error(
        "the gradient of image {image} is not finite at step {step}: the attacked network's scores overflow"
    )]
    Diverged {
        /// Number of the image in the reconstruction.
        image: usize,
        /// Step of the ascent, from 0.
        step: usize,
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
