//! The lines of the table of results, the same in the terminal, the page and the README.

use datasets::Kind;
use serde::{Deserialize, Serialize};
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
    /// A whole number.
    Count,
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
    ("spike_gradient", "A2 (on the running network)"),
];
const TARGETS: [(&str, &str); 3] = [
    ("ann", "source network"),
    ("converted", "converted network"),
    ("encrypted", "encrypted network"),
];

/// Number of test images that the spiking networks are evaluated on.
const EVALUATED_IMAGES: &str = "evaluated_images";
/// The source network's accuracy on them.
const ON_EVALUATED_IMAGES: &str = "ann_accuracy_on_evaluated_images";

/// How far the encryption moved the weights.
pub const WEIGHT_CHANGE: &str = "leakage.encrypted.largest_weight_change";

/// A target of attacks, in words.
pub fn target_name(target: &str) -> &str {
    match target {
        "ann" => "source network",
        other => other,
    }
}

/// All lines, in order.
pub fn rows() -> Vec<Row> {
    use Unit::{Count, Percent, Points, Times};
    let mut rows = vec![
        row(
            "ann.test_accuracy",
            "Source network, accuracy on all test images",
            Percent,
        ),
        row(
            "ann.worst_class_accuracy",
            "Source network, worst class",
            Percent,
        ),
        row(
            EVALUATED_IMAGES,
            "Test images that the spiking networks are evaluated on",
            Count,
        ),
        row(
            ON_EVALUATED_IMAGES,
            "Source network, accuracy on these",
            Percent,
        ),
        row(
            "synthetic.judge_agreement",
            "Synthetic images: judge agrees with the source network",
            Percent,
        ),
        row(
            "synthetic.likeness.features.beyond",
            "Synthetic images: share more like a training image than most unseen real images are, on the judge's features",
            Percent,
        ),
        row(
            "synthetic.likeness.features.copies_beyond",
            "The same of training images themselves, mirrored and shifted (sensitivity)",
            Percent,
        ),
        row(
            "synthetic.likeness.features.noisy_copies_beyond",
            "The same of training images that are half noise (sensitivity)",
            Percent,
        ),
        row(
            "synthetic.likeness.pixels.beyond",
            "Synthetic images, the same on coarse pixels",
            Percent,
        ),
        row(
            "synthetic.likeness.pixels.copies_beyond",
            "On coarse pixels, of training images themselves, mirrored and shifted (sensitivity)",
            Percent,
        ),
        row(
            "synthetic.likeness.pixels.noisy_copies_beyond",
            "On coarse pixels, of training images that are half noise (sensitivity)",
            Percent,
        ),
        row(
            "converted.timesteps",
            "Converted networks: time steps T",
            Count,
        ),
        row(
            "converted.test_accuracy",
            "Converted without data, test accuracy at this T",
            Percent,
        ),
        row(
            "converted_with_real_data.test_accuracy",
            "Converted with real data (control), test accuracy at this T",
            Percent,
        ),
        row(
            "encrypted.timesteps",
            "Encrypted network: time steps T",
            Count,
        ),
        row(
            "encrypted.test_accuracy",
            "Encrypted network, test accuracy at this T",
            Percent,
        ),
        row(
            "encrypted.drop_vs_ann",
            "Encrypted network: drop against the source network, same images",
            Points,
        ),
        row(
            "fine_tuned.test_accuracy",
            "Reference: the control trained on as the encrypted network is, with as many real images and their labels in place of the synthetic ones and their targets, test accuracy at this T",
            Percent,
        ),
        row(
            "energy.ratio_events",
            "Encrypted network: energy gain by events (every spike of all T steps)",
            Times,
        ),
        row(
            "energy.ratio_rate",
            "Encrypted network: energy gain by rate (mean firing rate of a step, without a factor T)",
            Times,
        ),
        row(
            "energy.ratio_memory",
            "Encrypted network: energy gain with memory (by events, and every word moved)",
            Times,
        ),
        row(
            "judge.test_accuracy",
            "Judge, accuracy on all test images",
            Percent,
        ),
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
            format!("ReLU reading of the {label}, accuracy on all test images"),
            Percent,
        ));
        let key = format!("leakage.{target}.rate_reading_accuracy");
        rows.push(row(
            &key,
            format!("Rate reading of the {label} (clipped at its thresholds), accuracy on all test images"),
            Percent,
        ));
    }
    rows.push(row(
        WEIGHT_CHANGE,
        "Encryption: relative change of a layer's weights, the largest of the layers",
        Percent,
    ));
    for (target, label) in TARGETS {
        let key = format!("attacks.back_conversion.{target}.fid");
        rows.push(row(
            &key,
            format!(
                "A1 on the {label}: Fréchet distance on the judge's features (real images … noise)"
            ),
            Unit::Number,
        ));
    }
    rows
}

