//! Accuracy against the number of time steps: a table per data set, ours beside published ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::document::Block;
use super::experiment::Account;
use super::published::Published;
use crate::report::{Unit, show_spread, spread};

const NETWORKS: [(&str, &str); 2] = [
    ("converted", "converted without data"),
    ("encrypted", "encrypted"),
];

/// What is lost is told at these numbers of time steps.
const LOST_AT: [u64; 2] = [8, 16];

/// The accuracies of one network: mean and deviation over the seeds.
struct Line {
    name: String,
    source: Option<(f64, Option<f64>)>,
    by_t: BTreeMap<u64, (f64, Option<f64>)>,
    lost: BTreeMap<u64, (f64, Option<f64>)>,
}

/// A heading and a table for each data set that a record of a conversion is about, of all variants; windows that were run
/// on a part of the evaluated images only are left out.
pub fn blocks(accounts: &[Account], published: &[Published]) -> Vec<Block> {
    let mut by_dataset: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    for account in accounts {
        if let Some(dataset) = account.evidence["runs"][0]["dataset"].as_str() {
            by_dataset.entry(dataset).or_default().extend(ours(account));
        }
    }
    let mut blocks = Vec::new();
    for (dataset, mut lines) in by_dataset {
        if lines.is_empty() {
            continue;
        }
        lines.extend(published.iter().flat_map(|work| theirs(work, dataset)));
        blocks.push(Block::Heading(3, dataset.into()));
        blocks.push(table(&lines));
    }
    blocks
}

fn ours(account: &Account) -> Vec<Line> {
    let of = |key: &str| account.evidence[key].as_str().unwrap_or("?");
    let runs = account.evidence["runs"].as_array();
    let runs: Vec<&Value> = runs.into_iter().flatten().collect();
    let mut lines = Vec::new();
    for variant in account.variants() {
        let runs: Vec<&Value> = runs.iter().map(|run| &run["variants"][variant]).collect();
        for (key, label) in NETWORKS {
            let settings = &account.evidence["runs"][0]["settings"]["variants"][variant];
            let delay = match settings["convert"]["readout_delay"].as_u64() {
                None | Some(0) => String::new(),
                Some(delay) => format!(", readout after {delay} steps"),
            };
            let name = format!(
                "{}, {}: {variant}, {label}{delay}",
                of("experiment"),
                of("profile")
            );
            lines.extend(line(&runs, key, name));
        }
    }
    lines
}

/// A line of the figures that all runs have; none if there is no such figure.
fn line(runs: &[&Value], network: &str, name: String) -> Option<Line> {
    let over_runs = |figure: &dyn Fn(&Value) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().map(|run| figure(run)).collect::<Option<_>>()?;
        spread(&values)
    };
    let source = |run: &Value| run["ann_accuracy_on_evaluated_images"].as_f64();
    let windows = runs.first()?[network]["accuracy_by_t"].as_array()?;
    let steps = windows
        .iter()
        .filter_map(|window| window["timesteps"].as_u64());
    let (mut by_t, mut lost) = (BTreeMap::new(), BTreeMap::new());
    for t in steps {
        let at_t = |run: &Value| accuracy(run, network, t);
        by_t.extend(over_runs(&at_t).map(|figure| (t, figure)));
        let lost_at_t = |run: &Value| Some(source(run)? - at_t(run)?);
        lost.extend(over_runs(&lost_at_t).map(|figure| (t, figure)));
    }
    (!by_t.is_empty()).then(|| Line {
        name,
        source: over_runs(&source),
        by_t,
        lost,
    })
}

/// The accuracy after `t` steps, on all evaluated images.
fn accuracy(run: &Value, network: &str, t: u64) -> Option<f64> {
    let windows = run[network]["accuracy_by_t"].as_array()?;
    let window = windows
        .iter()
        .find(|window| window["timesteps"] == t && window["images"] == run["evaluated_images"])?;
    window["accuracy"].as_f64()
}

