//! SHA-256 of files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a file, in lower-case hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| path.display().to_string())?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// An error unless the file has this size and this SHA-256.
pub fn check(path: &Path, bytes: u64, expected: &str) -> Result<()> {
    let found = path
        .metadata()
        .with_context(|| path.display().to_string())?
        .len();
    if found != bytes {
        bail!("{}: {found} bytes, expected {bytes}", path.display());
    }
    let found = sha256(path)?;
    if found != expected {
        bail!("{}: sha256 is {found}, expected {expected}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "").unwrap();
        // FIPS 180-4 examples, as published with the standard
        assert_eq!(
            sha256(&path).unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), abc);
        assert!(check(&path, 3, abc).is_ok());
        assert!(
            check(&path, 4, abc)
                .unwrap_err()
                .to_string()
                .contains("3 bytes, expected 4")
        );
        std::fs::write(&path, "abd").unwrap();
        assert!(
            check(&path, 3, abc)
                .unwrap_err()
                .to_string()
                .contains("sha256 is")
        );
    }
}
