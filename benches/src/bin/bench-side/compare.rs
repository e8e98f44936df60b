//! How far the outputs of two sides are apart.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};
use snn_core::evaluate::argmax;

/// For each tensor of the files, which must hold the same, the largest difference relative to the largest number of the
/// second: `max |a - b| / max |b|`. Beside `logits`, the share of `predictions` that differ.
pub fn files(a: &Path, b: &Path) -> Result<Value> {
    let load = |path: &Path| {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu);
        tensors.with_context(|| path.display().to_string())
    };
    let (ours, theirs) = (load(a)?, load(b)?);
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    let mut errors = Map::new();
    for name in names {
        let (Some(ours), Some(theirs)) = (ours.get(name), theirs.get(name)) else {
            bail!(
                "`{name}` is in one of {} and {} only",
                a.display(),
                b.display()
            );
        };
        if ours.dims() != theirs.dims() {
            bail!(
                "`{name}` is {:?} here, {:?} there",
                ours.dims(),
                theirs.dims()
            );
        }
        errors.insert(name.clone(), json!(relative(ours, theirs)?));
        if name == "logits" {
            errors.insert("predictions".into(), json!(differing(ours, theirs)?));
        }
    }
    Ok(errors.into())
}

/// Not finite if a number is not, or if the second tensor is zero and the first is not.
fn relative(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let (a, b): (Vec<f64>, Vec<f64>) = (a.flatten_all()?.to_vec1()?, b.flatten_all()?.to_vec1()?);
    let largest = b.iter().fold(0f64, |so_far, b| so_far.max(b.abs()));
    let difference = |(a, b): (&f64, &f64)| (a - b).abs();
    let error = a.iter().zip(&b).map(difference).fold(0f64, nan_or_max);
    Ok(if error == 0.0 { 0.0 } else { error / largest })
}

/// Share of the rows whose largest entries are at different places.
fn differing(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (a.to_vec2()?, b.to_vec2()?);
    let rows = a.iter().zip(&b);
    let count = rows.filter(|(a, b)| argmax(a) != argmax(b)).count();
    Ok(count as f64 / a.len().max(1) as f64)
}

/// The larger; not a number if either is none.
fn nan_or_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(a: &[f32], b: &[f32]) -> f64 {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        relative(&tensor(a), &tensor(b)).unwrap()
    }

    #[test]
    fn differences_are_relative_to_the_largest() {
        assert_eq!(of(&[1.0, 3.0], &[1.0, 4.0]), 0.25);
        assert_eq!(of(&[0.0], &[0.0]), 0.0);
        assert!(of(&[1.0], &[0.0]).is_infinite());
        assert!(of(&[f32::NAN, 0.0], &[1.0, 1.0]).is_nan());
        assert!(of(&[1.0, 0.0], &[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn predictions_are_the_largest_logits() {
        let tensor = |rows: [[f32; 2]; 2]| Tensor::new(&rows, &Device::Cpu).unwrap();
        let (a, b) = (
            tensor([[1.0, 2.0], [3.0, 1.0]]),
            tensor([[0.0, 9.0], [1.0, 2.0]]),
        );
        assert_eq!(differing(&a, &b).unwrap(), 0.5);
    }

    #[test]
    fn files_must_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let save = |file: &str, name: &str, values: &[f32]| {
            let path = folder.path().join(file);
            let tensor = Tensor::new(values, &Device::Cpu).unwrap();
            tensor.save_safetensors(name, &path).unwrap();
            path
        };
        let a = save("a", "x", &[1.0, 2.0]);
        assert_eq!(files(&a, &save("b", "x", &[1.0, 2.0])).unwrap()["x"], 0.0);
        assert!(files(&a, &save("c", "y", &[1.0, 2.0])).is_err());
        assert!(files(&a, &save("d", "x", &[1.0])).is_err());
    }
}
