//! Ours beside its peers: PyTorch, SpikingJelly and stock candle, on the same inputs, in turn, in one go.

mod cases;
mod python;
pub mod readme;
mod record;
mod side;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, json};

use crate::bench::machine::{self, Machine};
use crate::cli::Peers;
use crate::program;
use crate::workspace::{self, Workspace};

use self::cases::{OURS, Work};
use self::record::{Case, Measured, Record, Settings};
use self::side::Side;

/// The program of the sides in Rust.
const PROGRAM: &str = "bench-side";

/// Fewer repetitions have no median worth the name.
const REPETITIONS: usize = 5;

/// glibc's habits for every process, which are those of the program: freed memory stays for the next tensor.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "1099511627776"),
    ("MALLOC_ARENA_MAX", "1"),
];

/// How each library is told its number of threads.
const THREADS: [&str; 3] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"];

/// Where the processes of the sides come from.
struct Programs {
    rust: PathBuf,
    /// Interpreter and script; none if no case needs them.
    python: Option<(PathBuf, PathBuf)>,
    environment: BTreeMap<String, String>,
    threads: usize,
}

/// Compares and records in `folder`.
pub fn run(
    workspace: &Workspace,
    arguments: &Peers,
    machine: Machine,
    folder: &Path,
) -> Result<()> {
    if arguments.repetitions < REPETITIONS {
        bail!(
            "--repetitions {}: at least {REPETITIONS}",
            arguments.repetitions
        );
    }
    let cases = chosen(workspace, arguments)?;
    let threads = arguments.threads.map_or(machine.cores(), usize::from);
    let programs = Programs::new(workspace, arguments, threads, &cases)?;
    let mut record = Record {
        machine,
        settings: Settings {
            threads,
            environment: programs.environment.clone(),
        },
        versions: BTreeMap::new(),
        cases: Vec::new(),
    };
    let path = folder.join(format!("peers-{threads}threads.json"));
    // before the cases, which take minutes
    if arguments.json.is_none()
        && let Some(old) = Record::read(&path)?
        && let Some(why) = record.disagreement(&old)
    {
        bail!(
            "{} is of another run ({why}): move it away, or say with --json FILE where the figures go",
            path.display()
        );
    }
    note_candle(workspace, &mut record.versions)?;
    for case in &cases {
        println!("{} ...", case.id);
        record.machine.raise_load(machine::load());
        let (measured, versions) =
            compare(&programs, case, arguments.repetitions).with_context(|| case.id.clone())?;
        print!("{}", table::table(std::slice::from_ref(&measured)));
        print!("{}", table::curve(&measured));
        record.versions.extend(versions);
        record.cases.push(measured);
        // one case after another: a later one that fails takes none with it
        if let Some(path) = &arguments.json {
            record.write(path)?;
        }
        // the tree may have changed while the case ran
        let now = machine::describe(workspace, Some(record.machine.host.clone()), None);
        let why = match record.machine.disagreement(&now) {
            None => keep(record.clone(), &path)?,
            why => why,
        };
        match why {
            None => println!("recorded in {}", path.display()),
            Some(why) => println!("not recorded in {}: {why}", path.display()),
        }
    }
    warn_of_other_versions(workspace, &record.versions)?;
    println!("\n{}", table::table(&record.cases));
    println!(
        "ratio: the peer's median over ours; memory: peak over the level before the first repetition"
    );
    // once more, beside the table: threads that wait for one another suffer most from other work
    super::warn_if_loaded(record.machine.load);
    let differing: Vec<&str> = record
        .cases
        .iter()
        .filter(|case| !case.agrees)
        .map(|case| case.id.as_str())
        .collect();
    if !differing.is_empty() {
        bail!(
            "outputs differ by more than the case allows: {}",
            differing.join(", ")
        );
    }
    Ok(())
}

/// The cases that are asked for; those of a stored network only where it and its images are given.
fn chosen(workspace: &Workspace, arguments: &Peers) -> Result<Vec<Work>> {
    let mut cases = cases::all();
    let data = arguments.data_dir.clone();
    let images = data
        .unwrap_or_else(|| workspace.path("data/raw"))
        .join("cifar-10-batches-bin/test_batch.bin");
    match &arguments.network {
        None => println!("no --network: inference of a stored network is left out"),
        Some(_) if !images.is_file() => println!(
            "no {}: inference of the stored network is left out (--data-dir says where the data sets are)",
            images.display()
        ),
        Some(network) if !network.is_file() => {
            bail!("--network {}: no such file", network.display())
        }
        Some(network) => {
            let whole =
                |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
            cases.extend(cases::stored(&whole(network)?, &whole(&images)?));
        }
    }
    if let Some(only) = &arguments.only {
        let ids: Vec<String> = cases.iter().map(|case| case.id.clone()).collect();
        cases.retain(|case| case.id.contains(only));
        if cases.is_empty() {
            bail!(
                "--only {only}: no case has this in its name; there are {}",
                ids.join(", ")
            );
        }
    }
    Ok(cases)
}

