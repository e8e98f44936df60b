//! Experiment files, as far as xtask needs them: their names and the data set each one uses.

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
    let path = if experiment.ends_with(".toml") {
        PathBuf::from(experiment)
    } else {
        let folder = folder.map_or_else(|| workspace.path(FOLDER), Path::to_path_buf);
        let names = names_in(&folder)?;
        if !names.iter().any(|name| name == experiment) {
            bail!(
                "no experiment {experiment:?} in {}; there are: {}",
                folder.display(),
                names.join(", ")
            );
        }
        folder.join(format!("{experiment}.toml"))
    };
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    dataset_key(&text).with_context(|| path.display().to_string())
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
    let table: toml::Table = text.parse()?;
    let value = table
        .get("dataset")
        .context("the key `dataset` is missing")?;
    Ok(value
        .as_str()
        .context("`dataset` must be a string")?
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
    fn an_experiment_is_a_name_or_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, "dataset = \"mnist\"").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let workspace = Workspace::here();
        let find = |name: &str| dataset(&workspace, name, Some(folder.path()));
        assert_eq!(find("mine").unwrap(), "mnist");
        assert_eq!(find(path.to_str().unwrap()).unwrap(), "mnist");
        let error = find("yours").unwrap_err().to_string();
        assert!(
            error.contains("yours") && error.ends_with("there are: mine"),
            "{error}"
        );
    }
}
