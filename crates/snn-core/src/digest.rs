//! Fingerprints of tensors, to tell whether a work goes on with what it began with.

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};

use crate::Result;

/// SHA-256 of names, types, shapes and values in their order, in hexadecimal.
///
/// # Errors
/// Tensors of other types than f32 and u32; what their device refuses.
pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<String> {
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn names_types_shapes_and_values_all_count() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let one = tensor(&[1.0, 2.0]);
        let same = of([("a", &one)]).unwrap();
        assert_eq!(same.len(), 64);
        assert_eq!(of([("a", &tensor(&[1.0, 2.0]))]).unwrap(), same);
        let bits = Tensor::new(&[1f32.to_bits(), 2f32.to_bits()], &Device::Cpu).unwrap();
        for (name, other) in [
            ("b", one.clone()),
            ("a", tensor(&[1.0, 2.5])),
            ("a", one.reshape((2, 1)).unwrap()),
            ("a", bits),
        ] {
            assert_ne!(of([(name, &other)]).unwrap(), same, "{name} {other:?}");
        }
        assert_ne!(of([("a", &one), ("a", &one)]).unwrap(), same);
        let (a, b) = (("a", &one), ("b", &one));
        assert_ne!(of([a, b]).unwrap(), of([b, a]).unwrap());
        assert!(of([("a", &one.to_dtype(DType::F64).unwrap())]).is_err());
    }
}
