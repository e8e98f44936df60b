//! The record of a finished stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{Inputs, sha256_of_file};
use crate::provenance::Origin;

/// What `record.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Hash of the inputs.
    pub key: String,
    /// The inputs themselves.
    pub inputs: Inputs,
    /// sha256 of each artefact, by file name.
    pub artefacts: BTreeMap<String, String>,
    /// What the stage measured.
    pub figures: Value,
    /// Seconds of computation.
    pub wall_seconds: f64,
    /// What it was computed with.
    pub origin: Origin,
    /// What the processes before were, from whose checkpoint it went on, where they were not the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<Origin>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// A file that cannot be read or is not a record; the message says what to do.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(path);
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: is not a whole record; delete the folder {} to have the stage computed again",
                path.display(),
                folder.display()
            )
        })
    }

    /// All that it was computed with, in order.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.interrupted.iter().chain([&self.origin])
    }

    /// Writes the record whole or not at all.
    ///
    /// # Errors
    /// Whatever the file system answers, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text =
            serde_json::to_string_pretty(self).context("a record cannot be written as JSON")?;
        text.push('\n');
        Ok(snn_core::checkpoint::write_atomically(
            path,
            text.as_bytes(),
        )?)
    }

    /// Checks every artefact in `folder` against its sha256.
    ///
    /// # Errors
    /// The first artefact that is missing or differs.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        for (file, expected) in &self.artefacts {
            let path = folder.join(file);
            let advice = format!(
                "delete the folder {} to have the stage computed again",
                folder.display()
            );
            if !path.is_file() {
                bail!(
                    "{} is missing, but its stage is recorded as finished; {advice}",
                    path.display()
                );
            }
            let found = sha256_of_file(&path)?;
            if found != *expected {
                bail!(
                    "{} is corrupted or belongs elsewhere: its sha256 is {found}, the record says {expected}; {advice}",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// A finished stage: its folder and its record.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Where the artefacts are.
    pub folder: PathBuf,
    /// The record.
    pub record: Record,
}

impl Finished {
    /// Path of an artefact.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// sha256 of an artefact.
    ///
    /// # Errors
    /// The stage has no such artefact.
    pub fn sha256(&self, file: &str) -> Result<String> {
        self.record
            .artefacts
            .get(file)
            .cloned()
            .ok_or_else(|| anyhow!("{}: has no artefact {file}", self.folder.display()))
    }

    /// The stage's figures as a type.
    ///
    /// # Errors
    /// Figures of another shape.
    pub fn figures<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.record.figures.clone()).with_context(|| {
            format!(
                "{}: the figures of its record are not those of this program; delete the folder",
                self.folder.display()
            )
        })
    }
}