/// The lines of the table of `report`. The source network's accuracy on the evaluated images has one only where these
/// are not all test images.
pub fn rows_of(report: &Value) -> Vec<Row> {
    let variants = || {
        let variants = report["variants"].as_object();
        variants.into_iter().flat_map(|map| map.keys())
    };
    rows()
        .into_iter()
        .filter(|row| {
            row.key != ON_EVALUATED_IMAGES
                || variants().any(|variant| figure(report, variant, &row.key).is_some())
        })
        .collect()
}

/// The figure at `key` of a report: of variant `variant`, or of the report itself for the judge, whom variants share.
pub fn figure(report: &Value, variant: &str, key: &str) -> Option<f64> {
    let parts: Vec<&str> = key.split('.').collect();
    let scope = &report["variants"][variant];
    match parts.as_slice() {
        [ON_EVALUATED_IMAGES] if scope[EVALUATED_IMAGES] == report["test_images"] => None,
        [field] => scope[*field].as_f64(),
        ["attacks", attack, target, field] => {
            let entry = scope["attacks"]
                .as_array()?
                .iter()
                .find(|e| e["attack"] == *attack && e["target"] == *target)?;
            entry[*field].as_f64()
        }
        ["leakage", target, field] => {
            let mut entries = scope["leakage"].as_array()?.iter();
            let entry = entries.find(|entry| entry["target"] == *target)?;
            if key == WEIGHT_CHANGE {
                let layers = entry["weight_change_by_layer"].as_array()?.iter();
                let changes = layers.filter_map(|layer| layer["relative"].as_f64());
                return changes.reduce(f64::max);
            }
            entry[*field].as_f64()
        }
        ["synthetic", "likeness", space, field] => {
            scope["synthetic"]["likeness"][*space][*field].as_f64()
        }
        ["judge", field] => report["judge"][*field].as_f64(),
        [group, field] => scope[*group][*field].as_f64(),
        _ => None,
    }
}

/// Of an attack's pictures those that had no gradient to follow in most iterations: what is measured of them is little more than
/// measured of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unguided {
    /// How many they are.
    pub pictures: u64,
    /// Of how many.
    pub of: u64,
}

impl std::iter::Sum for Unguided {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self { pictures: 0, of: 0 }, |sum, one| Self {
            pictures: sum.pictures + one.pictures,
            of: sum.of + one.of,
        })
    }
}

impl Unguided {
    /// Whether that is every one.
    pub fn are_all(self) -> bool {
        self.pictures == self.of && self.of > 0
    }

    /// Whether they are so few, a tenth at most, that the attack is one.
    pub fn has_a_say(self) -> bool {
        self.pictures * 10 <= self.of
    }

    /// What a table shows for `figure`: it and how many of the pictures are noise, or if all are, that alone.
    pub fn shown(self, figure: String) -> String {
        match self {
            Self { pictures: 0, .. } => figure,
            all if all.are_all() => "no gradient".into(),
            Self { pictures, of } => format!("{figure} ({pictures} of {of} without a gradient)"),
        }
    }
}

/// Those of the attack `key` of a row. Records that do not count them tell only where the attacked network scores every class
/// alike in all pictures.
pub fn unguided(report: &Value, variant: &str, key: &str) -> Unguided {
    let found = || {
        let parts: Vec<&str> = key.split('.').collect();
        let ["attacks", attack, target, _] = parts.as_slice() else {
            return None;
        };
        let mut entries = report["variants"][variant]["attacks"].as_array()?.iter();
        let entry =
            entries.find(|entry| entry["attack"] == *attack && entry["target"] == *target)?;
        let of = entry["samples"].as_u64()?;
        let alike = || {
            let confidence = entry["target_confidence"].as_f64()?;
            Some((confidence * classes(report)? as f64 - 1.0).abs() < 1e-6)
        };
        let pictures = match entry["without_gradient"].as_u64() {
            Some(counted) => counted,
            None if alike()? => of,
            None => 0,
        };
        Some(Unguided { pictures, of })
    };
    found().unwrap_or(Unguided { pictures: 0, of: 0 })
}

