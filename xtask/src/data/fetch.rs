//! A data set from its address to its folder. The folder appears whole or not at all: everything is unpacked and
//! checked in a temporary folder beside it and then renamed.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::HumanBytes;

use crate::data::catalogue::{DataSet, Format};
use crate::data::download::{self, Policy};
use crate::data::{checksum, unpack};

/// Downloads, checks and unpacks a data set into `dir`, unless it is there.
pub fn fetch(
    name: &str,
    set: &DataSet,
    dir: &Path,
    mirror: Option<&str>,
    policy: &Policy,
) -> Result<()> {
    let folder = dir.join(&set.folder);
    if complete(name, set, &folder)? {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _lock = lock(name, dir)?;
    // another process may have finished it meanwhile
    if complete(name, set, &folder)? {
        return Ok(());
    }
    let bytes = set.downloads.iter().map(|source| source.bytes).sum();
    println!(
        "{name}: {} to download ({}), into {}",
        HumanBytes(bytes),
        set.homepage,
        folder.display()
    );

    let mut parts = Vec::new();
    for source in &set.downloads {
        let url = match mirror {
            Some(folder) if set.downloads.len() > 1 => {
                format!("{}/{}", folder.trim_end_matches('/'), source.file_name())
            }
            Some(url) => url.to_owned(),
            None => source.url.clone(),
        };
        // files of one name in several data sets must not meet in one part file
        let unique = if set.downloads.len() > 1 {
            format!("{name}-")
        } else {
            String::new()
        };
        let part = dir.join(format!("{unique}{}.part", source.file_name()));
        download::download(&url, &part, policy)?;
        if let Err(error) = checksum::check(&part, source.bytes, &source.sha256) {
            download::discard(&part)?;
            return Err(error.context(format!(
                "what {url} sent is not the data set {name}; it was deleted. Run again, or name another mirror with \
                 `cargo xtask fetch --url`"
            )));
        }
        parts.push(part);
    }

    let prefix = unpack_prefix(set);
    sweep(dir, &prefix)?;
    let fresh = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(dir)
        .with_context(|| format!("cannot create a folder in {}", dir.display()))?;
    for (source, part) in set.downloads.iter().zip(&parts) {
        println!("{name}: unpacking {}", source.file_name());
        let into = if set.format == Format::Plain {
            fresh.path().join(&set.folder)
        } else {
            fresh.path().into()
        };
        unpack::unpack(part, set.format, source.file_name(), &into)?;
    }
    let unpacked = fresh.path().join(&set.folder);
    verify(set, &unpacked).context("what the archive unpacked to is not the data set")?;
    fs::rename(&unpacked, &folder)
        .with_context(|| format!("cannot rename to {}", folder.display()))?;
    for part in &parts {
        download::discard(part)?;
    }
    println!("{name}: {} is complete", folder.display());
    Ok(())
}

/// Whether the folder is there; an error if it is there and not whole.
fn complete(name: &str, set: &DataSet, folder: &Path) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    verify(set, folder).with_context(|| damaged(name, folder))?;
    println!("{name}: {} is complete", folder.display());
    Ok(true)
}

/// A quick look: whether the data set is in `dir`, or `dir` is its own folder. Every file has its size then and every
/// subfolder is there; an error if the data set's folder is there without them.
pub fn present(name: &str, set: &DataSet, dir: &Path) -> Result<bool> {
    let folder = dir.join(&set.folder);
    if folder.exists() {
        return sizes(set, &folder)
            .map(|()| true)
            .with_context(|| damaged(name, &folder));
    }
    Ok(sizes(set, dir).is_ok())
}

fn sizes(set: &DataSet, folder: &Path) -> Result<()> {
    for (file, bytes) in files(set) {
        let path = folder.join(file);
        let found = path
            .metadata()
            .with_context(|| path.display().to_string())?
            .len();
        if found != bytes {
            bail!("{}: {found} bytes, expected {bytes}", path.display());
        }
    }
    for subfolder in set.entries.keys() {
        let path = folder.join(subfolder);
        fs::read_dir(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Every file has its checksum, every subfolder its number of entries.
fn verify(set: &DataSet, folder: &Path) -> Result<()> {
    if set.format == Format::Plain {
        for source in &set.downloads {
            checksum::check(
                &folder.join(source.file_name()),
                source.bytes,
                &source.sha256,
            )?;
        }
    }
    for (name, digest) in &set.files {
        checksum::check(&folder.join(name), digest.bytes, &digest.sha256)?;
    }
    for (name, &expected) in &set.entries {
        let path = folder.join(name);
        let found = fs::read_dir(&path)
            .with_context(|| path.display().to_string())?
            .count();
        if found != expected {
            bail!("{}: {found} entries, expected {expected}", path.display());
        }
    }
    Ok(())
}

fn files(set: &DataSet) -> Vec<(&str, u64)> {
    let mut files: Vec<(&str, u64)> = set
        .files
        .iter()
        .map(|(name, digest)| (name.as_str(), digest.bytes))
        .collect();
    if set.format == Format::Plain {
        files.extend(
            set.downloads
                .iter()
                .map(|source| (source.file_name(), source.bytes)),
        );
    }
    files
}

fn damaged(name: &str, folder: &Path) -> String {
    format!(
        "{} is not the whole data set {name}; move that folder away and run `cargo xtask fetch {name}`",
        folder.display()
    )
}

/// One process at a time downloads a data set into a folder.
fn lock(name: &str, dir: &Path) -> Result<File> {
    let path = dir.join(format!(".{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("{name}: waiting for another process that is downloading it");
            file.lock().with_context(|| path.display().to_string())?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| path.display().to_string());
        }
    }
    Ok(file)
}

fn unpack_prefix(set: &DataSet) -> String {
    format!(".{}.unpack-", set.folder)
}

/// Removes what a killed run left half unpacked; nobody else unpacks here while the lock is held.
fn sweep(dir: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let left = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if left {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
