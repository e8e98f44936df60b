//! The figures of a sweep in a file: equal runs give equal bytes, however they were divided among calls and machines.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use snn_core::checkpoint::write_atomically;

use super::plan::{MOST_RUNS, NONE_CHANGED, Run};
use crate::stages::Measures;

/// Raised when older files can no longer be read.
const FORMAT: &str = "sweep/1";

/// A record file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What the runs have in common.
    pub header: Header,
    /// The finished runs in the order of their numbers.
    pub runs: Vec<Entry>,
}

/// What all runs of a sweep have in common. Records whose headers differ are of different sweeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the file's shape.
    pub format: String,
    /// The sweep file.
    pub sweep: Value,
    /// The experiment without the keys of the search.
    pub settings: Value,
    /// Revision of the source code that gathered the runs, or `unknown` outside a git checkout. Stages that were finished
    /// before keep theirs in their records.
    pub revision: String,
    /// Whether tracked files, results and their figures aside, differed from it; unknown outside a git checkout.
    pub dirty: Option<bool>,
    /// sha256 of the images and labels used.
    pub data_sha256: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Number of runs.
    pub total: usize,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Number of the run, from 0.
    pub index: usize,
    /// Seed of its stages.
    pub seed: u64,
    /// The value of each key.
    pub assignments: BTreeMap<String, Value>,
    /// What was measured; none of a run that diverged.
    pub figures: Option<Measures>,
    /// Why there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl Header {
    /// A header of this version; the other fields are documented there.
    ///
    /// # Errors
    /// Settings that JSON cannot hold.
    pub fn new(
        sweep: &impl Serialize,
        settings: &impl Serialize,
        origin: &crate::provenance::Origin,
        data_sha256: &str,
        total: usize,
    ) -> Result<Self> {
        Ok(Self {
            format: FORMAT.into(),
            sweep: settled(sweep)?,
            settings: settled(settings)?,
            revision: origin.revision.clone(),
            dirty: origin.dirty,
            data_sha256: data_sha256.into(),
            device: origin.device.clone(),
            total,
        })
    }

    /// In what another header differs, in words.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            ("the sweep's settings", self.sweep != other.sweep),
            ("the experiment's settings", self.settings != other.settings),
            (
                "the revision of the source code",
                self.revision != other.revision,
            ),
            (
                "whether the source code differed from its revision",
                self.dirty != other.dirty,
            ),
            ("the data", self.data_sha256 != other.data_sha256),
            ("the device", self.device != other.device),
            ("the number of runs", self.total != other.total),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }
}

impl Entry {
    /// Of a run that has been measured, or has diverged, with what is said of that.
    ///
    /// # Errors
    /// A figure or value that JSON cannot hold.
    pub fn new(run: &Run, outcome: Result<Measures, String>) -> Result<Self> {
        let (figures, diverged) = match outcome {
            Ok(figures) => (Some(serde_json::from_value(settled(&figures)?)?), None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self {
            index: run.index,
            seed: run.seed,
            assignments: serde_json::from_value(settled(&run.assignments)?)?,
            figures,
            diverged,
        })
    }

    /// The value of each key in words.
    pub fn label(&self) -> String {
        let assignments = self.assignments.iter();
        let assignments: Vec<String> = assignments
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        match assignments.is_empty() {
            true => NONE_CHANGED.into(),
            false => assignments.join(", "),
        }
    }

    /// The values alone.
    pub fn values(&self) -> String {
        let values: Vec<String> = self.assignments.values().map(plain).collect();
        values.join(" / ")
    }
}

/// A value without the quotes of a string, and of a table its entries, `rule` and `kind` by their values alone.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let named = |key: &String| key == "rule" || key == "kind";
            let first = map.iter().filter(|(key, _)| named(key));
            let rest = map.iter().filter(|(key, _)| !named(key));
            first
                .map(|(_, value)| plain(value))
                .chain(rest.map(|(key, value)| format!("{key} {}", plain(value))))
                .collect::<Vec<_>>()
                .join(" ")
        }
        other => other.to_string(),
    }
}

