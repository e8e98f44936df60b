//! Safetensors files that describe themselves and are whole or absent.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The one metadata key: a JSON text. One key, because the order of several is not fixed, and equal content shall
/// give equal bytes.
const KEY: &str = "private-snn";

/// Writes tensors and a description to `path`: first to a temporary file beside it, then renamed, so that a reader
/// finds the old file or the new one, never a part. Missing folders are made.
///
/// # Errors
/// Whatever the file system answers (a full disk, no permission), with the path.
pub fn save<D: Serialize>(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    description: &D,
) -> Result<()> {
    let text = serde_json::to_string(description)
        .map_err(|e| fault(path, format!("description cannot be written: {e}")))?;
    let on_cpu = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let bytes = safetensors::serialize(&on_cpu, Some(HashMap::from([(KEY.to_string(), text)])))
        .map_err(|e| fault(path, e.to_string()))?;
    write_atomically(path, &bytes)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// Whatever the file system answers, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-").suffix(".tmp");
    #[cfg(unix)]
    {
        // like any other file, not for the owner alone; the umask still applies
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Reads what [`save`] wrote: tensors on `device`, and the description.
///
/// # Errors
/// No such file; not a safetensors file, or cut short; no description of this project; a description of another kind.
pub fn load<D: DeserializeOwned>(
    path: &Path,
    device: &Device,
) -> Result<(BTreeMap<String, Tensor>, D)> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let broken = |e: safetensors::SafeTensorError| {
        fault(
            path,
            format!("is not a whole safetensors file ({e}); delete it to have it made again"),
        )
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let text = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(KEY))
        .ok_or_else(|| {
            fault(
                path,
                format!("has no `{KEY}` description; it was not written by private-snn"),
            )
        })?;
    let description = serde_json::from_str(text).map_err(|e| {
        fault(
            path,
            format!("describes something else than what is asked for: {e}"),
        )
    })?;
    SafeTensors::deserialize(&bytes).map_err(broken)?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|e| fault(path, format!("has a tensor that cannot be taken: {e}")))?;
    Ok((tensors.into_iter().collect(), description))
}

/// An error about the file at `path`.
pub fn fault(path: &Path, message: impl Into<String>) -> Error {
    Error::Checkpoint {
        path: path.to_path_buf(),
        message: message.into(),
    }
}
