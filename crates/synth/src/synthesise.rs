//! From a network to images.

use std::ops::Range;

use ann::{Ann, Mode, SyntheticSet};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use snn_core::progress::{Watch, report};
use snn_core::rng::{Seed, unit};

use crate::loss::loss_gradient;
use crate::pixels::{AdamStep, roll, total_variation};
use crate::similarity::class_similarity;
use crate::statistics;
use crate::targets::{asked_for, targets};
use crate::{Error, Result, SynthConfig};

/// Makes the images `range` of the set that `config` and `seed` describe, from the network alone.
///
/// Image i is of class `i mod K`. Its target is drawn from `Dirichlet(b S[class] + 1e-4)`, S being
/// [`class_similarity`] and b the entry `(i / K) mod len` of `config.dirichlet`. It starts at uniform noise in [-1, 1] and follows
///
/// ```text
/// loss(x) = CE(softmax(f(x) / temperature), target) + total_variation * TV(x) / (C H W)
/// ```
///
/// with Adam, clamped to [-1, 1] after every step. f is the network at inference. The loss is summed over images, never averaged, and
/// all randomness of image i comes from (seed, i): ranges made apart and put together by [`SyntheticSet::concat`] are the set
/// made at once, byte for byte, whatever `config.batch`. The exception is `batch_norm_statistics`, a term of the batch:
/// then only ranges that start at multiples of `config.batch` give the same images.
///
/// `watch` hears of every iteration.
///
/// # Errors
/// Settings or a range out of their domains; a loss that is not finite, with the image; the watcher's wish to stop.
pub fn synthesise(
    ann: &Ann,
    config: &SynthConfig,
    seed: Seed,
    range: Range<usize>,
    watch: &mut Watch,
) -> Result<SyntheticSet> {
    config.check()?;
    if range.is_empty() || range.end > config.count {
        return Err(Error::argument(
            "range",
            format!(
                "must name at least one of the images 0..{}, got {}..{}",
                config.count, range.start, range.end
            ),
        ));
    }
    if config.generator.is_some() {
        return Err(Error::argument(
            "generator",
            "makes its images one batch after the other: use Generator::next_batch",
        ));
    }
    statistics::check(ann, config)?;
    let ann = constants(ann)?;
    let similarity = class_similarity(&ann)?;
    let batches = range.len().div_ceil(config.batch);
    let mut parts = Vec::with_capacity(batches);
    for (number, start) in range.clone().step_by(config.batch).enumerate() {
        let images = start..range.end.min(start.saturating_add(config.batch));
        let unit = format!("image batch {}/{batches}, iteration", number + 1);
        let mut batch = Batch::new(&ann, config, seed, images, &similarity)?;
        let mut adam = Adam::new(batch.pixels.len());
        for iteration in 0..config.iterations {
            let loss = batch.step(&ann, config, &mut adam, iteration)?;
            report(
                watch,
                unit.as_str(),
                iteration as u64 + 1,
                config.iterations as u64,
                format!("loss {loss:.4}"),
            )?;
        }
        parts.push(batch.finish(&ann, seed)?);
    }
    Ok(SyntheticSet::concat(&parts)?)
}

/// The network as the synthesis sees it: fixed, and in no graph.
pub(crate) fn constants(ann: &Ann) -> Result<Ann> {
    Ok(ann.frozen()?)
}

/// Share of images whose largest logit of the source network is where their target's largest entry is: how far the
/// synthesis reached its targets.
///
/// # Errors
/// An empty set.
pub fn agreement(set: &SyntheticSet) -> Result<f64> {
    if set.is_empty() {
        return Err(Error::argument("set", "holds no image"));
    }
    let logits: Vec<Vec<f32>> = set.logits.to_vec2()?;
    let targets: Vec<Vec<f32>> = set.soft_targets.to_vec2()?;
    let same = logits.iter().zip(&targets).filter(|(logits, target)| {
        let answer = ann::loss::argmax(logits);
        answer.is_some() && answer == ann::loss::argmax(target)
    });
    Ok(same.count() as f64 / set.len() as f64)
}

