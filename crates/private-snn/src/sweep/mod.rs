//! Searches over the settings of an experiment: every run is measured on the validation images, so that a choice among
//! them owes nothing to the test images.
//!
//! A sweep file is a [`Sweep`]. Its runs are planned before anything is computed ([`plan()`]), share the finished stages
//! of the experiment's store, and are gathered in a [`Record`], which is written after each run. Shards of a sweep, on
//! as many machines, have records of their own, which [`merge()`] joins to the bytes that one machine would have
//! written.

mod file;
mod leakage;
mod merge;
mod picture;
mod plan;
mod points;
mod record;
mod run;
mod shard;
mod table;
mod tradeoff;

pub use file::{Choice, Range, Scale, Search, Sweep};
pub use leakage::LEAKAGE;
pub use merge::merge;
pub use picture::{Picture, pictures};
pub use plan::{Planned, Run, plan};
#[cfg(test)]
pub(crate) use record::tests::record;
pub use record::{Entry, Header, Record, settle, settled};
pub use run::execute;
pub use shard::Shard;
pub use table::{best, lines, table};
