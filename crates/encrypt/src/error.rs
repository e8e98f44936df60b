//! What can go wrong in this crate.

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the encryption.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Optimiser, schedule, synthetic set, or another training's file.
    #[error(transparent)]
    Ann(#[from] ann::Error),

    /// Network, kernels, files; also the watcher's wish to stop, [`snn_core::Error::Interrupted`].
    #[error(transparent)]
    Core(#[from] snn_core::Error),

    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// An argument is outside its domain.
    #[error("{name}: {message}")]
    Argument {
        /// The argument's name, as in [`crate::EncryptConfig`] where it is a field of it.
        name: &'static str,
        /// What is wrong with it, and what it should be.
        message: String,
    },

    /// Training left the finite numbers.
    #[error(
        "encryption diverged in epoch {epoch}, step {step}: the loss is {loss}; lower learning_rate"
    )]
    Diverged {
        /// Epoch from 1.
        epoch: usize,
        /// Step of the epoch from 1.
        step: usize,
        /// The loss.
        loss: f64,
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
