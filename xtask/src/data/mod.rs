//! Data sets on disk: found, downloaded, checked, unpacked.

mod catalogue;
mod checksum;
mod download;
mod fetch;
mod progress;
#[cfg(test)]
mod test_server;
mod unpack;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::Fetch;
use crate::data::catalogue::{Catalogue, DataSet};
use crate::data::fetch::Presence;
use crate::experiment;
use crate::workspace::Workspace;

/// Drawn by our own code: needs no file.
const BUILT_IN: &str = "glyphs";

/// The verb `fetch`: the data set in full, every checksum computed.
pub fn fetch_verb(workspace: &Workspace, arguments: &Fetch) -> Result<()> {
    let catalogue = Catalogue::read(&workspace.path("data/checksums.toml"))?;
    let name = dataset_of(workspace, &catalogue, arguments)?;
    if name == BUILT_IN {
        println!(
            "{}: the data set {BUILT_IN} is built in; there is nothing to download",
            arguments.name
        );
        return Ok(());
    }
    let set = named(&catalogue, &name)?;
    let folder = folder(workspace, arguments.data_dir.as_deref());
    fetch::fetch(
        &name,
        set,
        &folder,
        arguments.url.as_deref(),
        &download::Policy::default(),
    )
}

/// Downloads a data set unless its files are there. Their contents are the program's to check: it reads them anyway.
pub fn ensure(workspace: &Workspace, name: &str, data_dir: Option<&Path>) -> Result<()> {
    if name == BUILT_IN {
        return Ok(());
    }
    let catalogue = Catalogue::read(&workspace.path("data/checksums.toml"))?;
    let set = named(&catalogue, name)?;
    let folder = folder(workspace, data_dir);
    match fetch::present(name, set, &folder)? {
        Presence::Whole => Ok(()),
        Presence::Partial(what) => {
            eprintln!(
                "WARNING: {name} IS NOT WHOLE: {what}.\n         \
                 The run goes on with what is there, so its numbers are not those of the data set. For the whole set \
                 move\n         that folder away and run `cargo xtask fetch {name}`."
            );
            Ok(())
        }
        Presence::Absent => fetch::fetch(name, set, &folder, None, &download::Policy::default()),
    }
}

/// The data set that `fetch` is asked for.
fn dataset_of(workspace: &Workspace, catalogue: &Catalogue, arguments: &Fetch) -> Result<String> {
    let name = &arguments.name;
    let folder = arguments.experiments.as_deref();
    let experiments = experiment::names(workspace, folder)?;
    let named = if name.ends_with(".toml") || experiments.contains(name) {
        experiment::dataset(workspace, name, folder)?
    } else if name == BUILT_IN || catalogue.find(name).is_some() {
        name.clone()
    } else {
        bail!(
            "{name:?} is neither an experiment ({}) nor a data set ({})",
            experiments.join(", "),
            catalogue.names().join(", ")
        );
    };
    let assigned = experiment::assigned_dataset(arguments.set.iter().map(String::as_str));
    Ok(assigned.unwrap_or(named))
}

fn named<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a DataSet> {
    match catalogue.find(name) {
        Some(set) => Ok(set),
        None => bail!(
            "the data set {name:?} is not in data/checksums.toml; there are: {}",
            catalogue.names().join(", ")
        ),
    }
}

fn folder(workspace: &Workspace, data_dir: Option<&Path>) -> PathBuf {
    data_dir.map_or_else(|| workspace.path("data/raw"), Path::to_path_buf)
}
