//! What the paper claims, with its place.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::folder::with_extension;

/// A file of `data/paper`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Names of the data sets that the claims are about.
    pub datasets: Vec<String>,
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
    /// The paper with claims about a data set, of the files of `folder` by name; none if no claim is on file.
    ///
    /// # Errors
    /// A folder that cannot be read; a file that is not what it should be.
    pub fn read(folder: &Path, dataset: &str) -> Result<Option<Self>> {
        if !folder.exists() {
            return Ok(None);
        }
        let paths = with_extension(folder, "toml").with_context(|| folder.display().to_string())?;
        for path in paths {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let paper: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
            if paper.datasets.iter().any(|name| name == dataset) {
                return Ok(Some(paper));
            }
        }
        Ok(None)
    }

    /// The claim that stands beside a row.
    pub fn beside(&self, row: &str) -> Option<&Claim> {
        self.claims
            .iter()
            .find(|claim| claim.rows.iter().any(|known| known == row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_data_set() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/paper");
        let paper = Paper::read(&folder, "cifar100").unwrap().unwrap();
        assert!(paper.beside("encrypted.drop_vs_ann").is_some());
        assert!(paper.beside("ann.worst_class_accuracy").is_none());
        assert_eq!(Paper::read(&folder, "glyphs").unwrap(), None);
        assert_eq!(Paper::read(&folder.join("none"), "cifar100").unwrap(), None);
        let broken = tempfile::tempdir().unwrap();
        std::fs::write(broken.path().join("x.toml"), "source = 3").unwrap();
        let error = format!("{:#}", Paper::read(broken.path(), "cifar100").unwrap_err());
        assert!(error.contains("x.toml"), "{error}");
    }
}
