//! What a stage's result depends on, as a hash.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Everything that a stage's artefacts are a function of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// The stage's name.
    pub stage: String,
    /// Version of what the stage computes; raised when its code changes the result.
    pub format: u32,
    /// The stage's settings.
    pub config: Value,
    /// The run's seed.
    pub seed: u64,
    /// `cpu` or `cuda`: the same computation differs in its last bits between them.
    pub device: String,
    /// sha256 of everything that comes from earlier stages or from the data set, by name.
    pub upstream: BTreeMap<String, String>,
}

impl Inputs {
    /// sha256 of the canonical JSON of the inputs, 64 hexadecimal digits.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn hash(&self) -> Result<String> {
        let value = serde_json::to_value(self)
            .context("the inputs of a stage cannot be written as JSON")?;
        Ok(sha256(canonical(&value).as_bytes()))
    }
}

/// JSON with the keys of every object in order and no white space.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(canonical).collect::<Vec<_>>().join(",")
        ),
        other => other.to_string(),
    }
}

/// sha256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// sha256 of a file in hexadecimal.
///
/// # Errors
/// Whatever the file system answers, with the path.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file
            .read(&mut buffer)
            .with_context(|| path.display().to_string())?
        {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_matter_and_values_do() {
        let inputs = |config| Inputs {
            stage: "train".into(),
            format: 1,
            config,
            seed: 1,
            device: "cpu".into(),
            upstream: BTreeMap::from([("data".into(), "00".into())]),
        };
        let hash = |config| inputs(config).hash().unwrap();
        assert_eq!(
            hash(json!({"a": 1, "b": {"c": 2, "d": [3]}})),
            hash(json!({"b": {"d": [3], "c": 2}, "a": 1}))
        );
        assert_ne!(hash(json!({"a": 1})), hash(json!({"a": 2})));
        assert_ne!(hash(json!({"a": [1, 2]})), hash(json!({"a": [2, 1]})));
        let mut other = inputs(json!({}));
        other.upstream.insert("data".into(), "01".into());
        assert_ne!(other.hash().unwrap(), hash(json!({})));
        let mut other = inputs(json!({}));
        other.device = "cuda".into();
        assert_ne!(other.hash().unwrap(), hash(json!({})));
    }

    #[test]
    fn sha256_is_the_standard_one() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
