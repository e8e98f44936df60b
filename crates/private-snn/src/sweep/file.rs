//! The sweep file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::experiment::{find, safe_name, within};
use crate::stages::Reach;

/// A file of `data/sweeps`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Name; that of the file.
    pub name: String,
    /// One line: what the sweep answers.
    pub title: String,
    /// The experiment: a name in `data/experiments`, or a path.
    pub experiment: String,
    /// Its profile.
    pub profile: String,
    /// Its only variant that is computed.
    pub variant: String,
    /// How far each run goes.
    pub goal: Reach,
    /// Seeds, a run each for every choice of settings.
    pub seeds: Vec<u64>,
    /// Settings that are the same in all runs, `KEY=VALUE`.
    #[serde(default)]
    pub set: Vec<String>,
    /// How values are chosen.
    pub search: Search,
    /// The settings that are searched over. Their order, in which the last one changes fastest, is that of the alphabet.
    pub keys: BTreeMap<String, Choice>,
}

/// How values are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Search {
    /// Every value of every key with every value of the others.
    Grid {},
    /// The experiment as it is, then every value of each key in turn, the other keys as the experiment has them.
    Each {},
    /// Values drawn independently.
    Random {
        /// How often; may be raised later, the first draws stay.
        runs: usize,
        /// Seed of the draws.
        seed: u64,
    },
}

/// What a key may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Value")]
pub enum Choice {
    /// One of these.
    Values(Vec<Value>),
    /// A number of a range.
    Range(Range),
}

/// Numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// What is uniform.
    #[serde(default)]
    pub scale: Scale,
}

/// What is uniform in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// The number.
    #[default]
    Linear,
    /// Its logarithm.
    Log,
}

impl TryFrom<Value> for Choice {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(values) => Ok(Self::Values(values)),
            Value::Table(range) => range.try_into().map(Self::Range).map_err(|error| {
                format!(
                    "not a range such as {{ from = 1e-5, to = 1e-2, scale = \"log\" }} ({}); a dotted key needs quotes: \
                     \"encrypt.epochs\" = [2, 4]",
                    error.message()
                )
            }),
            other => Err(format!(
                "{other} is neither a list of values nor a range {{ from = ..., to = ... }}"
            )),
        }
    }
}

impl Sweep {
    /// Reads sweep `name` of `folder` and adds `set` to its fixed settings; `name` may also be the path of a .toml file.
    /// Gives its path, too.
    ///
    /// # Errors
    /// No such file (with those there are); not TOML; an unknown key; a key whose value cannot be searched over.
    pub fn read(folder: &Path, name: &str, set: &[String]) -> Result<(Self, PathBuf)> {
        let path = find(folder, name, "sweep")?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut sweep = Self::parse(&text).with_context(|| path.display().to_string())?;
        if path.file_stem().is_none_or(|stem| *stem != *sweep.name) {
            bail!(
                "{}: name = {:?}: must be that of the file, under which its results are kept",
                path.display(),
                sweep.name
            );
        }
        sweep.set.extend_from_slice(set);
        sweep.check().context("--set")?;
        Ok((sweep, path))
    }

    fn parse(text: &str) -> Result<Self> {
        let sweep: Self = toml::from_str(text)?;
        sweep.check()?;
        Ok(sweep)
    }

