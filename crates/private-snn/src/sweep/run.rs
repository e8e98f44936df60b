//! Computing a sweep, or joining its shards.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use snn_core::checkpoint::write_atomically;

use super::file::Sweep;
use super::merge::merge;
use super::picture::pictures;
use super::plan::{Planned, plan};
use super::record::{Entry, Header, Record};
use super::shard::Shard;
use super::table::{best, table};
use crate::cli;
use crate::device;
use crate::evidence::seed_folder;
use crate::experiment::{Experiment, ExperimentFile};
use crate::program::{Folders, load_data, minutes};
use crate::progress::Console;
use crate::provenance::Origin;
use crate::stages::{Context, divergence, measure, validation_images};
use crate::store::{Lock, Store};

/// Does what `sweep` is asked for, and says which settings are best.
///
/// # Errors
/// A sweep file that is not what it should be; a run that the experiment does not allow, before any is computed; the
/// first stage that fails, what is finished being kept; shards that do not belong together.
pub fn execute(args: &cli::Sweep, console: &Console) -> Result<()> {
    let folders = Folders::find(&args.common.places)?;
    let shard = args.shard.as_deref().map(str::parse::<Shard>).transpose()?;
    let (sweep, file) = Sweep::read(&folders.sweeps, &args.file, &args.common.set)?;
    let file_name = shard.map_or("sweep.json".into(), |shard| shard.file_name());
    let path = folders
        .out
        .join("runs/sweeps")
        .join(&sweep.name)
        .join(file_name);
    let planned = |sweep: &Sweep| {
        let experiments = ExperimentFile::read(&folders.experiments, &sweep.experiment)?;
        plan(sweep, &experiments)
    };
    let planned = |sweep: &Sweep| planned(sweep).with_context(|| file.display().to_string());
    let record = if args.merge.is_empty() {
        let planned = planned(&sweep)?;
        compute(args, console, &folders, &sweep, planned, shard, &path)?
    } else {
        let merged = merge(&sweep, &args.merge)?;
        let (_, planned) = planned(&sweep)?;
        merged.check_plan(&args.merge[0], planned.iter().map(|planned| &planned.run))?;
        merged.replace(&path)?;
        merged
    };
    print!("{}", table(&record));
    if let Some(best) = best(&record) {
        let of = if shard.is_some() {
            " of this shard"
        } else {
            ""
        };
        println!("best{of}: {best}");
    }
    println!("sweep: {}", path.display());
    if shard.is_some() {
        tracing::info!(
            "when all shards are there: sweep {} --merge FILE...",
            args.file
        );
        return Ok(());
    }
    let kept = record.header.settings["evidence"] != false;
    if !args.common.set.is_empty() || !kept {
        let why = match kept {
            true => "settings were changed with --set",
            false => "the experiment says evidence = false",
        };
        tracing::warn!(
            "results are not copied to {}: {why}",
            folders.out.join("results/sweeps").display()
        );
        return Ok(());
    }
    let results = folders
        .out
        .join("results/sweeps")
        .join(format!("{}.json", sweep.name));
    record.replace(&results)?;
    println!("results: {}", results.display());
    let figures = folders.out.join("figures");
    for picture in pictures(&record) {
        write_atomically(&figures.join(picture.file), picture.svg.as_bytes())?;
    }
    Ok(())
}

fn compute(
    args: &cli::Sweep,
    console: &Console,
    folders: &Folders,
    sweep: &Sweep,
    (base, planned): (Experiment, Vec<Planned>),
    shard: Option<Shard>,
    path: &Path,
) -> Result<Record> {
    let device = device::device(args.common.device)?;
    tracing::info!("device {}: {}", device::name(&device.value), device.why);
    let data = load_data(folders, &args.common, &base)?;
    validation_images(&data, &base.name)?;
    let origin = Origin::here(&folders.home, device::name(&device.value));
    let header = Header::new(sweep, &*base, &origin, &data.sha256, planned.len())?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let _lock = Lock::take(&path.with_extension("lock"))?;
    let mut record = Record::open(path, header)?;
    record.check_plan(path, planned.iter().map(|planned| &planned.run))?;
    let total = planned.len();
    let open: Vec<Planned> = planned
        .into_iter()
        .filter(|planned| shard.is_none_or(|shard| shard.has(planned.run.index)))
        .filter(|planned| !record.has(planned.run.index))
        .collect();
    tracing::info!(
        "{}: {total} runs, {} of them to be measured now; finished stages are kept and shared",
        sweep.title,
        open.len()
    );
    let started = Instant::now();
    for (done, Planned { run, experiment }) in open.iter().enumerate() {
        if console.stopped() {
            return Err(snn_core::Error::Interrupted.into());
        }
        let left = match done {
            0 => String::new(),
            _ => {
                let each = started.elapsed().as_secs_f64() / done as f64 / 60.0;
                format!(
                    " (about {} left)",
                    minutes(each * (open.len() - done) as f64)
                )
            }
        };
        tracing::info!("run {} of {total}: {}{left}", run.number(), run.label());
        let runs = folders.runs(experiment, &sweep.profile);
        let ctx = Context {
            experiment,
            data: &data,
            store: Store::new(seed_folder(&runs, run.seed)),
            seed: run.seed,
            device: device.value.clone(),
            origin: &origin,
            console,
            compute: true,
        };
        let (name, variant) = experiment.headline_variant();
        let outcome = match measure(&ctx, name, variant, sweep.goal) {
            Ok(figures) => Ok(figures),
            Err(error) => {
                let why = divergence(&error);
                let why = why.ok_or_else(|| {
                    error.context(format!("run {} ({})", run.number(), run.label()))
                })?;
                tracing::warn!("run {} of {total} has no figures: {why}", run.number());
                Err(why)
            }
        };
        record.add(Entry::new(run, outcome)?);
        record.save(path)?;
    }
    // also the record of a shard without runs, which belongs to the whole
    record.save(path)?;
    Ok(record)
}
