//! All experiments side by side, those without a record too.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::document::Block;
use super::experiment::Account;
use super::settings::changed;
use crate::experiment::ExperimentFile;
use crate::report::{Paper, file_name, rows};
use crate::sweep::{settle, settled};

/// An experiment under one of its profiles.
#[derive(Debug)]
pub struct Column {
    experiment: String,
    profile: String,
    dataset: &'static str,
    /// Name of its evidence without extension.
    stem: String,
    /// What the experiment's file says now.
    settings: Value,
    paper: Option<Paper>,
}

impl Column {
    /// Those of the experiments whose results are kept, in the order of their names.
    ///
    /// # Errors
    /// An experiment or a claim of the paper that is not what it should be.
    pub fn all(experiments: &Path, paper: &Path) -> Result<Vec<Self>> {
        let mut columns = Vec::new();
        for name in ExperimentFile::names(experiments)? {
            let file = ExperimentFile::read(experiments, &name)?;
            for (profile, _) in file.profiles() {
                let experiment = file.resolve(profile, &[])?;
                if experiment.evidence {
                    let evidence = file_name(&name, profile, file.profiles().count());
                    columns.push(Self {
                        experiment: experiment.name.clone(),
                        profile: profile.to_string(),
                        dataset: experiment.dataset.name(),
                        stem: evidence.trim_end_matches(".json").to_string(),
                        settings: settled(&*experiment)?,
                        paper: Paper::read(paper, experiment.dataset.name())?,
                    });
                }
            }
        }
        Ok(columns)
    }

    /// Name of its data set.
    pub fn dataset(&self) -> &'static str {
        self.dataset
    }

    /// Whether the paper claims something of its data set.
    pub fn is_claimed(&self) -> bool {
        self.paper.is_some()
    }

    /// Its record, if there is one.
    pub fn account<'a>(&self, accounts: &'a [Account]) -> Option<&'a Account> {
        accounts.iter().find(|account| account.stem == self.stem)
    }

    /// Experiment and profile.
    pub fn title(&self) -> String {
        format!("{}, {}", self.experiment, self.profile)
    }

    /// Which settings of its record are not those of its file.
    pub fn changed(&self, account: &Account) -> Vec<String> {
        let mut recorded = account.evidence["runs"][0]["settings"].clone();
        settle(&mut recorded);
        changed(&recorded, &self.settings)
    }
}

/// For each data set a heading and a table of all variants, a column each, and of what the paper claims. What has no
/// record is empty.
pub fn tables(columns: &[Column], accounts: &[Account]) -> Vec<Block> {
    let mut by_dataset: BTreeMap<&str, Vec<&Column>> = BTreeMap::new();
    for column in columns {
        by_dataset.entry(column.dataset).or_default().push(column);
    }
    let tables = by_dataset.into_iter();
    tables
        .flat_map(|(dataset, columns)| {
            [Block::Heading(3, dataset.into()), table(&columns, accounts)]
        })
        .collect()
}

fn table(columns: &[&Column], accounts: &[Account]) -> Block {
    let mut head = vec![String::new()];
    let mut variants: Vec<Option<(&Account, &String)>> = Vec::new();
    for column in columns {
        let of = |variant: &str| format!("{}, {}: {variant}", column.experiment, column.profile);
        match column.account(accounts) {
            Some(account) => {
                head.extend(account.variants().into_iter().map(|variant| of(variant)));
                variants.extend(
                    account
                        .variants()
                        .into_iter()
                        .map(|name| Some((account, name))),
                );
            }
            None => {
                head.push(of("no record"));
                variants.push(None);
            }
        }
    }
    let is_claimed = columns.iter().any(|column| column.paper.is_some());
    head.extend(is_claimed.then(|| "the paper claims".to_string()));
    let empty = || "–".to_string();
    let seeds = variants
        .iter()
        .map(|variant| variant.map_or_else(empty, |(account, _)| account.seeds().to_string()));
    let of_the_paper = is_claimed.then(empty);
    let mut table = vec![(
        "Seeds".to_string(),
        seeds.chain(of_the_paper.clone()).collect(),
    )];
    let through = variants.iter().map(|variant| {
        variant.map_or_else(empty, |(account, name)| account.through(name).to_string())
    });
    let through = through.chain(of_the_paper).collect();
    let mut through = Some(("The gradient of A2 goes through".to_string(), through));
    for row in rows() {
        let cells: Vec<Option<String>> = variants
            .iter()
            .map(|variant| variant.and_then(|(account, name)| account.cell(name, &row)))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        if row.key.starts_with("attacks.spike_gradient") {
            table.extend(through.take());
        }
        let of_the_paper = is_claimed.then(|| claims(columns.iter().copied(), &row.key));
        let cells = cells.into_iter().chain(of_the_paper);
        let cells = cells.map(|cell| cell.unwrap_or_else(empty));
        table.push((row.label, cells.collect()));
    }
    Block::Table { head, rows: table }
}

/// What the paper claims of a row on the data sets of some experiments; nothing if it claims nothing.
pub fn claims<'a>(columns: impl IntoIterator<Item = &'a Column>, row: &str) -> Option<String> {
    let mut claims: Vec<&str> = columns
        .into_iter()
        .filter_map(|column| Some(column.paper.as_ref()?.beside(row)?.claim.as_str()))
        .collect();
    claims.dedup();
    (!claims.is_empty()).then(|| claims.join("; "))
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// That of an experiment on CIFAR-10 in profile `cpu` with these settings, of which the paper claims nothing.
    pub fn column(experiment: &str, settings: Value) -> Column {
        Column {
            experiment: experiment.into(),
            profile: "cpu".into(),
            dataset: "cifar10",
            stem: format!("{experiment}.cpu"),
            settings,
            paper: None,
        }
    }

    /// The same, of which it claims what it does.
    pub fn claimed(experiment: &str, settings: Value) -> Column {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/paper");
        Column {
            paper: Paper::read(&folder, "cifar10").unwrap(),
            ..column(experiment, settings)
        }
    }

    #[test]
    fn each_data_set_has_a_table_and_the_paper_speaks_of_its_own() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
        let column = |experiment: &str, dataset: &'static str| Column {
            paper: Paper::read(&data.join("paper"), dataset).unwrap(),
            dataset,
            ..column(experiment, json!(null))
        };
        let columns = [
            column("cifar10", "cifar10"),
            column("glyphs", "glyphs"),
            column("cifar10-qcfs", "cifar10"),
        ];
        let account = Account {
            stem: "cifar10-qcfs.cpu".into(),
            evidence: json!({"headline": "a", "seeds": [1],
                "variants": {"a": {"encrypted.drop_vs_ann": {"mean": 0.01}}},
                "runs": [{}]}),
        };
        let tables = tables(&columns, std::slice::from_ref(&account));
        let [
            Block::Heading(3, first),
            Block::Table { head, rows },
            Block::Heading(3, second),
            Block::Table { head: others, .. },
        ] = tables.as_slice()
        else {
            panic!("two headings and tables, got {tables:?}")
        };
        assert_eq!((first.as_str(), second.as_str()), ("cifar10", "glyphs"));
        assert_eq!(
            head[1..],
            [
                "cifar10, cpu: no record",
                "cifar10-qcfs, cpu: a",
                "the paper claims"
            ]
        );
        assert_eq!(rows[1].1, ["–", "1.0 points", "below about 2 points"]);
        assert_eq!(others[1..], ["glyphs, cpu: no record"]);
    }
}
