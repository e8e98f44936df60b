//! The smoke experiment: every stage on a toy size, then a look at the report's shape.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::program;
use crate::workspace::Workspace;

/// What `report.json` promises its readers; `[]` stands for every element of a list that may not be empty.
const PROMISED: &[&str] = &[
    "experiment",
    "profile",
    "seed",
    "device",
    "provenance.revision",
    "provenance.dirty",
    "provenance.data_sha256",
    "provenance.command",
    "provenance.wall_seconds",
    "provenance.versions",
    "ann.test_accuracy",
    "ann.parameters",
    "ann.macs",
    "synthetic.count",
    "synthetic.judge_agreement",
    "converted.timesteps",
    "converted.test_accuracy",
    "converted.accuracy_by_t",
    "converted_with_real_data.test_accuracy",
    "encrypted.timesteps",
    "encrypted.test_accuracy",
    "encrypted.accuracy_by_t",
    "encrypted.drop_vs_ann",
    "fine_tuned.test_accuracy",
    "judge.architecture",
    "judge.test_accuracy",
    "leakage[].target",
    "leakage[].relu_reading_accuracy",
    "leakage[].weight_change_by_layer",
    "attacks[].attack",
    "attacks[].target",
    "attacks[].judge_top1",
    "attacks[].judge_top5",
    "attacks[].fid",
    "attacks[].fid_floor",
    "attacks[].fid_ceiling",
    "attacks[].nearest_distance",
    "energy.ann_picojoule",
    "energy.snn_picojoule_events",
    "energy.snn_picojoule_rate",
    "energy.ratio_events",
    "energy.ratio_rate",
    "energy.mean_rate_by_layer",
];

/// Keys whose number is a share of a test set.
const SHARES: [&str; 5] = [
    "test_accuracy",
    "relu_reading_accuracy",
    "judge_top1",
    "judge_top5",
    "judge_agreement",
];

/// Runs the experiment in a temporary folder and checks its report.
pub fn check(workspace: &Workspace) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    program::run_dev(workspace, &["reproduce", "smoke", "--out"], folder.path())?;
    let path =
        find(folder.path(), "report.json")?.context("the smoke experiment wrote no report.json")?;
    let text = fs::read_to_string(&path).context("report.json")?;
    let report: Value = serde_json::from_str(&text).context("report.json is not JSON")?;
    let problems = problems(&report);
    if !problems.is_empty() {
        bail!("report.json: {}", problems.join("; "));
    }
    Ok(())
}

fn problems(report: &Value) -> Vec<String> {
    PROMISED
        .iter()
        .filter_map(|path| {
            look(report, path)
                .err()
                .map(|problem| format!("{path}: {problem}"))
        })
        .collect()
}

/// Follows a path of keys; an error says what is wrong at its end.
fn look(value: &Value, path: &str) -> Result<(), String> {
    let (key, rest) = path
        .split_once('.')
        .map_or((path, None), |(key, rest)| (key, Some(rest)));
    let (key, list) = key
        .strip_suffix("[]")
        .map_or((key, false), |key| (key, true));
    let found = value.get(key).ok_or_else(|| format!("no {key:?}"))?;
    let elements = match (list, found.as_array()) {
        (false, _) => std::slice::from_ref(found),
        (true, Some(elements)) if !elements.is_empty() => elements,
        (true, _) => return Err(format!("{key:?} is not a list of at least one element")),
    };
    for element in elements {
        match rest {
            Some(rest) => look(element, rest)?,
            None if SHARES.contains(&key) => share(element)?,
            None => {}
        }
    }
    Ok(())
}

fn share(value: &Value) -> Result<(), String> {
    match value.as_f64() {
        Some(number) if (0.0..=1.0).contains(&number) => Ok(()),
        _ => Err(format!("{value} is not in 0..1")),
    }
}

/// The first file of this name below a folder.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in &entries {
        if entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
    }
    for entry in entries {
        if entry.file_type()?.is_dir()
            && let Some(path) = find(&entry.path(), name)?
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_followed() {
        let report = json!({
            "ann": {"test_accuracy": 0.5},
            "attacks": [{"fid": null}, {"fid": 3.0}],
            "leakage": [],
            "judge": {"test_accuracy": 50.0},
        });
        assert_eq!(look(&report, "ann.test_accuracy"), Ok(()));
        assert_eq!(look(&report, "attacks[].fid"), Ok(()));
        assert!(
            look(&report, "attacks[].target")
                .unwrap_err()
                .contains("target")
        );
        assert!(
            look(&report, "leakage[].target")
                .unwrap_err()
                .contains("at least one")
        );
        assert!(
            look(&report, "judge.test_accuracy")
                .unwrap_err()
                .contains("0..1")
        );
        assert!(
            look(&report, "energy.ratio_rate")
                .unwrap_err()
                .contains("energy")
        );
    }

    #[test]
    fn an_empty_report_breaks_every_promise() {
        assert_eq!(problems(&json!({})).len(), PROMISED.len());
    }

    #[test]
    fn a_report_is_found_in_a_subfolder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        assert_eq!(find(folder.path(), "report.json").unwrap(), None);
        fs::write(folder.path().join("a/b/report.json"), "{}").unwrap();
        assert_eq!(
            find(folder.path(), "report.json").unwrap(),
            Some(folder.path().join("a/b/report.json"))
        );
    }
}
