//! How long the stages of every record took.

use serde_json::Value;

use super::document::Block;
use super::experiment::Account;
use crate::report::spread;

/// Heads of the columns with the beginnings of the names of the stages that they sum up.
const COLUMNS: [(&str, &[&str]); 8] = [
    ("source network", &["train"]),
    ("synthesis", &["synth"]),
    ("conversion", &["convert"]),
    ("encryption", &["encrypt"]),
    (
        "the three data-free stages",
        &["synth", "convert", "encrypt"],
    ),
    ("controls with real data", &["convert-real", "fine-tune"]),
    ("evaluation and readings", &["evaluate", "leakage"]),
    ("attacks", &["attack-"]),
];

/// Whether a stage is one of those that are meant: by its whole name, or by its beginning where that ends in a dash.
fn is_of(stage: &str, meant: &[&str]) -> bool {
    meant
        .iter()
        .any(|name| stage == *name || (name.ends_with('-') && stage.starts_with(name)))
}

/// What the columns are, and the table of all variants in minutes: means over the seeds. Nothing without a record.
pub fn blocks(accounts: &[Account]) -> Vec<Block> {
    let mut rows = Vec::new();
    for account in accounts {
        for variant in account.variants() {
            rows.extend(line(account, variant));
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let mut head = vec![String::new(), "on".to_string()];
    head.extend(COLUMNS.map(|(head, _)| head.to_string()));
    head.push("all".into());
    vec![
        Block::Text(
            "Minutes of each stage by the clock, the judge's training left out; whether other work ran beside it is not \
             recorded. Where two numbers of threads stand, some stages ran on the one and some on the other."
                .into(),
        ),
        Block::Table { head, rows },
    ]
}

fn line(account: &Account, variant: &str) -> Option<(String, Vec<String>)> {
    let runs = account.evidence["runs"].as_array()?;
    let minutes = |stages: &dyn Fn(&str) -> bool| {
        let of_run = |run: &Value| {
            let seconds = run["variants"][variant]["stage_seconds"].as_object()?;
            let meant = seconds.iter().filter(|(stage, _)| stages(stage));
            meant.map(|(_, seconds)| seconds.as_f64()).sum()
        };
        let values: Option<Vec<f64>> = runs.iter().map(of_run).collect();
        Some(spread(&values?)?.0 / 60.0)
    };
    let all = minutes(&|_| true)?;
    let shown =
        |minutes: Option<f64>| minutes.map_or("–".into(), |minutes| format!("{minutes:.1}"));
    let run = &runs[0];
    let device = run["device"].as_str().unwrap_or("?");
    let on = match (device, run["provenance"]["threads"].as_str()) {
        ("cpu", Some("1")) => "1 CPU thread".to_string(),
        ("cpu", Some(threads)) => format!("{threads} CPU threads"),
        _ => device.to_string(),
    };
    let mut cells = vec![on];
    cells.extend(COLUMNS.map(|(_, meant)| shown(minutes(&|stage| is_of(stage, meant)))));
    cells.push(shown(Some(all)));
    Some((account.name(variant), cells))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stages_are_summed_up_in_minutes_over_the_seeds() {
        let run = |train: f64| {
            json!({"device": "cpu", "provenance": {"threads": "2"}, "variants": {"a": {"stage_seconds": {
                "train": train, "synth": 60.0, "convert": 6.0, "convert-real": 30.0, "encrypt": 120.0, "fine-tune": 30.0,
                "evaluate": 12.0, "attack-back_conversion-ann": 30.0, "attack-spike_gradient-encrypted": 30.0}}}})
        };
        let account = Account {
            stem: "e.cpu".into(),
            evidence: json!({"experiment": "e", "profile": "cpu", "headline": "a", "variants": {"a": {}},
                             "runs": [run(600.0), run(1200.0)]}),
        };
        let blocks = blocks(&[account]);
        let Block::Table { head, rows } = &blocks[1] else {
            panic!("a table, got {:?}", blocks[1])
        };
        assert_eq!(head.len(), rows[0].1.len() + 1);
        assert_eq!(rows[0].0, "e, cpu: a");
        assert_eq!(
            rows[0].1,
            [
                "2 CPU threads",
                "15.0",
                "1.0",
                "0.1",
                "2.0",
                "3.1",
                "1.0",
                "0.2",
                "1.0",
                "20.3"
            ]
        );
        let without = Account {
            stem: "e.cpu".into(),
            evidence: json!({"headline": "a", "variants": {"a": {}}, "runs": [{}]}),
        };
        assert!(super::blocks(&[without]).is_empty());
    }
}
