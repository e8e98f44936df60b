//! What a timing depends on besides the code.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::workspace::Workspace;

/// The machine, the compiler and the revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The machine's name, fit for a folder.
    pub host: String,
    cpu: String,
    cores: usize,
    /// One-minute load before the benches.
    pub load: Option<f64>,
    rustc: Option<String>,
    revision: Option<String>,
    /// Whether the work tree had changes that the revision does not hold, records aside.
    dirty: Option<bool>,
    architecture: String,
}

impl Machine {
    /// Cores that this process may use.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The processor's name.
    pub fn cpu(&self) -> &str {
        &self.cpu
    }

    /// Why estimates of two runs do not belong into one record, if they do not. The load may differ.
    pub fn disagreement(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, here: &str, there: &str| {
            (here != there).then(|| format!("{what} {there} there, {here} here"))
        };
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        let revision = match (&self.revision, self.dirty, other.dirty) {
            (None, ..) => Some("the revision is unknown".to_owned()),
            (_, Some(false), Some(false)) => None,
            _ => Some("the work tree has changes that the revision does not hold".to_owned()),
        };
        differs("host", &self.host, &other.host)
            .or_else(|| differs("CPU", &self.cpu, &other.cpu))
            .or_else(|| differs("cores", &self.cores.to_string(), &other.cores.to_string()))
            .or_else(|| differs("architecture", &self.architecture, &other.architecture))
            .or_else(|| differs("compiler", &known(&self.rustc), &known(&other.rustc)))
            .or_else(|| differs("revision", &known(&self.revision), &known(&other.revision)))
            .or(revision)
    }

    /// The higher load of two runs goes into their common record.
    pub fn raise_load(&mut self, other: Option<f64>) {
        self.load = match (self.load, other) {
            (Some(here), Some(there)) => Some(here.max(there)),
            (here, there) => here.or(there),
        };
    }
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
            .ask(
                "git",
                &["status", "--porcelain", "--", ".", ":!benches/records"],
            )
            .map(|changes| !changes.is_empty()),
        architecture: std::env::consts::ARCH.to_owned(),
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

    fn machine() -> Machine {
        Machine {
            host: "a".into(),
            cpu: "b".into(),
            cores: 2,
            load: Some(0.1),
            rustc: Some("c".into()),
            revision: Some("d".into()),
            dirty: Some(false),
            architecture: "e".into(),
        }
    }

    #[test]
    fn only_runs_of_one_revision_on_one_machine_agree() {
        let here = machine();
        let busy = Machine {
            load: Some(2.0),
            ..machine()
        };
        assert_eq!(here.disagreement(&busy), None);
        let other = Machine {
            revision: Some("x".into()),
            ..machine()
        };
        assert_eq!(
            here.disagreement(&other).unwrap(),
            "revision x there, d here"
        );
        let larger = Machine {
            cores: 4,
            ..machine()
        };
        assert_eq!(here.disagreement(&larger).unwrap(), "cores 4 there, 2 here");
        // with changes one revision is not one program
        let dirty = Machine {
            dirty: Some(true),
            ..machine()
        };
        for (a, b) in [(&here, &dirty), (&dirty, &here), (&dirty, &dirty)] {
            assert!(a.disagreement(b).unwrap().contains("changes"));
        }
        let unknown = Machine {
            revision: None,
            dirty: None,
            ..machine()
        };
        assert!(unknown.disagreement(&unknown).unwrap().contains("unknown"));
    }

    #[test]
    fn the_higher_load_stays() {
        let mut machine = machine();
        machine.raise_load(Some(0.5));
        machine.raise_load(Some(0.2));
        machine.raise_load(None);
        assert_eq!(machine.load, Some(0.5));
    }

    #[test]
    fn the_cpu_is_named() {
        assert_eq!(
            cpu("processor : 0\nmodel name\t: A CPU @ 2 GHz\n").as_deref(),
            Some("A CPU @ 2 GHz")
        );
        assert_eq!(cpu("processor : 0\n"), None);
    }
}
