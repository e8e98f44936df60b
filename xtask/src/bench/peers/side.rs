//! A process that does the work of one side, a repetition at a time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::bench::peers::record::{Repetition, SideFigures};
use crate::workspace;

/// For threads of the process that spoke last to go to sleep: some spin for a while after their work.
const SETTLE: Duration = Duration::from_millis(100);

/// A side that is ready to work.
#[derive(Debug)]
pub struct Side {
    name: String,
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Versions of the libraries that do the work, by name.
    pub versions: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Ready {
    versions: serde_json::Map<String, Value>,
}

impl Side {
    /// Starts a side and waits until its work is prepared. `command` lacks its last two words, the specification and the
    /// folder of inputs and outputs.
    pub fn start(
        name: &str,
        mut command: Command,
        specification: &Value,
        folder: &Path,
    ) -> Result<Self> {
        command
            .arg(specification.to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        workspace::without_cargo_run(&mut command);
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let answers = process.stdout.take().context("no standard output")?;
        let mut side = Self {
            name: name.to_owned(),
            commands: process.stdin.take(),
            process,
            answers: BufReader::new(answers),
            versions: serde_json::Map::new(),
        };
        let ready: Ready = side.answer()?;
        side.versions = ready.versions;
        Ok(side)
    }

    /// One repetition.
    pub fn run(&mut self) -> Result<Repetition> {
        std::thread::sleep(SETTLE);
        self.ask("run")
    }

    /// Memory and figures.
    pub fn report(&mut self) -> Result<SideFigures> {
        self.ask("report")
    }

    /// Has the outputs written.
    pub fn outputs(&mut self) -> Result<()> {
        self.ask::<Value>("outputs").map(|_| ())
    }

    /// Ends the process.
    pub fn stop(mut self) -> Result<()> {
        self.commands = None;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("{} failed at its end ({status})", self.name);
        }
        Ok(())
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, command: &str) -> Result<T> {
        let commands = self.commands.as_mut().context("the side was stopped")?;
        // a process that is gone says so by its silence, below
        let _ = writeln!(commands, "{command}").and_then(|()| commands.flush());
        self.answer()
    }

    fn answer<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.process.wait()?;
            bail!("{} ended ({status}); its messages are above", self.name);
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{} answered {:?}", self.name, line.trim_end()))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // after `stop` the process is gone, and both fail
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
