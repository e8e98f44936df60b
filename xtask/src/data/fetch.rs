//! A data set from its address to its folder. The folder appears whole or not at all: everything is unpacked and
//! checked in a temporary folder beside it and then renamed.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

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
    let taken = set
        .downloads
        .iter()
        .any(|source| unpacked(set, folder, source.file_name()).is_some());
    let remark = if taken {
        " (unpacked files have no checksum here; the program checks them when it reads them)"
    } else {
        ""
    };
    println!("{name}: {} is complete{remark}", folder.display());
    Ok(true)
}

/// What a quick look at a folder finds.
#[derive(Debug, PartialEq)]
pub enum Presence {
    /// No such data set.
    Absent,
    /// Every file has its size, every subfolder its number of pictures.
    Whole,
    /// Every file has its size and every subfolder is there, with other numbers of pictures. A part of a set is enough
    /// for a trial, so this is no error, but worth a word: the text says what is there.
    Partial(String),
}

/// A quick look: whether the data set is in `dir`, or `dir` is its own folder. An error if the data set's folder is
/// there without a file or a subfolder.
pub fn present(name: &str, set: &DataSet, dir: &Path) -> Result<Presence> {
    let folder = dir.join(&set.folder);
    if folder.exists() {
        return look(set, &folder).with_context(|| damaged(name, &folder));
    }
    Ok(look(set, dir).unwrap_or(Presence::Absent))
}

fn look(set: &DataSet, folder: &Path) -> Result<Presence> {
    for (file, bytes) in files(set) {
        if unpacked(set, folder, file).is_some() {
            continue;
        }
        let path = folder.join(file);
        let found = path
            .metadata()
            .with_context(|| path.display().to_string())?
            .len();
        if found != bytes {
            bail!("{}: {found} bytes, expected {bytes}", path.display());
        }
    }
    let mut found = Vec::new();
    for (subfolder, &expected) in &set.entries {
        found.push((subfolder, entries(folder, subfolder)?, expected));
    }
    if found.iter().all(|(_, found, expected)| found == expected) {
        return Ok(Presence::Whole);
    }
    let list: Vec<String> = found
        .iter()
        .map(|(subfolder, found, expected)| format!("{found} of {expected} in {subfolder}"))
        .collect();
    Ok(Presence::Partial(format!(
        "{} holds {} of {} pictures: {}",
        folder.display(),
        found.iter().map(|(_, found, _)| found).sum::<usize>(),
        found.iter().map(|(_, _, expected)| expected).sum::<usize>(),
        list.join(", ")
    )))
}

/// The unpacked form of a plain download NAME.gz, if it lies there: the program reads either and prefers this one. It
/// has no checksum here; the program checks its content.
fn unpacked(set: &DataSet, folder: &Path, file: &str) -> Option<PathBuf> {
    if set.format != Format::Plain {
        return None;
    }
    let path = folder.join(file.strip_suffix(".gz")?);
    path.is_file().then_some(path)
}

/// Number of entries of a subfolder. A `*` in its name stands for every folder there; the numbers are added up.
fn entries(folder: &Path, subfolder: &str) -> Result<usize> {
    let listing = |path: &Path| fs::read_dir(path).with_context(|| path.display().to_string());
    let Some((before, after)) = subfolder.split_once("/*/") else {
        return Ok(listing(&folder.join(subfolder))?.count());
    };
    let mut count = 0;
    for entry in listing(&folder.join(before))? {
        let inner = entry?.path().join(after);
        if inner.is_dir() {
            count += listing(&inner)?.count();
        }
    }
    Ok(count)
}

/// Every file has its checksum, every subfolder its number of entries. A file that lies there unpacked is taken as it
/// is.
fn verify(set: &DataSet, folder: &Path) -> Result<()> {
    if set.format == Format::Plain {
        for source in &set.downloads {
            if unpacked(set, folder, source.file_name()).is_some() {
                continue;
            }
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
        let found = entries(folder, name)?;
        if found != expected {
            let path = folder.join(name);
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
