//! How much energy is saved by networks that lose little.

use std::collections::BTreeMap;

use super::document::Block;
use super::experiment::Account;
use super::outdated;
use super::overall::Column;
use crate::report::{LOST, Unit, lost_much, show};

/// The conventions with their keys.
const CONVENTIONS: [(&str, &str); 3] = [
    ("by rate", "energy.ratio_rate"),
    ("by events", "energy.ratio_events"),
    ("with memory", "energy.ratio_memory"),
];
/// The parts of an experiment on which neither accuracy nor energy depends.
const APART: [&str; 2] = ["attack", "judge"];

/// An encrypted network's gains by each convention.
struct Gains {
    name: String,
    by: [Option<f64>; CONVENTIONS.len()],
}

impl Gains {
    /// Those of a variant that lost little, and whose record is not older than what its experiment's file says of it.
    fn of(columns: &[Column], account: &Account, variant: &str) -> Option<Self> {
        let drop = account.mean(variant, "encrypted.drop_vs_ann")?;
        let parts = outdated::parts(columns, account, variant);
        let is_current = parts.iter().all(|part| APART.contains(&part.as_str()));
        (is_current && !lost_much(drop)).then(|| Self {
            name: account.name(variant),
            by: CONVENTIONS.map(|(_, key)| account.mean(variant, key)),
        })
    }

    /// The gain by one convention, with those by the others.
    fn words(&self, convention: usize) -> Option<String> {
        let shown = |i: usize| {
            let gain = self.by[i]?;
            Some(format!(
                "{} {}",
                show(Some(gain), Unit::Times),
                CONVENTIONS[i].0
            ))
        };
        let first = shown(convention)?;
        let others = (0..CONVENTIONS.len()).filter(|&i| i != convention);
        let others: Vec<String> = others.filter_map(shown).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; there {}", others.join(", ")),
        };
        Some(format!("{first} ({}{others})", self.name))
    }
}

/// For each data set the encrypted network of the highest gain by rate among those that lost at most 2 points, and that of the
/// highest by events. Nothing where none lost so little.
pub fn highest(columns: &[Column], accounts: &[Account]) -> Option<Block> {
    let mut by_dataset: BTreeMap<&str, Vec<Gains>> = BTreeMap::new();
    for account in accounts {
        let Some(dataset) = account.evidence["runs"][0]["dataset"].as_str() else {
            continue;
        };
        for variant in account.variants() {
            let gains = Gains::of(columns, account, variant);
            by_dataset.entry(dataset).or_default().extend(gains);
        }
    }
    let words: Vec<String> = by_dataset
        .into_iter()
        .filter_map(|(dataset, all)| {
            let best = |convention: usize| {
                let of = |gains: &&Gains| gains.by[convention].unwrap_or(f64::NEG_INFINITY);
                let best = all.iter().max_by(|a, b| of(a).total_cmp(&of(b)))?;
                best.words(convention)
            };
            let best: Vec<String> = [0, 1].into_iter().filter_map(best).collect();
            (!best.is_empty()).then(|| format!("{dataset}: {}", best.join(", ")))
        })
        .collect();
    (!words.is_empty()).then(|| {
        Block::Text(format!(
            "Of the encrypted networks that lost at most {:.0} points against their source networks those of the highest energy \
             gain by rate and by events. {}.",
            LOST * 100.0,
            words.join("; ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::overall::tests::column;
    use super::*;

    fn account(name: &str, lost: f64, rate: f64, events: Option<f64>) -> Account {
        Account {
            stem: format!("{name}.cpu"),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "a", "runs": [{"dataset": "cifar10"}],
                "variants": {"a": {"encrypted.drop_vs_ann": {"mean": lost}, "energy.ratio_rate": {"mean": rate},
                                   "energy.ratio_events": {"mean": events}}}}),
        }
    }

    #[test]
    fn a_gain_counts_where_little_is_lost() {
        let accounts = [
            // exactly 2 points
            account("x", 0.798 - 0.778, 20.0, Some(2.0)),
            account("y", 0.001, 96.0, None),
            account("z", 0.021, 180.0, Some(3.0)),
        ];
        let Some(Block::Text(text)) = highest(&[], &accounts) else {
            panic!("a text");
        };
        assert!(
            text.ends_with(
                "cifar10: 96.00x by rate (y, cpu: a), 2.00x by events (x, cpu: a; there 20.00x by rate)."
            ),
            "{text}"
        );
        assert!(highest(&[], &accounts[2..]).is_none());
    }

    #[test]
    fn a_record_older_than_its_file_counts_if_only_the_attack_is_another() {
        let with = |part: &str| {
            let settings = json!({"variants": {"a": {part: {"epochs": 4}}}});
            let mut account = account("x", 0.0, 20.0, None);
            account.evidence["runs"][0]["settings"] = settings;
            let now = json!({"variants": {"a": {part: {"epochs": 5}}}});
            highest(&[column("x", now)], &[account])
        };
        assert!(with("attack").is_some() && with("encrypt").is_none());
    }
}
