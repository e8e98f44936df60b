//! The overview of all records: a line of few figures for each variant.

use std::collections::BTreeMap;

use attack_eval::metrics::likeness::{NEIGHBOURS, UNSEEN_BELOW};
use snn_core::energy::{AC_PICOJOULE, MAC_PICOJOULE, WORD_PICOJOULE};

use super::conclusion::conclusion;
use super::document::Block;
use super::experiment::Account;
use super::gains;
use super::overall::{Column, claims};
use crate::report::{Row, WEIGHT_CHANGE, criterion, percent, rows};

/// What the energy figures are.
fn energy() -> String {
    format!(
        "Energy gain: the energy of the source network over that of the spiking one, estimated for 45 nm ({MAC_PICOJOULE} pJ \
         for a multiply-accumulate, {AC_PICOJOULE} pJ for an accumulate); below 1 the spiking network needs more. By events: \
         every spike of all T steps counts. With memory: the same, and {WORD_PICOJOULE} pJ for each 32-bit word that either \
         network moves to or from memory. By rate: multiply-accumulates times the mean firing rate of one step, which leaves out \
         the factor T that an inference of T steps has. A first layer that takes pixels, not spikes, counts in full; biases and \
         the arithmetic of the membranes are not counted."
    )
}

/// What a column shows of a variant.
enum Shown {
    /// The row of the highest mean.
    Best(&'static [&'static str]),
    /// Every row.
    Each(&'static [&'static str]),
    /// What the encryption changes: a row before and after.
    Change([&'static str; 2]),
}

impl Shown {
    fn keys(&self) -> &[&'static str] {
        match self {
            Self::Best(keys) | Self::Each(keys) => keys,
            Self::Change(keys) => keys,
        }
    }
}

const A2: [&str; 2] = [
    "attacks.spike_gradient.converted.judge_top1",
    "attacks.spike_gradient.encrypted.judge_top1",
];

/// Heads of the columns with the rows of the report that they show.
const COLUMNS: [(&str, Shown); 11] = [
    ("source network", Shown::Best(&["ann.test_accuracy"])),
    (
        "converted without data → encrypted",
        Shown::Change(["converted.test_accuracy", "encrypted.test_accuracy"]),
    ),
    (
        "encrypted, lost against the source",
        Shown::Best(&["encrypted.drop_vs_ann"]),
    ),
    (
        "energy gain by rate / by events / with memory",
        Shown::Each(&[
            "energy.ratio_rate",
            "energy.ratio_events",
            "energy.ratio_memory",
        ]),
    ),
    (
        "synthetic images like training images, on features / pixels",
        Shown::Each(&[
            "synthetic.likeness.features.beyond",
            "synthetic.likeness.pixels.beyond",
        ]),
    ),
    (
        "of moved copies of training images, on features / pixels",
        Shown::Each(&[
            "synthetic.likeness.features.copies_beyond",
            "synthetic.likeness.pixels.copies_beyond",
        ]),
    ),
    (
        "encryption moved the weights by",
        Shown::Best(&[WEIGHT_CHANGE]),
    ),
    (
        "encrypted weights read as an ANN",
        Shown::Best(&[
            "leakage.encrypted.relu_reading_accuracy",
            "leakage.encrypted.rate_reading_accuracy",
        ]),
    ),
    ("judge", Shown::Best(&["judge.test_accuracy"])),
    (
        "A1, converted → encrypted",
        Shown::Change([
            "attacks.back_conversion.converted.judge_top1",
            "attacks.back_conversion.encrypted.judge_top1",
        ]),
    ),
    ("A2, converted → encrypted", Shown::Change(A2)),
];

/// What the columns are, where from the fewest to the most `pictures` are rebuilt of a network, a paragraph for each subject.
fn legend(pictures: Option<(u64, u64)>) -> [String; 5] {
    // of a share of one half, where it is largest
    let error = |pictures: u64| 50.0 / (pictures.max(1) as f64).sqrt();
    let (count, error) = match pictures {
        Some((few, many)) if few < many => (
            format!("{few} to {many}"),
            format!(
                "{:.0} points of {few} pictures, {:.0} of {many}",
                error(few),
                error(many)
            ),
        ),
        Some((all, _)) => (all.to_string(), format!("{:.0} points", error(all))),
        None => ("some".into(), "unknown".into()),
    };
    [
        "Accuracies are on test images, those of spiking networks after T time steps. Points lost: against the source network \
         on the same images, of which some experiments take fewer; negative: more accurate. Weights read as an ANN: the better \
         of two readings, of ReLUs and of rates; source networks of clipped activations are no networks of ReLUs, and for them \
         that of rates is the one that tells. Moved by: the largest |W' - W| / |W| of a layer."
            .into(),
        format!(
            "Synthetic images like training images: the share of them whose likeness, how much nearer by correlation one \
             training image is than the next {NEIGHBOURS}, is beyond that of {} of unseen test images: on the judge's features, mirrored or not, and on \
             means of squares of pixels, mirrored and shifted by up to an eighth of the image. About {} if they are as like the \
             training images as new photographs are. Copies show how much this sees: beside it the same of training images that \
             are mirrored and shifted at random. What a synthetic image tells of the training \
             set without being like one of its images is not measured.",
            percent(UNSEEN_BELOW),
            percent(1.0 - UNSEEN_BELOW)
        ),
        energy(),
        format!(
            "A1 raises a class score of the weights so read, A2 of the running network, by a gradient through its spikes, as the \
             paper's, or through their rates; which of the two finds more depends on the network and on how smooth the pictures are held: share of the pictures so rebuilt, \
             {count} of a network, in which an independent judge recognises their class; judge: its accuracy on real test \
             images. The two attacks may differ in pictures and iterations: each is to be compared across networks, not with \
             the other. Largest standard error of a share: {error}. {}",
            criterion()
        ),
        "Variant paper is the paper's recipe, with constants of ours where it states none, and in the experiments that are \
         called searched with thresholds, rate and temperature that were found by search; variant modern is everything that \
         converts in few steps. In profile cpu networks, images and trainings are much smaller than the paper's. A gain in energy is worth what is lost for \
         it: accuracy against energy with the paper's recipe is drawn below, with the \
         sweeps whose names end in paper-thresholds. Weights and thresholds of the data-free networks are derived from the source network \
         without an image of the data set; the settings of the experiments were chosen on its validation images, some on \
         training images, those of the attacks by what the judge recognises, as their files say."
            .into(),
    ]
}

/// How many pictures an attack rebuilds of a network, the fewest and the most.
fn pictures(accounts: &[Account]) -> Option<(u64, u64)> {
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
    Some((*samples.iter().min()?, *samples.iter().max()?))
}

/// The table, what it says, and what its columns are. Variants without a record are not in it.
pub fn blocks(columns: &[Column], accounts: &[Account]) -> Vec<Block> {
    let [accuracies, synthetic, energies, attacks, variants] =
        legend(pictures(accounts)).map(Block::Text);
    let mut blocks = vec![
        table(columns, accounts),
        Block::Text(conclusion(columns, accounts)),
        accuracies,
        synthetic,
        energies,
    ];
    blocks.extend(gains::highest(columns, accounts));
    blocks.extend([attacks, variants]);
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
            let cells = COLUMNS
                .iter()
                .map(|(_, shown)| cell(account, variant, shown, &known));
            lines.push((account.name(variant), cells.collect()));
        }
    }
    let claimed = COLUMNS.iter().map(|(_, shown)| {
        let claims = shown.keys().iter().find_map(|key| claims(columns, key));
        claims.unwrap_or_else(|| "–".into())
    });
    lines.push(("the paper claims".into(), claimed.collect()));
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
pub fn partial(accounts: &[Account]) -> Option<Block> {
    let partial = accounts.iter().filter(|account| account.is_partial());
    let names: Vec<String> = partial.map(Account::title).collect();
    (!names.is_empty()).then(|| {
        Block::Text(format!(
            "Made with only a part of the data set, and not to be compared with published accuracies: {}.",
            names.join("; ")
        ))
    })
}