/// Moments of every pixel.
struct Adam {
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Adam {
    fn new(pixels: usize) -> Self {
        Self {
            m: vec![0.0; pixels],
            v: vec![0.0; pixels],
        }
    }
}

/// Images that are optimised together.
struct Batch {
    range: Range<usize>,
    shape: [usize; 3],
    classes: usize,
    seeds: Vec<Seed>,
    targets: Tensor,
    /// `[N, C, H, W]`
    pixels: Vec<f32>,
    /// What the network sees: the pixels, shifted.
    shifted: Vec<f32>,
}

impl Batch {
    fn new(
        ann: &Ann,
        config: &SynthConfig,
        seed: Seed,
        range: Range<usize>,
        similarity: &[Vec<f64>],
    ) -> Result<Self> {
        let shape = ann.topology().input();
        let size: usize = shape.iter().product();
        let classes = ann.topology().classes();
        let seed = seed.derive("synth");
        let seeds: Vec<Seed> = range.clone().map(|i| seed.index(i as u64)).collect();
        let targets = targets(similarity, config, range.clone(), &seeds)?;
        let mut pixels = vec![0.0; range.len() * size];
        pixels
            .par_chunks_mut(size)
            .zip(&seeds)
            .for_each(|(image, seed)| {
                let mut words = vec![0; size];
                seed.derive("start").fill(&mut words, 0, 0);
                for (x, word) in image.iter_mut().zip(words) {
                    *x = 2.0 * unit(word) - 1.0;
                }
            });
        Ok(Self {
            targets,
            shifted: vec![0.0; pixels.len()],
            range,
            shape,
            classes,
            seeds,
            pixels,
        })
    }

    fn len(&self) -> usize {
        self.range.len()
    }

    /// One Adam step of every image; the mean loss per image.
    fn step(
        &mut self,
        ann: &Ann,
        config: &SynthConfig,
        adam: &mut Adam,
        iteration: usize,
    ) -> Result<f64> {
        let [channels, height, width] = self.shape;
        let sides = [height, width];
        let size = channels * height * width;
        let shifts = self.shifts(config.jitter, iteration);
        self.shifted
            .par_chunks_mut(size)
            .zip(self.pixels.par_chunks(size))
            .zip(&shifts)
            .for_each(|((shifted, image), &shift)| roll(image, shifted, sides, shift));
        let (losses, gradient) = self.network_loss(ann, config)?;

        let step = AdamStep::new(config.learning_rate, iteration + 1);
        let weight = (config.total_variation / size as f64) as f32;
        let variation: Vec<f32> = self
            .pixels
            .par_chunks_mut(size)
            .zip(gradient.par_chunks(size))
            .zip(adam.m.par_chunks_mut(size))
            .zip(adam.v.par_chunks_mut(size))
            .zip(&shifts)
            .map(|((((image, gradient), m), v), &[dy, dx])| {
                let mut at_home = vec![0.0; size];
                let back = [(height - dy) % height, (width - dx) % width];
                roll(gradient, &mut at_home, sides, back);
                let variation = match weight {
                    0.0 => 0.0,
                    weight => total_variation(image, &mut at_home, sides, weight),
                };
                step.apply(image, &at_home, m, v);
                variation
            })
            .collect();

        let mut sum = 0.0;
        for (i, (loss, variation)) in losses.iter().zip(variation).enumerate() {
            let loss = loss + variation;
            if !loss.is_finite() {
                return Err(Error::NotFinite {
                    image: self.range.start + i,
                    iteration,
                    loss,
                });
            }
            sum += f64::from(loss);
        }
        Ok(sum / self.len() as f64)
    }

