//! Experiment files, as far as xtask needs them: their names and the data set each one uses.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

const FOLDER: &str = "data/experiments";

/// Names of all experiments, sorted.
pub fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.path(FOLDER);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
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

/// The data set that an experiment names in its `dataset` key.
pub fn dataset(workspace: &Workspace, experiment: &str) -> Result<String> {
    let names = names(workspace)?;
    if !names.iter().any(|name| name == experiment) {
        bail!(
            "no experiment {experiment:?} in {FOLDER}; there are: {}",
            names.join(", ")
        );
    }
    let path = workspace.path(FOLDER).join(format!("{experiment}.toml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    dataset_key(&text).with_context(|| path.display().to_string())
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
}
