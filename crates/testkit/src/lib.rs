#![doc = include_str!("../README.md")]

mod devices;
mod golden;
mod gradient;
mod threads;
mod tolerance;

pub use devices::devices;
pub use golden::Golden;
pub use gradient::check_gradient;
pub use threads::{assert_thread_independent, with_threads};
pub use tolerance::{Tolerance, assert_close};