fn theirs(work: &Published, dataset: &str) -> Vec<Line> {
    let of_dataset = work.networks.iter().filter(|n| n.dataset.name() == dataset);
    of_dataset
        .map(|network| {
            let by_t = network.accuracy.iter().copied();
            let lost = by_t
                .clone()
                .filter_map(|(t, accuracy)| Some((t, (network.source_accuracy? - accuracy, None))));
            let note = work.note.iter().map(|note| format!("; {note}"));
            Line {
                name: format!(
                    "published: {}, {} ({}{})",
                    work.method,
                    network.network,
                    work.source,
                    note.collect::<String>()
                ),
                source: network.source_accuracy.map(|accuracy| (accuracy, None)),
                lost: lost.collect(),
                by_t: by_t.map(|(t, accuracy)| (t, (accuracy, None))).collect(),
            }
        })
        .collect()
}

fn table(lines: &[Line]) -> Block {
    let steps: BTreeSet<u64> = lines.iter().flat_map(|l| l.by_t.keys().copied()).collect();
    let lost: Vec<u64> = LOST_AT.into_iter().filter(|t| steps.contains(t)).collect();
    let mut head = vec![String::new(), "source network".to_string()];
    head.extend(steps.iter().map(|t| format!("T = {t}")));
    head.extend(lost.iter().map(|t| format!("lost at T = {t}")));
    let show = |figure: Option<&(f64, Option<f64>)>, unit: Unit| match figure {
        Some((mean, deviation)) => show_spread(*mean, *deviation, unit),
        None => "–".into(),
    };
    let rows = lines
        .iter()
        .map(|line| {
            let mut cells = vec![show(line.source.as_ref(), Unit::Percent)];
            cells.extend(steps.iter().map(|t| show(line.by_t.get(t), Unit::Percent)));
            cells.extend(lost.iter().map(|t| show(line.lost.get(t), Unit::Points)));
            (line.name.clone(), cells)
        })
        .collect();
    Block::Table { head, rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::published::Network;
    use serde_json::json;

    fn account(second: f64) -> Account {
        let run = |at_8: f64| {
            let windows = json!([
                {"timesteps": 8, "accuracy": at_8, "images": 100},
                {"timesteps": 32, "accuracy": 0.9, "images": 10},
            ]);
            json!({"dataset": "cifar10", "settings": {"variants": {"a": {"convert": {"readout_delay": 5}}}}, "variants": {"a": {
                "evaluated_images": 100,
                "ann_accuracy_on_evaluated_images": 0.95,
                "converted": {"accuracy_by_t": windows},
            }}})
        };
        Account {
            stem: "e.cpu".into(),
            evidence: json!({"experiment": "e", "profile": "cpu", "headline": "a", "variants": {"a": {}},
                             "runs": [run(0.8), run(second)]}),
        }
    }

    #[test]
    fn ours_stand_beside_published_ones() {
        let published = Published {
            source: "They".into(),
            method: "M".into(),
            note: Some("slowly".into()),
            networks: vec![Network {
                dataset: datasets::Kind::Cifar10,
                network: "VGG16".into(),
                source_accuracy: None,
                accuracy: vec![(2, 0.91)],
            }],
        };
        let blocks = blocks(&[account(0.9)], &[published]);
        assert_eq!(blocks[0], Block::Heading(3, "cifar10".into()));
        let Block::Table { head, rows } = &blocks[1] else {
            panic!("a table, got {:?}", blocks[1])
        };
        assert_eq!(
            head[1..],
            ["source network", "T = 2", "T = 8", "lost at T = 8"]
        );
        assert_eq!(
            rows[0].0,
            "e, cpu: a, converted without data, readout after 5 steps"
        );
        assert_eq!(
            rows[0].1,
            ["95.0 ± 0.0 %", "–", "85.0 ± 7.1 %", "10.0 ± 7.1 points"]
        );
        assert_eq!(rows[1].0, "published: M, VGG16 (They; slowly)");
        assert_eq!(rows[1].1, ["–", "91.0 %", "–", "–"]);
        assert_eq!(rows.len(), 2);
    }
}