fn classes(report: &Value) -> Option<usize> {
    let dataset: Kind = report["dataset"].as_str()?.parse().ok()?;
    Some(dataset.classes())
}

/// What a table shows of a row.
pub fn cell(report: &Value, variant: &str, row: &Row) -> String {
    let figure = show(figure(report, variant, &row.key), row.unit);
    unguided(report, variant, &row.key).shown(figure)
}

/// A share in whole percents.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
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
        Unit::Count => format!("{value:.0}"),
    }
}

/// Mean and deviation in their unit.
pub fn show_spread(mean: f64, deviation: Option<f64>, unit: Unit) -> String {
    let (factor, digits, suffix) = match unit {
        Unit::Percent => (100.0, 1, " %"),
        Unit::Points => (100.0, 1, " points"),
        Unit::Times => (1.0, 2, "x"),
        Unit::Number => (1.0, 2, ""),
        Unit::Count => (1.0, 0, ""),
    };
    // a count that is the same in all runs needs no deviation
    match deviation.filter(|&deviation| unit != Unit::Count || deviation > 0.0) {
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
    for row in rows_of(report) {
        let values = variants.iter().map(|variant| cell(report, variant, &row));
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
    fn an_attack_without_a_gradient_has_no_figure() {
        let report = |confidence: f64, counted: Option<u64>| {
            let mut attack = json!({"attack": "spike_gradient", "target": "encrypted", "samples": 40,
                "judge_top1": 0.1, "target_confidence": confidence});
            if let Some(counted) = counted {
                attack["without_gradient"] = json!(counted);
            }
            json!({"dataset": "cifar10", "variants": {"a": {"attacks": [attack]}}})
        };
        let rows = rows();
        let row = rows
            .iter()
            .find(|row| row.key == "attacks.spike_gradient.encrypted.judge_top1")
            .unwrap();
        // a tenth as f32 has it
        assert_eq!(cell(&report(0.1_f32.into(), None), "a", row), "no gradient");
        assert_eq!(cell(&report(0.101, None), "a", row), "10.0 %");
        assert_eq!(cell(&report(0.101, Some(40)), "a", row), "no gradient");
        assert_eq!(
            cell(&report(0.3, Some(10)), "a", row),
            "10.0 % (10 of 40 without a gradient)"
        );
        assert_eq!(cell(&report(0.1_f32.into(), Some(0)), "a", row), "10.0 %");
        assert_eq!(cell(&json!({}), "a", row), "–");
    }

    #[test]
    fn a_variant_does_not_borrow_the_headline_s_figures() {
        let report = json!({
            "judge": {"test_accuracy": 0.9},
            "energy": {"ratio_rate": 6.0},
            "variants": {"a": {"energy": {"ratio_rate": 6.0}}, "b": {"energy": {"ratio_rate": null}}},
        });
        assert_eq!(figure(&report, "a", "energy.ratio_rate"), Some(6.0));
        assert_eq!(figure(&report, "b", "energy.ratio_rate"), None);
        assert_eq!(figure(&report, "b", "judge.test_accuracy"), Some(0.9));
    }

    #[test]
    fn the_source_on_fewer_images_has_a_line_of_its_own() {
        let report = |test_images: usize| {
            json!({"test_images": test_images, "variants": {"a": {
                "evaluated_images": 500, "ann_accuracy_on_evaluated_images": 0.75,
                "encrypted": {"timesteps": 16}}}})
        };
        let has_line = |report: Value| {
            rows_of(&report)
                .iter()
                .any(|row| row.key == ON_EVALUATED_IMAGES)
        };
        assert!(has_line(report(2000)) && !has_line(report(500)));
        assert_eq!(figure(&report(2000), "a", ON_EVALUATED_IMAGES), Some(0.75));
        assert_eq!(figure(&report(500), "a", ON_EVALUATED_IMAGES), None);
        assert_eq!(figure(&report(500), "a", EVALUATED_IMAGES), Some(500.0));
        assert_eq!(figure(&report(500), "a", "encrypted.timesteps"), Some(16.0));
        assert_eq!(show(Some(16.0), Unit::Count), "16");
        assert_eq!(show_spread(16.0, Some(0.0), Unit::Count), "16");
        assert_eq!(show_spread(16.4, Some(0.6), Unit::Count), "16 ± 1");
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
