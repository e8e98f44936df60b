//! Running the program in a folder of its own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The smoke experiment, smaller still; a set of options that all tests share, so that its stages take about a second.
pub const TINY: &[&str] = &[
    "--set",
    "data.glyphs.train=120",
    "--set",
    "data.glyphs.validation=20",
    "--set",
    "data.glyphs.test=40",
    "--set",
    "judge.training.epochs=2",
    "--set",
    "ann.training.epochs=2",
    "--set",
    "synth.count=30",
    "--set",
    "synth.iterations=20",
    "--set",
    "encrypt.epochs=2",
    "--set",
    "calibration_images=10",
];

/// A command of the program; results go to `out`.
pub fn program(words: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_private-snn"));
    command
        .args(words)
        .arg("--out")
        .arg(out)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(words: &[&str], out: &Path) -> Output {
    program(words, out).output().expect("the program starts")
}

/// Runs it to its end, which must be a good one.
pub fn run_well(words: &[&str], out: &Path) -> Output {
    let output = run(words, out);
    assert!(
        output.status.success(),
        "{words:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs it to an error and gives what it says of it.
pub fn failure(words: &[&str], out: &Path) -> String {
    let output = run(words, out);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}:\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    let place = said
        .rfind("error: ")
        .unwrap_or_else(|| panic!("no error in:\n{said}"));
    said[place..].to_string()
}

/// `words` and [`TINY`].
pub fn tiny<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(TINY).copied().collect()
}

/// All files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Folder of the only stage of this name.
pub fn stage(out: &Path, name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = files(out)
        .iter()
        .filter_map(|path| path.parent())
        .filter(|folder| {
            folder
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.rsplit_once('-'))
                .is_some_and(|(stage, _)| stage == name)
        })
        .map(Path::to_path_buf)
        .collect();
    found.dedup();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

/// sha256 of every artefact, by path below `out`, as the records tell.
pub fn artefacts(out: &Path) -> Vec<(String, Value)> {
    let record = |path: &PathBuf| {
        let record: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("a record")).expect("JSON");
        let name = path.strip_prefix(out).expect("below").display().to_string();
        (name, record["artefacts"].clone())
    };
    files(out)
        .iter()
        .filter(|path| path.ends_with("record.json"))
        .map(record)
        .collect()
}

/// A file of JSON.
pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("JSON")
}

/// The only report.
pub fn report(out: &Path) -> Value {
    let path = files(out)
        .into_iter()
        .find(|path| path.ends_with("report.json"))
        .expect("a report");
    json(&path)
}

/// The report without what depends on the clock and the call.
pub fn figures(out: &Path) -> Value {
    let mut report = report(out);
    for scope in ["", "/variants/modern"] {
        let map = report
            .pointer_mut(scope)
            .and_then(Value::as_object_mut)
            .expect("an object");
        map.remove("provenance");
        map.remove("stage_seconds");
    }
    report
}

/// Waits until a file that `wanted` accepts lies below `folder`, or the child ends.
pub fn wait_for(child: &mut Child, folder: &Path, wanted: impl Fn(&Path) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        if files(folder).iter().any(|path| wanted(path)) {
            return true;
        }
        if child.try_wait().expect("its state").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing happened in two minutes");
}
