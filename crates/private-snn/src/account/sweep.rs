//! What a sweep's record says: its table and its pictures, and whether its files say the same now.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::document::Block;
use super::settings::changed;
use crate::experiment::ExperimentFile;
use crate::sweep::{LEAKAGE, Picture, Record, Sweep, best, lines, pictures, plan, settled};

/// A sweep's record, and what its files say now.
#[derive(Debug)]
pub struct Account {
    /// What was measured.
    pub record: Record,
    /// Which settings of it are not those of the files.
    changed: Vec<String>,
}

impl Account {
    /// Of a record, beside the sweep of its name in a folder and that one's experiment. A sweep that has no file there, being
    /// from elsewhere, is taken as it is.
    ///
    /// # Errors
    /// A file that is not what it should be; no such experiment.
    pub fn new(mut record: Record, sweeps: &Path, experiments: &Path) -> Result<Self> {
        let name = record.header.sweep["name"].as_str().unwrap_or_default();
        if !sweeps.join(format!("{name}.toml")).is_file() {
            let changed = Vec::new();
            return Ok(Self { record, changed });
        }
        let (sweep, path) = Sweep::read(sweeps, name, &[])?;
        let file = ExperimentFile::read(experiments, &sweep.experiment)?;
        let (base, _) = plan(&sweep, &file).with_context(|| path.display().to_string())?;
        // no figure depends on the title, and what `set` sets is among the settings
        record.header.sweep["title"] = sweep.title.clone().into();
        let mut changed = changed(&record.header.sweep, &settled(&sweep)?);
        changed.retain(|name| name != "set");
        changed.extend(settings_changed(&record, &sweep, &settled(&*base)?));
        if changed.is_empty() {
            record.header.sweep["set"] = serde_json::to_value(&sweep.set)?;
        }
        Ok(Self { record, changed })
    }
}

impl Account {
    /// The drawing of what is kept and what leaks, of a sweep on real images; none of another.
    pub fn leakage(&self) -> Option<Block> {
        let is_real = self.record.header.settings["dataset"] != "glyphs";
        let mut pictures = pictures(&self.record).into_iter();
        pictures
            .find(|picture| is_real && picture.file.ends_with(LEAKAGE))
            .map(figure)
    }
}

fn figure(picture: Picture) -> Block {
    Block::Figure {
        file: picture.file,
        description: picture.title,
        caption: picture.caption,
    }
}

/// Which settings of a record's experiment that its runs depend on are others now, without the name of its only variant.
fn settings_changed(record: &Record, sweep: &Sweep, now: &Value) -> Vec<String> {
    changed(&record.header.settings, now)
        .iter()
        .map(|name| sweep.short(name))
        .filter(|name| sweep.goal.uses(name) && !sweep.replaces(name))
        .map(String::from)
        .collect()
}

/// A heading, what was searched, the table, the best and the pictures.
pub fn blocks(account: &Account) -> Vec<Block> {
    let Account { record, changed } = account;
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or("?");
    let (name, title) = (of("name"), of("title"));
    let (lines, same) = apart(lines(record));
    let mut lines = lines.into_iter();
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
    if !same.is_empty() {
        blocks.push(Block::Text(format!(
            "The same for all: {}.",
            same.join(", ")
        )));
    }
    if !changed.is_empty() {
        blocks.push(Block::Text(format!(
            "Recorded with other settings than the files of the sweep and its experiment have now: {}.",
            changed.join(", ")
        )));
    }
    if let Some(best) = best(record) {
        blocks.push(Block::Text(format!("Most accurate: {best}.")));
    }
    blocks.extend(pictures(record).into_iter().map(figure));
    blocks
}

