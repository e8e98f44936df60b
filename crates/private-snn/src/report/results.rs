//! The evidence of several seeds: `results/EXPERIMENT.json`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::rows;

/// The runs of one experiment and profile.
#[derive(Debug, Clone)]
pub struct Results {
    /// `report.json` of each seed.
    pub runs: Vec<Value>,
}

/// Name of the evidence file: `EXPERIMENT.json` if the experiment has one profile only, `EXPERIMENT.PROFILE.json`
/// otherwise.
pub fn file_name(experiment: &str, profile: &str, profiles: usize) -> String {
    if profiles == 1 {
        format!("{experiment}.json")
    } else {
        format!("{experiment}.{profile}.json")
    }
}

impl Results {
    /// The evidence: summary (mean and sample deviation over seeds; deviation null for one seed) and runs. The summary
    /// of the headline variant is at the top, that of each variant under `variants`.
    pub fn to_json(&self) -> Value {
        let Some(first) = self.runs.first() else {
            return Value::Null;
        };
        let summary = |variant: &str| -> Value {
            let mut map = Map::new();
            for row in rows() {
                let values: Option<Vec<f64>> = self
                    .runs
                    .iter()
                    .map(|run| rows::figure(run, variant, &row.key))
                    .collect();
                if let Some((mean, deviation)) = values.as_deref().and_then(spread) {
                    map.insert(row.key, json!({"mean": mean, "deviation": deviation}));
                }
            }
            Value::Object(map)
        };
        let variants: Map<String, Value> = first["variants"]
            .as_object()
            .into_iter()
            .flat_map(|variants| variants.keys())
            .map(|name| (name.clone(), summary(name)))
            .collect();
        json!({
            "experiment": first["experiment"],
            "title": first["title"],
            "profile": first["profile"],
            "seeds": self.runs.iter().map(|run| run["seed"].clone()).collect::<Vec<_>>(),
            "headline": first["headline"],
            "summary": summary(first["headline"].as_str().unwrap_or_default()),
            "variants": variants,
            "runs": self.runs,
        })
    }

    /// Writes the evidence whole or not at all.
    ///
    /// # Errors
    /// Whatever the file system answers, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&self.to_json())
            .context("results cannot be written as JSON")?;
        text.push('\n');
        Ok(snn_core::checkpoint::write_atomically(
            path,
            text.as_bytes(),
        )?)
    }
}

/// Mean and sample deviation; no deviation of one value, nothing of none.
pub fn spread(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    mean.is_finite().then(|| {
        (
            mean,
            (values.len() > 1).then(|| (square / (n - 1.0)).sqrt()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_a_sample() {
        assert_eq!(spread(&[1.0, 2.0, 3.0]), Some((2.0, Some(1.0))));
        assert_eq!(spread(&[1.5]), Some((1.5, None)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_figure_missing_in_one_run_has_no_mean() {
        let run = |accuracy: Value, drop: f64| {
            json!({"seed": 1, "headline": "a", "variants": {"a": {
                "ann": {"test_accuracy": accuracy}, "encrypted": {"drop_vs_ann": drop}}}})
        };
        let results = Results {
            runs: vec![run(json!(0.5), 0.01), run(Value::Null, 0.03)],
        };
        let summary = &results.to_json()["summary"];
        assert!(summary.get("ann.test_accuracy").is_none());
        assert!((summary["encrypted.drop_vs_ann"]["mean"].as_f64().unwrap() - 0.02).abs() < 1e-12);
    }

    #[test]
    fn one_profile_needs_no_name() {
        assert_eq!(file_name("glyphs", "cpu", 1), "glyphs.json");
        assert_eq!(file_name("cifar10", "cpu", 2), "cifar10.cpu.json");
    }
}
