//! What can go wrong in this crate.

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of conversion. Messages name the argument or the layer at fault and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topology, kernels, neurons.
    #[error(transparent)]
    Core(#[from] snn_core::Error),

    /// The source network.
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

    /// A layer that cannot be converted, or not with what was given.
    #[error("layer {index} ({kind}): {message}")]
    Layer {
        /// Position in the topology, from 0.
        index: usize,
        /// The layer's kind, as in its serialised form.
        kind: &'static str,
        /// Why not, and what to do.
        message: String,
    },

    /// A population that gets no threshold from the calibration images or statistics at hand; with others it may.
    #[error("layer {index} (activation): {message}")]
    Threshold {
        /// Position of the activation layer in the topology, from 0.
        index: usize,
        /// Why not, and what to do.
        message: String,
    },
}

impl Error {
    pub(crate) fn argument(name: &'static str, message: impl Into<String>) -> Self {
        Self::Argument {
            name,
            message: message.into(),
        }
    }

    pub(crate) fn threshold(index: usize, message: impl Into<String>) -> Self {
        Self::Threshold {
            index,
            message: message.into(),
        }
    }

    pub(crate) fn layer(
        topology: &snn_core::Topology,
        index: usize,
        message: impl Into<String>,
    ) -> Self {
        Self::Layer {
            index,
            kind: topology.layers()[index].kind(),
            message: message.into(),
        }
    }
}
