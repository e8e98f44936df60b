//! The synthetic set: what synthesis hands to conversion and encryption in place of training data.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use snn_core::checkpoint;
use snn_core::parameters::is_finite;

use crate::{Error, Result};

/// Images made from a network alone, with what the network was asked for and what it answered.
#[derive(Debug, Clone)]
pub struct SyntheticSet {
    /// `[N, C, H, W]` f32 in [-1, 1].
    pub images: Tensor,
    /// The sampled soft target of each image, `[N, K]`, rows summing to 1. This is what training uses.
    pub soft_targets: Tensor,
    /// The source network's logits on each image, `[N, K]`.
    pub logits: Tensor,
    /// The class each image was asked for, `[N]` u32. Never a label: at Dirichlet concentration 1 it is the target's
    /// argmax in about a quarter of the draws.
    pub classes: Tensor,
    /// The seed the set was made from.
    pub seed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    seed: u64,
}

const FORMAT: &str = "synthetic-set/1";

/// How far the sum of a target may be from 1: some hundred classes, each with the rounding of an f32, and to spare.
const SUM_TOLERANCE: f64 = 1e-4;

impl SyntheticSet {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that the parts belong together: as many rows everywhere, as many classes, finite values, images in
    /// [-1, 1], targets that are distributions, class numbers below K.
    ///
    /// # Errors
    /// Whatever does not hold, with the part and the row.
    pub fn check(&self) -> Result<()> {
        let n = self.len();
        let fits = self.images.rank() == 4
            && n > 0
            && self.soft_targets.rank() == 2
            && self.soft_targets.dims() == self.logits.dims()
            && self.soft_targets.dims()[0] == n
            && self.classes.dims() == [n];
        if !fits {
            return Err(Error::argument(
                "synthetic set",
                format!(
                    "images {:?}, soft targets {:?}, logits {:?} and classes {:?} do not belong together",
                    self.images.dims(),
                    self.soft_targets.dims(),
                    self.logits.dims(),
                    self.classes.dims()
                ),
            ));
        }
        for (name, tensor, dtype) in [
            ("images", &self.images, DType::F32),
            ("soft targets", &self.soft_targets, DType::F32),
            ("logits", &self.logits, DType::F32),
            ("classes", &self.classes, DType::U32),
        ] {
            if tensor.dtype() != dtype {
                let message = format!("must be {dtype:?}, got {:?}", tensor.dtype());
                return Err(Error::argument(name, message));
            }
            if dtype == DType::F32 && !is_finite(tensor)? {
                return Err(Error::argument(name, "holds a value that is not finite"));
            }
        }
        let largest = self.images.abs()?.max_all()?.to_scalar::<f32>()?;
        if largest > 1.0 {
            return Err(Error::argument(
                "images",
                format!("must lie in [-1, 1], found {largest}"),
            ));
        }
        self.check_targets()
    }

    /// Targets that are distributions up to the rounding of f32, and classes that there are.
    fn check_targets(&self) -> Result<()> {
        let targets: Vec<Vec<f32>> = self.soft_targets.to_vec2()?;
        for (row, target) in targets.iter().enumerate() {
            let sum: f64 = target.iter().copied().map(f64::from).sum();
            if target.iter().any(|&share| share < 0.0) || (sum - 1.0).abs() > SUM_TOLERANCE {
                let message = format!(
                    "row {row} is not a distribution: its sum is {sum}, or a share is negative"
                );
                return Err(Error::argument("soft targets", message));
            }
        }
        let count = self.soft_targets.dims()[1];
        let classes: Vec<u32> = self.classes.to_vec1()?;
        if let Some(row) = classes.iter().position(|&class| class as usize >= count) {
            let message = format!("class {} of image {row} is not below {count}", classes[row]);
            return Err(Error::argument("classes", message));
        }
        Ok(())
    }

