//! The file of a training in progress: what resuming needs, and the check that it is the same training.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use snn_core::checkpoint;

use crate::{Error, Result};

/// Adds `tensors` to `all` under `"{part}/{name}"`.
pub fn put(all: &mut BTreeMap<String, Tensor>, part: &str, tensors: BTreeMap<String, Tensor>) {
    all.extend(
        tensors
            .into_iter()
            .map(|(name, tensor)| (format!("{part}/{name}"), tensor)),
    );
}

/// Takes out of `all` what [`put`] added under `part`.
pub fn take(all: &mut BTreeMap<String, Tensor>, part: &str) -> BTreeMap<String, Tensor> {
    let prefix = format!("{part}/");
    let (wanted, others) = std::mem::take(all)
        .into_iter()
        .partition(|(name, _): &(String, Tensor)| name.starts_with(&prefix));
    *all = others;
    let wanted: BTreeMap<String, Tensor> = wanted;
    wanted
        .into_iter()
        .map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor))
        .collect()
}

/// Holds the settings read from a state file, `stored`, against those `asked` for.
///
/// # Errors
/// The file, the first setting that differs (such as `config.optimiser.momentum`), and both values.
pub fn require_same<T>(path: &Path, name: &str, stored: &T, asked: &T) -> Result<()>
where
    T: Serialize + DeserializeOwned,
{
    let unreadable = |e: serde_json::Error| Error::argument("settings", e.to_string());
    // by way of text, as the stored ones came: reading a number may change its last bit
    let text = serde_json::to_string(asked).map_err(unreadable)?;
    let asked: T = serde_json::from_str(&text).map_err(unreadable)?;
    let value = |settings: &T| serde_json::to_value(settings).map_err(unreadable);
    let (stored, asked) = (value(stored)?, value(&asked)?);
    match difference(name, &stored, &asked) {
        None => Ok(()),
        Some((field, stored, asked)) => {
            let message = format!(
                "was made with {field} = {stored}, asked for is {asked}; use the former setting, or delete the file to \
                 start again"
            );
            Err(checkpoint::fault(path, message).into())
        }
    }
}

fn difference(name: &str, stored: &Value, asked: &Value) -> Option<(String, String, String)> {
    match (stored, asked) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => a
            .iter()
            .find_map(|(key, value)| difference(&format!("{name}.{key}"), value, &b[key])),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| difference(&format!("{name}[{i}]"), a, b))
        }
        (a, b) if a == b => None,
        (a, b) => Some((name.to_string(), a.to_string(), b.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_field_that_differs_is_named() {
        let stored = json!({"a": 1, "b": {"c": [1, 2]}});
        let path = Path::new("x.safetensors");
        assert!(require_same(path, "config", &stored, &stored.clone()).is_ok());
        for (asked, expected) in [
            (
                json!({"a": 1, "b": {"c": [1, 3]}}),
                "config.b.c[1] = 2, asked for is 3",
            ),
            (
                json!({"a": 2, "b": {"c": [1, 2]}}),
                "config.a = 1, asked for is 2",
            ),
            (
                json!({"a": 1, "b": {"c": [1]}}),
                "config.b.c = [1,2], asked for is [1]",
            ),
        ] {
            let message = require_same(path, "config", &stored, &asked)
                .expect_err("differs")
                .to_string();
            assert!(
                message.contains(expected) && message.contains("x.safetensors"),
                "{message}"
            );
        }
    }

    /// An f32 is written as itself and seen as the f64 next to it.
    #[test]
    fn numbers_that_went_through_a_file_are_the_same() {
        let asked = (0.3f32, 0.1f64 + 0.2);
        let text = serde_json::to_string(&asked).expect("text");
        let stored: (f32, f64) = serde_json::from_str(&text).expect("numbers");
        require_same(Path::new("x"), "config", &stored, &asked).expect("the same");
    }

    #[test]
    fn parts_are_kept_apart() -> Result<()> {
        let tensor = |x: f32| Tensor::new(&[x], &candle_core::Device::Cpu);
        let mut all = BTreeMap::new();
        put(
            &mut all,
            "network",
            [("w".to_string(), tensor(1.0)?)].into(),
        );
        put(
            &mut all,
            "optimiser",
            [("w".to_string(), tensor(2.0)?)].into(),
        );
        let network = take(&mut all, "network");
        assert_eq!(network["w"].to_vec1::<f32>()?, [1.0]);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["optimiser/w"]);
        Ok(())
    }
}
