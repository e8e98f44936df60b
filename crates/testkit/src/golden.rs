use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

/// Tensors by name from a safetensors file that another implementation wrote. The generator lies beside the file.
pub struct Golden {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// Reads the file.
    ///
    /// # Panics
    /// If it cannot be read: a test needs its golden.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_path_buf();
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
            .unwrap_or_else(|e| panic!("golden {}: {e}", path.display()));
        Self { path, tensors }
    }

    /// A tensor of the file.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn tensor(&self, name: &str) -> Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("golden {} has no tensor `{name}`", self.path.display()))
            .clone()
    }

    /// The cases that have a tensor `{case}.{suffix}`, sorted.
    ///
    /// # Panics
    /// If there is none.
    pub fn cases(&self, suffix: &str) -> Vec<String> {
        let mut cases: Vec<String> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix(suffix)?.strip_suffix('.'))
            .map(String::from)
            .collect();
        cases.sort();
        assert!(
            !cases.is_empty(),
            "golden {} has no tensor `*.{suffix}`",
            self.path.display()
        );
        cases
    }
}
