#![doc = include_str!("../README.md")]

pub mod activity;
pub mod architecture;
pub mod augment;
mod error;
pub mod evaluate;
mod init;
pub mod log;
pub mod loss;
pub mod network;
pub mod optim;
pub mod pass;
pub mod schedule;
pub mod state;
pub mod synthetic;
pub mod train;

pub use activity::Activity;
pub use architecture::{Depth, NetworkConfig};
pub use augment::Augment;
pub use error::{Error, Result};
pub use evaluate::{evaluate, logits};
pub use network::{Ann, Mode, Trace};
pub use optim::{Optimiser, OptimiserConfig};
pub use pass::Pass;
pub use schedule::Schedule;
pub use synthetic::SyntheticSet;
pub use train::{EpochLog, TrainConfig, Trainer};
