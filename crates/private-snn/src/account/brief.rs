//! What the README says of all records: a line of few figures for each variant, and where the encryption fails.

use std::collections::BTreeMap;

use snn_core::energy::{AC_PICOJOULE, MAC_PICOJOULE, WORD_PICOJOULE};

use super::document::Block;
use super::experiment::Account;
use super::gains;
use super::overall::{Column, claims};
use crate::report::{Failure, Row, criterion, rows};

/// What the energy figures are.
pub fn energy() -> String {
    format!(
        "Energy gain: the energy of the source network over that of the spiking one, estimated for 45 nm ({MAC_PICOJOULE} pJ \
         for a multiply-accumulate, {AC_PICOJOULE} pJ for an accumulate); below 1 the spiking network needs more. By events: \
         every spike of all T steps counts. With memory: the same, and {WORD_PICOJOULE} pJ for each 32-bit word that either \
         network moves to or from memory. By rate: multiply-accumulates times the mean firing rate of one step, which leaves out \
         the factor T that an inference of T steps has."
    )
}

/// Heads of the columns with the rows of the report that they show: the best of them by mean.
const COLUMNS: [(&str, &[&str]); 13] = [
    ("source network", &["ann.test_accuracy"]),
    ("converted without data", &["converted.test_accuracy"]),
    ("encrypted", &["encrypted.test_accuracy"]),
    ("lost against the source", &["encrypted.drop_vs_ann"]),
    ("energy gain by events", &["energy.ratio_events"]),
    ("with memory", &["energy.ratio_memory"]),
    ("by rate", &["energy.ratio_rate"]),
    (
        "encrypted weights read as an ANN",
        &[
            "leakage.encrypted.relu_reading_accuracy",
            "leakage.encrypted.rate_reading_accuracy",
        ],
    ),
    ("judge", &["judge.test_accuracy"]),
    (
        "A1 on the converted",
        &["attacks.back_conversion.converted.judge_top1"],
    ),
    (
        "A1 on the encrypted",
        &["attacks.back_conversion.encrypted.judge_top1"],
    ),
    (
        "A2 on the converted",
        &["attacks.spike_gradient.converted.judge_top1"],
    ),
    (
        "A2 on the encrypted",
        &["attacks.spike_gradient.encrypted.judge_top1"],
    ),
];

/// How many variants are named one by one.
const NAMED: usize = 6;

/// What the columns are, where `pictures` are rebuilt of a network, a paragraph for each subject.
fn legend(pictures: &str) -> [String; 4] {
    [
        "Accuracies are on test images, those of spiking networks after T time steps. Points lost: against the source network \
         on the same images, of which some experiments take fewer; negative: more accurate. Weights read as an ANN: the better \
         of two readings, of ReLUs and of rates; source networks of clipped activations are no networks of ReLUs, and for them \
         that of rates is the one that tells."
            .into(),
        energy(),
        format!(
            "A1 raises a class score of the weights so read, A2 of the running network, through its spikes or their rates as the \
             experiment's file says: share of the pictures so rebuilt, \
             {pictures} of a network, in which an independent judge recognises their class; judge: its accuracy on real test \
             images. The two attacks differ in pictures and iterations: each is to be compared across networks, not with the \
             other. The standard error of a share of 100 pictures is up to 5 points. {}",
            criterion()
        ),
        "Variant paper is the paper's recipe, with constants of ours where it states none; in profile cpu its network, images \
         and trainings are much smaller, and so are those of the other variants. A gain in energy is worth what is lost for \
         it: accuracy against energy with the paper's recipe is in [docs/RESULTS.md](docs/RESULTS.md), sweep \
         cifar10-paper-thresholds. Weights and thresholds of the data-free networks are derived from the source network \
         without an image of the data set; the settings of the experiments were chosen on its validation images, some on \
         training images, those of the attacks by what the judge recognises, as their files say."
            .into(),
    ]
}

