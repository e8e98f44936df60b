#![doc = include_str!("../README.md")]

pub mod attacks;
mod check;
mod error;
pub mod metrics;
pub mod rate_reading;
pub mod relu_reading;
pub mod report;
pub mod score;
pub mod weight_change;

pub use attacks::Reconstruction;
pub use error::{Error, Result};
pub use rate_reading::rate_reading;
pub use relu_reading::relu_reading;
pub use report::{AttackOutcome, Leakage};
pub use score::Scorer;
pub use weight_change::{LayerChange, weight_change_by_layer};
