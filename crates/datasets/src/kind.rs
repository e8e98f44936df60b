//! The data sets there are, by name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::glyphs::{self, GlyphsConfig};
use crate::{Dataset, Error, Result, cifar, idx, tiny_imagenet};

/// The data sets known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `glyphs`: drawn by this crate, see [`glyphs`].
    Glyphs,
    /// `cifar10`: see [`cifar::cifar10`].
    Cifar10,
    /// `cifar100`: see [`cifar::cifar100`].
    Cifar100,
    /// `tinyimagenet`: see [`tiny_imagenet::load`].
    #[serde(rename = "tinyimagenet")]
    TinyImagenet,
    /// `mnist`: see [`idx::load`].
    Mnist,
    /// `fashion-mnist`: see [`idx::load`].
    FashionMnist,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Glyphs,
        Self::Cifar10,
        Self::Cifar100,
        Self::TinyImagenet,
        Self::Mnist,
        Self::FashionMnist,
    ];

    /// The name on the command line and in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glyphs => "glyphs",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::TinyImagenet => "tinyimagenet",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        }
    }

    /// Number of test images of the official data set; none for glyphs, of which as many are drawn as are asked for. Of
    /// Tiny-ImageNet those that serve as such, see [`tiny_imagenet::load`].
    pub fn test_images(self) -> Option<usize> {
        match self {
            Self::Glyphs => None,
            Self::Cifar10
            | Self::Cifar100
            | Self::TinyImagenet
            | Self::Mnist
            | Self::FashionMnist => Some(10_000),
        }
    }

    /// Shape of an image, `[C, H, W]`.
    pub fn image(self) -> [usize; 3] {
        match self {
            Self::Glyphs | Self::Cifar10 | Self::Cifar100 => [3, 32, 32],
            Self::TinyImagenet => [3, 64, 64],
            Self::Mnist | Self::FashionMnist => [1, 28, 28],
        }
    }

    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::Glyphs | Self::Cifar10 | Self::Mnist | Self::FashionMnist => 10,
            Self::Cifar100 => 100,
            Self::TinyImagenet => 200,
        }
    }

    /// The folder which the official archive unpacks to (for the IDX sets: the folder for their four files). None for
    /// glyphs, which need no file.
    pub fn folder(self) -> Option<&'static str> {
        match self {
            Self::Glyphs => None,
            Self::Cifar10 => Some("cifar-10-batches-bin"),
            Self::Cifar100 => Some("cifar-100-binary"),
            Self::TinyImagenet => Some("tiny-imagenet-200"),
            Self::Mnist => Some("mnist"),
            Self::FashionMnist => Some("fashion-mnist"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::UnknownKind(name.to_string()))
    }
}

/// Loads a data set; glyphs are drawn with their default settings.
///
/// `dir` is the folder of the set itself or one that holds it under its [`Kind::folder`] name. Glyphs do not look at it.
///
/// # Errors
/// See the loader of each set. A missing file names the path looked for.
pub fn load(kind: Kind, dir: &Path) -> Result<Dataset> {
    match kind {
        Kind::Glyphs => glyphs::generate(&GlyphsConfig::default()),
        Kind::Cifar10 => cifar::cifar10(&locate(kind, dir)),
        Kind::Cifar100 => cifar::cifar100(&locate(kind, dir)),
        Kind::TinyImagenet => tiny_imagenet::load(&locate(kind, dir)),
        Kind::Mnist | Kind::FashionMnist => idx::load(&locate(kind, dir), kind.name()),
    }
}

/// The folder of the set below `dir`, or `dir` itself where it has no such folder.
fn locate(kind: Kind, dir: &Path) -> PathBuf {
    let inside = dir.join(kind.folder().unwrap_or_default());
    match dir.is_dir() && !inside.is_dir() {
        true => dir.into(),
        false => inside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
            let json = format!("{:?}", kind.to_string());
            assert_eq!(serde_json::to_string(&kind).unwrap(), json);
            assert_eq!(serde_json::from_str::<Kind>(&json).unwrap(), kind);
        }
        let message = "cifar".parse::<Kind>().unwrap_err().to_string();
        assert!(message.contains("\"cifar\"") && message.contains("fashion-mnist"));
    }

    #[test]
    fn missing_folder_names_the_path_and_the_command() {
        let dir = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let Some(folder) = kind.folder() else {
                continue;
            };
            let missing = dir.path().join("none");
            let message = load(kind, &missing).unwrap_err().to_string();
            let path = missing.join(folder);
            assert!(message.contains(&path.display().to_string()), "{message}");
            assert!(message.contains(&format!("fetch {kind}")), "{message}");
        }
    }
}
