//! What the paper claims, with its place.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A file of `data/paper`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// The paper, as one would cite it.
    pub source: String,
    /// Its claims.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Rows of the report's table that it stands beside, such as `encrypted.drop_vs_ann`.
    pub rows: Vec<String>,
    /// The claim, as close to its wording as a short text can be.
    pub claim: String,
    /// Where it stands.
    pub place: String,
}

impl Paper {
    /// Reads `NAME.toml` of `folder`; none if no claim is on file for this data set.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn read(folder: &Path, name: &str) -> Result<Option<Self>> {
        let path = folder.join(format!("{name}.toml"));
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Some(
            toml::from_str(&text).with_context(|| path.display().to_string())?,
        ))
    }

    /// The claim that stands beside a row.
    pub fn beside(&self, row: &str) -> Option<&Claim> {
        self.claims
            .iter()
            .find(|claim| claim.rows.iter().any(|known| known == row))
    }
}