    /// A setting's name without the variant's, which sweeps need not say.
    pub fn short<'a>(&self, setting: &'a str) -> &'a str {
        let rest = setting.strip_prefix("variants.");
        let rest = rest.and_then(|rest| rest.strip_prefix(&self.variant));
        rest.and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(setting)
    }

    /// Whether no run has a setting as the experiment has it, because each assigns its key.
    pub fn replaces(&self, setting: &str) -> bool {
        let mut keys = self.keys.keys();
        let replaced = keys.any(|key| within(self.short(key), self.short(setting)));
        replaced && !matches!(self.search, Search::Each {})
    }

    /// The first fixed setting that one of the keys, given with their short names, replaces in every run to no purpose. That of
    /// a range tells whether whole numbers are meant.
    fn set_beside<'a>(&'a self, names: &[(&str, &'a String)]) -> Option<(&'a String, &'a String)> {
        if let Search::Each {} = self.search {
            return None;
        }
        self.set.iter().find_map(|set| {
            let (assigned, _) = set.split_once('=')?;
            let assigned = self.short(assigned.trim());
            let mut names = names.iter();
            let (_, key) = names.find(|(name, _)| within(name, assigned))?;
            matches!(self.keys[*key], Choice::Values(_)).then_some((set, *key))
        })
    }

    fn check(&self) -> Result<()> {
        safe_name("name", &self.name)?;
        if self.seeds.is_empty() {
            bail!("seeds: is empty; name at least one, for example seeds = [1]");
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.seeds.iter().find(|seed| !seen.insert(**seed)) {
            bail!("seeds: {twice} is there twice; a seed gives the same figures each time");
        }
        if let Search::Random { runs: 0, .. } = self.search {
            bail!("search.runs = 0: must be at least 1");
        }
        if self.keys.is_empty() {
            bail!(
                "keys: there are none; name at least one, for example \"encrypt.epochs\" = [2, 4]"
            );
        }
        let mut names: Vec<(&str, &String)> = Vec::new();
        for key in self.keys.keys() {
            if key.trim() != key {
                bail!("keys: {key:?}: must have no spaces at its ends");
            }
            let name = self.short(key);
            let same = names
                .iter()
                .find(|(other, _)| within(other, name) || within(name, other));
            if let Some((_, other)) = same {
                bail!("keys: {other:?} and {key:?} change the same setting; keep one of them");
            }
            if !self.goal.uses(name) {
                bail!(
                    "keys: {key:?}: changes nothing that is measured with this goal; set `goal` to a later stage, or leave the \
                     key out"
                );
            }
            names.push((name, key));
        }
        if let Some((set, key)) = self.set_beside(&names) {
            bail!("set: {set:?}: is replaced in every run by keys: {key:?}; keep one of them");
        }
        for (key, choice) in &self.keys {
            choice
                .check(&self.search)
                .with_context(|| format!("keys: {key:?}"))?;
        }
        Ok(())
    }
}

impl Choice {
    fn check(&self, search: &Search) -> Result<()> {
        match self {
            Self::Values(values) if values.is_empty() => {
                bail!("the list is empty; name at least one value")
            }
            Self::Values(values)
                if values
                    .iter()
                    .enumerate()
                    .any(|(i, value)| values[..i].contains(value)) =>
            {
                bail!("a value is in the list twice; a run gives the same figures each time")
            }
            Self::Values(_) => Ok(()),
            Self::Range(range) => match search {
                Search::Random { .. } => range.check(),
                Search::Grid {} | Search::Each {} => {
                    bail!(
                        "a range is for search.kind = \"random\"; a grid and a search of each key need lists of values"
                    )
                }
            },
        }
    }
}

impl Range {
    fn check(&self) -> Result<()> {
        let Self { from, to, scale } = *self;
        if !(from.is_finite() && to.is_finite() && from < to) {
            bail!("from = {from}, to = {to}: from must be below to");
        }
        if scale == Scale::Log && from <= 0.0 {
            bail!("from = {from}: must be above 0 where scale = \"log\"");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: &str = r#"
        name = "mine"
        title = "t"
        experiment = "smoke"
        profile = "cpu"
        variant = "modern"
        goal = "encrypt"
        seeds = [1, 2]
        [search]
        kind = "grid"
        [keys]
        "encrypt.learning_rate" = [1e-4, 3e-4]
        "encrypt.epochs" = [2, 4]
    "#;

    fn random(choice: &str) -> String {
        GRID.replace("kind = \"grid\"", "kind = \"random\"\nruns = 3\nseed = 1")
            .replace("[2, 4]", choice)
    }

    fn message(text: &str) -> String {
        format!("{:#}", Sweep::parse(text).unwrap_err())
    }

    #[test]
    fn both_searches_are_read() {
        let grid = Sweep::parse(GRID).unwrap();
        assert_eq!(grid.goal, Reach::Encrypt);
        assert_eq!(grid.search, Search::Grid {});
        assert_eq!(
            grid.keys["encrypt.epochs"],
            Choice::Values(vec![Value::Integer(2), Value::Integer(4)])
        );
        let sweep = Sweep::parse(&random("{ from = 1, to = 8, scale = \"log\" }")).unwrap();
        assert_eq!(sweep.search, Search::Random { runs: 3, seed: 1 });
        let range = Range {
            from: 1.0,
            to: 8.0,
            scale: Scale::Log,
        };
        assert_eq!(sweep.keys["encrypt.epochs"], Choice::Range(range));
    }

    #[test]
    fn each_run_of_a_grid_replaces_its_keys() {
        let grid =
            Sweep::parse(&GRID.replace("\"encrypt.epochs\"", "\"convert.thresholds\"")).unwrap();
        for replaced in [
            "convert.thresholds",
            "variants.modern.convert.thresholds.rule",
        ] {
            assert!(grid.replaces(replaced), "{replaced}");
        }
        assert!(!grid.replaces("convert"));
        assert!(!grid.replaces("variants.other.convert.thresholds"));
        let each = Sweep {
            search: Search::Each {},
            ..grid
        };
        assert!(!each.replaces("convert.thresholds"));
    }

    #[test]
    fn mistakes_are_named_with_their_key() {
        for (text, words) in [
            (GRID.replace("title", "titel"), vec!["titel", "title"]),
            (
                GRID.replace("\"encrypt\"", "\"conversion\""),
                vec!["goal", "`convert`, `encrypt`, `attack`, `spike_attack`"],
            ),
            (GRID.replace("\"grid\"", "\"tree\""), vec!["tree", "random"]),
            (GRID.replace("[1, 2]", "[]"), vec!["seeds", "at least one"]),
            (GRID.replace("[1, 2]", "[1, 1]"), vec!["seeds", "twice"]),
            (GRID.replace("\"mine\"", "\"a/b\""), vec!["name", "a/b"]),
            (
                GRID.replace("[2, 4]", "[]"),
                vec!["encrypt.epochs", "empty"],
            ),
            (
                GRID.split("\"encrypt.l").next().unwrap().into(),
                vec!["keys", "at least one"],
            ),
            (
                GRID.replace("[2, 4]", "[2, 4, 2]"),
                vec!["encrypt.epochs", "twice"],
            ),
            (
                GRID.replace("[2, 4]", "[2, 4]\n\"encrypt.epochs.x\" = [1]"),
                vec!["encrypt.epochs", "encrypt.epochs.x", "same setting"],
            ),
            (
                GRID.replace("[2, 4]", "[2, 4]\n\"variants.modern.encrypt.epochs\" = [1]"),
                vec!["encrypt.epochs", "variants.modern", "same setting"],
            ),
            (
                GRID.replace("\"encrypt.epochs\"", "\" encrypt.epochs\""),
                vec!["encrypt.epochs", "spaces"],
            ),
            (
                GRID.replace("[2, 4]", "2"),
                vec!["encrypt.epochs", "neither"],
            ),
            (
                GRID.replace("encrypt.epochs", "evaluate.images"),
                vec!["evaluate.images", "changes nothing", "goal"],
            ),
            (
                GRID.replace("\"encrypt.epochs\" =", "encrypt.epochs ="),
                vec!["epochs", "quotes"],
            ),
            (
                GRID.replace("[2, 4]", "{ from = 1, to = 2 }"),
                vec!["encrypt.epochs", "grid", "list"],
            ),
            (
                GRID.replace("[2, 4]", "{ from = 1, to = 2 }")
                    .replace("\"grid\"", "\"each\""),
                vec!["encrypt.epochs", "each", "list"],
            ),
            (
                random("{ from = 4, to = 4 }"),
                vec!["encrypt.epochs", "below"],
            ),
            (
                random("{ from = nan, to = 4 }"),
                vec!["encrypt.epochs", "below"],
            ),
            (
                random("{ from = 0, to = 4, scale = \"log\" }"),
                vec!["encrypt.epochs", "above 0"],
            ),
            (
                random("[2]").replace("runs = 3", "runs = 0"),
                vec!["search.runs", "at least 1"],
            ),
        ] {
            let message = message(&text);
            for word in words {
                assert!(message.contains(word), "{word}: {message}");
            }
        }
    }

    #[test]
    fn the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, GRID.replace("title", "titel")).unwrap();
        let read = |name: &str| Sweep::read(folder.path(), name, &["a=1".into()]);
        let message = format!("{:#}", read("mine").unwrap_err());
        assert!(message.contains("mine.toml"), "{message}");
        let message = format!("{:#}", read("yours").unwrap_err());
        assert!(message.ends_with("there are: mine"), "{message}");
        std::fs::write(&path, GRID).unwrap();
        assert_eq!(read("mine").unwrap().0.set, ["a=1"]);
        let set = "variants.modern.encrypt.epochs = 3";
        let message = Sweep::read(folder.path(), "mine", &[set.into()]).unwrap_err();
        let message = format!("{message:#}");
        assert!(
            message.contains(set) && message.contains("is replaced in every run"),
            "{message}"
        );
    }
}
