//! Builds the program of `crates/private-snn` and hands over to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli::{Plain, Run, Sweep};
use crate::workspace::{self, Workspace};
use crate::{data, experiment};

const PROGRAM: &str = "private-snn";

/// A verb on one experiment: its data first, then the program.
pub fn experiment(workspace: &Workspace, verb: &str, run: Run) -> Result<ExitCode> {
    let (features, args) = split_features(run.rest)?;
    if !asks_for_help(&args) {
        ensure_data(workspace, &run.experiment, &[], &args)?;
    }
    let mut words = vec![OsString::from(verb), OsString::from(run.experiment)];
    words.extend(args);
    hand_over(build(workspace, features.as_deref())?, words)
}

/// A sweep: the data of its experiment first, unless results are only merged, then the program.
pub fn sweep(workspace: &Workspace, verb: &str, sweep: Sweep) -> Result<ExitCode> {
    let (features, args) = split_features(sweep.rest)?;
    if !asks_for_help(&args) && option_values(&args, "--merge").is_empty() {
        let folder = folder_option(&args, "--experiments");
        let searched = experiment::of_sweep(workspace, &sweep.file, folder.as_deref())?;
        ensure_data(workspace, &searched.experiment, &searched.set, &args)?;
    }
    let mut words = vec![OsString::from(verb), OsString::from(sweep.file)];
    words.extend(args);
    hand_over(build(workspace, features.as_deref())?, words)
}

fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h")
}

/// The data set of an experiment with `set` and the arguments' own settings.
fn ensure_data(
    workspace: &Workspace,
    experiment: &str,
    set: &[String],
    args: &[OsString],
) -> Result<()> {
    let folder = folder_option(args, "--experiments");
    let named = experiment::dataset(workspace, experiment, folder.as_deref())?;
    let assignments = option_values(args, "--set");
    let given = assignments.iter().filter_map(|word| word.to_str());
    let assigned = experiment::assigned_dataset(set.iter().map(String::as_str).chain(given));
    data::ensure(
        workspace,
        &assigned.unwrap_or(named),
        folder_option(args, "--data-dir").as_deref(),
    )
}

/// A verb that needs no data.
pub fn plain(workspace: &Workspace, verb: &str, rest: Plain) -> Result<ExitCode> {
    let (features, args) = split_features(rest)?;
    let mut words = vec![OsString::from(verb)];
    words.extend(args);
    hand_over(build(workspace, features.as_deref())?, words)
}

/// Takes `--features LIST` out of the arguments: it is meant for cargo wherever it stands before a `--`.
/// The first `--` itself is dropped, what follows it stays as it is.
fn split_features(given: Plain) -> Result<(Option<String>, Vec<OsString>)> {
    let mut features = given.features;
    let mut rest = Vec::new();
    let mut args = given.args.into_iter();
    while let Some(arg) = args.next() {
        let list = match arg.to_str() {
            Some("--") => {
                rest.extend(args);
                break;
            }
            Some("--features") => args
                .next()
                .context("--features needs a list, for example cuda,cudnn")?,
            Some(text) => match text.strip_prefix("--features=") {
                Some(list) => list.into(),
                None => {
                    rest.push(arg);
                    continue;
                }
            },
            None => {
                rest.push(arg);
                continue;
            }
        };
        features = Some(list.to_str().context("--features is not UTF-8")?.to_owned());
    }
    Ok((features, rest))
}

/// The folder that an option of the program names, the last one if it is given several times.
fn folder_option(args: &[OsString], option: &str) -> Option<PathBuf> {
    option_values(args, option).pop().map(PathBuf::from)
}

/// The values of an option of the program, in the order in which they are given.
fn option_values(args: &[OsString], option: &str) -> Vec<OsString> {
    let assigned = format!("{option}=");
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == option {
            found.extend(args.next().cloned());
        } else if let Some(value) = arg.to_str().and_then(|text| text.strip_prefix(&assigned)) {
            found.push(value.into());
        }
    }
    found
}

/// Builds the program in the release profile and returns its path.
fn build(workspace: &Workspace, features: Option<&str>) -> Result<PathBuf> {
    build_bin(workspace, PROGRAM, PROGRAM, features)
}

