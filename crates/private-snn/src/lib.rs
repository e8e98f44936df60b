#![doc = include_str!("../README.md")]

pub mod account;
pub mod cli;
pub mod data;
pub mod device;
pub mod evidence;
pub mod experiment;
pub mod folder;
pub mod list;
pub mod memory;
pub mod program;
pub mod progress;
pub mod provenance;
pub mod report;
pub mod stages;
pub mod store;
pub mod sweep;
