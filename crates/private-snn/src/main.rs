//! The program: command line, log, signals, exit status.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use private_snn::cli::{Cli, Loudness};
use private_snn::progress::Console;
use private_snn::{memory, program, stages};
use tracing_subscriber::EnvFilter;

/// Backpropagation recurses along the graph.
const STACK: usize = 512 << 20;
/// What a shell reports of a program that was stopped by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    memory::keep_freed_pages();
    let cli = Cli::parse();
    let loudness = program::loudness(&cli.verb);
    let console = Console::new(loudness.quiet);
    start_log(loudness, &console);
    match run(cli, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if stages::is_interruption(&error) => {
            eprintln!(
                "interrupted: what is finished is kept; the same command goes on from the last checkpoint"
            );
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, console: &Console) -> Result<()> {
    program::set_threads(&cli.verb)?;
    let stop = console.stop_flag();
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            // asked twice: nobody wants to wait for the next safe point
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping at the next safe point; once more to stop at once");
    })
    .context("signals cannot be handled")?;
    let console = console.clone();
    let worker = std::thread::Builder::new()
        .name("stages".into())
        .stack_size(STACK)
        .spawn(move || program::execute(cli, &console))
        .context("cannot start a thread")?;
    worker
        .join()
        .unwrap_or_else(|_| Err(anyhow!("a stage panicked; this is a defect of the program")))
}

fn start_log(loudness: Loudness, console: &Console) {
    let default = match (loudness.quiet, loudness.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let console = console.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(move || console.clone())
        .init();
}
