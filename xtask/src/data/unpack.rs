//! Unpacks archives into a folder, and never outside it.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use tar::EntryType;
use zip::ZipArchive;

use crate::data::catalogue::Format;

/// Unpacks `archive` into the folder `into`; a plain file is copied there under `name`.
pub fn unpack(archive: &Path, format: Format, name: &str, into: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let reader = BufReader::with_capacity(1 << 16, file);
    match format {
        Format::TarGz => tar_gz(reader, into),
        Format::Zip => zip(reader, into),
        Format::Plain => write(reader, &inside(into, Path::new(name))?),
    }
    .with_context(|| format!("cannot unpack {}", archive.display()))
}

fn tar_gz(reader: impl Read, into: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(reader));
    for entry in archive.entries().context("not a tar archive")? {
        let entry = entry.context("the archive is damaged")?;
        let name = entry.path().context("the archive is damaged")?.into_owned();
        let target = inside(into, &name)?;
        match entry.header().entry_type() {
            EntryType::Directory => create_folder(&target)?,
            EntryType::Regular | EntryType::Continuous => write(entry, &target)?,
            EntryType::XGlobalHeader => {}
            other => bail!("{}: entries of type {other:?} are refused", name.display()),
        }
    }
    Ok(())
}

fn zip(reader: BufReader<File>, into: &Path) -> Result<()> {
    let mut archive = ZipArchive::new(reader).context("not a zip archive")?;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).context("the archive is damaged")?;
        let name = entry.name().context("the archive is damaged")?.into_owned();
        let target = inside(into, Path::new(&name))?;
        if entry.is_symlink() {
            bail!("{name}: links are refused");
        } else if entry.is_dir() {
            create_folder(&target)?;
        } else {
            write(entry, &target)?;
        }
    }
    Ok(())
}

/// The place of an entry below `into`; an error for names that lead elsewhere.
fn inside(into: &Path, name: &Path) -> Result<PathBuf> {
    let mut target = into.to_path_buf();
    // a backslash separates folders on some systems only: refused everywhere
    let refused = name.as_os_str().to_string_lossy().contains('\\');
    for component in name.components() {
        match component {
            Component::Normal(part) if !refused => target.push(part),
            Component::CurDir => {}
            _ => bail!("the archive's entry {name:?} leads outside the folder; refused"),
        }
    }
    Ok(target)
}

fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a new file; an entry that comes twice is an error.
fn write(mut content: impl Read, target: &Path) -> Result<()> {
    if let Some(folder) = target.parent() {
        create_folder(folder)?;
    }
    let mut file =
        File::create_new(target).with_context(|| format!("cannot create {}", target.display()))?;
    io::copy(&mut content, &mut file).with_context(|| {
        format!(
            "cannot write {} (is the archive whole, is there space left?)",
            target.display()
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
