//! What can go wrong in this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the source network or of its training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topology, kernels, checkpoints.
    #[error(transparent)]
    Core(#[from] snn_core::Error),

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

    /// Training left the finite numbers.
    #[error(
        "training diverged in epoch {epoch}, step {step}: the loss is {loss}; lower the learning rate"
    )]
    Diverged {
        /// Epoch from 1.
        epoch: usize,
        /// Step of the epoch from 1.
        step: usize,
        /// The loss.
        loss: f64,
    },

    /// A step made a trained threshold zero, negative or not finite.
    #[error(
        "training diverged in epoch {epoch}, step {step}: the threshold of layer {layer} became {threshold}, which is not \
         positive and finite; lower the learning rate"
    )]
    Threshold {
        /// Epoch from 1.
        epoch: usize,
        /// Step of the epoch from 1.
        step: usize,
        /// Index of the activation.
        layer: usize,
        /// The threshold after the step.
        threshold: f32,
    },

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
