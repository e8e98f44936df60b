//! What each verb does.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use snn_core::checkpoint::write_atomically;

use crate::account;
use crate::cli::{self, Cli, Options, Places, Verb};
use crate::data::Data;
use crate::device;
use crate::evidence::{Evidence, seed_folder};
use crate::experiment::{Experiment, ExperimentFile, rehearsal};
use crate::progress::Console;
use crate::provenance::{self, Origin, Provenance};
use crate::report::{self, About, Paper, Pictures};
use crate::stages::{self, Context, Goal, Outcome};
use crate::store::Store;

/// Folders of a call.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Of the experiment files.
    pub experiments: PathBuf,
    /// Of the sweep files.
    pub sweeps: PathBuf,
    /// Of what the paper claims.
    pub paper: PathBuf,
    /// Of what other work published.
    pub published: PathBuf,
    /// Root of runs and results.
    pub out: PathBuf,
    /// Of the checkout, for its revision and its README.
    pub home: PathBuf,
}

impl Folders {
    /// From the options; by default `data/` in the current folder or in one above that has `data/experiments`.
    ///
    /// # Errors
    /// No such folder and none given.
    pub fn find(places: &Places) -> Result<Self> {
        let here = std::env::current_dir().context("the current folder")?;
        let home = here
            .ancestors()
            .find(|folder| folder.join("data/experiments").is_dir())
            .map(Path::to_path_buf);
        let experiments = match (&places.experiments, &home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(home)) => home.join("data/experiments"),
            (None, None) => {
                bail!("no folder data/experiments here or above; name one with --experiments")
            }
        };
        let home = home.unwrap_or(here);
        let beside = experiments.parent().unwrap_or(Path::new("."));
        Ok(Self {
            paper: beside.join("paper"),
            published: beside.join("published"),
            sweeps: beside.join("sweeps"),
            out: places.out.clone().unwrap_or_else(|| home.join("data")),
            experiments,
            home,
        })
    }

    /// Folder of the runs of one profile of an experiment.
    pub fn runs(&self, experiment: &Experiment, profile: &str) -> PathBuf {
        self.out.join("runs").join(&experiment.name).join(profile)
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever stops it; [`stages::is_interruption`] tells whether somebody asked for that.
pub fn execute(cli: Cli, console: &Console) -> Result<()> {
    match cli.verb {
        Verb::Reproduce(run) => {
            experiment(&run.experiment, &run.options, console, Goal::Report, true)
        }
        Verb::Train(run) => experiment(&run.experiment, &run.options, console, Goal::Train, true),
        Verb::Synth(run) => experiment(&run.experiment, &run.options, console, Goal::Synth, true),
        Verb::Convert(run) => {
            experiment(&run.experiment, &run.options, console, Goal::Convert, true)
        }
        Verb::Encrypt(run) => {
            experiment(&run.experiment, &run.options, console, Goal::Encrypt, true)
        }
        Verb::Validate(run) => {
            experiment(&run.experiment, &run.options, console, Goal::Validate, true)
        }
        Verb::Attack(run) => experiment(&run.experiment, &run.options, console, Goal::Attack, true),
        Verb::Sweep(sweep) => crate::sweep::execute(&sweep, console),
        Verb::Report(report) => match &report.experiment {
            Some(name) => experiment(name, &report.options, console, Goal::Report, false),
            None if report.options.profile.is_some()
                || report.options.rehearse
                || !report.options.common.set.is_empty() =>
            {
                bail!("report: --profile, --set and --rehearse are of one experiment; name it")
            }
            None => refresh(&report.options.common.places),
        },
        Verb::List(list) => crate::list::list(&Folders::find(&list.places)?),
    }
}

fn experiment(
    name: &str,
    options: &Options,
    console: &Console,
    goal: Goal,
    compute: bool,
) -> Result<()> {
    let common = &options.common;
    let folders = Folders::find(&common.places)?;
    let file = ExperimentFile::read(&folders.experiments, name)?;
    let device = device::device(common.device)?;
    let profile = device::profile(&file, options.profile.as_deref(), &device.value)?;
    let mut folder = profile.value.clone();
    let mut experiment = file.resolve(&profile.value, &common.set)?;
    if options.rehearse {
        let set: Vec<String> = common
            .set
            .iter()
            .cloned()
            .chain(rehearsal(&experiment))
            .collect();
        experiment = file.resolve(&profile.value, &set)?;
        folder.push_str("-rehearsal");
    }
    let about = file.profile(&profile.value)?;
    let seeds = options.seed.len();
    tracing::info!("device {}: {}", device::name(&device.value), device.why);
    tracing::info!(
        "profile {} ({}): {}",
        profile.value,
        about.description,
        profile.why
    );
    if compute {
        let duration = match options.rehearse {
            true => "a rehearsal".to_string(),
            false => format!("about {}", minutes(about.expected_minutes * seeds as f64)),
        };
        tracing::info!(
            "{duration} for everything{}: {}; finished stages are kept and skipped",
            if seeds > 1 {
                format!(" and {seeds} seeds")
            } else {
                String::new()
            },
            stage_names(&experiment)
        );
    }
    let data = load_data(&folders, common, &experiment)?;
    let paper = Paper::read(&folders.paper, experiment.dataset.name())?;
    let runs = folders.runs(&experiment, &folder);
    let origin = Origin::here(&folders.home, device::name(&device.value));
    let build = |ctx: &Context, outcome: &Outcome| {
        let about = About {
            profile: &profile.value,
            scaled_down: &about.scaled_down,
            device: device::name(&device.value),
            provenance: Provenance::of(
                &report::records(outcome),
                data.sha256.clone(),
                provenance::command(
                    &experiment.name,
                    &profile.value,
                    ctx.seed,
                    options.rehearse,
                    &common.set,
                ),
            ),
        };
        report::build(ctx, outcome, &about)
    };
    let mut reports = Vec::new();
    for &seed in &options.seed {
        let ctx = Context {
            experiment: &experiment,
            data: &data,
            store: Store::new(seed_folder(&runs, seed)),
            seed,
            device: device.value.clone(),
            origin: &origin,
            console,
            compute,
        };
        let Some(outcome) = stages::run(&ctx, goal)? else {
            continue;
        };
        let report = build(&ctx, &outcome)?;
        write_report(&ctx, &outcome, &report, paper.as_ref())?;
        reports.push((ctx, report));
    }
    for (_, report) in &reports {
        println!("{}", report::summary_table(report));
    }
    let Some((ctx, _)) = reports.first().filter(|_| compute && experiment.evidence) else {
        return Ok(());
    };
    // only the experiment as its file describes it is evidence
    if common.set.is_empty() {
        let evidence = Evidence {
            runs: &runs,
            out: &folders.out,
            profile: &profile.value,
            profiles: file.profiles().count(),
        };
        evidence.publish(ctx, build)?;
    } else {
        tracing::warn!(
            "results are not copied to {}: settings were changed with --set",
            folders.out.join("results").display()
        );
    }
    Ok(())
}

/// Loads the data set of an experiment and says so.
///
/// # Errors
/// Those of [`Data::load`].
pub fn load_data(
    folders: &Folders,
    options: &cli::Common,
    experiment: &Experiment,
) -> Result<Data> {
    let folder = options
        .data_dir
        .clone()
        .unwrap_or_else(|| folders.home.join("data/raw"));
    let data = Data::load(experiment.dataset, &folder, &experiment.data)?;
    tracing::info!(
        "data {}: {} training, {} test images, sha256 {}",
        experiment.dataset,
        data.set.train.len(),
        data.set.test.len(),
        &data.sha256[..12]
    );
    Ok(data)
}

fn write_report(
    ctx: &Context,
    outcome: &Outcome,
    report: &serde_json::Value,
    paper: Option<&Paper>,
) -> Result<()> {
    let pictures = outcome
        .variants
        .iter()
        .map(|(name, stages)| Ok((name.clone(), Pictures::of(ctx, stages)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut text =
        serde_json::to_string_pretty(report).context("the report cannot be written as JSON")?;
    text.push('\n');
    write_atomically(&ctx.store.root().join("report.json"), text.as_bytes())?;
    let page = ctx.store.root().join("report.html");
    write_atomically(&page, report::page(report, paper, &pictures).as_bytes())?;
    println!("report: {}", page.display());
    Ok(())
}

fn refresh(places: &Places) -> Result<()> {
    let folders = Folders::find(places)?;
    let home = folders.home.join("data");
    let written = account::refresh(&account::Places {
        results: &folders.out.join("results"),
        figures: &folders.out.join("figures"),
        experiments: &folders.experiments,
        sweeps: &folders.sweeps,
        paper: &folders.paper,
        published: &folders.published,
        page: &folders.out.join("runs/results.html"),
        // results of elsewhere do not belong into the documents of this checkout
        home: (folders.out == home).then_some(&folders.home),
    })?;
    for file in written {
        println!("{}", file.display());
    }
    Ok(())
}

fn stage_names(experiment: &Experiment) -> String {
    let variants: Vec<&str> = experiment.variants().map(|(name, _)| name).collect();
    format!(
        "judge; then for {}: train, synth, convert, encrypt, attack, fine-tune, evaluate; report",
        variants.join(" and ")
    )
}

/// Minutes in words; 0 stands for a duration that nobody has measured yet.
pub fn minutes(minutes: f64) -> String {
    if minutes <= 0.0 {
        "a time not measured yet".to_string()
    } else if minutes < 1.0 {
        format!("{:.0} s", (minutes * 60.0).ceil())
    } else if minutes < 120.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{:.1} h", minutes / 60.0)
    }
}

/// More than any machine has cores.
const MOST_THREADS: usize = 4096;

/// Sets the number of threads of all parallel work; must come before any.
///
/// # Errors
/// Zero threads; threads that are running already.
pub fn set_threads(verb: &Verb) -> Result<()> {
    let options = match verb {
        Verb::Reproduce(run)
        | Verb::Train(run)
        | Verb::Synth(run)
        | Verb::Convert(run)
        | Verb::Encrypt(run)
        | Verb::Validate(run)
        | Verb::Attack(run) => &run.options.common,
        Verb::Sweep(sweep) => &sweep.common,
        Verb::Report(report) => &report.options.common,
        Verb::List(_) => return Ok(()),
    };
    match options.threads {
        None => Ok(()),
        Some(count) if !(1..=MOST_THREADS).contains(&count) => {
            bail!("--threads {count}: needs 1 to {MOST_THREADS}")
        }
        Some(count) => rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build_global()
            .context("--threads cannot be set"),
    }
}

/// How much is said.
pub fn loudness(verb: &Verb) -> cli::Loudness {
    match verb {
        Verb::Reproduce(run)
        | Verb::Train(run)
        | Verb::Synth(run)
        | Verb::Convert(run)
        | Verb::Encrypt(run)
        | Verb::Validate(run)
        | Verb::Attack(run) => run.options.common.loudness,
        Verb::Sweep(sweep) => sweep.common.loudness,
        Verb::Report(report) => report.options.common.loudness,
        Verb::List(list) => list.loudness,
    }
}