/// The table without the columns of figures in which all of several rows are the same, and these figures with their names. A
/// table of nothing else stays whole.
fn apart(lines: Vec<Vec<String>>) -> (Vec<Vec<String>>, Vec<String>) {
    let Some((head, rows)) = lines.split_first() else {
        return (lines, Vec::new());
    };
    let is_same = |column: usize| {
        // before these are the settings and the seeds
        column >= 2 && rows.len() > 1 && rows.iter().all(|row| row[column] == rows[0][column])
    };
    let (same, varying): (Vec<usize>, Vec<usize>) = (0..head.len()).partition(|&c| is_same(c));
    if varying.len() <= 2 {
        return (lines, Vec::new());
    }
    let said = same.iter().map(|&c| format!("{} {}", head[c], rows[0][c]));
    let said = said.collect();
    let kept = |line: &Vec<String>| varying.iter().map(|&c| line[c].clone()).collect();
    (lines.iter().map(kept).collect(), said)
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
    fn columns_of_one_figure_are_a_sentence() {
        let table = |rows: &[&str]| -> Vec<Vec<String>> {
            let split = |line: &&str| line.split(' ').map(String::from).collect();
            rows.iter().map(split).collect()
        };
        let (kept, same) = apart(table(&["settings seeds a b c", "x 1 5 6 7", "y 1 5 8 7"]));
        assert_eq!(kept, table(&["settings seeds b", "x 1 6", "y 1 8"]));
        assert_eq!(same, ["a 5", "c 7"]);
        for whole in [
            table(&["settings seeds a b", "x 1 5 6"]),
            table(&["settings seeds a b", "x 1 5 6", "y 1 5 6"]),
            table(&["settings seeds"]),
        ] {
            assert_eq!(apart(whole.clone()), (whole, Vec::new()));
        }
    }

    #[test]
    fn what_the_files_say_now_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        let write = |epochs: &str| {
            let text = format!(
                "name = \"mine\"\ntitle = \"Mine\"\nexperiment = \"smoke\"\nprofile = \"cpu\"\nvariant = \"modern\"\n\
                 goal = \"encrypt\"\nseeds = [1]\n[search]\nkind = \"grid\"\n[keys]\n\"encrypt.epochs\" = {epochs}\n"
            );
            std::fs::write(folder.path().join("mine.toml"), text).unwrap();
            Sweep::read(folder.path(), "mine", &[]).unwrap().0
        };
        let sweep = write("[1, 2]");
        let smoke = ExperimentFile::read(&experiments, "smoke").unwrap();
        let (base, _) = plan(&sweep, &smoke).unwrap();
        let mut record = crate::sweep::record(2, &[0, 1]);
        record.header.sweep = settled(&sweep).unwrap();
        record.header.settings = settled(&*base).unwrap();
        let changed = |record: &Record| {
            Account::new(record.clone(), folder.path(), &experiments)
                .unwrap()
                .changed
        };
        assert!(changed(&record).is_empty());
        record.header.settings["variants"]["modern"]["encrypt"]["timesteps"] = json!(1_000);
        write("[1, 3]");
        assert_eq!(
            changed(&record),
            ["keys.encrypt.epochs", "encrypt.timesteps"]
        );
        // neither what each run replaces nor what comes after the last stage
        let modern = &mut record.header.settings["variants"]["modern"];
        modern["encrypt"]["epochs"] = json!(1_000);
        modern["attack"]["images_per_class"] = json!(1_000);
        assert_eq!(
            changed(&record),
            ["keys.encrypt.epochs", "encrypt.timesteps"]
        );
        // a file that sets what the experiment had before says the same, and how
        record.header.settings = settled(&*base).unwrap();
        let path = folder.path().join("mine.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("[1, 3]", "[1, 2]");
        let set = |timesteps: usize| {
            let set = format!("set = [\"encrypt.timesteps={timesteps}\"]\n[search]");
            std::fs::write(&path, text.replace("[search]", &set)).unwrap();
            Account::new(record.clone(), folder.path(), &experiments).unwrap()
        };
        let timesteps = base.variants["modern"].encrypt.timesteps;
        let same = set(timesteps);
        assert!(same.changed.is_empty());
        assert_eq!(
            same.record.header.sweep["set"],
            json!([format!("encrypt.timesteps={timesteps}")])
        );
        let other = set(timesteps + 1);
        assert_eq!(other.changed, ["encrypt.timesteps"]);
        assert_eq!(other.record.header.sweep["set"], json!([]));
        record.header.sweep["name"] = json!("of elsewhere");
        assert!(changed(&record).is_empty());
    }

    #[test]
    fn settings_of_all_runs_are_named() {
        let said = in_all_runs(&json!(["a.b=1", "c=2"]));
        assert_eq!(said, ", in all runs a.b=1, c=2 unless a run says otherwise");
        assert_eq!(in_all_runs(&json!([])), "");
        assert_eq!(in_all_runs(&Value::Null), "");
    }
}
