//! What a comparison measured.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bench::machine::Machine;

/// A comparison on one machine, with one number of threads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Where it ran.
    pub machine: Machine,
    /// How it ran.
    pub settings: Settings,
    /// Versions of what was compared, by name.
    pub versions: BTreeMap<String, String>,
    /// What was measured, in the order of the table.
    pub cases: Vec<Case>,
}

/// What all processes were given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Threads of each process; one process works at a time.
    pub threads: usize,
    /// Environment of all processes: the allocator's habits and the numbers of threads.
    pub environment: BTreeMap<String, String>,
}

/// One work, done by all sides in turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// The work and its sizes.
    pub id: String,
    /// Timed repetitions of each side, after one that was not timed.
    pub repetitions: usize,
    /// Each side by name; the first is `ours`.
    pub sides: Map<String, Value>,
    /// Per peer: its median time over ours. Above 1, ours is faster.
    pub ratios: BTreeMap<String, f64>,
    /// Per peer, how far each output is from ours: the largest difference relative to the peer's largest number. None
    /// if one is not finite.
    pub differences: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// Whether all differences are within what the case allows.
    pub agrees: bool,
    /// How time grows with the work, where a case measures that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
}

/// A part of a case whose synaptic operations are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The part.
    pub name: String,
    /// Steps.
    pub timesteps: u64,
    /// Spikes per neuron and step of the population that sends them.
    pub firing_rate: f64,
    /// Accumulates: spikes times the weights they meet.
    pub synaptic_operations: u64,
    /// Median.
    pub seconds: f64,
    /// Synaptic operations over seconds.
    pub operations_per_second: f64,
}

/// One side of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds per repetition.
    pub seconds: Spread,
    /// Seconds of the parts of a repetition by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parts: Map<String, Value>,
    /// Memory and figures.
    #[serde(flatten)]
    pub figures: SideFigures,
    /// Peak less what the process held before its first repetition, MiB.
    pub extra_mib: Option<f64>,
}

/// One repetition as a side answers it.
#[derive(Debug, Clone, Deserialize)]
pub struct Repetition {
    /// Of the whole.
    pub seconds: f64,
    /// Of parts by name, in their order.
    pub parts: Map<String, Value>,
}

/// Resident memory and figures as a side answers them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SideFigures {
    /// Before the first repetition, inputs loaded, MiB.
    pub before_mib: Option<f64>,
    /// Highest since then, MiB.
    pub peak_mib: Option<f64>,
    /// Whatever else the side measured, such as firing rates.
    pub figures: Map<String, Value>,
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the values are below.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(mut values: Vec<f64>) -> Result<Self> {
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            anyhow::bail!("no repetition was timed");
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Ok(Self { median, min, max })
    }
}

impl Measured {
    /// Sums up the repetitions of a side.
    pub fn of(repetitions: &[Repetition], figures: SideFigures) -> Result<Self> {
        let seconds = Spread::of(repetitions.iter().map(|run| run.seconds).collect())?;
        let mut parts = Map::new();
        for name in repetitions.iter().flat_map(|run| run.parts.keys()) {
            let values = repetitions.iter().map(|run| {
                let value = run.parts.get(name).and_then(Value::as_f64);
                value.with_context(|| format!("a repetition lacks the part {name}"))
            });
            let spread = Spread::of(values.collect::<Result<_>>()?)?;
            parts.insert(name.clone(), serde_json::to_value(spread)?);
        }
        let extra = figures.peak_mib.zip(figures.before_mib);
        Ok(Self {
            seconds,
            parts,
            extra_mib: extra.map(|(peak, before)| peak - before),
            figures,
        })
    }
}

impl Measured {
    /// The parts for which the side gives synaptic operations, in their order.
    pub fn curve(&self) -> Vec<Point> {
        let points = self.figures.figures.get("points");
        let point = |(name, seconds): (&String, &Value)| {
            let figures = points?.get(name)?;
            let operations = figures["synaptic_operations"].as_u64()?;
            let seconds = seconds["median"].as_f64()?;
            Some(Point {
                name: name.clone(),
                timesteps: figures["timesteps"].as_u64()?,
                firing_rate: figures["firing_rate"].as_f64()?,
                synaptic_operations: operations,
                seconds,
                operations_per_second: operations as f64 / seconds,
            })
        };
        self.parts.iter().filter_map(point).collect()
    }
}

impl Case {
    /// A side as it was measured.
    pub fn side(&self, name: &str) -> Option<Measured> {
        serde_json::from_value(self.sides.get(name)?.clone()).ok()
    }
}

