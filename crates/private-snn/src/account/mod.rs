//! The account of everything that has a record: all experiments side by side, each alone, and the sweeps, as Markdown, as a
//! page that opens offline, and in the README.

mod brief;
mod claims;
mod conclusion;
mod document;
mod durations;
mod experiment;
mod gains;
mod outdated;
mod overall;
mod published;
mod refresh;
mod settings;
mod sweep;
mod timesteps;

pub use refresh::{Places, refresh};
