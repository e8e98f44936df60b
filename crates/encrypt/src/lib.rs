#![doc = include_str!("../README.md")]

mod config;
mod drift;
mod encryption;
mod error;
mod loss;

pub use config::{EncryptConfig, Targets};
pub use drift::LayerDrift;
pub use encryption::{EncryptLog, Encryption};
pub use error::{Error, Result};
pub use loss::{Loss, encryption_loss};