/// The first of `PATH.old`, `PATH.old2` and so on that is not there.
fn free_beside(path: &Path) -> PathBuf {
    let named = |number: usize| {
        let mut name = OsString::from(path);
        name.push(".old");
        if number > 1 {
            name.push(number.to_string());
        }
        PathBuf::from(name)
    };
    let mut number = 1;
    while named(number).exists() {
        number += 1;
    }
    named(number)
}

impl Record {
    /// A record without runs.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            runs: Vec::new(),
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// A file that cannot be read, is not a record, or one of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let what = || {
            format!(
                "{}: is not the record of a sweep; move it away or name another file",
                path.display()
            )
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let value: Value = serde_json::from_str(&text).with_context(what)?;
        if let Some(format) = value["header"]["format"].as_str()
            && format != FORMAT
        {
            bail!(
                "{}: its format is `{format}`, this program's is `{FORMAT}`; move it away",
                path.display()
            );
        }
        let record: Self = serde_json::from_value(settled(&value)?).with_context(what)?;
        if record.header.total > MOST_RUNS {
            bail!(
                "{}: header.total = {}: no sweep has more than {MOST_RUNS} runs",
                path.display(),
                record.header.total
            );
        }
        Ok(record)
    }

    /// The record of this header at `path`, to go on with; an empty one if there is none, or one of another header. Such
    /// a one is kept as `PATH.old` (or `PATH.old2` and so on) if it has runs, with a warning.
    ///
    /// # Errors
    /// Those of [`Record::load`]; a file that cannot be renamed.
    pub fn open(path: &Path, header: Header) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::new(header));
        }
        let found = Self::load(path)?;
        let differences = found.header.differences(&header);
        if differences.is_empty() {
            return Ok(found);
        }
        if !found.runs.is_empty() {
            found.keep_aside(path, &differences)?;
        }
        Ok(Self::new(header))
    }

    /// Writes the record over one of the same measurements at `path`, if there is one, whatever the revisions of the source code.
    /// One of others is kept beside it, as [`Record::open`] does.
    ///
    /// # Errors
    /// Those of [`Record::load`]; whatever the file system answers.
    pub fn replace(&self, path: &Path) -> Result<()> {
        if path.exists() {
            let found = Self::load(path)?;
            let renewed = Header {
                revision: self.header.revision.clone(),
                dirty: self.header.dirty,
                ..found.header.clone()
            };
            let mut differences = renewed.differences(&self.header);
            let same_code = found.header.differences(&self.header).is_empty();
            if differences.is_empty() && same_code && found.contradicts(self) {
                differences.push("the figures of the same runs");
            }
            if !differences.is_empty() {
                found.keep_aside(path, &differences)?;
            }
        }
        self.save(path)
    }

    /// Whether a run that both have has other figures in the other.
    fn contradicts(&self, other: &Self) -> bool {
        self.runs.iter().any(|entry| {
            let mut others = other.runs.iter();
            let same = others.find(|there| there.index == entry.index);
            same.is_some_and(|there| there != entry)
        })
    }

    fn keep_aside(&self, path: &Path, differences: &[&str]) -> Result<()> {
        let old = free_beside(path);
        std::fs::rename(path, &old).with_context(|| old.display().to_string())?;
        tracing::warn!(
            "{}: what is there differs in {}; kept as {}",
            path.display(),
            differences.join(", "),
            old.display()
        );
        Ok(())
    }

    /// Refuses runs that are not those of the plan: a record changed by hand.
    ///
    /// # Errors
    /// The first such run, with `path`, where the record is from.
    pub fn check_plan<'a>(
        &self,
        path: &Path,
        planned: impl Iterator<Item = &'a Run>,
    ) -> Result<()> {
        let planned: Vec<&Run> = planned.collect();
        let mut last = None;
        for entry in &self.runs {
            let run = planned.get(entry.index);
            let fits = match run {
                Some(run) => {
                    run.seed == entry.seed
                        && settled(&run.assignments)? == settled(&entry.assignments)?
                }
                None => false,
            };
            if !fits
                || last >= Some(entry.index)
                || entry.figures.is_some() == entry.diverged.is_some()
            {
                bail!(
                    "{}: run {} is not what the sweep has there, or has no figures and no reason for it; the record was changed by \
                     hand: move it away",
                    path.display(),
                    entry.index + 1
                );
            }
            last = Some(entry.index);
        }
        Ok(())
    }

    /// Whether a run is in it.
    pub fn has(&self, index: usize) -> bool {
        self.runs.iter().any(|entry| entry.index == index)
    }

    /// Adds a run.
    pub fn add(&mut self, entry: Entry) {
        let place = self.runs.partition_point(|other| other.index < entry.index);
        self.runs.insert(place, entry);
    }

    /// Writes the record whole or not at all.
    ///
    /// # Errors
    /// Whatever the file system answers, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&settled(self)?)
            .context("a sweep cannot be written as JSON")?;
        text.push('\n');
        Ok(write_atomically(path, text.as_bytes())?)
    }
}

