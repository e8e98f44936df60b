//! Experiment and sweep files, as far as xtask needs them: their names and the data set each one uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Where experiments live unless the command line names another folder.
const FOLDER: &str = "data/experiments";

/// Names of all experiments of `folder` (data/experiments by default), sorted.
pub fn names(workspace: &Workspace, folder: Option<&Path>) -> Result<Vec<String>> {
    let folder = folder.map_or_else(|| workspace.path(FOLDER), Path::to_path_buf);
    names_in(&folder)
}

/// The data set that an experiment names in its `dataset` key. An experiment is a name in `folder`
/// (data/experiments by default) or the path of a .toml file.
pub fn dataset(workspace: &Workspace, experiment: &str, folder: Option<&Path>) -> Result<String> {
    let folder = folder.map_or_else(|| workspace.path(FOLDER), Path::to_path_buf);
    let path = find(&folder, experiment, "experiment")?;
    dataset_of(&path, EXTENSIONS)
}

/// Longest chain of extensions that is followed.
const EXTENSIONS: usize = 16;

fn dataset_of(path: &Path, left: usize) -> Result<String> {
    let what = || path.display().to_string();
    let table = table(path)?;
    match table.get("extends").and_then(toml::Value::as_str) {
        // of an extension without a data set of its own it is that of what it extends
        Some(below) if left > 0 && !table.contains_key("dataset") => {
            let below = path.with_file_name(format!("{below}.toml"));
            dataset_of(&below, left - 1).with_context(what)
        }
        _ => string_key(&table, "dataset").with_context(what),
    }
}

fn table(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// What a sweep searches over.
#[derive(Debug, PartialEq, Eq)]
pub struct Searched {
    /// The experiment, by name or path.
    pub experiment: String,
    /// Settings that are the same in all runs.
    pub set: Vec<String>,
}

/// The experiment of a sweep, which is a name in the folder `sweeps` beside `experiments` (data/experiments by default)
/// or the path of a .toml file.
pub fn of_sweep(
    workspace: &Workspace,
    sweep: &str,
    experiments: Option<&Path>,
) -> Result<Searched> {
    let experiments = experiments.map_or_else(|| workspace.path(FOLDER), Path::to_path_buf);
    let folder = experiments.with_file_name("sweeps");
    let path = find(&folder, sweep, "sweep")?;
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    searched(&text).with_context(|| path.display().to_string())
}

fn searched(text: &str) -> Result<Searched> {
    let table: toml::Table = text.parse()?;
    let set = table.get("set").and_then(toml::Value::as_array);
    let words = set.into_iter().flatten().filter_map(toml::Value::as_str);
    Ok(Searched {
        experiment: string_key(&table, "experiment")?,
        set: words.map(String::from).collect(),
    })
}

fn find(folder: &Path, name: &str, kind: &str) -> Result<PathBuf> {
    if name.ends_with(".toml") {
        return Ok(PathBuf::from(name));
    }
    let names = names_in(folder)?;
    if !names.iter().any(|known| known == name) {
        bail!(
            "no {kind} {name:?} in {}; there are: {}",
            folder.display(),
            names.join(", ")
        );
    }
    Ok(folder.join(format!("{name}.toml")))
}

/// The value of the last assignment `dataset=NAME`, with or without quotes, as the program reads `--set`.
pub fn assigned_dataset<'a>(assignments: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let values = assignments.into_iter().filter_map(|assignment| {
        let (key, value) = assignment.split_once('=')?;
        (key.trim() == "dataset").then(|| value.trim())
    });
    let value = values.last()?;
    // what is no TOML string stands for itself
    Some(dataset_key(&format!("dataset = {value}")).unwrap_or_else(|_| value.to_owned()))
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

fn dataset_key(text: &str) -> Result<String> {
    string_key(&text.parse()?, "dataset")
}

fn string_key(table: &toml::Table, key: &str) -> Result<String> {
    let value = table.get(key);
    let value = value.with_context(|| format!("the key `{key}` is missing"))?;
    let text = value.as_str();
    Ok(text
        .with_context(|| format!("`{key}` must be a string"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dataset_is_a_top_level_string() {
        assert_eq!(
            dataset_key("dataset = \"cifar10\"\n[ann]\nepochs = 1\n").unwrap(),
            "cifar10"
        );
        assert!(
            dataset_key("[ann]\ndataset = \"cifar10\"\n")
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
        assert!(
            dataset_key("dataset = 3\n")
                .unwrap_err()
                .to_string()
                .contains("string")
        );
        assert!(dataset_key("dataset = \n").is_err());
    }

    #[test]
    fn the_last_assignment_of_the_dataset_counts() {
        let assigned = |words: &str| assigned_dataset(words.split_whitespace());
        assert_eq!(assigned("ann.epochs=2 data.dataset=x dataset"), None);
        assert_eq!(
            assigned("dataset=mnist ann.epochs=2").as_deref(),
            Some("mnist")
        );
        assert_eq!(
            assigned("dataset=mnist dataset=\"cifar10\"").as_deref(),
            Some("cifar10")
        );
        assert_eq!(
            assigned_dataset([" dataset = 'cifar100' "]).as_deref(),
            Some("cifar100")
        );
    }

    #[test]
    fn a_sweep_names_its_experiment_and_settings() {
        let folder = tempfile::tempdir().unwrap();
        let sweeps = folder.path().join("sweeps");
        fs::create_dir(&sweeps).unwrap();
        let text = "experiment = \"cifar10\"\nset = [\"dataset=mnist\"]\n[keys]\na = [1]";
        fs::write(sweeps.join("mine.toml"), text).unwrap();
        let workspace = Workspace::here();
        let experiments = folder.path().join("experiments");
        let find = |name: &str| of_sweep(&workspace, name, Some(&experiments));
        let found = find("mine").unwrap();
        assert_eq!(found.experiment, "cifar10");
        assert_eq!(found.set, ["dataset=mnist"]);
        assert_eq!(
            find(sweeps.join("mine.toml").to_str().unwrap()).unwrap(),
            found
        );
        let error = find("yours").unwrap_err().to_string();
        assert!(error.ends_with("there are: mine"), "{error}");
        let error = searched("set = []").unwrap_err().to_string();
        assert!(error.contains("`experiment` is missing"), "{error}");
        // those of the checkout
        let ours = of_sweep(&workspace, "glyphs-encryption", None).unwrap();
        assert_eq!(ours.experiment, "glyphs");
    }

    #[test]
    fn an_experiment_is_a_name_or_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, "dataset = \"mnist\"").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let workspace = Workspace::here();
        let find = |name: &str| dataset(&workspace, name, Some(folder.path()));
        assert_eq!(find("mine").unwrap(), "mnist");
        for (text, dataset) in [
            ("extends = \"mine\"", Some("mnist")),
            ("extends = \"mine\"\ndataset = \"cifar10\"", Some("cifar10")),
            ("extends = \"none\"", None),
        ] {
            fs::write(folder.path().join("more.toml"), text).unwrap();
            assert_eq!(find("more").ok().as_deref(), dataset);
        }
        fs::remove_file(folder.path().join("more.toml")).unwrap();
        assert_eq!(find(path.to_str().unwrap()).unwrap(), "mnist");
        let error = find("yours").unwrap_err().to_string();
        assert!(
            error.contains("yours") && error.ends_with("there are: mine"),
            "{error}"
        );
    }
}