fn cell(account: &Account, variant: &str, shown: &Shown, rows: &BTreeMap<String, Row>) -> String {
    let one = |key: &str| figure(account, variant, key, rows).unwrap_or_else(|| "–".into());
    match shown {
        Shown::Best(keys) => {
            let best = keys
                .iter()
                .filter_map(|key| Some((*key, account.mean(variant, key)?)))
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            best.map_or_else(|| "–".into(), |(key, _)| one(key))
        }
        Shown::Each(keys) => keys
            .iter()
            .map(|key| one(key))
            .collect::<Vec<_>>()
            .join(" / "),
        Shown::Change([before, after]) => {
            let way = match [*before, *after] == A2 && account.mean(variant, after).is_some() {
                true => format!(" ({})", account.through(variant)),
                false => String::new(),
            };
            format!("{} → {}{way}", one(before), one(after))
        }
    }
}

/// A row's figure, of a spiking network with its T.
fn figure(
    account: &Account,
    variant: &str,
    key: &str,
    rows: &BTreeMap<String, Row>,
) -> Option<String> {
    let figure = account.cell(variant, rows.get(key)?)?;
    let timesteps = key
        .strip_suffix(".test_accuracy")
        .and_then(|network| account.mean(variant, &format!("{network}.timesteps")));
    Some(match timesteps {
        Some(timesteps) => format!("{figure} at T = {timesteps}"),
        None => figure,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_better_reading_is_shown_with_the_steps_of_the_network() {
        let record = |name: &str, reading: f64| Account {
            stem: name.into(),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "modern", "seeds": [1],
            "variants": {"modern": {
                "encrypted.test_accuracy": {"mean": 0.9}, "encrypted.timesteps": {"mean": 16.0},
                "leakage.encrypted.relu_reading_accuracy": {"mean": 0.6},
                "leakage.encrypted.rate_reading_accuracy": {"mean": reading},
            }}}),
        };
        let records = [record("a", 0.89), record("b", 0.3)];
        let blocks = blocks(&[], &records);
        let Block::Table { rows, .. } = &blocks[0] else {
            panic!("{:?}", blocks[0]);
        };
        let shown: Vec<&str> = rows.iter().map(|(_, cells)| cells[7].as_str()).collect();
        assert_eq!(shown, ["89.0 %", "60.0 %", "–"]);
        assert_eq!(rows[0].1[1], "– → 90.0 % at T = 16");
        assert_eq!(rows[0].1[3], "– / – / –");
        let text = format!("{blocks:?}");
        assert!(
            !text.contains("a part of the data set") && text.contains("unknown. Signs"),
            "{text}"
        );
    }

    #[test]
    fn errors_are_those_of_the_pictures() {
        let text = legend(Some((25, 100))).concat();
        assert!(text.contains("25 to 100 of a network"), "{text}");
        assert!(
            text.contains("10 points of 25 pictures, 5 of 100."),
            "{text}"
        );
        assert!(
            legend(Some((100, 100)))
                .concat()
                .contains("share: 5 points. ")
        );
    }

    #[test]
    fn every_column_shows_rows_that_there_are() {
        let rows = rows();
        for key in COLUMNS.iter().flat_map(|(_, shown)| shown.keys()) {
            assert!(rows.iter().any(|row| row.key == *key), "{key}");
        }
    }
}