/// A value with numbers of twelve digits: reading JSON may change the last bits of longer ones, and a record has the same
/// bytes however often it was read.
pub fn settled(value: &impl Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(value).context("a sweep cannot be written as JSON")?;
    settle(&mut value);
    Ok(value)
}

/// What [`settled`] does to a value.
pub fn settle(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(map) => map.values_mut().for_each(settle),
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().map(|number| format!("{number:.11e}"));
            if let Some(short) = short.and_then(|text| Number::from_f64(text.parse().ok()?)) {
                *number = short;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A record of `total` runs of which those of `indices` are finished; their accuracy tells them apart.
    pub fn record(total: usize, indices: &[usize]) -> Record {
        let network = |accuracy: f64| json!({"accuracy_by_t": [{"timesteps": 4, "accuracy": accuracy, "images": 30}]});
        let entry = |&index: &usize| {
            Entry {
            index,
            seed: 1,
            diverged: None,
            assignments: BTreeMap::from([("encrypt.epochs".into(), json!(index + 1))]),
            figures: serde_json::from_value(json!({
                "source": {"images": 30, "accuracy": 29.0 / 30.0},
                "converted": network(28.0 / 30.0),
                "converted_with_real_data": network(28.0 / 30.0),
                "encrypted": network((20 + index) as f64 / 30.0),
                "reading": {"accuracy": 1.0 / 3.0, "largest_weight_change": 0.1 + index as f64 / 7.0},
                "back_conversion": null,
            }))
            .unwrap(),
        }
        };
        Record {
            header: Header {
                format: FORMAT.into(),
                sweep: json!({"name": "mine"}),
                settings: json!({"rate": 1.0 / 3.0}),
                revision: "a".into(),
                dirty: Some(false),
                data_sha256: "00".into(),
                device: "cpu".into(),
                total,
            },
            runs: indices.iter().map(entry).collect(),
        }
    }

    #[test]
    fn reading_and_writing_changes_no_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.json");
        let mut all = record(50, &[]);
        for entry in record(50, &(0..50).rev().collect::<Vec<_>>()).runs {
            all.add(entry);
        }
        all.save(&path).unwrap();
        let once = std::fs::read(&path).unwrap();
        for _ in 0..3 {
            let read = Record::load(&path).unwrap();
            read.save(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), once);
            assert!(read.runs.iter().map(|entry| entry.index).eq(0..50));
        }
    }

    #[test]
    fn twelve_digits_stay_as_they_are() {
        let mut value = json!([1.0 / 3.0, 1e-4, 123_456.75, 0.1 + 0.2, 7, 1e-300]);
        settle(&mut value);
        assert_eq!(
            value.to_string(),
            "[0.333333333333,0.0001,123456.75,0.3,7,1e-300]"
        );
    }

    #[test]
    fn a_record_of_another_header_is_kept_aside_if_it_has_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.json");
        let old = folder.path().join("sweep.json.old");
        let first = record(3, &[0]);
        first.save(&path).unwrap();
        let header = Record::load(&path).unwrap().header;
        assert_eq!(Record::open(&path, header.clone()).unwrap().runs.len(), 1);
        let other = Header {
            revision: "b".into(),
            ..header
        };
        let opened = Record::open(&path, other.clone()).unwrap();
        assert!(opened.runs.is_empty() && opened.header == other);
        assert!(!path.exists());
        assert_eq!(Record::load(&old).unwrap().runs.len(), 1);
        record(3, &[]).save(&path).unwrap();
        assert!(Record::open(&path, other.clone()).unwrap().runs.is_empty());
        let second = folder.path().join("sweep.json.old2");
        assert!(!second.exists());
        record(3, &[0, 1]).save(&path).unwrap();
        assert!(Record::open(&path, other).unwrap().runs.is_empty());
        assert_eq!(Record::load(&old).unwrap().runs.len(), 1);
        assert_eq!(Record::load(&second).unwrap().runs.len(), 2);
    }

    #[test]
    fn only_a_record_of_the_same_measurements_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.json");
        let old = folder.path().join("sweep.json.old");
        record(3, &[0]).replace(&path).unwrap();
        let mut renewed = Record::load(&path).unwrap();
        renewed.runs = record(3, &[0, 1]).runs;
        renewed.header.revision = "b".into();
        renewed.replace(&path).unwrap();
        assert!(!old.exists());
        assert_eq!(Record::load(&path).unwrap().runs.len(), 2);
        let mut contradicting = Record::load(&path).unwrap();
        contradicting.runs[0].seed = 9;
        contradicting.replace(&path).unwrap();
        assert_eq!(Record::load(&old).unwrap().runs[0].seed, 1);
        let mut other = Record::load(&path).unwrap();
        other.runs.truncate(1);
        other.header.settings = json!({"rate": 2});
        other.replace(&path).unwrap();
        let second = folder.path().join("sweep.json.old2");
        assert_eq!(Record::load(&second).unwrap().runs[0].seed, 9);
        assert_eq!(Record::load(&path).unwrap().runs.len(), 1);
    }

    #[test]
    fn runs_that_are_not_the_plan_s_are_refused() {
        let planned: Vec<Run> = (0..3)
            .map(|index| Run {
                index,
                seed: 1,
                assignments: BTreeMap::from([(
                    "encrypt.epochs".into(),
                    toml::Value::Integer(index as i64 + 1),
                )]),
            })
            .collect();
        let check = |record: &Record| record.check_plan(Path::new("mine.json"), planned.iter());
        check(&record(3, &[0, 2])).unwrap();
        let changed: [fn(&mut Record); 6] = [
            |record| record.runs[1].seed = 77,
            |record| {
                drop(
                    record.runs[1]
                        .assignments
                        .insert("encrypt.epochs".into(), json!(99)),
                )
            },
            |record| record.runs[1].index = 10,
            |record| record.runs[1] = record.runs[0].clone(),
            |record| record.runs.swap(0, 1),
            |record| record.runs[1].figures = None,
        ];
        for (number, change) in changed.iter().enumerate() {
            let mut record = record(3, &[0, 1]);
            change(&mut record);
            let message = check(&record).expect_err(&number.to_string()).to_string();
            assert!(
                message.contains("mine.json") && message.contains("move it away"),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let message = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", Record::load(&path).unwrap_err())
        };
        for text in ["{", "{\"runs\": []}", "[1]", "name = 1"] {
            let said = message(text);
            assert!(
                said.contains("a.json") && said.contains("is not the record of a sweep"),
                "{said}"
            );
        }
        record(MOST_RUNS + 1, &[]).save(&path).unwrap();
        let said = format!("{:#}", Record::load(&path).unwrap_err());
        assert!(said.contains("a.json: header.total = 100001"), "{said}");
        let said = message("{\"header\": {\"format\": \"sweep/9\"}}");
        assert!(said.contains("sweep/9") && said.contains(FORMAT), "{said}");
    }
}
