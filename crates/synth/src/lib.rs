#![doc = include_str!("../README.md")]

mod config;
mod dirichlet;
mod error;
mod generator;
mod loss;
mod pixels;
mod similarity;
mod statistics;
mod synthesise;
mod targets;

pub use config::{GeneratorConfig, SynthConfig};
pub use dirichlet::{CONCENTRATION_FLOOR, dirichlet};
pub use error::{Error, Result};
pub use generator::Generator;
pub use similarity::class_similarity;
pub use synthesise::{agreement, synthesise};