    /// Shift of each image in this iteration, `0..height` and `0..width`; up to `jitter` either way.
    fn shifts(&self, jitter: usize, iteration: usize) -> Vec<[usize; 2]> {
        let [_, height, width] = self.shape;
        let shift = |word: u32, side: usize| {
            let reach = jitter.min(side / 2);
            let offset = (u64::from(word) * (2 * reach as u64 + 1)) >> 32;
            (side + offset as usize - reach) % side
        };
        self.seeds
            .iter()
            .map(|seed| {
                if jitter == 0 {
                    return [0, 0];
                }
                let words = seed.derive("jitter").words([
                    iteration as u32,
                    (iteration as u64 >> 32) as u32,
                    0,
                    0,
                ]);
                [shift(words[0], height), shift(words[1], width)]
            })
            .collect()
    }

    /// Loss of each image, total variation aside, and the gradient of their sum with respect to what the network saw.
    fn network_loss(&self, ann: &Ann, config: &SynthConfig) -> Result<(Vec<f32>, Vec<f32>)> {
        let images = self.tensor(&self.shifted, ann)?;
        let said = loss_gradient(ann, &images, &self.targets, config)?;
        Ok((
            said.losses.to_vec1()?,
            said.gradient.flatten_all()?.to_vec1()?,
        ))
    }

    fn tensor(&self, values: &[f32], ann: &Ann) -> Result<Tensor> {
        let [c, h, w] = self.shape;
        let device = ann.parameters().device();
        Ok(Tensor::from_slice(values, (self.len(), c, h, w), &device)?)
    }

    fn finish(self, ann: &Ann, seed: Seed) -> Result<SyntheticSet> {
        let images = self.tensor(&self.pixels, ann)?;
        let logits = ann.forward(&images, Mode::Inference)?;
        Ok(SyntheticSet {
            images: images.to_device(&Device::Cpu)?,
            soft_targets: self.targets,
            logits: logits.to_device(&Device::Cpu)?,
            classes: asked_for(self.range, self.classes)?,
            seed: seed.value(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ann::{Depth, NetworkConfig};

    /// The gradient that the network gives against central differences, with and without batch-norm statistics. Rounding
    /// of the f32 loss over the step, and the few ReLU corners within a step, bound what can be asked.
    #[test]
    fn gradient_of_the_network_loss() -> Result<()> {
        let plan = NetworkConfig {
            width: 0.1,
            hidden: 0,
            batch_norm: true,
            conv_dropout: 0.0,
            ..NetworkConfig::paper(Depth::Vgg5)
        };
        let ann = Ann::initialise(plan.topology([2, 4, 4], 3)?, Seed::new(2), &Device::Cpu)?;
        let similarity = class_similarity(&ann)?;
        for batch_norm_statistics in [0.0, 0.3] {
            let config = SynthConfig {
                temperature: 1.0,
                batch_norm_statistics,
                ..SynthConfig::default()
            };
            let mut batch = Batch::new(&ann, &config, Seed::new(4), 0..3, &similarity)?;
            batch.shifted.copy_from_slice(&batch.pixels);
            let (_, gradient) = batch.network_loss(&ann, &config)?;
            let step = 2e-3;
            let (mut difference, mut size) = (0.0, 0.0);
            for i in 0..gradient.len() {
                let x = batch.pixels[i];
                let mut loss_at = |x: f32| -> Result<f32> {
                    batch.shifted[i] = x;
                    Ok(batch.network_loss(&ann, &config)?.0.iter().sum())
                };
                let slope = (loss_at(x + step)? - loss_at(x - step)?) / (2.0 * step);
                batch.shifted[i] = x;
                difference += (slope - gradient[i]).powi(2);
                size += gradient[i].powi(2);
            }
            let relative = (difference / size).sqrt();
            assert!(
                relative < 0.02,
                "weight {batch_norm_statistics}: relative difference {relative}"
            );
        }
        Ok(())
    }
}