/// Puts the record where those of the machine are, with the cases that are there already if they are of a run alike; else
/// says why not.
fn keep(record: Record, path: &Path) -> Result<Option<String>> {
    let record = match Record::read(path)? {
        None => record,
        Some(mut old) => {
            if let Some(why) = record.disagreement(&old) {
                return Ok(Some(why));
            }
            old.extend(record);
            old
        }
    };
    record.write(path)?;
    Ok(None)
}

/// Says where a peer's version is not the one that is asked for.
fn warn_of_other_versions(
    workspace: &Workspace,
    versions: &BTreeMap<String, String>,
) -> Result<()> {
    for (package, version) in versions {
        if let Some(pinned) = python::pinned(workspace, package)?
            && !version.starts_with(&pinned)
        {
            eprintln!("warning: {package} is {version}, not {pinned}");
        }
    }
    Ok(())
}

/// Adds candle's version.
fn note_candle(workspace: &Workspace, versions: &mut BTreeMap<String, String>) -> Result<()> {
    let lock = std::fs::read_to_string(workspace.path("Cargo.lock")).context("Cargo.lock")?;
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let candle = packages
        .into_iter()
        .flatten()
        .find(|package| package.get("name").and_then(toml::Value::as_str) == Some("candle-core"));
    if let Some(version) = candle.and_then(|package| package.get("version")?.as_str()) {
        versions.insert("candle".into(), version.to_owned());
    }
    Ok(())
}

impl Programs {
    fn new(
        workspace: &Workspace,
        arguments: &Peers,
        threads: usize,
        cases: &[Work],
    ) -> Result<Self> {
        let any_python = cases.iter().any(|case| case.sides().any(cases::is_python));
        let python = match any_python {
            true => Some((
                python::find(workspace, arguments.peers_python.as_deref())?,
                python::script(workspace)?,
            )),
            false => None,
        };
        let mut environment: BTreeMap<String, String> = ALLOCATOR
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        environment.extend(THREADS.map(|name| (name.to_owned(), threads.to_string())));
        Ok(Self {
            rust: program::build_bin(workspace, "private-snn-benches", PROGRAM, None)?,
            python,
            environment,
            threads,
        })
    }

    /// The command of a side, its last two words missing.
    fn command(&self, side: &str) -> Result<Command> {
        let mut command = if cases::is_python(side) {
            let (python, script) = self.python.as_ref().context("no Python")?;
            let mut command = Command::new(python);
            command.args(["-W", "ignore"]).arg(script);
            command
        } else {
            Command::new(&self.rust)
        };
        command.envs(&self.environment);
        Ok(command)
    }

    /// Starts the sides of a case, the one that writes the inputs first; ours is the first of the result.
    fn start(&self, case: &Work, folder: &Path) -> Result<Vec<(&'static str, Side)>> {
        let mut sides = Vec::new();
        let order = std::iter::once(case.provider)
            .chain(case.sides().filter(|side| *side != case.provider));
        for name in order {
            let specification = json!({
                "implementation": name,
                "provider": name == case.provider,
                "threads": self.threads,
                "work": case.work,
            });
            let side = Side::start(name, self.command(name)?, &specification, folder)?;
            sides.push((name, side));
        }
        sides.sort_by_key(|(name, _)| *name != OURS);
        Ok(sides)
    }

    /// How far the outputs of a peer are from ours.
    fn differences(&self, folder: &Path, peer: &str) -> Result<BTreeMap<String, Option<f64>>> {
        let outputs = |side: &str| folder.join(format!("{side}.safetensors"));
        let mut command = Command::new(&self.rust);
        command
            .arg("compare")
            .arg(outputs(OURS))
            .arg(outputs(peer))
            .envs(&self.environment);
        let text = workspace::stdout(&mut command)?;
        serde_json::from_str(&text)
            .with_context(|| format!("the comparison with {peer} printed {text:?}"))
    }
}

