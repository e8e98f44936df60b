//! How much energy is saved by networks that lose little.

use std::collections::BTreeMap;

use super::document::Block;
use super::experiment::Account;
use crate::report::{LOST, Unit, show};

/// The conventions with their keys.
const CONVENTIONS: [(&str, &str); 3] = [
    ("by rate", "energy.ratio_rate"),
    ("by events", "energy.ratio_events"),
    ("with memory", "energy.ratio_memory"),
];

/// For each data set the highest gain by each convention of an encrypted network that lost at most 2 points, with the
/// experiment that has it. Nothing where none did.
pub fn highest(accounts: &[Account]) -> Option<Block> {
    let mut best: BTreeMap<&str, [Option<(f64, String)>; 3]> = BTreeMap::new();
    for account in accounts {
        let dataset = account.evidence["runs"][0]["dataset"].as_str();
        for variant in account.variants() {
            let of = |key: &str| account.evidence["variants"][variant][key]["mean"].as_f64();
            let lost = of("encrypted.drop_vs_ann").filter(|&lost| lost <= LOST);
            let (Some(dataset), Some(_)) = (dataset, lost) else {
                continue;
            };
            let best = best.entry(dataset).or_default();
            for (best, (_, key)) in best.iter_mut().zip(CONVENTIONS) {
                let Some(gain) = of(key) else { continue };
                if best.as_ref().is_none_or(|(highest, _)| gain > *highest) {
                    *best = Some((gain, format!("{}: {variant}", account.title())));
                }
            }
        }
    }
    let words: Vec<String> = best
        .into_iter()
        .filter_map(|(dataset, best)| {
            let gains = best.into_iter().zip(CONVENTIONS);
            let gains: Vec<String> = gains
                .filter_map(|(best, (convention, _))| {
                    let (gain, name) = best?;
                    Some(format!(
                        "{} {convention} ({name})",
                        show(Some(gain), Unit::Times)
                    ))
                })
                .collect();
            (!gains.is_empty()).then(|| format!("{dataset}: {}", gains.join(", ")))
        })
        .collect();
    (!words.is_empty()).then(|| {
        Block::Text(format!(
            "The highest energy gain of an encrypted network that lost at most {:.0} points against its source. {}.",
            LOST * 100.0,
            words.join("; ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account(name: &str, lost: f64, rate: f64, events: Option<f64>) -> Account {
        Account {
            stem: name.into(),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "a", "runs": [{"dataset": "cifar10"}],
                "variants": {"a": {"encrypted.drop_vs_ann": {"mean": lost}, "energy.ratio_rate": {"mean": rate},
                                   "energy.ratio_events": {"mean": events}}}}),
        }
    }

    #[test]
    fn a_gain_counts_where_little_is_lost() {
        let accounts = [
            account("x", 0.02, 20.0, Some(2.0)),
            account("y", 0.001, 96.0, None),
            account("z", 0.021, 180.0, Some(3.0)),
        ];
        let Some(Block::Text(text)) = highest(&accounts) else {
            panic!("a text");
        };
        assert!(
            text.ends_with("cifar10: 96.00x by rate (y, cpu: a), 2.00x by events (x, cpu: a)."),
            "{text}"
        );
        assert!(highest(&accounts[2..]).is_none());
    }
}