impl Record {
    /// The record at `path`, or none if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| path.display().to_string())?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).with_context(|| path.display().to_string())
    }

    /// Why cases measured like those of `other` do not belong here, if they do not.
    pub fn disagreement(&self, other: &Self) -> Option<String> {
        let settings = || {
            (self.settings != other.settings).then(|| "threads or environment differ".to_owned())
        };
        let versions = || {
            let known = |(name, version): (&String, &String)| {
                let there = other.versions.get(name)?;
                (there != version).then(|| format!("{name} {there} there, {version} here"))
            };
            self.versions.iter().find_map(known)
        };
        let machine = self.machine.disagreement(&other.machine);
        machine.or_else(settings).or_else(versions)
    }

    /// Adds newer cases; those of the same id are replaced.
    pub fn extend(&mut self, newer: Record) {
        self.machine.raise_load(newer.machine.load);
        self.versions.extend(newer.versions);
        for case in newer.cases {
            match self.cases.iter_mut().find(|old| old.id == case.id) {
                Some(old) => *old = case,
                None => self.cases.push(case),
            }
        }
    }

    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn repetition(value: Value) -> Repetition {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let of = |values: &[f64]| Spread::of(values.to_vec()).unwrap();
        assert_eq!(of(&[3.0, 1.0, 2.0]).median, 2.0);
        let even = of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
        assert!(Spread::of(Vec::new()).is_err());
    }

    #[test]
    fn a_side_is_summed_up_part_by_part() {
        let runs = [
            repetition(json!({"seconds": 1.0, "parts": {"forward": 0.25}})),
            repetition(json!({"seconds": 3.0, "parts": {"forward": 0.75}})),
        ];
        let figures: SideFigures =
            serde_json::from_value(json!({"before_mib": 10.0, "peak_mib": 25.0, "figures": {}}))
                .unwrap();
        let measured = Measured::of(&runs, figures.clone()).unwrap();
        assert_eq!(measured.seconds.median, 2.0);
        assert_eq!(measured.parts["forward"]["median"], 0.5);
        assert_eq!(measured.extra_mib, Some(15.0));
        let uneven = [
            runs[0].clone(),
            repetition(json!({"seconds": 1.0, "parts": {}})),
        ];
        assert!(Measured::of(&uneven, figures).is_err());
    }

    #[test]
    fn a_curve_joins_times_and_operations() {
        let runs = [repetition(
            json!({"seconds": 1.0, "parts": {"b": 0.5, "a": 0.25, "rest": 0.25}}),
        )];
        let of =
            |rate: f64| json!({"timesteps": 8, "firing_rate": rate, "synaptic_operations": 10});
        let figures = json!({"before_mib": null, "peak_mib": null,
            "figures": {"points": {"a": of(0.1), "b": of(0.2)}}});
        let figures = serde_json::from_value(figures).unwrap();
        let curve = Measured::of(&runs, figures).unwrap().curve();
        let names: Vec<&str> = curve.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(
            (curve[1].firing_rate, curve[1].operations_per_second),
            (0.1, 40.0)
        );
    }

    fn record(ids: &[&str], threads: usize, torch: &str) -> Record {
        let case = |id: &&str| {
            json!({"id": id, "repetitions": 5, "sides": {}, "ratios": {"torch": threads},
                "differences": {}, "agrees": true})
        };
        let machine = json!({"host": "a", "cpu": "b", "cores": 2, "load": 0.1, "rustc": "c",
            "revision": "d", "dirty": false, "architecture": "e"});
        serde_json::from_value(json!({
            "machine": machine,
            "settings": {"threads": threads, "environment": {}},
            "versions": {"torch": torch},
            "cases": ids.iter().map(case).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    #[test]
    fn newer_cases_replace_those_of_their_id() {
        let mut old = record(&["a", "b"], 1, "2");
        old.extend(record(&["c", "b"], 2, "2"));
        let ids: Vec<&str> = old.cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(old.cases[1].ratios["torch"], 2.0);
    }

    #[test]
    fn only_runs_alike_go_into_one_record() {
        let here = record(&[], 1, "2");
        assert_eq!(here.disagreement(&record(&["a"], 1, "2")), None);
        let threads = here.disagreement(&record(&[], 2, "2")).unwrap();
        assert!(threads.contains("threads"), "{threads}");
        let version = here.disagreement(&record(&[], 1, "3")).unwrap();
        assert_eq!(version, "torch 3 there, 2 here");
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records/peers.json");
        assert!(Record::read(&path).unwrap().is_none());
        record(&["a"], 1, "2").write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap().unwrap().cases[0].id, "a");
        fs::write(&path, "{}").unwrap();
        assert!(Record::read(&path).is_err());
    }
}
