//! All metrics of a reconstruction at once.

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::rng::Seed;

use crate::metrics::{Anchored, Features, Nearest, frechet_distance, judge, nearest, ssim};
use crate::{AttackOutcome, Error, Reconstruction, Result, check};

/// A judge and the real images that reconstructions are compared with. The real images' features are computed once.
///
/// The judge must be another architecture than the attacked network, trained on the real data; print its own test
/// accuracy beside every figure. The Fréchet distance is pooled over the classes: the real images should have them in the mix of
/// the reconstructions, as many of each, or their floor is lower than any reconstruction's distance can be.
#[derive(Debug, Clone)]
pub struct Scorer {
    judge: Ann,
    images: Tensor,
    classes: Vec<u32>,
    features: Features,
    batch: usize,
    seed: Seed,
}

impl Scorer {
    /// `images` `[N, C, H, W]` f32 in [-1, 1] and `labels` `[N]` u32: the training images, or some of them. `seed`
    /// chooses the real images of the floor and the noise of the ceiling.
    ///
    /// # Errors
    /// Images or labels that do not fit the judge, fewer than four images, a batch of none.
    pub fn new(
        judge: &Ann,
        images: &Tensor,
        labels: &Tensor,
        batch: usize,
        seed: Seed,
    ) -> Result<Self> {
        let n = check::images("real images", images)?;
        if n < 4 {
            return Err(Error::argument(
                "real images",
                format!("needs at least 4, got {n}"),
            ));
        }
        let classes = check::labels("real labels", labels, n, judge.topology().classes())?;
        Ok(Self {
            judge: judge.clone(),
            images: images.to_device(&Device::Cpu)?,
            classes,
            features: Features::extract(judge, images, batch)?,
            batch,
            seed: seed.derive("score"),
        })
    }

    /// Judges a reconstruction.
    ///
    /// # Errors
    /// Images that do not fit the judge, fewer than two images, a class without a real image, confidences or counts of guided
    /// iterations that are not one for each image.
    pub fn score(
        &self,
        attack: &str,
        target: &str,
        reconstruction: &Reconstruction,
    ) -> Result<AttackOutcome> {
        let Reconstruction {
            images,
            classes,
            confidence,
            guided,
            ..
        } = reconstruction;
        let judged = judge(&self.judge, images, classes, self.batch)?;
        if [confidence.len(), guided.len()] != [judged.samples; 2] {
            return Err(Error::argument(
                "reconstruction",
                format!(
                    "needs a confidence and a count of guided iterations for each of {} images, got {} and {}",
                    judged.samples,
                    confidence.len(),
                    guided.len()
                ),
            ));
        }
        let labels = check::labels(
            "classes",
            classes,
            judged.samples,
            self.judge.topology().classes(),
        )?;
        let features = Features::extract(&self.judge, images, self.batch)?;
        let (held, rest) = self.parts(judged.samples);
        let anchored = self.anchored(&features, &held, &rest)?;
        let found = nearest(&features, &labels, &self.features, &self.classes)?;
        Ok(AttackOutcome {
            attack: attack.into(),
            target: target.into(),
            samples: judged.samples,
            without_gradient: reconstruction.without_gradient(),
            judge_top1: judged.top1,
            judge_top5: judged.top5,
            per_class_top1: judged.per_class_top1,
            target_confidence: confidence.iter().map(|&p| f64::from(p)).sum::<f64>()
                / confidence.len() as f64,
            fid: anchored.fid,
            fid_floor: anchored.floor,
            fid_ceiling: anchored.ceiling,
            fid_samples: anchored.samples,
            fid_floor_samples: anchored.floor_samples,
            fid_reference_samples: anchored.reference_samples,
            feature_dimension: anchored.dimension,
            nearest_distance: found.mean,
            nearest_distance_median: found.median,
            nearest_distance_real: self.nearest_of_real(&held)?,
            nearest_ssim: self.similarity(images, &found)?,
            nearest_indices: found.indices,
        })
    }

    /// Fréchet distance of `features` between its anchors.
    ///
    /// As many real images as there are reconstructions (at most half of them) are set apart; reconstructions, these
    /// and noise are each compared with the rest.
    ///
    /// # Errors
    /// Fewer than two rows, features of another length.
    pub fn fid(&self, features: &Features) -> Result<Anchored> {
        let (held, rest) = self.parts(features.len());
        self.anchored(features, &held, &rest)
    }

    fn anchored(&self, features: &Features, held: &[usize], rest: &[usize]) -> Result<Anchored> {
        let [c, h, w] = self.judge.topology().input();
        let shape = [features.len(), c, h, w];
        let noise = self
            .seed
            .derive("noise")
            .uniform(&shape, -1.0, 1.0, &Device::Cpu)?;
        let noise = Features::extract(&self.judge, &noise, self.batch)?;
        let reference = self.features.select(rest)?;
        Ok(Anchored {
            fid: frechet_distance(features, &reference)?,
            floor: frechet_distance(&self.features.select(held)?, &reference)?,
            ceiling: frechet_distance(&noise, &reference)?,
            samples: features.len(),
            floor_samples: held.len(),
            reference_samples: rest.len(),
            dimension: features.dimension(),
        })
    }

    /// Positions of two disjoint parts of the real images, the first of `samples` images or half of all.
    fn parts(&self, samples: usize) -> (Vec<usize>, Vec<usize>) {
        let n = self.features.len();
        let order = self.seed.derive("parts").stream().permutation(n);
        let order: Vec<usize> = order.into_iter().map(|i| i as usize).collect();
        let (held, rest) = order.split_at(samples.clamp(2, n / 2));
        (held.to_vec(), rest.to_vec())
    }

    /// Mean distance of the images `held` to the nearest other one of their class, those aside that are the only one.
    fn nearest_of_real(&self, held: &[usize]) -> Result<Option<f64>> {
        let mut distances = Vec::with_capacity(held.len());
        for &index in held {
            let is_other = |i: &usize| *i != index && self.classes[*i] == self.classes[index];
            let others: Vec<usize> = (0..self.classes.len()).filter(is_other).collect();
            if others.is_empty() {
                continue;
            }
            let class = vec![self.classes[index]; others.len()];
            let own = self.features.select(&[index])?;
            let found = nearest(&own, &class[..1], &self.features.select(&others)?, &class)?;
            distances.push(found.mean);
        }
        let count = distances.len() as f64;
        Ok((count > 0.0).then(|| distances.iter().sum::<f64>() / count))
    }

    fn similarity(&self, images: &Tensor, found: &Nearest) -> Result<Option<f64>> {
        let [_, h, w] = self.judge.topology().input();
        if h < 11 || w < 11 {
            return Ok(None);
        }
        let indices: Vec<u32> = found.indices.iter().map(|&i| i as u32).collect();
        let real = self
            .images
            .index_select(&Tensor::new(indices, &Device::Cpu)?, 0)?;
        let similarities = ssim(&images.to_device(&Device::Cpu)?, &real)?;
        Ok(Some(
            similarities.iter().sum::<f64>() / similarities.len() as f64,
        ))
    }
}
