//! What a timing depends on besides the code.

use std::fs;

use serde::Serialize;

use crate::workspace::Workspace;

/// The machine, the compiler and the revision.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The machine's name, fit for a folder.
    pub host: String,
    cpu: String,
    cores: usize,
    /// One-minute load before the benches.
    load: Option<f64>,
    rustc: Option<String>,
    revision: Option<String>,
    /// Whether the work tree had changes that the revision does not hold.
    dirty: Option<bool>,
    architecture: &'static str,
}

/// Describes this machine.
pub fn describe(workspace: &Workspace, host: Option<String>, load: Option<f64>) -> Machine {
    let host = host
        .or_else(|| workspace.ask("hostname", &[]))
        .unwrap_or_default();
    let host: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    Machine {
        host: if host.is_empty() {
            "unknown".to_owned()
        } else {
            host
        },
        cpu: fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| cpu(&text))
            .unwrap_or_else(|| "unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load,
        rustc: workspace.ask("rustc", &["--version"]),
        revision: workspace.ask("git", &["rev-parse", "HEAD"]),
        dirty: workspace
            .ask("git", &["status", "--porcelain"])
            .map(|changes| !changes.is_empty()),
        architecture: std::env::consts::ARCH,
    }
}

/// The one-minute load, where the system tells it.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn cpu(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named() {
        assert_eq!(
            cpu("processor : 0\nmodel name\t: A CPU @ 2 GHz\n").as_deref(),
            Some("A CPU @ 2 GHz")
        );
        assert_eq!(cpu("processor : 0\n"), None);
    }
}
