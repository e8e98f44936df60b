//! Runs the benches and records their estimates.

mod machine;
mod peers;
mod record;

use std::fs;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::bench::record::Record;
use crate::cli::Bench;
use crate::workspace::{Workspace, succeed};

/// One-minute load above which timings are not to be trusted.
const QUIET: f64 = 0.3;

/// Says that timings are not to be trusted, if they are not.
fn warn_if_loaded(load: Option<f64>) {
    if let Some(load) = load.filter(|load| *load > QUIET) {
        eprintln!(
            "warning: the load is {load} (above {QUIET}): other work on this machine disturbs the timings"
        );
    }
}

/// The verb `bench`.
pub fn run(workspace: &Workspace, arguments: &Bench) -> Result<()> {
    if arguments.readme {
        return peers::readme::refresh(workspace);
    }
    let load = machine::load();
    warn_if_loaded(load);
    let start = SystemTime::now();
    let machine = machine::describe(workspace, arguments.host.clone(), load);
    let folder = workspace.path("benches/records").join(format!(
        "{}-{}",
        record::date(start)?,
        machine.host
    ));
    if arguments.peers {
        return peers::run(workspace, &arguments.with_peers, machine, &folder);
    }
    let path = folder.join("estimates.json");
    // before the benches, which take minutes
    let old = if arguments.record {
        Record::to_extend(&path, &machine)?
    } else {
        None
    };
    let mut cargo = workspace.cargo(&["bench", "--package", "private-snn-benches"]);
    if let Some(features) = &arguments.features {
        cargo.args(["--features", features]);
    }
    if !arguments.args.is_empty() {
        cargo.arg("--").args(&arguments.args);
    }
    succeed(&mut cargo)?;
    if !arguments.record {
        return Ok(());
    }

    let estimates = record::estimates(&workspace.target()?.join("criterion"), start)?;
    let count = estimates.len();
    let mut record = Record { machine, estimates };
    if let Some(mut old) = old {
        old.extend(record);
        record = old;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let text = serde_json::to_string_pretty(&record)?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("{count} estimates written to {}", path.display());
    Ok(())
}
