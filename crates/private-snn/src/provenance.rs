//! Where a result comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::store::Record;

/// What a stage was computed with; part of its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Revision of the source code, or `unknown` outside a git checkout.
    pub revision: String,
    /// Whether tracked files, results and their figures aside, differed from that revision; unknown outside a git checkout.
    pub dirty: Option<bool>,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Processor and operating system.
    pub machine: String,
    /// Versions of the program and of what it computes with.
    pub versions: BTreeMap<String, String>,
}

/// All of a checkout but what the program itself writes there.
const CODE: [&str; 4] = [
    ":/",
    ":(top,exclude)data/results",
    ":(top,exclude)data/figures",
    ":(top,exclude)docs/RESULTS.md",
];

impl Origin {
    /// That of this process, which computes on `device`; `home` is a folder of the checkout.
    pub fn here(home: &Path, device: &str) -> Self {
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
            dirty: git(&[
                &["status", "--porcelain", "--untracked-files=no", "--"],
                &CODE[..],
            ]
            .concat())
            .map(|text| !text.is_empty()),
            device: device.to_string(),
            threads: rayon::current_num_threads(),
            machine: machine(),
            versions: versions(),
        }
    }
}

/// What has to be known to make a result again. Stages of one result may come from several calls: where they differ, all
/// values are listed, separated by commas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Revision of the source code at each stage, or `unknown` outside a git checkout.
    pub revision: String,
    /// Whether tracked files differed from the revision at any stage; unknown outside a git checkout.
    pub dirty: Option<bool>,
    /// sha256 of the images and labels used.
    pub data_sha256: String,
    /// A command that makes the result again.
    pub command: String,
    /// Sum of the stages' seconds of computation, whichever call they ran in.
    pub wall_seconds: f64,
    /// Versions of the program and of what it computes with.
    pub versions: BTreeMap<String, String>,
    /// Threads.
    pub threads: String,
    /// Processor and operating system.
    pub machine: String,
}

impl Provenance {
    /// Of a result made of these stages.
    pub fn of(records: &[&Record], data_sha256: String, command: String) -> Self {
        let origins: Vec<&Origin> = records.iter().flat_map(|record| record.origins()).collect();
        let all = |of: fn(&Origin) -> String| joined(origins.iter().map(|origin| of(origin)));
        let dirty: Vec<Option<bool>> = origins.iter().map(|origin| origin.dirty).collect();
        let names: BTreeSet<&String> = origins
            .iter()
            .flat_map(|origin| origin.versions.keys())
            .collect();
        let versions = names.into_iter().map(|name| {
            let values = origins
                .iter()
                .filter_map(|origin| origin.versions.get(name).cloned());
            (name.clone(), joined(values))
        });
        let seconds: f64 = records.iter().map(|record| record.wall_seconds).sum();
        Self {
            revision: all(|origin| origin.revision.clone()),
            dirty: if dirty.contains(&Some(true)) {
                Some(true)
            } else if dirty.contains(&None) {
                None
            } else {
                Some(false)
            },
            data_sha256,
            command,
            wall_seconds: (seconds * 1e3).round() / 1e3,
            versions: versions.collect(),
            threads: all(|origin| origin.threads.to_string()),
            machine: all(|origin| origin.machine.clone()),
        }
    }
}

/// The different values in the order of their first appearance.
fn joined(values: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen.join(", ")
}

/// The command that computes one seed of an experiment, without the folders of this machine.
pub fn command(
    experiment: &str,
    profile: &str,
    seed: u64,
    rehearse: bool,
    assignments: &[String],
) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=,+".contains(c);
    let mut line = format!("cargo xtask reproduce {experiment} --profile {profile} --seed {seed}");
    if rehearse {
        line.push_str(" --rehearse");
    }
    for assignment in assignments {
        line.push_str(" --set ");
        if assignment.chars().all(plain) {
            line.push_str(assignment);
        } else {
            line.push_str(&format!("'{}'", assignment.replace('\'', "'\\''")));
        }
    }
    line
}

