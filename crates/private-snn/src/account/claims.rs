//! The paper's claims beside what all records say of them: what the README shows.

use std::collections::BTreeMap;

use attack_eval::metrics::likeness::UNSEEN_BELOW;

use super::conclusion::conclusion;
use super::document::Block;
use super::experiment::Account;
use super::outdated;
use super::overall::{Column, claims};
use crate::report::{LOST, Row, Unit, WEIGHT_CHANGE, lost_much, percent, rows, show};

/// What decides about each claim, in words, with the row of the report.
const DECIDING: [(&str, &str); 13] = [
    (
        "lost by the encrypted network against its source",
        "encrypted.drop_vs_ann",
    ),
    ("energy gain by rate", "energy.ratio_rate"),
    ("energy gain by events", "energy.ratio_events"),
    ("energy gain with memory", "energy.ratio_memory"),
    (
        "synthetic images more like a training image than most unseen photographs are, on coarse pixels",
        "synthetic.likeness.pixels.beyond",
    ),
    (
        "the same on the judge's features",
        "synthetic.likeness.features.beyond",
    ),
    (
        "copies of training images so found, half noise, on coarse pixels",
        "synthetic.likeness.pixels.noisy_copies_beyond",
    ),
    (
        "copies so found, mirrored and shifted, on the judge's features",
        "synthetic.likeness.features.copies_beyond",
    ),
    (
        "A1 on the converted network, recognised",
        "attacks.back_conversion.converted.judge_top1",
    ),
    (
        "A1 on the encrypted network, recognised",
        "attacks.back_conversion.encrypted.judge_top1",
    ),
    (
        "A2 on the converted network, recognised",
        "attacks.spike_gradient.converted.judge_top1",
    ),
    (
        "A2 on the encrypted network, recognised",
        "attacks.spike_gradient.encrypted.judge_top1",
    ),
    ("weights moved by the encryption", WEIGHT_CHANGE),
];

/// For each data set of which the paper claims something the lowest and the highest figure of all variants, those aside whose
/// records are older than what their experiments' files say of them; gains in energy of those that lost little. Then what it
/// says, and what it is.
pub fn blocks(columns: &[Column], accounts: &[Account]) -> Vec<Block> {
    let mut datasets: BTreeMap<&str, Vec<(&Account, &String)>> = BTreeMap::new();
    for column in columns.iter().filter(|column| column.is_claimed()) {
        let variants = datasets.entry(column.dataset()).or_default();
        let Some(account) = column.account(accounts) else {
            continue;
        };
        let is_current = |variant: &&String| outdated::parts(columns, account, variant).is_empty();
        let current = account.variants().into_iter().filter(is_current);
        variants.extend(current.map(|variant| (account, variant)));
    }
    let known: BTreeMap<String, Row> = rows()
        .into_iter()
        .map(|row| (row.key.clone(), row))
        .collect();
    let lines = DECIDING.iter().filter_map(|(name, key)| {
        let row = known.get(*key)?;
        let claim = claims(columns, key).unwrap_or_else(|| "–".into());
        let cells = datasets.values().map(|variants| range(variants, row));
        let name = match is_energy(key) {
            true => format!(
                "{name}, of those that lost at most {:.0} points",
                LOST * 100.0
            ),
            false => name.to_string(),
        };
        Some((name, std::iter::once(claim).chain(cells).collect()))
    });
    let named = datasets
        .iter()
        .map(|(dataset, variants)| match variants.len() {
            1 => format!("{dataset}, 1 variant"),
            count => format!("{dataset}, {count} variants"),
        });
    let head = ["", "the paper claims"].map(String::from).into_iter();
    vec![
        Block::Table {
            head: head.chain(named).collect(),
            rows: lines.collect(),
        },
        Block::Text(conclusion(columns, accounts)),
        Block::Text(format!(
            "From the lowest to the highest variant, means over the seeds of each; in brackets how many have the figure, where not \
             all do. A negative loss: more accurate than the source. Weights moved: the relative change of the layer that \
             changed most. Most: {most} of test images, so that of \
             as many new photographs about {rest} would be more like a training image; like is what correlates from afar, mirrored \
             or shifted, with one training image much more than with the next, and how much that sees is what it finds of copies. Energy gain: the source network's energy over \
             the spiking one's, estimated for 45 nm, so that below 1 the spiking network needs more; by rate leaves out the \
             factor T that an inference of T steps has, by events counts every spike, with memory every word moved as well. A1 \
             rebuilds pictures of the classes from the weights read as an ANN, A2 from the running network; recognised: the \
             share of them in which an independent judge sees their class. Each variant, what is measured exactly, how, with \
             which error and under which command: [docs/RESULTS.md](docs/RESULTS.md).",
            most = percent(UNSEEN_BELOW),
            rest = percent(1.0 - UNSEEN_BELOW),
        )),
    ]
}

