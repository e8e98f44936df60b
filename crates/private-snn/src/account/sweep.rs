//! What a sweep's record says: its table and its pictures.

use serde_json::Value;

use super::document::Block;
use crate::sweep::{Record, best, lines, pictures};

/// A heading, what was searched, the table, the best and the pictures.
pub fn blocks(record: &Record) -> Vec<Block> {
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or("?");
    let (name, title) = (of("name"), of("title"));
    let mut lines = lines(record).into_iter();
    let head = lines.next().unwrap_or_default();
    let rows = lines.filter_map(|mut line| {
        let cells = line.split_off(1);
        Some((line.pop()?, cells))
    });
    let mut blocks = vec![
        Block::Heading(3, title.into()),
        Block::Text(format!(
            "Sweep {name}: experiment {}, profile {}, variant {}{}; `cargo xtask sweep {name}`.",
            of("experiment"),
            of("profile"),
            of("variant"),
            in_all_runs(&sweep["set"])
        )),
        Block::Table {
            head,
            rows: rows.collect(),
        },
    ];
    if let Some(best) = best(record) {
        blocks.push(Block::Text(format!("Most accurate: {best}.")));
    }
    blocks.push(Block::Text(
        "Drawn: accuracies on the validation images and, where the sweep attacks, the share of the pictures that each attack \
         rebuilds from the encrypted network in which the judge recognises their class; means over the seeds."
            .into(),
    ));
    blocks.extend(pictures(record).into_iter().map(|picture| Block::Figure {
        file: picture.file,
        description: format!("Accuracy and leakage: {}", picture.title),
        caption: format!("{}.", picture.title),
    }));
    blocks
}

/// The settings that a sweep changes in the experiment for all its runs.
fn in_all_runs(set: &Value) -> String {
    let set = set.as_array().map_or(&[][..], Vec::as_slice);
    let words: Vec<&str> = set.iter().filter_map(Value::as_str).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(
            ", in all runs {} unless a run says otherwise",
            words.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_all_runs_are_named() {
        let said = in_all_runs(&json!(["a.b=1", "c=2"]));
        assert_eq!(said, ", in all runs a.b=1, c=2 unless a run says otherwise");
        assert_eq!(in_all_runs(&json!([])), "");
        assert_eq!(in_all_runs(&Value::Null), "");
    }
}
