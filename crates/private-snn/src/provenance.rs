//! Where a result comes from.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What has to be known to make a result again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Revision of the source code, or `unknown` outside a git checkout.
    pub revision: String,
    /// Whether tracked files differed from that revision; unknown outside a git checkout.
    pub dirty: Option<bool>,
    /// sha256 of the images and labels used.
    pub data_sha256: String,
    /// The command line.
    pub command: String,
    /// Seconds of computation of all stages, those of earlier calls included.
    pub wall_seconds: f64,
    /// Versions of the program and of what it computes with.
    pub versions: BTreeMap<String, String>,
    /// Threads.
    pub threads: usize,
    /// Processor and operating system.
    pub machine: String,
}

impl Provenance {
    /// Of this process; `home` is a folder of the checkout.
    pub fn here(home: &Path, data_sha256: String, wall_seconds: f64) -> Self {
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(home)
                .args(arguments)
                .output()
                .ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        Self {
            revision: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into()),
            dirty: git(&["status", "--porcelain", "--untracked-files=no"])
                .map(|text| !text.is_empty()),
            data_sha256,
            command: command_line(),
            wall_seconds,
            versions: versions(),
            threads: rayon::current_num_threads(),
            machine: machine(),
        }
    }
}

/// The command line without the folder of the program.
fn command_line() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn versions() -> BTreeMap<String, String> {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    [
        ("private-snn", env!("CARGO_PKG_VERSION")),
        ("profile", profile),
        (
            "cuda",
            if cfg!(feature = "cuda") {
                "built in"
            } else {
                "not built in"
            },
        ),
    ]
    .map(|(name, version)| (name.to_string(), version.to_string()))
    .into()
}

fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_string())
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, {cores} cores, {} {}",
        model.unwrap_or_else(|| "unknown processor".into()),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_checkout_the_revision_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = Provenance::here(folder.path(), "00".into(), 1.0);
        assert_eq!(
            (provenance.revision.as_str(), provenance.dirty),
            ("unknown", None)
        );
        assert!(provenance.threads >= 1 && !provenance.machine.is_empty());
    }
}