    /// Sets one after another, such as the shards of one synthesis. The seed is the first one's.
    ///
    /// # Errors
    /// No set; images or classes of different shapes; different seeds: such images are not of one synthesis.
    pub fn concat(parts: &[Self]) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::argument(
                "synthetic sets",
                "there is none to put together",
            ));
        };
        if let Some(other) = parts.iter().find(|part| part.seed != first.seed) {
            return Err(Error::argument(
                "synthetic sets",
                format!(
                    "made from different seeds, {} and {}",
                    first.seed, other.seed
                ),
            ));
        }
        let cat = |part: fn(&Self) -> &Tensor| {
            Tensor::cat(&parts.iter().map(part).collect::<Vec<_>>(), 0)
        };
        let set = Self {
            images: cat(|set| &set.images)?,
            soft_targets: cat(|set| &set.soft_targets)?,
            logits: cat(|set| &set.logits)?,
            classes: cat(|set| &set.classes)?,
            seed: first.seed,
        };
        set.check()?;
        Ok(set)
    }

    /// Saves the set; see [`checkpoint::save`].
    ///
    /// # Errors
    /// What [`SyntheticSet::check`] and [`checkpoint::save`] refuse.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check()?;
        let tensors = [
            ("images", &self.images),
            ("soft_targets", &self.soft_targets),
            ("logits", &self.logits),
            ("classes", &self.classes),
        ]
        .map(|(name, tensor)| (name.to_string(), tensor.clone()))
        .into();
        let description = Description {
            format: FORMAT.into(),
            seed: self.seed,
        };
        Ok(checkpoint::save(path, &tensors, &description)?)
    }

    /// Loads what [`SyntheticSet::save`] wrote.
    ///
    /// # Errors
    /// What [`checkpoint::load`] and [`SyntheticSet::check`] refuse, a file of another kind, a missing tensor, with the
    /// file's name.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let (mut tensors, description): (_, Description) = checkpoint::load(path, device)?;
        if description.format != FORMAT {
            let message = format!("holds a `{}`, not a `{FORMAT}`", description.format);
            return Err(checkpoint::fault(path, message).into());
        }
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .ok_or_else(|| checkpoint::fault(path, format!("has no tensor `{name}`")))
        };
        let set = Self {
            images: take("images")?,
            soft_targets: take("soft_targets")?,
            logits: take("logits")?,
            classes: take("classes")?,
            seed: description.seed,
        };
        set.check()
            .map_err(|e| checkpoint::fault(path, e.to_string()))?;
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).expect("a tensor")
    }

    fn set() -> SyntheticSet {
        SyntheticSet {
            images: tensor(&[-1.0, 0.5, 0.0, 1.0], &[2, 1, 1, 2]),
            soft_targets: tensor(&[0.25, 0.75, 0.0, 0.3, 0.3, 0.4], &[2, 3]),
            logits: tensor(&[1.0, -2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]),
            classes: Tensor::new(&[0u32, 2], &Device::Cpu).expect("classes"),
            seed: 3,
        }
    }

    #[test]
    fn what_is_no_synthetic_set_is_refused() {
        set().check().expect("a synthetic set");
        type Change = fn(&mut SyntheticSet);
        let cases: [(&str, Change); 9] = [
            ("soft targets: row 1", |s| {
                s.soft_targets = tensor(&[0.25, 0.75, 0.0, 0.3, 0.3, 0.41], &[2, 3]);
            }),
            ("soft targets: row 0", |s| {
                s.soft_targets = tensor(&[-0.25, 0.75, 0.5, 0.3, 0.3, 0.4], &[2, 3]);
            }),
            ("soft targets: holds", |s| {
                s.soft_targets = tensor(&[f32::NAN, 0.75, 0.5, 0.3, 0.3, 0.4], &[2, 3]);
            }),
            ("logits: holds", |s| {
                s.logits = tensor(&[f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0], &[2, 3]);
            }),
            ("logits: must be F32, got F64", |s| {
                s.logits = s.logits.to_dtype(DType::F64).expect("cast");
            }),
            ("images: must lie in [-1, 1], found 1.5", |s| {
                s.images = tensor(&[-1.5, 0.5, 0.0, 1.0], &[2, 1, 1, 2]);
            }),
            ("classes: class 3 of image 1 is not below 3", |s| {
                s.classes = Tensor::new(&[0u32, 3], &Device::Cpu).expect("classes");
            }),
            ("classes: must be U32, got I64", |s| {
                s.classes = Tensor::new(&[0i64, 1], &Device::Cpu).expect("classes");
            }),
            ("do not belong together", |s| {
                s.classes = Tensor::new(&[0u32], &Device::Cpu).expect("classes");
            }),
        ];
        for (expected, change) in cases {
            let mut set = set();
            change(&mut set);
            let message = set.check().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