/// How many pictures an attack rebuilds of a network, from the fewest to the most.
fn pictures(accounts: &[Account]) -> String {
    let runs = accounts
        .iter()
        .filter_map(|account| account.evidence["runs"][0]["variants"].as_object());
    let attacks = runs
        .flat_map(|variants| variants.values())
        .filter_map(|variant| variant["attacks"].as_array());
    let samples: Vec<u64> = attacks
        .flatten()
        .filter_map(|attack| attack["samples"].as_u64())
        .collect();
    match (samples.iter().min(), samples.iter().max()) {
        (Some(fewest), Some(most)) if fewest < most => format!("{fewest} to {most}"),
        (Some(all), _) => all.to_string(),
        _ => "some".into(),
    }
}

/// The table, what it says, and what its columns are. Variants without a record are not in it.
pub fn blocks(columns: &[Column], accounts: &[Account]) -> Vec<Block> {
    let mut blocks = vec![table(columns, accounts), Block::Text(conclusion(accounts))];
    blocks.extend(gains::highest(accounts));
    blocks.extend(legend(&pictures(accounts)).map(Block::Text));
    blocks.extend(partial(accounts));
    blocks.push(Block::Text(format!("Seeds: {}.", seeds(accounts))));
    blocks
}

fn table(columns: &[Column], accounts: &[Account]) -> Block {
    let known: BTreeMap<String, Row> = rows()
        .into_iter()
        .map(|row| (row.key.clone(), row))
        .collect();
    let mut lines = Vec::new();
    for account in accounts {
        for variant in account.variants() {
            let cells = COLUMNS.map(|(_, keys)| cell(account, variant, keys, &known));
            lines.push((name(account, variant), cells.to_vec()));
        }
    }
    let claimed = COLUMNS.map(|(_, keys)| {
        let claims = keys.iter().find_map(|key| claims(columns, key));
        claims.unwrap_or_else(|| "–".into())
    });
    lines.push(("the paper claims".into(), claimed.to_vec()));
    let head = std::iter::once("").chain(COLUMNS.map(|(head, _)| head));
    Block::Table {
        head: head.map(String::from).collect(),
        rows: lines,
    }
}

/// Numbers of seeds with their experiments.
fn seeds(accounts: &[Account]) -> String {
    let mut by_number: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for account in accounts {
        let names = by_number.entry(account.seeds()).or_default();
        names.push(account.title());
    }
    let words = by_number
        .into_iter()
        .map(|(number, names)| format!("{number} ({})", names.join("; ")));
    words.collect::<Vec<String>>().join(", ")
}

/// Which records were made where a part of the data set was at hand.
fn partial(accounts: &[Account]) -> Option<Block> {
    let partial = accounts.iter().filter(|account| account.is_partial());
    let names: Vec<String> = partial.map(Account::title).collect();
    (!names.is_empty()).then(|| {
        Block::Text(format!(
            "Made where only a part of the data set was at hand, so that their accuracies are low and stand beside no published \
             ones: {}.",
            names.join("; ")
        ))
    })
}

/// In which way the encryption fails on which variants, and on which no failure is seen.
fn conclusion(accounts: &[Account]) -> String {
    let mut failures: BTreeMap<Failure, Vec<String>> = BTreeMap::new();
    let mut others = Vec::new();
    for account in accounts {
        let verdicts = account.verdicts();
        for variant in account.variants() {
            let failure = verdicts.iter().find(|(failed, _)| *failed == variant);
            let names = match failure {
                Some((_, verdict)) => failures.entry(verdict.failure).or_default(),
                None => &mut others,
            };
            names.push(name(account, variant));
        }
    }
    let failures = failures
        .into_iter()
        .map(|(failure, names)| (failure.words(), names));
    let none = (!others.is_empty()).then_some(("no failure of it is seen", others));
    let mut said: Vec<(&str, Vec<String>)> = failures.chain(none).collect();
    // many names say less than those that are not among them
    said.sort_by_key(|(_, names)| names.len() > NAMED);
    let all: usize = said.iter().map(|(_, names)| names.len()).sum();
    let last = said.len().saturating_sub(1);
    let said = said.iter().enumerate().map(|(i, (words, names))| {
        let of = match names.len() {
            count if count == all && count > NAMED => format!("all {count} variants"),
            count if i == last && count > NAMED => format!("the {count} others"),
            _ => names.join("; "),
        };
        format!("{words} ({of})")
    });
    let said: Vec<String> = said.collect();
    format!("**What this says of the method:** {}.", said.join("; "))
}

