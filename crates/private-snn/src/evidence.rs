//! The evidence of an experiment: the reports of all its seeds in one file below `results/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use snn_core::checkpoint::write_atomically;

use crate::report::{self, Results};
use crate::stages::{self, Context, Goal, Outcome};
use crate::store::Store;

/// Where the evidence of one profile of an experiment comes from and goes.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Folder of the seeds' folders.
    pub runs: &'a Path,
    /// Root of results and figures.
    pub out: &'a Path,
    /// Name of the profile.
    pub profile: &'a str,
    /// Number of profiles of the experiment.
    pub profiles: usize,
}

/// Folder of the run of one seed.
pub fn seed_folder(runs: &Path, seed: u64) -> PathBuf {
    runs.join(format!("seed-{seed}"))
}

impl Evidence<'_> {
    /// Gathers every seed whose stages are finished with the settings, data and device of `ctx`, and writes the evidence
    /// and a drawing of each variant's images. A file with other seeds than these is kept as it is, with a warning.
    ///
    /// # Errors
    /// An evidence file that is not one; whatever the file system answers.
    pub fn publish(
        &self,
        ctx: &Context,
        report: impl Fn(&Context, &Outcome) -> Result<Value>,
    ) -> Result<()> {
        let path = self.out.join("results").join(report::file_name(
            &ctx.experiment.name,
            self.profile,
            self.profiles,
        ));
        let mut reports = Vec::new();
        let mut found = Vec::new();
        let mut drawings: Vec<(String, String)> = Vec::new();
        for seed in self.seeds() {
            let ctx = Context {
                experiment: ctx.experiment,
                data: ctx.data,
                store: Store::new(seed_folder(self.runs, seed)),
                seed,
                device: ctx.device.clone(),
                origin: ctx.origin,
                console: ctx.console,
                compute: false,
            };
            match stages::run(&ctx, Goal::Report) {
                Ok(Some(outcome)) => {
                    found.push(seed);
                    reports.push(report(&ctx, &outcome)?);
                    // of the first seed
                    if drawings.is_empty() {
                        for (name, variant) in &outcome.variants {
                            drawings.push((name.clone(), report::overview(&ctx, variant)?));
                        }
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::info!("seed {seed} is no part of the evidence: {error:#}"),
            }
        }
        let missing: Vec<u64> = seeds_of(&path)?
            .into_iter()
            .filter(|seed| !found.contains(seed))
            .collect();
        if !missing.is_empty() {
            let mut all = [missing.as_slice(), &found].concat();
            all.sort_unstable();
            tracing::warn!(
                "{} is kept as it is: it also holds seed {}, not finished here with these settings; \
                 `cargo xtask reproduce {} --profile {} --seed {}` replaces it",
                path.display(),
                list(&missing, ", "),
                ctx.experiment.name,
                self.profile,
                list(&all, ",")
            );
            return Ok(());
        }
        Results { runs: reports }.save(&path)?;
        println!("results: {} (seed {})", path.display(), list(&found, ", "));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for (name, drawing) in &drawings {
            let variant = (*name != ctx.experiment.headline).then_some(name.as_str());
            let file = report::drawing_name(&stem, variant, "images");
            write_atomically(&self.out.join("figures").join(file), drawing.as_bytes())?;
        }
        Ok(())
    }

    /// Seeds with a folder, in order.
    fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = std::fs::read_dir(self.runs)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?.strip_prefix("seed-")?.parse().ok()
            })
            .collect();
        seeds.sort_unstable();
        seeds
    }
}

/// Seeds of an evidence file; none if there is no file.
fn seeds_of(path: &Path) -> Result<Vec<u64>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let what = || format!("{}: is not evidence; delete it", path.display());
    let text = std::fs::read_to_string(path).with_context(what)?;
    let evidence: Value = serde_json::from_str(&text).with_context(what)?;
    evidence["seeds"]
        .as_array()
        .and_then(|seeds| seeds.iter().map(Value::as_u64).collect())
        .with_context(what)
}

fn list(seeds: &[u64], between: &str) -> String {
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    seeds.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_a_file_are_read_and_a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glyphs.json");
        assert!(seeds_of(&path).unwrap().is_empty());
        std::fs::write(&path, "{\"seeds\": [2, 1]}").unwrap();
        assert_eq!(seeds_of(&path).unwrap(), [2, 1]);
        for broken in ["{\"seeds\": [\"a\"]}", "{}", "{\"seeds\":"] {
            std::fs::write(&path, broken).unwrap();
            let message = format!("{:#}", seeds_of(&path).unwrap_err());
            assert!(message.contains("glyphs.json"), "{message}");
        }
    }
}
