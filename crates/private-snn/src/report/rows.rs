//! The lines of the table of results, the same in the terminal, the page and the README.

use serde_json::Value;

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share in 0..1, as percent.
    Percent,
    /// A difference of shares, in percentage points.
    Points,
    /// A factor.
    Times,
    /// A plain number.
    Number,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name that claims of the paper refer to.
    pub key: String,
    /// What it is.
    pub label: String,
    /// How it is written.
    pub unit: Unit,
}

fn row(key: &str, label: impl Into<String>, unit: Unit) -> Row {
    Row {
        key: key.into(),
        label: label.into(),
        unit,
    }
}

const ATTACKS: [(&str, &str); 2] = [
    ("back_conversion", "A1 (weights read as an ANN)"),
    ("spike_gradient", "A2 (through the spikes)"),
];
const TARGETS: [(&str, &str); 3] = [
    ("ann", "source network"),
    ("converted", "converted network"),
    ("encrypted", "encrypted network"),
];

/// All lines, in order.
pub fn rows() -> Vec<Row> {
    use Unit::{Percent, Points, Times};
    let mut rows = vec![
        row(
            "ann.test_accuracy",
            "Source network, test accuracy",
            Percent,
        ),
        row(
            "ann.worst_class_accuracy",
            "Source network, worst class",
            Percent,
        ),
        row(
            "synthetic.judge_agreement",
            "Synthetic images: judge agrees with the source network",
            Percent,
        ),
        row(
            "converted.test_accuracy",
            "Converted without data, test accuracy",
            Percent,
        ),
        row(
            "converted_with_real_data.test_accuracy",
            "Converted with real data (control)",
            Percent,
        ),
        row(
            "encrypted.test_accuracy",
            "Encrypted, test accuracy",
            Percent,
        ),
        row(
            "encrypted.drop_vs_ann",
            "Encrypted: drop against the source network",
            Points,
        ),
        row(
            "energy.ratio_events",
            "Energy gain, every spike counted over all steps",
            Times,
        ),
        row(
            "energy.ratio_rate",
            "Energy gain, by mean firing rate per step",
            Times,
        ),
        row("judge.test_accuracy", "Judge, test accuracy", Percent),
    ];
    for (attack, attack_label) in ATTACKS {
        for (target, target_label) in TARGETS {
            if (attack, target) != ("spike_gradient", "ann") {
                let key = format!("attacks.{attack}.{target}.judge_top1");
                rows.push(row(
                    &key,
                    format!("{attack_label} on the {target_label}: recognised by the judge"),
                    Percent,
                ));
            }
        }
    }
    for (target, label) in &TARGETS[1..] {
        let key = format!("leakage.{target}.relu_reading_accuracy");
        rows.push(row(
            &key,
            format!("ReLU reading of the {label}, test accuracy"),
            Percent,
        ));
    }
    for (target, label) in TARGETS {
        let key = format!("attacks.back_conversion.{target}.fid");
        rows.push(row(
            &key,
            format!("A1 on the {label}: Fréchet distance on the judge's features"),
            Unit::Number,
        ));
    }
    rows
}

/// The figure at `key` of a report: of variant `variant`, or of the report itself where the variant has none.
pub fn figure(report: &Value, variant: &str, key: &str) -> Option<f64> {
    let parts: Vec<&str> = key.split('.').collect();
    let scope = &report["variants"][variant];
    match parts.as_slice() {
        ["attacks", attack, target, field] => {
            let entry = scope["attacks"]
                .as_array()?
                .iter()
                .find(|e| e["attack"] == *attack && e["target"] == *target)?;
            entry[*field].as_f64()
        }
        ["leakage", target, field] => scope["leakage"]
            .as_array()?
            .iter()
            .find(|entry| entry["target"] == *target)?[*field]
            .as_f64(),
        [group, field] => scope[*group][*field]
            .as_f64()
            .or_else(|| report[*group][*field].as_f64()),
        _ => None,
    }
}

