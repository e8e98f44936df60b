//! What can go wrong in this crate.

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the synthesis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source network refused something.
    #[error(transparent)]
    Ann(#[from] ann::Error),

    /// Topology, kernels, files; also the watcher's wish to stop, [`snn_core::Error::Interrupted`].
    #[error(transparent)]
    Core(#[from] snn_core::Error),

    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// An argument is outside its domain.
    #[error("{name}: {message}")]
    Argument {
        /// The argument's name, as in [`crate::SynthConfig`] where it is a field of it.
        name: &'static str,
        /// What is wrong with it, and what it should be.
        message: String,
    },

    /// An image left the finite numbers.
    #[error(
        "synthesis of image {image} failed in iteration {iteration}: the loss is {loss}; \
         lower learning_rate or check the network's weights"
    )]
    NotFinite {
        /// Number of the image.
        image: usize,
        /// Iteration from 0.
        iteration: usize,
        /// Its loss.
        loss: f32,
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
