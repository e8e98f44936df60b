//! Where finished stages are kept: one folder per stage and hash of its inputs, with artefacts and a record.
//!
//! `record.json` is written last and atomically: a folder with a record is a finished stage, one without is work in
//! progress. The record holds the sha256 of every artefact, which is checked each time the stage is skipped.

mod key;
mod lock;
mod record;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use key::{Inputs, canonical, hex, sha256, sha256_of_file};
pub use lock::Lock;
pub use record::{Finished, Record};

use crate::provenance::Origin;

const RECORD: &str = "record.json";
const LOCK: &str = "lock";
const ELAPSED: &str = "elapsed";
const ORIGINS: &str = "origins.json";

/// The folder of one run (experiment, profile, seed).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What was found where a stage belongs.
#[derive(Debug)]
pub enum Slot {
    /// It is finished and whole.
    Finished(Finished),
    /// It is to be computed; there may be a checkpoint in the folder.
    Open(OpenSlot),
}

/// A stage being computed.
#[derive(Debug)]
pub struct OpenSlot {
    folder: PathBuf,
    inputs: Inputs,
    key: String,
    started: Instant,
    before: f64,
    interrupted: Vec<Origin>,
    _lock: Lock,
}

impl Store {
    /// A store below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the run.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of the stage with these inputs; `variant` is a folder in between, if any.
    ///
    /// # Errors
    /// Inputs that JSON cannot hold.
    pub fn folder(&self, variant: Option<&str>, inputs: &Inputs) -> Result<PathBuf> {
        let key = inputs.hash()?;
        let parent = variant.map_or_else(|| self.root.clone(), |variant| self.root.join(variant));
        Ok(parent.join(format!("{}-{}", inputs.stage, &key[..12])))
    }

    /// The finished stage with these inputs, or none; nothing is written.
    ///
    /// # Errors
    /// A record or artefact that is not what it should be.
    pub fn find(&self, variant: Option<&str>, inputs: &Inputs) -> Result<Option<Finished>> {
        let folder = self.folder(variant, inputs)?;
        let path = folder.join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let record = Record::load(&path)?;
        if record.key != inputs.hash()? {
            bail!(
                "{}: is the record of another stage; delete the folder {} to have it computed again",
                path.display(),
                folder.display()
            );
        }
        record.verify(&folder)?;
        Ok(Some(Finished { folder, record }))
    }

    /// The finished stage with these inputs, or a folder to compute it in, locked against other processes.
    ///
    /// # Errors
    /// Everything of [`Store::find`]; a folder that cannot be made; another process at work in it.
    pub fn open(&self, variant: Option<&str>, inputs: Inputs) -> Result<Slot> {
        if let Some(finished) = self.find(variant, &inputs)? {
            return Ok(Slot::Finished(finished));
        }
        let folder = self.folder(variant, &inputs)?;
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = Lock::take(&folder.join(LOCK))?;
        // another process may have finished it while this one looked
        if let Some(finished) = self.find(variant, &inputs)? {
            return Ok(Slot::Finished(finished));
        }
        let before = std::fs::read_to_string(folder.join(ELAPSED))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let interrupted = std::fs::read_to_string(folder.join(ORIGINS))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        Ok(Slot::Open(OpenSlot {
            key: inputs.hash()?,
            folder,
            inputs,
            started: Instant::now(),
            before: before
                .filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
                .unwrap_or(0.0),
            interrupted: interrupted.unwrap_or_default(),
            _lock: lock,
        }))
    }
}

