//! The synthetic set: what synthesis hands to conversion and encryption in place of training data.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use snn_core::checkpoint;

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

impl SyntheticSet {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that the parts belong together: as many rows everywhere, as many classes, finite values, images in [-1, 1].
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
        let finite = |name: &'static str, tensor: &Tensor| -> Result<()> {
            // zero times NaN or infinity is NaN, which no sum hides
            let residue = (tensor * 0.0)?.sum_all()?.to_scalar::<f32>()?;
            if residue != 0.0 {
                return Err(Error::argument(name, "holds a value that is not finite"));
            }
            Ok(())
        };
        finite("images", &self.images)?;
        finite("soft targets", &self.soft_targets)?;
        finite("logits", &self.logits)?;
        let largest = self.images.abs()?.max_all()?.to_scalar::<f32>()?;
        if largest > 1.0 {
            return Err(Error::argument(
                "images",
                format!("must lie in [-1, 1], found {largest}"),
            ));
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
