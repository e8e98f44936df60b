//! Reading files with messages that say what to do.

use std::io::ErrorKind;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// All bytes of a file of the set `set`.
pub(crate) fn read(path: &Path, set: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| failed(path, set, source))
}

/// All text of a file of the set `set`.
pub(crate) fn read_text(path: &Path, set: &str) -> Result<String> {
    String::from_utf8(read(path, set)?).map_err(|_| Error::Format {
        path: path.into(),
        what: "is not UTF-8 text".to_string(),
    })
}

/// The error for a failed attempt to open `path`.
pub(crate) fn failed(path: &Path, set: &str, source: std::io::Error) -> Error {
    if source.kind() == ErrorKind::NotFound {
        Error::Missing {
            path: path.into(),
            set: set.to_string(),
        }
    } else {
        Error::Io {
            path: path.into(),
            source,
        }
    }
}

/// An error about the content of `path`.
pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Error {
    Error::Format {
        path: path.into(),
        what: what.into(),
    }
}

/// An official file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Official {
    pub(crate) name: &'static str,
    pub(crate) sha256: &'static str,
}

/// Checks `bytes`, read from `path`, against `officials[index]`; the others tell swapped files from corrupted ones.
pub(crate) fn verify(
    path: &Path,
    bytes: &[u8],
    index: usize,
    officials: &[Official],
) -> Result<()> {
    let actual: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = officials[index].sha256;
    if actual == expected {
        return Ok(());
    }
    Err(
        match officials.iter().find(|other| other.sha256 == actual) {
            Some(other) => Error::Swapped {
                path: path.into(),
                holds: other.name.to_string(),
            },
            None => Error::Checksum {
                path: path.into(),
                expected: expected.to_string(),
                actual,
            },
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // sha256 of "abc" (FIPS 180-4 example) and of the empty message.
    const OFFICIALS: [Official; 2] = [
        Official {
            name: "abc.bin",
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        },
        Official {
            name: "empty.bin",
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
    ];

    #[test]
    fn sums_tell_good_swapped_and_corrupted_apart() {
        let path = Path::new("abc.bin");
        verify(path, b"abc", 0, &OFFICIALS).unwrap();
        let swapped = verify(path, b"", 0, &OFFICIALS).unwrap_err();
        assert!(swapped.to_string().contains("holds the bytes of empty.bin"));
        let corrupted = verify(path, b"abd", 0, &OFFICIALS).unwrap_err();
        assert!(corrupted.to_string().contains("abc.bin is corrupted"));
    }

    #[test]
    fn missing_file_says_what_to_do() {
        let message = read(Path::new("/nowhere/x.bin"), "cifar10")
            .unwrap_err()
            .to_string();
        assert!(message.contains("/nowhere/x.bin"), "{message}");
        assert!(message.contains("cargo xtask fetch cifar10"), "{message}");
        assert!(message.contains("--data-dir"), "{message}");
    }
}