/// A figure in its unit.
pub fn show(value: Option<f64>, unit: Unit) -> String {
    let Some(value) = value else {
        return "–".into();
    };
    match unit {
        Unit::Percent => format!("{:.1} %", value * 100.0),
        Unit::Points => format!("{:.1} points", value * 100.0),
        Unit::Times => format!("{value:.2}x"),
        Unit::Number => format!("{value:.2}"),
    }
}

/// Mean and deviation in their unit.
pub fn show_spread(mean: f64, deviation: Option<f64>, unit: Unit) -> String {
    let (factor, digits, suffix) = match unit {
        Unit::Percent => (100.0, 1, " %"),
        Unit::Points => (100.0, 1, " points"),
        Unit::Times => (1.0, 2, "x"),
        Unit::Number => (1.0, 2, ""),
    };
    match deviation {
        Some(deviation) => format!(
            "{:.digits$} ± {:.digits$}{suffix}",
            mean * factor,
            deviation * factor
        ),
        None => format!("{:.digits$}{suffix}", mean * factor),
    }
}

/// The table for a terminal, aligned.
pub fn summary_table(report: &Value) -> String {
    let variants: Vec<&String> = report["variants"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .collect();
    let mut lines: Vec<Vec<String>> = vec![
        std::iter::once(format!(
            "{} ({}, seed {})",
            name(report, "experiment"),
            name(report, "profile"),
            report["seed"]
        ))
        .chain(variants.iter().map(|name| name.to_string()))
        .collect(),
    ];
    for row in rows() {
        let values = variants
            .iter()
            .map(|variant| show(figure(report, variant, &row.key), row.unit));
        lines.push(std::iter::once(row.label.clone()).chain(values).collect());
    }
    align(&lines)
}

fn name(report: &Value, key: &str) -> String {
    report[key].as_str().unwrap_or("?").to_string()
}

/// The first column to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    columns(lines, |c, cell, width| {
        if c == 0 {
            format!("{cell:<width$}")
        } else {
            format!("  {cell:>width$}")
        }
    })
}

/// All columns to the left.
pub fn align_left(lines: &[Vec<String>]) -> String {
    columns(lines, |_, cell, width| format!("{cell:<width$}  "))
}

fn columns(lines: &[Vec<String>], write: impl Fn(usize, &str, usize) -> String) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(c))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let row: String = line
            .iter()
            .enumerate()
            .map(|(c, cell)| write(c, cell, widths[c]))
            .collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_found_wherever_they_are() {
        let report = json!({
            "judge": {"test_accuracy": 0.9},
            "variants": {"a": {
                "ann": {"test_accuracy": 0.8},
                "attacks": [{"attack": "back_conversion", "target": "encrypted", "judge_top1": 0.25}],
                "leakage": [{"target": "converted", "relu_reading_accuracy": 0.5}],
                "energy": {"ratio_rate": null},
            }},
        });
        let of = |key| figure(&report, "a", key);
        assert_eq!(of("ann.test_accuracy"), Some(0.8));
        assert_eq!(of("judge.test_accuracy"), Some(0.9));
        assert_eq!(
            of("attacks.back_conversion.encrypted.judge_top1"),
            Some(0.25)
        );
        assert_eq!(of("attacks.back_conversion.ann.judge_top1"), None);
        assert_eq!(of("leakage.converted.relu_reading_accuracy"), Some(0.5));
        assert_eq!(of("energy.ratio_rate"), None);
        assert_eq!(show(of("ann.test_accuracy"), Unit::Percent), "80.0 %");
        assert_eq!(show(None, Unit::Times), "–");
        assert!(summary_table(&report).contains("80.0 %"));
    }

    #[test]
    fn columns_are_aligned() {
        let lines = [
            vec!["a".to_string(), "1".into()],
            vec!["bb".into(), "–22".into()],
        ];
        assert_eq!(align(&lines), "a     1\nbb  –22\n");
        assert_eq!(align_left(&lines), "a   1\nbb  –22\n");
    }
}
