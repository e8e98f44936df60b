//! Experiment files: read, changed by a profile and by `--set`, checked. Only a checked [`Experiment`] runs.

mod checked;
mod config;
mod file;
mod overrides;
mod ranges;
mod rehearsal;

pub use checked::{Experiment, safe_name};
pub use config::{ClassifierConfig, DataConfig, EvaluateConfig, ExperimentConfig, VariantConfig};
pub use file::{ExperimentFile, Profile, find};
pub use overrides::within;
pub use rehearsal::rehearsal;