fn is_energy(key: &str) -> bool {
    key.starts_with("energy.")
}

/// The lowest and the highest mean of a row over some variants.
fn range(variants: &[(&Account, &String)], row: &Row) -> String {
    let lost_little = |account: &Account, variant: &str| {
        let drop = account.mean(variant, "encrypted.drop_vs_ann");
        drop.is_some_and(|drop| !lost_much(drop))
    };
    let means = variants
        .iter()
        .filter(|(account, variant)| !is_energy(&row.key) || lost_little(account, variant))
        .filter(|(account, variant)| !account.unguided(variant, &row.key).are_all())
        .filter_map(|(account, variant)| account.mean(variant, &row.key));
    let means: Vec<f64> = means.collect();
    let least = means.iter().copied().reduce(f64::min);
    let most = means.iter().copied().reduce(f64::max);
    let (Some(least), Some(most)) = (least, most) else {
        return "–".into();
    };
    let partial = match means.len() == variants.len() {
        true => String::new(),
        false => format!(" ({} of {})", means.len(), variants.len()),
    };
    format!("{}{partial}", from_to(least, most, row.unit))
}

/// Two figures, or the one that both are.
pub fn from_to(least: f64, most: f64, unit: Unit) -> String {
    let [least, most] = [least, most].map(|figure| show(Some(figure), unit));
    match least == most {
        true => least,
        false => format!("{least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::overall::tests::claimed;
    use super::*;

    fn record(name: &str, drop: f64, rate: f64, judge: u64) -> Account {
        Account {
            stem: format!("{name}.cpu"),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "modern", "seeds": [1],
            "runs": [{"dataset": "cifar10", "settings": {"judge": judge}}],
            "variants": {"modern": {
                "encrypted.drop_vs_ann": {"mean": drop}, "energy.ratio_rate": {"mean": rate},
            }}}),
        }
    }

    #[test]
    fn the_range_is_of_what_is_current_and_energy_of_what_lost_little() {
        let records = [
            record("a", 0.01, 30.0, 1),
            record("b", 0.25, 180.0, 1),
            record("c", 0.02, 90.0, 1),
            record("d", 0.9, 900.0, 2),
        ];
        let columns = ["a", "b", "c", "d"].map(|name| claimed(name, json!({"judge": 1})));
        let blocks = blocks(&columns, &records);
        let Block::Table { head, rows } = &blocks[0] else {
            panic!("{:?}", blocks[0]);
        };
        assert_eq!(head[1..], ["the paper claims", "cifar10, 3 variants"]);
        assert_eq!(
            rows[0].1,
            ["below about 2 points", "1.0 points to 25.0 points"]
        );
        assert_eq!(
            rows[1].0,
            "energy gain by rate, of those that lost at most 2 points"
        );
        assert_eq!(rows[1].1[1], "30.00x to 90.00x (2 of 3)");
        assert_eq!(rows[3].1, ["–", "–"]);
    }

    #[test]
    fn every_deciding_row_is_one_of_the_report() {
        let rows = rows();
        for (_, key) in DECIDING {
            assert!(rows.iter().any(|row| row.key == key), "{key}");
        }
    }
}
