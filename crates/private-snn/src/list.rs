//! The experiments, and what is already computed.

use std::path::Path;

use anyhow::Result;

use crate::experiment::ExperimentFile;
use crate::program::{Folders, minutes};
use crate::report::align_left;

/// Prints a line per experiment and profile.
///
/// # Errors
/// An experiment file that is not what it should be.
pub fn list(folders: &Folders) -> Result<()> {
    let head = [
        "experiment",
        "profile",
        "data",
        "time per seed",
        "computed",
        "description",
    ]
    .map(String::from);
    let mut lines = vec![head.to_vec()];
    for name in ExperimentFile::names(&folders.experiments)? {
        let file = ExperimentFile::read(&folders.experiments, &name)?;
        for (profile, about) in file.profiles() {
            let experiment = file.resolve(profile, &[])?;
            let runs = folders.runs(&experiment, profile);
            let data = match experiment.dataset.folder() {
                None => "none needed".to_string(),
                Some(folder) if folders.home.join("data/raw").join(folder).is_dir() => {
                    format!("{}: there", experiment.dataset)
                }
                Some(_) => format!("{}: fetched first", experiment.dataset),
            };
            lines.push(vec![
                name.clone(),
                profile.to_string(),
                data,
                minutes(about.expected_minutes),
                computed(&runs),
                about.description.clone(),
            ]);
        }
    }
    print!("{}", align_left(&lines));
    Ok(())
}

/// Seeds with a report, and finished stages.
fn computed(runs: &Path) -> String {
    let mut seeds: Vec<String> = Vec::new();
    let mut stages = 0;
    for seed in entries(runs) {
        if seed.join("report.json").is_file() {
            let name = seed
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            seeds.push(name.trim_start_matches("seed-").to_string());
        }
        for child in entries(&seed) {
            stages += usize::from(child.join("record.json").is_file());
            stages += entries(&child)
                .iter()
                .filter(|stage| stage.join("record.json").is_file())
                .count();
        }
    }
    seeds.sort();
    match (seeds.is_empty(), stages) {
        (true, 0) => "nothing".into(),
        (true, stages) => format!("{stages} stages"),
        (false, stages) => format!("report of seed {} ({stages} stages)", seeds.join(", ")),
    }
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}
