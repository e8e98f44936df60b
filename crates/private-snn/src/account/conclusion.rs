//! Where the encryption fails, over all records.

use std::collections::BTreeMap;

use super::claims::from_to;
use super::experiment::Account;
use super::outdated;
use super::overall::Column;
use crate::report::{Finding, Unit, WEIGHT_CHANGE};

/// How many variants are named one by one.
const NAMED: usize = 6;

/// In which way the encryption fails on which variants, and on which it is not seen to; what most share first. Variants
/// whose records are older than what their experiments' files say of them have no part in it.
pub fn conclusion(columns: &[Column], accounts: &[Account]) -> String {
    let mut by_finding: BTreeMap<Option<Finding>, Vec<String>> = BTreeMap::new();
    let mut changes = Vec::new();
    let mut old = Vec::new();
    for account in accounts {
        let verdicts = account.verdicts();
        for variant in account.variants() {
            let verdict = verdicts.iter().find(|(name, _)| *name == variant);
            let finding = verdict.map(|(_, verdict)| verdict.finding);
            let names = match outdated::parts(columns, account, variant).is_empty() {
                true => {
                    changes.extend(account.mean(variant, WEIGHT_CHANGE));
                    by_finding.entry(finding).or_default()
                }
                false => &mut old,
            };
            names.push(account.name(variant));
        }
    }
    let all: usize = by_finding.values().map(Vec::len).sum();
    let mut groups: Vec<(Option<Finding>, Vec<String>)> = by_finding.into_iter().collect();
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let mut said: Vec<String> = groups
        .into_iter()
        .map(|(finding, names)| {
            let words = finding.map_or("what it hides was not examined", Finding::words);
            match names.len() {
                count if count > NAMED => format!("{words} ({count} of {all} variants)"),
                _ => format!("{words} ({})", names.join("; ")),
            }
        })
        .collect();
    if !old.is_empty() {
        said.push(format!(
            "left out, since they were recorded with other settings: {}",
            old.join("; ")
        ));
    }
    format!(
        "**What this says of the method:** {}.{}",
        said.join("; "),
        moved(&changes)
    )
}

/// How far the weights were moved where the encryption was judged, and where to see what more would do.
fn moved(changes: &[f64]) -> String {
    let least = changes.iter().copied().reduce(f64::min);
    let most = changes.iter().copied().reduce(f64::max);
    let (Some(least), Some(most)) = (least, most) else {
        return String::new();
    };
    format!(
        " It was judged at the settings of these experiments, with which it moves the weights of the layer that changes most by \
         {}; what is hidden and what is lost where it moves them further is in the sweeps of its learning rate.",
        from_to(least, most, Unit::Percent)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::overall::tests::column;
    use super::*;

    fn record(name: &str, reading: f64, after: f64) -> Account {
        Account {
            stem: format!("{name}.cpu"),
            evidence: json!({"experiment": name, "profile": "cpu", "headline": "modern", "seeds": [1],
            "runs": [{"settings": {"judge": 1}}],
            "variants": {"modern": {
                "encrypted.test_accuracy": {"mean": 0.9},
                WEIGHT_CHANGE: {"mean": reading / 10.0},
                "leakage.encrypted.relu_reading_accuracy": {"mean": 0.6},
                "leakage.encrypted.rate_reading_accuracy": {"mean": reading},
                "attacks.back_conversion.converted.judge_top1": {"mean": 0.8},
                "attacks.back_conversion.encrypted.judge_top1": {"mean": after},
            }}}),
        }
    }

    #[test]
    fn failures_are_sorted_by_their_kind_the_most_common_first() {
        // the reading fails in the first two, A1 in the first and the third, nothing in the fourth; the last was not attacked
        let records = [
            record("a", 0.89, 0.8),
            record("b", 0.88, 0.2),
            record("c", 0.3, 0.75),
            record("d", 0.3, 0.1),
            record("l", 0.3, f64::NAN),
        ];
        let said = conclusion(&[], &records);
        let place = |words: &str| {
            said.find(words)
                .unwrap_or_else(|| panic!("{words}: {said}"))
        };
        let part = place("a part of what these attacks can see (b, cpu: modern; c, cpu: modern);");
        assert!(part < place("hides nothing that these attacks can see (a, cpu: modern)"));
        assert!(
            part < place("no failure of the encryption is seen by these attacks (d, cpu: modern)")
        );
        place(
            "no longer classify as well as the network itself, and no attack finds enough on the converted network to tell \
               whether more is hidden (l, cpu: modern)",
        );
        place("changes most by 3.0 % to 8.9 %;");

        let many = ["e", "f", "g", "h", "i", "j", "k"].map(|name| record(name, 0.89, 0.8));
        let said = conclusion(&[], &[&records[3..4], many.as_slice()].concat());
        let first = "**What this says of the method:** the encryption hides nothing that these attacks can see (7 of 8 variants);";
        assert!(
            said.starts_with(first)
                && said.contains("is seen by these attacks (d, cpu: modern). It was"),
            "{said}"
        );
    }

    #[test]
    fn records_older_than_their_files_are_left_out() {
        let records = [record("a", 0.89, 0.8), record("d", 0.3, 0.1)];
        let said = conclusion(
            &[
                column("a", json!({"judge": 2})),
                column("d", json!({"judge": 1})),
            ],
            &records,
        );
        assert!(
            !said.contains("hides nothing")
                && said.contains("with other settings: a, cpu: modern. ")
                && said.contains("most by 3.0 %;"),
            "{said}"
        );
    }
}
