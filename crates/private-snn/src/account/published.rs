//! Accuracies against T that other work published.

use std::path::Path;

use anyhow::{Context, Result, bail};
use datasets::Kind;
use serde::Deserialize;

use crate::folder::with_extension;

/// A file of `data/published`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The work, as one would cite it.
    pub source: String,
    /// Short name of its method.
    pub method: String,
    /// What one has to know of its figures.
    pub note: Option<String>,
    /// What it converted.
    pub networks: Vec<Network>,
}

/// One network's accuracies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The data set.
    pub dataset: Kind,
    /// Name of the architecture.
    pub network: String,
    /// Accuracy of the network before the conversion, if it is known.
    pub source_accuracy: Option<f64>,
    /// Numbers of time steps with the accuracy after so many.
    pub accuracy: Vec<(u64, f64)>,
}

impl Published {
    /// The files of a folder, by name; none without the folder.
    ///
    /// # Errors
    /// A folder that cannot be read; a file that is not what it should be.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let paths = with_extension(folder, "toml").with_context(|| folder.display().to_string())?;
        paths
            .iter()
            .map(|path| Self::read(path).with_context(|| path.display().to_string()))
            .collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let work: Self = toml::from_str(&std::fs::read_to_string(path)?)?;
        for network in &work.networks {
            let shares = network.accuracy.iter().map(|(_, share)| *share);
            if let Some(bad) = shares
                .chain(network.source_accuracy)
                .find(|share| !(0.0..=1.0).contains(share))
            {
                bail!("{}: {bad} is no share in 0..=1", network.network);
            }
        }
        Ok(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_figures_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/published");
        let all = Published::all(&folder).unwrap();
        assert!(all.iter().any(|work| work.method == "QCFS"));
        assert!(Published::all(&folder.join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_percentage_and_an_unknown_data_set_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |dataset: &str, accuracy: f64| {
            let text = format!(
                "source = 's'\nmethod = 'm'\n[[networks]]\ndataset = '{dataset}'\nnetwork = 'n'\n\
                 accuracy = [[2, {accuracy}]]\n"
            );
            std::fs::write(folder.path().join("x.toml"), text).unwrap();
            let error = format!("{:#}", Published::all(folder.path()).unwrap_err());
            assert!(error.contains("x.toml"), "{error}");
            error
        };
        assert!(refused("cifar10", 91.18).contains("91.18"));
        assert!(refused("cifar11", 0.9).contains("cifar11"));
    }
}
