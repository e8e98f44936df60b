//! The verbs of private-snn: `cargo xtask --help` lists them.
//!
//! Thin on purpose: it links no tensor library, so that it starts within seconds on a fresh clone. What computes is
//! the program of `crates/private-snn`, which this one builds and runs.

mod bench;
mod check;
mod cli;
mod data;
mod experiment;
mod program;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Verb};
use crate::workspace::Workspace;

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let workspace = Workspace::here();
    let name = verb.name();
    match verb {
        Verb::Reproduce(run)
        | Verb::Train(run)
        | Verb::Synth(run)
        | Verb::Convert(run)
        | Verb::Encrypt(run)
        | Verb::Validate(run)
        | Verb::Attack(run) => program::experiment(&workspace, name, run),
        Verb::Sweep(sweep) => program::sweep(&workspace, name, sweep),
        Verb::Report(rest) | Verb::List(rest) => program::plain(&workspace, name, rest),
        Verb::Fetch(fetch) => data::fetch_verb(&workspace, &fetch).map(|()| ExitCode::SUCCESS),
        Verb::Check { fast } => check::run(&workspace, fast),
        Verb::Bench(bench) => bench::run(&workspace, &bench).map(|()| ExitCode::SUCCESS),
    }
}
