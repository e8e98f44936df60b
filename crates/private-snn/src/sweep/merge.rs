//! Joining the records of shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use super::record::{Entry, Record, settled};

/// The record of the whole `sweep`, from those of its parts. Parts that were made from source code that is in no commit, or
/// outside a checkout, may come from different code: a warning says so.
///
/// # Errors
/// A file that is not a record or of another sweep; files that differ in anything but their runs; a run with different
/// figures in two files; runs that are in none.
pub fn merge(sweep: &impl Serialize, files: &[PathBuf]) -> Result<Record> {
    let sweep = settled(sweep)?;
    let mut first: Option<(&Path, Record)> = None;
    let mut runs: BTreeMap<usize, (&Path, Entry)> = BTreeMap::new();
    for path in files {
        let mut record = Record::load(path)?;
        if record.header.sweep != sweep {
            bail!(
                "{}: is of the sweep {}, whose settings are not those of {} as its file and --set have them now",
                path.display(),
                record.header.sweep["name"],
                sweep["name"]
            );
        }
        for entry in std::mem::take(&mut record.runs) {
            let index = entry.index;
            if index >= record.header.total {
                bail!(
                    "{}: has a run {}, but the sweep has {} runs only; it was changed by hand",
                    path.display(),
                    index + 1,
                    record.header.total
                );
            }
            match runs.get(&index) {
                Some((other, there)) if *there != entry => bail!(
                    "run {} is in {} and in {} with different figures; leave out the file that is wrong",
                    index + 1,
                    other.display(),
                    path.display()
                ),
                Some(_) => {}
                None => {
                    runs.insert(index, (path, entry));
                }
            }
        }
        match &first {
            None => first = Some((path, record)),
            Some((other, reference)) => {
                let differences = reference.header.differences(&record.header);
                if !differences.is_empty() {
                    bail!(
                        "{} and {} cannot be merged: {} differ{}; compute both with the same",
                        other.display(),
                        path.display(),
                        differences.join(", "),
                        if differences.len() == 1 { "s" } else { "" }
                    );
                }
            }
        }
    }
    let Some((_, mut record)) = first else {
        bail!("--merge: name the records of the shards");
    };
    let missing: Vec<String> = (0..record.header.total)
        .filter(|index| !runs.contains_key(index))
        .map(|index| (index + 1).to_string())
        .collect();
    if !missing.is_empty() {
        bail!(
            "of {} runs {} are missing (numbers {}); name the records of all shards, and finish those that were stopped",
            record.header.total,
            missing.len(),
            missing.join(", ")
        );
    }
    if let Some(warning) = doubt(files.len(), record.header.dirty) {
        tracing::warn!("{warning}");
    }
    record.runs = runs.into_values().map(|(_, entry)| entry).collect();
    Ok(record)
}

/// What there is to say of parts whose source code may differ although their revisions are the same.
fn doubt(parts: usize, dirty: Option<bool>) -> Option<String> {
    (parts > 1 && dirty != Some(false)).then(|| {
        format!(
            "the {parts} parts were computed with source code that is in no commit, and whether it was the same for all cannot \
             be told; if it was not, commit and compute them again"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use serde_json::json;

    fn save(folder: &Path, name: &str, record: &Record) -> PathBuf {
        let path = folder.join(name);
        record.save(&path).unwrap();
        path
    }

    #[test]
    fn source_code_in_no_commit_is_doubted_where_there_are_several_parts() {
        assert!(doubt(2, Some(true)).is_some() && doubt(2, None).is_some());
        assert!(doubt(2, Some(false)).is_none() && doubt(1, Some(true)).is_none());
    }

    #[test]
    fn shards_become_the_bytes_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, record: &Record| save(folder.path(), name, record);
        let whole = at("whole", &record(5, &[0, 1, 2, 3, 4]));
        let one = at("one", &record(5, &[0, 2, 4]));
        let two = at("two", &record(5, &[1, 3]));
        for files in [
            vec![one.clone(), two.clone()],
            vec![two, one.clone(), one],
            vec![whole.clone()],
        ] {
            let merged = at("merged", &merge(&json!({"name": "mine"}), &files).unwrap());
            assert_eq!(
                std::fs::read(merged).unwrap(),
                std::fs::read(&whole).unwrap()
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, record: &Record| save(folder.path(), name, record);
        let one = at("one", &record(3, &[0, 2]));
        let message = |change: &dyn Fn(&mut Record)| {
            let mut other = record(3, &[1]);
            change(&mut other);
            let files = [one.clone(), at("other", &other)];
            format!("{:#}", merge(&json!({"name": "mine"}), &files).unwrap_err())
        };
        type Change = fn(&mut Record);
        let changes: [(Change, &str); 6] = [
            (|r| r.header.revision = "b".into(), "revision"),
            (|r| r.header.dirty = None, "source code differed"),
            (|r| r.header.settings = json!({"rate": 2}), "experiment"),
            (|r| r.header.data_sha256 = "01".into(), "data"),
            (|r| r.header.device = "cuda".into(), "device"),
            (|r| r.header.total = 4, "number of runs"),
        ];
        for (change, word) in changes {
            let said = message(&change);
            for word in [word, "one", "other", "cannot be merged"] {
                assert!(said.contains(word), "{word}: {said}");
            }
        }
        for sweep in [
            json!({"name": "yours"}),
            json!({"name": "mine", "seeds": [2]}),
        ] {
            let said = message(&|r| r.header.sweep = sweep.clone());
            assert!(
                said.contains("other: is of the sweep") && said.contains("\"mine\""),
                "{said}"
            );
        }
        let said = message(&|r| *r = record(3, &[1, 2]).changed());
        assert!(
            said.contains("run 3 is in") && said.contains("different figures"),
            "{said}"
        );
        let said = message(&|r| r.runs[0].index = 7);
        assert!(said.contains("a run 8"), "{said}");
        let said = message(&|r| r.runs.clear());
        assert!(said.contains("1 are missing (numbers 2)"), "{said}");
        assert!(merge(&json!({"name": "mine"}), &[]).is_err());
    }

    impl Record {
        fn changed(mut self) -> Self {
            for entry in &mut self.runs {
                entry.figures.as_mut().unwrap().source.accuracy = 0.5;
            }
            self
        }
    }
}
