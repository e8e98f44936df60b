#![doc = include_str!("../README.md")]

mod error;
mod init;
pub mod loss;
pub mod network;
pub mod synthetic;
pub mod vgg;

pub use error::{Error, Result};
pub use network::{Ann, Mode, Trace};
pub use synthetic::SyntheticSet;
pub use vgg::{Depth, VggConfig};
