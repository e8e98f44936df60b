//! Training logs: one JSON object per line.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::{Error, Result};

/// Adds one line to the file at `path`, which is made if missing, as are its folders.
///
/// # Errors
/// Whatever the file system answers, with the path.
pub fn append<T: Serialize>(path: &Path, entry: &T) -> Result<()> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut line = serde_json::to_vec(entry).map_err(|e| io(e.into()))?;
    line.push(b'\n');
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(io)?;
    // in one call, so that a line is not cut by another writer
    file.write_all(&line).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runs/train.jsonl");
        append(&path, &serde_json::json!({"epoch": 1})).expect("written");
        append(&path, &serde_json::json!({"epoch": 2})).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "{\"epoch\":1}\n{\"epoch\":2}\n");
        let message = append(folder.path(), &1).expect_err("a folder").to_string();
        assert!(
            message.contains(&folder.path().display().to_string()),
            "{message}"
        );
    }
}
