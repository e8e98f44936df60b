//! What a folder holds.

use std::path::{Path, PathBuf};

/// The paths of a folder with an extension, sorted.
///
/// # Errors
/// A folder that cannot be read.
pub fn with_extension(folder: &Path, extension: &str) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    Ok(paths)
}
