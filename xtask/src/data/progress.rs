//! How far a download is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

const PLAIN_EVERY: Duration = Duration::from_secs(15);

/// Progress of one file.
pub struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    start: Instant,
    start_at: u64,
    last_line: Instant,
}

impl Progress {
    /// Starts at `position` of `total` bytes.
    pub fn new(name: &str, position: u64, total: Option<u64>) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| bar(name, position, total));
        let progress = Self {
            name: name.to_owned(),
            bar,
            start: now,
            start_at: position,
            last_line: now,
        };
        if progress.bar.is_none() {
            progress.line(position, total);
        }
        progress
    }

    /// Now at `position` of `total` bytes.
    pub fn at(&mut self, position: u64, total: Option<u64>) {
        match &self.bar {
            Some(bar) => bar.set_position(position),
            None if self.last_line.elapsed() >= PLAIN_EVERY => {
                self.last_line = Instant::now();
                self.line(position, total);
            }
            None => {}
        }
    }

    fn line(&self, position: u64, total: Option<u64>) {
        let name = &self.name;
        match total {
            Some(total) => eprintln!(
                "{name}: {} of {}{}",
                HumanBytes(position),
                HumanBytes(total),
                remaining(
                    self.start.elapsed(),
                    position.saturating_sub(self.start_at),
                    total.saturating_sub(position)
                )
                .map(|left| format!(", about {} left", HumanDuration(left)))
                .unwrap_or_default()
            ),
            None => eprintln!("{name}: {}", HumanBytes(position)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn bar(name: &str, position: u64, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{prefix} {bytes} {bytes_per_sec}"),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = bar
        .with_style(style.progress_chars("=> "))
        .with_prefix(name.to_owned())
        .with_position(position);
    // without this, the speed of a resumed download would count the bytes of the first try
    bar.reset_eta();
    bar
}

/// Time left at the mean speed so far; `None` while there is no speed yet.
fn remaining(elapsed: Duration, done: u64, left: u64) -> Option<Duration> {
    let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
    (done > 0)
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_mean_speed() {
        assert_eq!(
            remaining(Duration::from_secs(10), 100, 50),
            Some(Duration::from_secs(5))
        );
        assert_eq!(remaining(Duration::from_secs(10), 0, 50), None);
        assert_eq!(
            remaining(Duration::from_secs(10), 100, 0),
            Some(Duration::ZERO)
        );
    }
}