/// Builds a program of a package in the release profile and returns its path.
pub fn build_bin(
    workspace: &Workspace,
    package: &str,
    name: &str,
    features: Option<&str>,
) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(&["build", "--release", "--package", package, "--bin", name]);
    if let Some(features) = features {
        cargo.args(["--features", features]);
    }
    let messages = workspace::stdout(cargo.arg("--message-format=json-render-diagnostics"))?;
    executable(&messages, name)
        .with_context(|| format!("{} named no program", workspace::shown(&cargo)))
}

/// The path of the program `name` in cargo's messages, one JSON value a line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let lines = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["target"]["name"] == name)
        .find_map(|line| line["executable"].as_str().map(Into::into))
}

/// Becomes the program: signals reach it directly and its exit status is ours.
#[cfg(unix)]
fn hand_over(program: PathBuf, words: Vec<OsString>) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command(&program, &words).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Runs the program and returns its exit status.
#[cfg(not(unix))]
fn hand_over(program: PathBuf, words: Vec<OsString>) -> Result<ExitCode> {
    let status = command(&program, &words)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn command(program: &Path, words: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    workspace::without_cargo_run(&mut command);
    command
}

/// Runs the development build of the program, which `cargo test --workspace` has compiled already.
pub fn run_dev(workspace: &Workspace, words: &[&str], folder: &Path) -> Result<()> {
    // --workspace: the same feature unification as in the tests, so that nothing is compiled twice
    let mut cargo = workspace.cargo(&["build", "--workspace", "--bin", PROGRAM]);
    let messages = workspace::stdout(cargo.arg("--message-format=json-render-diagnostics"))?;
    let program = executable(&messages, PROGRAM)
        .with_context(|| format!("{} named no program", workspace::shown(&cargo)))?;
    let words: Vec<OsString> = words
        .iter()
        .map(OsString::from)
        .chain([folder.into()])
        .collect();
    let mut command = command(&program, &words);
    let status = command
        .current_dir(workspace.path("."))
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("the program failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn plain(features: Option<&str>, args: &str) -> Plain {
        Plain {
            features: features.map(String::from),
            args: words(args),
        }
    }

    #[test]
    fn features_are_for_cargo_and_the_rest_for_the_program() {
        let (features, rest) =
            split_features(plain(None, "--seed 3 --features cuda,cudnn --set a=1")).unwrap();
        assert_eq!(features.as_deref(), Some("cuda,cudnn"));
        assert_eq!(rest, words("--seed 3 --set a=1"));
        let (features, rest) = split_features(plain(Some("cuda"), "-- --features --help")).unwrap();
        assert_eq!(features.as_deref(), Some("cuda"));
        assert_eq!(rest, words("--features --help"));
        let (features, _) = split_features(plain(None, "--features=cuda")).unwrap();
        assert_eq!(features.as_deref(), Some("cuda"));
        assert!(split_features(plain(None, "--features")).is_err());
    }

    #[test]
    fn folders_are_read_off_the_arguments() {
        let data_dir = |args: &[OsString]| folder_option(args, "--data-dir");
        assert_eq!(
            data_dir(&words("--seed 3 --data-dir /x")),
            Some("/x".into())
        );
        assert_eq!(
            data_dir(&words("--data-dir=/y --seed 3")),
            Some("/y".into())
        );
        assert_eq!(data_dir(&words("--seed 3")), None);
        assert_eq!(
            data_dir(&words("--data-dir /x --data-dir")),
            Some("/x".into())
        );
    }

    #[test]
    fn settings_are_read_in_their_order() {
        assert_eq!(
            option_values(
                &words("--set a=1 --seed 3 --set=b=2 --set --set=c --set d"),
                "--set"
            ),
            words("a=1 b=2 --set=c d"),
            "what follows an option is its value"
        );
    }

    #[test]
    fn the_program_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"ann"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"private-snn"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"private-snn"},"executable":"/t/release/private-snn"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executable(messages, PROGRAM),
            Some("/t/release/private-snn".into())
        );
        assert_eq!(executable("{}", PROGRAM), None);
    }
}