impl OpenSlot {
    /// Path of a file of the stage.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Folder of the stage.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Seconds of work so far, that of interrupted processes up to their last checkpoint included.
    fn elapsed(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// To be called after each checkpoint, so that the time and the origin of an interrupted process are not forgotten.
    pub fn checkpointed(&self, origin: &Origin) {
        // only for the record: work goes on without it
        std::fs::write(self.path(ELAPSED), format!("{:.3}", self.elapsed())).ok();
        let mut origins = self.interrupted.clone();
        if !origins.contains(origin) {
            origins.push(origin.clone());
        }
        if let Ok(text) = serde_json::to_string(&origins) {
            snn_core::checkpoint::write_atomically(&self.path(ORIGINS), text.as_bytes()).ok();
        }
    }

    /// Writes the record, by which the stage is finished, and removes what is not an artefact.
    ///
    /// # Errors
    /// An artefact that is not there; a record that cannot be written.
    pub fn finish(self, artefacts: &[&str], figures: Value, origin: &Origin) -> Result<Finished> {
        let mut sums = std::collections::BTreeMap::new();
        for &file in artefacts {
            sums.insert(file.to_string(), sha256_of_file(&self.path(file))?);
        }
        let record = Record {
            key: self.key.clone(),
            inputs: self.inputs.clone(),
            artefacts: sums,
            figures,
            wall_seconds: (self.elapsed() * 1e3).round() / 1e3,
            origin: origin.clone(),
            interrupted: self
                .interrupted
                .iter()
                .filter(|before| *before != origin)
                .cloned()
                .collect(),
        };
        record.save(&self.path(RECORD))?;
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name != RECORD && name != LOCK && !record.artefacts.contains_key(name.as_ref()) {
                // a checkpoint that stays costs space, nothing else
                std::fs::remove_file(entry.path()).ok();
            }
        }
        // as it will be read when the stage is skipped: JSON may change the last bit of a number
        Ok(Finished {
            record: Record::load(&self.path(RECORD))?,
            folder: self.folder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs(stage: &str, seed: u64) -> Inputs {
        Inputs {
            stage: stage.into(),
            format: 1,
            config: json!({"epochs": 2}),
            seed,
            device: "cpu".into(),
            upstream: Default::default(),
        }
    }

    fn make(store: &Store, seed: u64) -> Finished {
        let Slot::Open(slot) = store.open(Some("modern"), inputs("train", seed)).unwrap() else {
            panic!("finished before it began")
        };
        std::fs::write(slot.path("weights"), format!("weights {seed}")).unwrap();
        std::fs::write(slot.path("state"), "checkpoint").unwrap();
        let origin = Origin::here(store.root(), "cpu");
        slot.finish(&["weights"], json!({"accuracy": 0.5}), &origin)
            .unwrap()
    }

    #[test]
    fn a_finished_stage_is_found_again_and_its_checkpoint_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let made = make(&store, 1);
        let Slot::Finished(found) = store.open(Some("modern"), inputs("train", 1)).unwrap() else {
            panic!("not found")
        };
        assert_eq!(found.record.figures, json!({"accuracy": 0.5}));
        assert_eq!(found.record.origin, made.record.origin);
        assert_eq!(
            found.sha256("weights").unwrap(),
            made.sha256("weights").unwrap()
        );
        assert!(!found.path("state").exists());
        assert!(matches!(
            store.open(Some("modern"), inputs("train", 2)).unwrap(),
            Slot::Open(_)
        ));
    }

    #[test]
    fn a_changed_artefact_names_file_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let (first, second) = (make(&store, 1), make(&store, 2));
        std::fs::copy(second.path("weights"), first.path("weights")).unwrap();
        let message = store
            .open(Some("modern"), inputs("train", 1))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("weights") && message.contains("delete the folder"),
            "{message}"
        );
        std::fs::remove_file(second.path("weights")).unwrap();
        let message = store
            .open(Some("modern"), inputs("train", 2))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("weights") && message.contains("missing"),
            "{message}"
        );
    }

    #[test]
    fn a_swapped_or_broken_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let (first, second) = (make(&store, 1), make(&store, 2));
        std::fs::copy(second.path(RECORD), first.path(RECORD)).unwrap();
        let message = store
            .open(Some("modern"), inputs("train", 1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("another stage"), "{message}");
        std::fs::write(second.path(RECORD), "{\"key\": ").unwrap();
        let message = format!(
            "{:#}",
            store.open(Some("modern"), inputs("train", 2)).unwrap_err()
        );
        assert!(
            message.contains(RECORD) && message.contains("delete the folder"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_without_record_is_work_in_progress() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let Slot::Open(slot) = store.open(None, inputs("synth", 1)).unwrap() else {
            panic!("finished")
        };
        std::fs::write(slot.path("state"), "checkpoint").unwrap();
        let here = Origin::here(store.root(), "cpu");
        let at = |revision: &str| Origin {
            revision: revision.into(),
            ..here.clone()
        };
        slot.checkpointed(&at("a"));
        drop(slot);
        let Slot::Open(slot) = store.open(None, inputs("synth", 1)).unwrap() else {
            panic!("finished")
        };
        assert!(slot.path("state").exists());
        slot.checkpointed(&at("b"));
        slot.checkpointed(&at("b"));
        drop(slot);
        let Slot::Open(slot) = store.open(None, inputs("synth", 1)).unwrap() else {
            panic!("finished")
        };
        let finished = slot.finish(&["state"], json!({}), &at("b")).unwrap();
        let revisions = finished.record.origins().map(|o| o.revision.as_str());
        assert_eq!(revisions.collect::<Vec<_>>(), ["a", "b"]);
        assert!(!finished.path(ORIGINS).exists());
    }

    #[test]
    fn a_parent_that_is_a_file_is_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = Store::new(&file)
            .open(None, inputs("synth", 1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("file"), "{message}");
    }
}