/// Runs the sides of a case in turn.
fn compare(
    programs: &Programs,
    case: &Work,
    repetitions: usize,
) -> Result<(Case, BTreeMap<String, String>)> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut sides = programs.start(case, folder.path())?;
    for (_, side) in &mut sides {
        side.run()?;
    }
    let mut runs = vec![Vec::new(); sides.len()];
    for _ in 0..repetitions {
        for ((_, side), runs) in sides.iter_mut().zip(&mut runs) {
            runs.push(side.run()?);
        }
    }
    let mut result = Case {
        id: case.id.clone(),
        repetitions,
        sides: Map::new(),
        ratios: BTreeMap::new(),
        differences: BTreeMap::new(),
        agrees: true,
        curve: Vec::new(),
    };
    let mut versions = BTreeMap::new();
    let mut ours = None;
    for ((name, mut side), runs) in sides.into_iter().zip(runs) {
        let measured = Measured::of(&runs, side.report()?)?;
        if !case.peers.is_empty() {
            side.outputs()?;
        }
        for (package, version) in &side.versions {
            versions.insert(
                package.clone(),
                version.as_str().unwrap_or_default().to_owned(),
            );
        }
        side.stop()?;
        let median = measured.seconds.median;
        let ours = *ours.get_or_insert(median);
        if name != OURS {
            result.ratios.insert(name.to_owned(), median / ours);
            let differences = programs.differences(folder.path(), name)?;
            result.agrees &= differences
                .iter()
                .all(|(output, error)| error.is_some_and(|error| error <= case.tolerance(output)));
            result.differences.insert(name.to_owned(), differences);
        }
        result.curve.extend(measured.curve());
        result
            .sides
            .insert(name.to_owned(), serde_json::to_value(measured)?);
    }
    Ok((result, versions))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn programs(log: &Path, difference: &str, fail: &str) -> Programs {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let variables = [
            ("LOG", log.display().to_string()),
            ("DIFFERENCE", difference.to_owned()),
            ("FAIL", fail.to_owned()),
        ];
        Programs {
            rust: here.join("src/bench/peers/test_side.sh"),
            python: None,
            environment: variables
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            threads: 1,
        }
    }

    fn case(provider: &'static str) -> Work {
        Work {
            id: "a/b".into(),
            peers: vec![cases::CANDLE],
            provider,
            work: json!({ "kind": "none" }),
            tolerances: &[("y", 0.1)],
        }
    }

    #[test]
    fn sides_work_in_turn_on_the_inputs_of_one() {
        let folder = tempfile::tempdir().unwrap();
        for provider in [OURS, cases::CANDLE] {
            let log = folder.path().join(provider);
            let programs = programs(&log, "0.05", "");
            let (case, versions) = compare(&programs, &case(provider), 5).unwrap();
            assert_eq!(case.ratios[cases::CANDLE], 2.0);
            assert!(case.agrees);
            assert_eq!(case.differences[cases::CANDLE]["y.0"], Some(0.05));
            let ours = case.side(OURS).unwrap();
            assert_eq!((ours.seconds.median, ours.extra_mib), (0.5, Some(2.5)));
            assert_eq!(ours.parts["forward"]["max"], 0.25);
            assert_eq!(versions[cases::CANDLE], "1.2");
            let log = std::fs::read_to_string(log).unwrap();
            let runs: Vec<&str> = log.lines().filter(|line| line.ends_with("run")).collect();
            assert_eq!(runs, ["ours run", "candle run"].repeat(6));
        }
    }

    #[test]
    fn outputs_too_far_apart_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        for difference in ["0.2", "null"] {
            let programs = programs(&folder.path().join("log"), difference, "");
            let (case, _) = compare(&programs, &case(OURS), 5).unwrap();
            assert!(!case.agrees, "{difference}");
        }
    }

    #[test]
    fn a_side_that_ends_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let programs = programs(&folder.path().join("log"), "0", "candle report");
        let error = compare(&programs, &case(OURS), 5).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.contains("candle") && message.contains("4"),
            "{message}"
        );
    }

    #[test]
    fn a_record_of_another_run_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        let record = |revision: &str, id: &str| -> Record {
            let machine = json!({"host": "a", "cpu": "b", "cores": 2, "load": 0.1, "rustc": "c",
                "revision": revision, "dirty": false, "architecture": "e"});
            let case = json!({"id": id, "repetitions": 5, "sides": {}, "ratios": {},
                "differences": {}, "agrees": true});
            serde_json::from_value(json!({"machine": machine, "versions": {}, "cases": [case],
                "settings": {"threads": 1, "environment": {}}}))
            .unwrap()
        };
        for (revision, id) in [("x", "one"), ("x", "two")] {
            assert_eq!(keep(record(revision, id), &path).unwrap(), None);
        }
        let why = keep(record("y", "three"), &path).unwrap().unwrap();
        assert!(why.contains("revision x there, y here"), "{why}");
        let cases = Record::read(&path).unwrap().unwrap().cases;
        let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["one", "two"]);
    }
}
