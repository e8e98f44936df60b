#![doc = include_str!("../README.md")]

mod config;
mod dirichlet;
mod error;
mod pixels;
mod similarity;
mod statistics;
mod synthesise;

pub use config::SynthConfig;
pub use dirichlet::{CONCENTRATION_FLOOR, dirichlet};
pub use error::{Error, Result};
pub use similarity::class_similarity;
pub use synthesise::{agreement, synthesise};
