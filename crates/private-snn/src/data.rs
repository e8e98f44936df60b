//! The data set of an experiment, cut to what the experiment uses.

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::Tensor;
use datasets::{Dataset, Kind, Split, glyphs, normalise};
use sha2::{Digest, Sha256};

use crate::experiment::DataConfig;
use crate::store::hex;

/// Seed of the order of images and so of the validation split: the same images for every run, so that runs can be
/// compared.
const SPLIT_SEED: u64 = 0;

/// A data set and its sum.
#[derive(Debug)]
pub struct Data {
    /// The splits.
    pub set: Dataset,
    /// sha256 of all images and labels used.
    pub sha256: String,
}

impl Data {
    /// Loads, splits and cuts. Training and test images are put in a class-balanced order first, so that a limit takes
    /// every class in its share.
    ///
    /// # Errors
    /// Whatever the loader of the data set refuses, with the file's name; limits beyond what there is.
    pub fn load(kind: Kind, folder: &Path, config: &DataConfig) -> Result<Self> {
        let mut set = match kind {
            Kind::Glyphs => glyphs::generate(&config.glyphs)?,
            _ => datasets::load(kind, folder)?,
        };
        if config.validation > 0 {
            // this balances the training images, too
            set = set.with_validation(config.validation, SPLIT_SEED)?;
        } else {
            set.train = set.train.balanced(SPLIT_SEED)?;
        }
        set.test = set.test.balanced(SPLIT_SEED)?;
        set.train = first(set.train, "data.train_limit", config.train_limit)?;
        set.test = first(set.test, "data.test_limit", config.test_limit)?;
        every_class(&set)?;
        let mut hasher = Sha256::new();
        for split in [Some(&set.train), Some(&set.test), set.validation.as_ref()]
            .into_iter()
            .flatten()
        {
            hasher.update((split.len() as u64).to_le_bytes());
            for label in split.labels.to_vec1::<u32>()? {
                hasher.update(label.to_le_bytes());
            }
            for start in (0..split.len()).step_by(1000) {
                let part = split
                    .images
                    .narrow(0, start, (split.len() - start).min(1000))?;
                hasher.update(part.flatten_all()?.to_vec1::<u8>()?);
            }
        }
        Ok(Self {
            set,
            sha256: hex(&hasher.finalize()),
        })
    }

    /// The first `limit` images of a split (all for 0) as f32 in [-1, 1], with their labels.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn images(split: &Split, limit: usize) -> Result<(Tensor, Tensor)> {
        let count = if limit == 0 {
            split.len()
        } else {
            limit.min(split.len())
        };
        let part = split.subset(0..count)?;
        Ok((
            normalise(&part.images)?.contiguous()?,
            part.labels.contiguous()?,
        ))
    }
}

/// What is trained on must show every class, and what is rebuilt of each is compared with its images.
fn every_class(set: &Dataset) -> Result<()> {
    let labels: Vec<u32> = set.train.labels.to_vec1()?;
    let mut counts = vec![0usize; set.classes()];
    for label in labels {
        counts[label as usize] += 1;
    }
    match counts.iter().position(|&count| count == 0) {
        Some(class) => bail!(
            "class {class} has no training image left: needs at least one of each of the {} classes; take more training images \
             (data.train_limit, data.glyphs.train), or a complete copy of the data set",
            counts.len()
        ),
        None => Ok(()),
    }
}

fn first(split: Split, key: &str, limit: usize) -> Result<Split> {
    if limit == 0 {
        return Ok(split);
    }
    if limit > split.len() {
        bail!("{key} = {limit}: there are only {} images", split.len());
    }
    Ok(split.subset(0..limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::glyphs::GlyphsConfig;

    #[test]
    fn a_limit_takes_every_class_in_its_share_and_the_same_images_each_time() {
        let config = DataConfig {
            train_limit: 50,
            test_limit: 20,
            glyphs: GlyphsConfig {
                train: 200,
                validation: 10,
                test: 100,
                ..GlyphsConfig::default()
            },
            ..DataConfig::default()
        };
        let load = || Data::load(Kind::Glyphs, Path::new("unused"), &config).unwrap();
        let data = load();
        for (split, share) in [(&data.set.train, 5), (&data.set.test, 2)] {
            for count in split.class_counts(10).unwrap() {
                assert!(count.abs_diff(share) <= 1, "{count} instead of {share}");
            }
        }
        assert_eq!(load().sha256, data.sha256);
    }
}