fn name(account: &Account, variant: &str) -> String {
    format!("{}: {variant}", account.title())
}

/// The best of some rows, those of spiking networks with their T.
fn cell(account: &Account, variant: &str, keys: &[&str], rows: &BTreeMap<String, Row>) -> String {
    let mean = |key: &str| account.evidence["variants"][variant][key]["mean"].as_f64();
    let best = keys
        .iter()
        .filter_map(|key| Some((*key, mean(key)?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    let figure = best.and_then(|(key, _)| {
        let figure = account.cell(variant, rows.get(key)?)?;
        let timesteps = key
            .strip_suffix(".test_accuracy")
            .and_then(|network| mean(&format!("{network}.timesteps")));
        Some(match timesteps {
            Some(timesteps) => format!("{figure} at T = {timesteps}"),
            None => figure,
        })
    });
    figure.unwrap_or_else(|| "–".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_better_reading_is_shown_and_failures_are_sorted_by_their_kind() {
        let record = |name: &str, reading: f64, after: f64| Account {
            stem: name.into(),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "modern", "seeds": [1],
            "variants": {"modern": {
                "encrypted.test_accuracy": {"mean": 0.9}, "encrypted.timesteps": {"mean": 16.0},
                "leakage.encrypted.relu_reading_accuracy": {"mean": 0.6},
                "leakage.encrypted.rate_reading_accuracy": {"mean": reading},
                "attacks.back_conversion.converted.judge_top1": {"mean": 0.8},
                "attacks.back_conversion.encrypted.judge_top1": {"mean": after},
            }}}),
        };
        // the reading fails in the first two, A1 in the first and the third, nothing in the last
        let records = [
            record("a", 0.89, 0.8),
            record("b", 0.88, 0.2),
            record("c", 0.3, 0.75),
            record("d", 0.3, 0.1),
        ];
        let blocks = blocks(&[], &records);
        let Block::Table { rows, .. } = &blocks[0] else {
            panic!("{:?}", blocks[0]);
        };
        let shown: Vec<&str> = rows.iter().map(|(_, cells)| cells[7].as_str()).collect();
        assert_eq!(shown, ["89.0 %", "88.0 %", "60.0 %", "60.0 %", "–"]);
        assert_eq!(rows[0].1[2], "90.0 % at T = 16");
        assert!(!format!("{blocks:?}").contains("a part of the data set was"));
        let said = format!("{:?}", blocks[1]);
        assert!(said.contains("can see (a, cpu: modern);"), "{said}");
        assert!(
            said.contains("can see (b, cpu: modern; c, cpu: modern);"),
            "{said}"
        );
        assert!(said.contains("is seen (d, cpu: modern)."), "{said}");
        let many = ["e", "f", "g", "h", "i", "j", "k"].map(|name| record(name, 0.89, 0.8));
        let said = conclusion(&many);
        assert!(said.ends_with("can see (all 7 variants)."), "{said}");
        let one = [many.as_slice(), &records[3..]].concat();
        let said = conclusion(&one);
        assert!(
            said.contains("is seen (d, cpu: modern);") && said.ends_with("can see (the 7 others)."),
            "{said}"
        );
    }

    #[test]
    fn every_column_shows_rows_that_there_are() {
        let rows = rows();
        for key in COLUMNS.iter().flat_map(|(_, keys)| *keys) {
            assert!(rows.iter().any(|row| row.key == *key), "{key}");
        }
    }
}
