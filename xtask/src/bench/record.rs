//! Criterion's estimates, gathered into one record.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::machine::Machine;

/// One run of the benches.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it ran.
    pub machine: Machine,
    /// What it measured, sorted by id.
    pub estimates: Vec<Estimate>,
}

/// One bench.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Group, function and size, as criterion prints them.
    id: String,
    /// Of all times.
    unit: String,
    median: f64,
    /// 95 % confidence interval of the median.
    median_low: f64,
    median_high: f64,
    mean: f64,
    standard_deviation: f64,
    /// What criterion was told one iteration processes, for example `{"Elements": 4096}`.
    throughput: Value,
}

impl Record {
    /// The record at `path`, if there is one, to which a run on `machine` may be added.
    ///
    /// # Errors
    /// A record of another revision or machine, or a file that is no record.
    pub fn to_extend(path: &Path, machine: &Machine) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| path.display().to_string())?,
        };
        let record: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if let Some(why) = machine.disagreement(&record.machine) {
            bail!(
                "{} is of another run, to which nothing can be added ({why}); move it away, or name this machine \
                 otherwise with --host",
                path.display()
            );
        }
        Ok(Some(record))
    }

    /// Adds newer estimates; those of the same id are replaced.
    pub fn extend(&mut self, newer: Record) {
        self.machine.raise_load(newer.machine.load);
        self.estimates
            .retain(|old| newer.estimates.iter().all(|new| new.id != old.id));
        self.estimates.extend(newer.estimates);
        self.estimates.sort_by(|a, b| a.id.cmp(&b.id));
    }
}

/// The estimates below `folder` that were written at `since` or later: criterion keeps older ones there too.
pub fn estimates(folder: &Path, since: SystemTime) -> Result<Vec<Estimate>> {
    let mut found = Vec::new();
    gather(folder, since, &mut found)?;
    if found.is_empty() {
        bail!(
            "no new estimate below {}: did a filter leave no bench?",
            folder.display()
        );
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn gather(folder: &Path, since: SystemTime, found: &mut Vec<Estimate>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let estimates = path.join("estimates.json");
        if entry.file_name() != "new" {
            gather(&path, since, found)?;
        } else if estimates
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|time| time >= since)
        {
            found.push(estimate(
                &read(&path.join("benchmark.json"))?,
                &read(&estimates)?,
            )?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn estimate(benchmark: &Value, estimates: &Value) -> Result<Estimate> {
    let id = benchmark["full_id"]
        .as_str()
        .context("benchmark.json has no full_id")?;
    let number = |pointer: &str| {
        estimates
            .pointer(pointer)
            .and_then(Value::as_f64)
            .with_context(|| format!("{id}: estimates.json has no {pointer}"))
    };
    Ok(Estimate {
        id: id.to_owned(),
        unit: "ns".to_owned(),
        median: number("/median/point_estimate")?,
        median_low: number("/median/confidence_interval/lower_bound")?,
        median_high: number("/median/confidence_interval/upper_bound")?,
        mean: number("/mean/point_estimate")?,
        standard_deviation: number("/std_dev/point_estimate")?,
        throughput: benchmark["throughput"].clone(),
    })
}

/// The day of a time, in UTC, as `2026-01-31`.
pub fn date(time: SystemTime) -> Result<String> {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    let (mut day, mut year) = (seconds / 86_400, 1970);
    let leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    Ok(format!("{year}-{month:02}-{:02}", day + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn day(seconds: u64) -> String {
        date(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn dates_follow_the_calendar() {
        // `date -u -d @SECONDS +%F`
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(951_868_800), "2000-03-01");
        assert_eq!(day(1_767_225_599), "2025-12-31");
        assert_eq!(day(1_767_225_600), "2026-01-01");
        assert_eq!(day(4_107_542_400), "2100-03-01");
    }

    fn write(folder: &Path, id: &str) {
        let folder = folder.join(id).join("new");
        fs::create_dir_all(&folder).unwrap();
        let interval = json!({"lower_bound": 1.0, "upper_bound": 3.0, "confidence_level": 0.95});
        let number =
            json!({"point_estimate": 2.0, "confidence_interval": interval, "standard_error": 0.1});
        let estimates = json!({"mean": number, "median": number, "std_dev": number, "slope": null});
        fs::write(folder.join("estimates.json"), estimates.to_string()).unwrap();
        fs::write(
            folder.join("benchmark.json"),
            json!({"full_id": id, "throughput": {"Elements": 8}}).to_string(),
        )
        .unwrap();
    }

    #[test]
    fn only_new_estimates_are_gathered() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "if/forward/64");
        write(folder.path(), "conv2d/32");
        let found = estimates(folder.path(), UNIX_EPOCH).unwrap();
        assert_eq!(
            found.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(),
            ["conv2d/32", "if/forward/64"]
        );
        assert_eq!(
            (found[0].median, found[0].median_low, found[0].median_high),
            (2.0, 1.0, 3.0)
        );
        let later = SystemTime::now() + Duration::from_secs(3600);
        assert!(
            estimates(folder.path(), later)
                .unwrap_err()
                .to_string()
                .contains("no new estimate")
        );
    }

    fn record(revision: &str, estimates: &[(&str, f64)]) -> Record {
        let machine = json!({
            "host": "a", "cpu": "b", "cores": 2, "load": 0.1, "rustc": "c", "revision": revision, "dirty": false,
            "architecture": "e",
        });
        let estimates = estimates.iter().map(|(id, median)| Estimate {
            id: id.to_string(),
            unit: "ns".into(),
            median: *median,
            median_low: 1.0,
            median_high: 3.0,
            mean: 2.0,
            standard_deviation: 0.1,
            throughput: json!({"Elements": 8}),
        });
        Record {
            machine: serde_json::from_value(machine).unwrap(),
            estimates: estimates.collect(),
        }
    }

    #[test]
    fn a_filtered_run_keeps_the_other_estimates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("estimates.json");
        let newer = record("r", &[("c", 5.0), ("a", 4.0)]);
        assert!(Record::to_extend(&path, &newer.machine).unwrap().is_none());
        let full = record("r", &[("a", 1.0), ("b", 2.0)]);
        fs::write(&path, serde_json::to_string(&full).unwrap()).unwrap();

        let other = record("x", &[]);
        let error = Record::to_extend(&path, &other.machine)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("estimates.json") && error.contains("revision r there, x here"),
            "{error}"
        );

        let mut old = Record::to_extend(&path, &newer.machine).unwrap().unwrap();
        assert_eq!(old.estimates, full.estimates);
        old.extend(newer);
        let merged = old.estimates.iter().map(|e| (e.id.as_str(), e.median));
        assert_eq!(
            merged.collect::<Vec<_>>(),
            [("a", 4.0), ("b", 2.0), ("c", 5.0)]
        );

        fs::write(&path, "{}").unwrap();
        assert!(Record::to_extend(&path, &full.machine).is_err());
    }

    #[test]
    fn estimates_of_another_shape_are_an_error() {
        let error = estimate(&json!({"full_id": "a"}), &json!({}))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a: estimates.json has no /median"),
            "{error}"
        );
    }
}
