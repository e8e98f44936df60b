//! How the program tells of long work, and how it is asked to stop.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use snn_core::progress::{Flow, Progress};

/// Between two lines of a task where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Bars on a terminal, lines elsewhere; and the wish to stop.
#[derive(Debug, Clone)]
pub struct Console {
    bars: Option<MultiProgress>,
    stop: Arc<AtomicBool>,
}

impl Console {
    /// Bars if standard error is a terminal and `quiet` is not asked for.
    pub fn new(quiet: bool) -> Self {
        let bars = (!quiet && io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5)));
        Self {
            bars,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The flag that stops all work at its next safe point.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Whether somebody asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Starts telling of a task.
    pub fn task(&self, name: impl Into<String>) -> Task {
        let name = name.into();
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template(
                "{prefix:>24} {bar:28} {pos:>6}/{len:<6} {elapsed_precise} (left {eta}) {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(0).with_style(style));
            bar.set_prefix(name.clone());
            bar
        });
        Task {
            name,
            bar,
            stop: self.stop.clone(),
            last: Instant::now(),
        }
    }
}

/// Log lines that do not tear the bars.
impl Write for Console {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspend(|| io::stderr().write(text)),
            None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// One task being told of; its bar goes away with it.
#[derive(Debug)]
pub struct Task {
    name: String,
    bar: Option<ProgressBar>,
    stop: Arc<AtomicBool>,
    last: Instant,
}

impl Task {
    /// The watcher of the task's work.
    pub fn see(&mut self, progress: &Progress) -> Flow {
        let said = format!("{} {}", progress.unit, progress.note);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(said);
        } else if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            tracing::info!(
                "{}: {} {}/{} {}",
                self.name,
                progress.unit,
                progress.done,
                progress.total,
                progress.note
            );
        }
        if self.stop.load(Ordering::Relaxed) {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_flag_stops_the_task() {
        let console = Console::new(true);
        let mut task = console.task("work");
        let progress = Progress {
            unit: "image".into(),
            done: 1,
            total: 2,
            note: String::new(),
        };
        assert_eq!(task.see(&progress), Flow::Continue);
        console.stop_flag().store(true, Ordering::Relaxed);
        assert_eq!(task.see(&progress), Flow::Stop);
        assert!(console.stopped());
    }
}
