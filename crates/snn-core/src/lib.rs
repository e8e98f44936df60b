#![doc = include_str!("../README.md")]

pub mod bptt;
pub mod checkpoint;
pub mod digest;
pub mod dropout;
pub mod encode;
pub mod energy;
pub mod engine;
mod error;
pub mod evaluate;
pub mod event;
pub mod network;
pub mod neuron;
pub mod ops;
pub mod parameters;
pub mod progress;
pub mod rng;
pub mod surrogate;
pub mod topology;

pub use error::{Error, Result};
pub use network::{SpikingNetwork, SpikingSettings};
pub use parameters::Parameters;
pub use topology::{ActivationFunction, Layer, Topology};