fn versions() -> BTreeMap<String, String> {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let cuda = if cfg!(feature = "cuda") {
        "built in"
    } else {
        "not built in"
    };
    [
        ("private-snn", Some(env!("CARGO_PKG_VERSION"))),
        ("candle", option_env!("CANDLE_VERSION")),
        ("rustc", option_env!("RUSTC_VERSION")),
        ("profile", Some(profile)),
        ("cuda", Some(cuda)),
        ("instructions", Some(snn_core::ops::instructions())),
    ]
    .into_iter()
    .filter_map(|(name, version)| Some((name.to_string(), version?.to_string())))
    .collect()
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
    use crate::store::Inputs;
    use serde_json::Value;

    fn record(revision: &str, dirty: Option<bool>, threads: usize) -> Record {
        let folder = tempfile::tempdir().unwrap();
        Record {
            key: String::new(),
            inputs: Inputs {
                stage: "train".into(),
                format: 1,
                config: Value::Null,
                seed: 1,
                device: "cpu".into(),
                upstream: BTreeMap::new(),
            },
            artefacts: BTreeMap::new(),
            figures: Value::Null,
            wall_seconds: 1.25,
            origin: Origin {
                revision: revision.into(),
                dirty,
                threads,
                ..Origin::here(folder.path(), "cpu")
            },
            interrupted: Vec::new(),
        }
    }

    #[test]
    fn outside_a_checkout_the_revision_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::here(folder.path(), "cpu");
        assert_eq!((origin.revision.as_str(), origin.dirty), ("unknown", None));
        assert!(origin.threads >= 1 && !origin.machine.is_empty());
    }

    #[test]
    fn results_do_not_make_a_checkout_dirty() {
        let folder = tempfile::tempdir().unwrap();
        let git = |words: &str| {
            let mut git = Command::new("git");
            let git = git.arg("-C").arg(folder.path()).args(words.split(' '));
            assert!(git.output().unwrap().status.success(), "git {words}");
        };
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let files = [
            "src/a.rs",
            "data/results/sweeps/a.json",
            "data/figures/a.svg",
        ];
        for file in files {
            write(file, "one");
        }
        git("init -q");
        git("add .");
        git("-c user.name=a -c user.email=a@b commit -q -m one");
        let dirty = || Origin::here(&folder.path().join("data"), "cpu").dirty;
        assert_eq!(dirty(), Some(false));
        for file in &files[1..] {
            write(file, "two");
        }
        assert_eq!(dirty(), Some(false));
        write(files[0], "two");
        assert_eq!(dirty(), Some(true));
    }

    #[test]
    fn stages_that_agree_are_named_once_and_others_listed() {
        let same = [record("a", Some(false), 2), record("a", Some(false), 2)];
        let of = |records: &[Record]| {
            Provenance::of(
                &records.iter().collect::<Vec<_>>(),
                "00".into(),
                "run".into(),
            )
        };
        let one = of(&same);
        assert_eq!((one.revision.as_str(), one.dirty), ("a", Some(false)));
        assert_eq!((one.threads.as_str(), one.wall_seconds), ("2", 2.5));
        assert_eq!(one.versions["private-snn"], env!("CARGO_PKG_VERSION"));
        let two = of(&[
            record("a", Some(false), 2),
            record("b", Some(true), 4),
            record("a", None, 2),
        ]);
        assert_eq!((two.revision.as_str(), two.dirty), ("a, b", Some(true)));
        assert_eq!(two.threads, "2, 4");
        let mut resumed = record("b", Some(false), 2);
        resumed.interrupted = vec![record("a", Some(true), 2).origin];
        let resumed = of(&[resumed]);
        assert_eq!(
            (resumed.revision.as_str(), resumed.dirty),
            ("a, b", Some(true))
        );
        assert_eq!(
            of(&[record("a", None, 2), record("a", Some(false), 2)]).dirty,
            None
        );
    }

    #[test]
    fn a_command_is_quoted_where_a_shell_needs_it() {
        let set = ["encrypt.epochs=3".to_string(), "windows=[1, 2]".into()];
        assert_eq!(
            command("glyphs", "cpu", 3, true, &set),
            "cargo xtask reproduce glyphs --profile cpu --seed 3 --rehearse --set encrypt.epochs=3 --set 'windows=[1, 2]'"
        );
    }
}
