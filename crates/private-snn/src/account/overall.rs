//! All experiments side by side, those without a record too.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::document::Block;
use super::experiment::Account;
use crate::experiment::ExperimentFile;
use crate::report::{Paper, file_name, rows};

/// An experiment under one of its profiles.
#[derive(Debug)]
pub struct Column {
    experiment: String,
    profile: String,
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
                        stem: evidence.trim_end_matches(".json").to_string(),
                        settings: serde_json::to_value(&*experiment)?,
                        paper: Paper::read(paper, experiment.dataset.name())?,
                    });
                }
            }
        }
        Ok(columns)
    }
}

/// The table of the headline variants, a column each, and of what the paper claims. What has no record is empty.
pub fn table(columns: &[Column], accounts: &[Account]) -> Block {
    let columns: Vec<(&Column, Option<&Account>)> = columns
        .iter()
        .map(|column| {
            let account = accounts.iter().find(|account| account.stem == column.stem);
            (column, account)
        })
        .collect();
    let mut head = vec![String::new()];
    head.extend(columns.iter().map(|(column, account)| {
        let variant = match account {
            Some(account) => account.headline(),
            None => "no record",
        };
        format!("{}, {}: {variant}", column.experiment, column.profile)
    }));
    head.push("the paper claims".into());
    let empty = || "–".to_string();
    let seeds = columns
        .iter()
        .map(|(_, account)| account.map_or_else(empty, |account| account.seeds().to_string()));
    let mut table = vec![("Seeds".to_string(), seeds.chain([empty()]).collect())];
    for row in rows() {
        let cells: Vec<Option<String>> = columns
            .iter()
            .map(|(_, account)| account.and_then(|account| account.cell(account.headline(), &row)))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let claims = claims(columns.iter().map(|(column, _)| *column), &row.key);
        let cells = cells.into_iter().chain([claims]);
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

/// Which records were made with other settings than the files have now; nothing if none was.
pub fn outdated(columns: &[Column], accounts: &[Account]) -> Option<Block> {
    let is_outdated = |column: &&Column| {
        let account = accounts.iter().find(|account| account.stem == column.stem);
        account.is_some_and(|account| account.evidence["runs"][0]["settings"] != column.settings)
    };
    let names: Vec<String> = columns
        .iter()
        .filter(is_outdated)
        .map(|column| format!("{}, {}", column.experiment, column.profile))
        .collect();
    (!names.is_empty()).then(|| {
        Block::Text(format!(
            "Recorded with other settings than the experiment's file has now, or before it had all of them: {}.",
            names.join("; ")
        ))
    })
}
