#![doc = include_str!("../README.md")]

pub mod cifar;
mod dataset;
mod error;
mod file;
pub mod glyphs;
pub mod idx;
mod kind;
mod philox;
pub mod tiny_imagenet;

pub use dataset::{Dataset, Split, normalise};
pub use error::{Error, Result};
pub use kind::{Kind, load};
