//! Fingerprints, to tell whether a training goes on with what it began with.

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};

use crate::Result;

/// SHA-256 of names, shapes and values, in hexadecimal. f32 and u32 tensors.
pub(crate) fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(name.as_bytes());
        hash.update(format!("{:?}{:?}", tensor.dtype(), tensor.dims()).as_bytes());
        let flat = tensor.flatten_all()?;
        let bytes: Vec<u8> = match tensor.dtype() {
            DType::U32 => flat
                .to_vec1::<u32>()?
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
            _ => flat
                .to_vec1::<f32>()?
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        };
        hash.update(&bytes);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
