//! `data/checksums.toml`: where each data set comes from and what it must hash to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// All data sets that can be downloaded.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Catalogue {
    sets: BTreeMap<String, DataSet>,
}

/// One data set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// Where a person reads about it.
    pub homepage: String,
    /// Its folder under the data directory.
    pub folder: String,
    /// What the downloads are.
    pub format: Format,
    /// The files to download.
    pub downloads: Vec<Source>,
    /// Files to check after unpacking, by path in the folder.
    #[serde(default)]
    pub files: BTreeMap<String, Digest>,
    /// How many pictures a subfolder must have; `a/*/b` stands for the folders `b` of all folders of `a` together.
    #[serde(default)]
    pub entries: BTreeMap<String, usize>,
}

/// How a download is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// A tar archive compressed with gzip.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// A zip archive.
    #[serde(rename = "zip")]
    Zip,
    /// A file that is kept as it is.
    #[serde(rename = "plain")]
    Plain,
}

/// One file to download.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its address.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Size and SHA-256 of one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Source {
    /// The last part of the address.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

impl Catalogue {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let catalogue: Self = toml::from_str(text)?;
        for (name, set) in &catalogue.sets {
            set.check().with_context(|| format!("data set {name:?}"))?;
        }
        Ok(catalogue)
    }

    /// A data set by name.
    pub fn find(&self, name: &str) -> Option<&DataSet> {
        self.sets.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.sets.keys().map(String::as_str).collect()
    }
}

impl DataSet {
    fn check(&self) -> Result<()> {
        if self.downloads.is_empty() {
            bail!("it has no download");
        }
        if self.format != Format::Plain && self.files.is_empty() && self.entries.is_empty() {
            bail!("it names neither files nor entries to tell a whole folder by");
        }
        if self.folder.is_empty()
            || self.folder.contains(['/', '\\'])
            || self.folder.starts_with('.')
        {
            bail!("folder = {:?} must be a plain name", self.folder);
        }
        let downloads = self
            .downloads
            .iter()
            .map(|source| (&source.url, &source.sha256));
        let files = self
            .files
            .iter()
            .map(|(name, digest)| (name, &digest.sha256));
        for (what, sha256) in downloads.chain(files) {
            if sha256.len() != 64
                || !sha256
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            {
                bail!("{what}: sha256 must be 64 lower-case hexadecimal digits");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/checksums.toml");
        let catalogue = Catalogue::read(&path).unwrap();
        let cifar = catalogue.find("cifar10").unwrap();
        assert_eq!(cifar.format, Format::TarGz);
        assert_eq!(cifar.downloads[0].file_name(), "cifar-10-binary.tar.gz");
        // ten thousand records of one label and 3x32x32 pixels
        assert!(cifar.files.values().all(|file| file.bytes == 10_000 * 3073));
        assert_eq!(
            catalogue.find("cifar100").unwrap().files["train.bin"].bytes,
            50_000 * 3074
        );
    }

    #[test]
    fn mistakes_are_refused() {
        let good = format!(
            "[a]\nhomepage = 'h'\nfolder = 'f'\nformat = 'zip'\n[[a.downloads]]\nurl = 'u'\nbytes = 1\nsha256 = '{}'\n[a.entries]\nx = 1\n",
            "0".repeat(64)
        );
        assert!(Catalogue::parse(&good).is_ok());
        for (from, to) in [
            ("'f'", "'../f'"),
            ("'zip'", "'rar'"),
            ("bytes", "size"),
            ("'00", "'0"),
            ("'00", "'G0"),
            ("x = 1", ""),
        ] {
            assert!(
                Catalogue::parse(&good.replace(from, to)).is_err(),
                "{from} -> {to} passed"
            );
        }
    }
}
