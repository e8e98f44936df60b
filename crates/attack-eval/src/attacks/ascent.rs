//! Gradient ascent on the input, shared by the attacks.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{log_softmax, softmax};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;

use super::pixels::{Blur, roll, subtract_total_variation, to_unit};
use super::{Reconstruction, Target};
use crate::{Error, Result, check};

/// What is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The class score itself.
    #[default]
    Logit,
    /// The logarithm of the class's softmax probability: other classes are pushed down, and it saturates.
    LogSoftmax,
}

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// `x += learning_rate * g`.
    #[default]
    Gradient,
    /// Adam with moments 0.9 and 0.999, epsilon 1e-8.
    Adam,
}

/// Settings of the ascent. One iteration is: blur if it is due; gradient `g` of the objective at the (jittered) image, if
/// so set divided by its root mean square; `g -= weight_decay * x + total_variation * dTV/dx`; update; clamp to [-1, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AscentConfig {
    /// Steps of each image.
    pub iterations: usize,
    /// How a gradient becomes a step.
    pub update: Update,
    /// Size of a step, in pixel units of [-1, 1].
    pub learning_rate: f64,
    /// Whether the objective's gradient in each image is divided by its root mean square over the pixels, at each
    /// iteration. `weight_decay` and `total_variation` then depend less on how steep a network's scores are, though not on that alone: their best
    /// values still differ between data sets.
    // left out where it is not set, so that what was computed before it could be is known again
    #[serde(skip_serializing_if = "is_false")]
    pub unit_gradient: bool,
    /// Pull towards grey.
    pub weight_decay: f64,
    /// Gaussian blur at every how many iterations, the first left out; 0 for never.
    pub blur_every: usize,
    /// Deviation of the blur, in pixels.
    pub blur_radius: f64,
    /// The gradient is taken at the image rolled by up to this many pixels each way, drawn per image and iteration.
    pub jitter: usize,
    /// Weight of the total variation of an image: isotropic, summed over pixels and channels. Synthesis weighs another one,
    /// divided by the number of values.
    pub total_variation: f64,
    /// What is raised.
    pub objective: Objective,
    /// Images start uniform in plus or minus this.
    pub start_amplitude: f64,
    /// Images at a time. No result depends on it beyond the rounding of matrix products.
    pub batch: usize,
}

fn is_false(set: &bool) -> bool {
    !set
}

impl Default for AscentConfig {
    fn default() -> Self {
        Self::classic()
    }
}

impl AscentConfig {
    /// The generator that the paper's authors adapted (`pytorch-cnn-visualizations`, regularised class-specific image
    /// generation): plain ascent on the logit, learning rate 6, 150 iterations, blur of radius 1 at every fourth, weight
    /// decay 1e-4, from uniform noise. That generator rounds to bytes at each iteration; this one does not.
    pub fn classic() -> Self {
        Self {
            iterations: 150,
            update: Update::Gradient,
            learning_rate: 6.0,
            unit_gradient: false,
            weight_decay: 1e-4,
            blur_every: 4,
            blur_radius: 1.0,
            jitter: 0,
            total_variation: 0.0,
            objective: Objective::Logit,
            start_amplitude: 1.0,
            batch: 100,
        }
    }

    /// Another: Adam 0.05, 200 iterations on the logit, jitter of 2 pixels, a little total variation, no blur. Its steps do
    /// not depend on the gradient's scale, which through spikes is far from that of a ReLU network.
    pub fn adam() -> Self {
        Self {
            iterations: 200,
            update: Update::Adam,
            learning_rate: 0.05,
            unit_gradient: false,
            weight_decay: 0.0,
            blur_every: 0,
            blur_radius: 1.0,
            jitter: 2,
            total_variation: 1e-3,
            objective: Objective::Logit,
            start_amplitude: 1.0,
            batch: 100,
        }
    }

    /// Refuses settings outside their domain.
    ///
    /// # Errors
    /// The first field at fault, by name.
    pub fn check(&self) -> Result<()> {
        check::batch(self.batch)?;
        if self.iterations == 0 {
            return Err(Error::argument("iterations", "must be at least 1"));
        }
        // beyond it products and the squares that Adam averages leave the range of f32
        const MOST: f64 = 1e6;
        let positive = |name, value: f64| match value > 0.0 && value <= MOST {
            true => Ok(()),
            false => Err(Error::argument(
                name,
                format!("must be in (0, {MOST:e}], got {value}"),
            )),
        };
        let not_negative = |name, value: f64| match (0.0..=MOST).contains(&value) {
            true => Ok(()),
            false => Err(Error::argument(
                name,
                format!("must be in [0, {MOST:e}], got {value}"),
            )),
        };
        positive("learning_rate", self.learning_rate)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("total_variation", self.total_variation)?;
        if self.blur_every > 0 {
            positive("blur_radius", self.blur_radius)?;
            if self.blur_radius > 100.0 {
                return Err(Error::argument(
                    "blur_radius",
                    format!("must be at most 100 pixels, got {}", self.blur_radius),
                ));
            }
        }
        if !(0.0..=1.0).contains(&self.start_amplitude) {
            return Err(Error::argument(
                "start_amplitude",
                format!("must be in [0, 1], got {}", self.start_amplitude),
            ));
        }
        Ok(())
    }
}

/// Gradient of the objective's sum over a batch in the images, `[N, C, H, W]`. Images do not mix, so row n is the
/// gradient of image n's own objective.
///
/// # Errors
/// Scores that are not `[N, K]` or do not depend on the images; what the target refuses.
pub fn input_gradient(
    target: &dyn Target,
    images: &Tensor,
    classes: &[u32],
    ids: &[u64],
    step: usize,
    objective: Objective,
) -> Result<Tensor> {
    let labels = Tensor::new(classes, &Device::Cpu)?;
    target.gradient(images, ids, step, &|scores| {
        let (_, k) = scores.dims2()?;
        let wanted = ann::loss::one_hot(&labels, k)?.to_device(scores.device())?;
        let values = match objective {
            Objective::Logit => scores.clone(),
            Objective::LogSoftmax => log_softmax(scores, D::Minus1)?,
        };
        Ok(values.mul(&wanted)?.sum_all()?)
    })
}

/// Rebuilds `per_class` images of each of the target's classes. An image is a function of the target, the settings,
/// the seed, its class and its number within the class.
///
/// # Errors
/// Settings out of range, no images, scores that overflow, the watcher's wish to stop.
pub fn run(
    target: &dyn Target,
    config: &AscentConfig,
    per_class: usize,
    seed: Seed,
    watch: &mut Watch,
) -> Result<Reconstruction> {
    config.check()?;
    let classes = target.topology().classes();
    let total = match per_class.checked_mul(classes) {
        Some(total) if total > 0 && u32::try_from(total).is_ok() => total,
        _ => {
            return Err(Error::argument(
                "per_class",
                format!(
                    "must be at least 1 and leave a number of images below 2^32, got {per_class}"
                ),
            ));
        }
    };
    let [c, h, w] = target.topology().input();
    let mut images = Vec::new();
    let mut confidence = Vec::new();
    let mut guided = Vec::new();
    for first in (0..total).step_by(config.batch) {
        let last = total.min(first + config.batch);
        let mut batch = Ascent::start(
            config,
            first,
            last - first,
            target.topology().input(),
            classes,
            seed,
        )?;
        for step in 0..config.iterations {
            let done = (first * config.iterations + step * (last - first)) as u64;
            let all = (total * config.iterations) as u64;
            progress::report(watch, "attack: image step", done, all, "")?;
            batch.step(target, step)?;
        }
        confidence.extend(batch.confidence(target)?);
        guided.extend(batch.canvases.iter().map(|canvas| canvas.guided));
        images.extend(batch.pixels());
    }
    let done = (total * config.iterations) as u64;
    progress::report(watch, "attack: image step", done, done, "")?;
    let labels: Vec<u32> = (0..total).map(|i| (i % classes) as u32).collect();
    Ok(Reconstruction {
        images: Tensor::from_vec(images, (total, c, h, w), &Device::Cpu)?,
        classes: Tensor::new(labels, &Device::Cpu)?,
        confidence,
        guided,
        iterations: config.iterations,
    })
}

/// One image on its way.
struct Canvas {
    pixels: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
    jitter: Seed,
    /// Roll at the current step.
    shift: (usize, usize),
    /// Steps that had a gradient.
    guided: u32,
}

/// A batch on its way.
struct Ascent<'a> {
    config: &'a AscentConfig,
    canvases: Vec<Canvas>,
    classes: Vec<u32>,
    ids: Vec<u64>,
    input: [usize; 3],
}

impl<'a> Ascent<'a> {
    fn start(
        config: &'a AscentConfig,
        first: usize,
        count: usize,
        input: [usize; 3],
        classes: usize,
        seed: Seed,
    ) -> Result<Self> {
        let pixels = input.iter().product();
        let amplitude = config.start_amplitude as f32;
        let canvases = (first..first + count)
            .map(|i| {
                let own = |purpose: &str| {
                    seed.derive(purpose)
                        .index((i % classes) as u64)
                        .index((i / classes) as u64)
                };
                let noise = own("start").uniform(&[pixels], -amplitude, amplitude, &Device::Cpu)?;
                let moments = match config.update {
                    Update::Gradient => 0,
                    Update::Adam => pixels,
                };
                Ok(Canvas {
                    pixels: noise.to_vec1()?,
                    mean: vec![0.0; moments],
                    square: vec![0.0; moments],
                    jitter: own("jitter"),
                    shift: (0, 0),
                    guided: 0,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            config,
            canvases,
            classes: (first..first + count)
                .map(|i| (i % classes) as u32)
                .collect(),
            ids: (first..first + count).map(|i| i as u64).collect(),
            input,
        })
    }

    fn step(&mut self, target: &dyn Target, step: usize) -> Result<()> {
        let (config, [_, h, w]) = (self.config, self.input);
        let blurred = config.blur_every > 0 && step > 0 && step.is_multiple_of(config.blur_every);
        let blur = || Blur::new(config.blur_radius);
        let reach = config.jitter.min(h - 1).min(w - 1) as u32;
        self.canvases
            .par_iter_mut()
            .for_each_init(blur, |blur, canvas| {
                if blurred {
                    blur.apply(&mut canvas.pixels, h, w);
                }
                let mut stream = canvas.jitter.index(step as u64).stream();
                // a roll by n - d is one by -d
                let mut draw =
                    |n: usize| (n + stream.below(2 * reach + 1) as usize - reach as usize) % n;
                canvas.shift = (draw(h), draw(w));
            });

        let images = self.tensor(&target.device())?;
        let gradient = input_gradient(
            target,
            &images,
            &self.classes,
            &self.ids,
            step,
            config.objective,
        )?;
        let gradient: Vec<f32> = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let pixels = self.input.iter().product::<usize>();
        if let Some(p) = gradient.iter().position(|g| !g.is_finite()) {
            let image = self.ids[p / pixels] as usize;
            return Err(Error::Diverged { image, step });
        }
        self.canvases
            .par_iter_mut()
            .zip(gradient.par_chunks(pixels))
            .for_each(|(canvas, gradient)| canvas.update(gradient, config, h, w, step));
        Ok(())
    }

    /// The batch, rolled.
    fn tensor(&self, device: &Device) -> Result<Tensor> {
        let [c, h, w] = self.input;
        let pixels = c * h * w;
        let mut values = vec![0f32; self.canvases.len() * pixels];
        values
            .par_chunks_mut(pixels)
            .zip(&self.canvases)
            .for_each(|(out, canvas)| {
                roll(&canvas.pixels, out, h, w, canvas.shift.0, canvas.shift.1)
            });
        Ok(Tensor::from_vec(
            values,
            (self.canvases.len(), c, h, w),
            device,
        )?)
    }

    fn pixels(&self) -> impl Iterator<Item = f32> + '_ {
        self.canvases
            .iter()
            .flat_map(|canvas| canvas.pixels.iter().copied())
    }

    fn confidence(&mut self, target: &dyn Target) -> Result<Vec<f32>> {
        for canvas in &mut self.canvases {
            canvas.shift = (0, 0);
        }
        let images = self.tensor(&target.device())?;
        let scores = target.class_scores(&images, &self.ids, self.config.iterations)?;
        let rows: Vec<Vec<f32>> = softmax(&scores, D::Minus1)?.to_vec2()?;
        Ok(rows
            .iter()
            .zip(&self.classes)
            .map(|(row, &c)| row[c as usize])
            .collect())
    }
}

impl Canvas {
    fn update(&mut self, gradient: &[f32], config: &AscentConfig, h: usize, w: usize, step: usize) {
        let (dy, dx) = self.shift;
        self.guided += u32::from(gradient.iter().any(|&g| g != 0.0));
        let mut g = vec![0f32; gradient.len()];
        roll(gradient, &mut g, h, w, h - dy, w - dx);
        if config.unit_gradient {
            to_unit(&mut g);
        }
        if config.total_variation > 0.0 {
            subtract_total_variation(&self.pixels, &mut g, h, w, config.total_variation as f32);
        }
        let (rate, decay) = (config.learning_rate as f32, config.weight_decay as f32);
        for (g, x) in g.iter_mut().zip(&self.pixels) {
            *g -= decay * x;
        }
        match config.update {
            Update::Gradient => {
                for (x, g) in self.pixels.iter_mut().zip(&g) {
                    *x = (*x + rate * g).clamp(-1.0, 1.0);
                }
            }
            Update::Adam => {
                const BETAS: (f32, f32) = (0.9, 0.999);
                let n = step as i32 + 1;
                let (mean_bias, square_bias) = (1.0 - BETAS.0.powi(n), 1.0 - BETAS.1.powi(n));
                let moments = self.mean.iter_mut().zip(&mut self.square);
                for ((x, g), (m, v)) in self.pixels.iter_mut().zip(&g).zip(moments) {
                    *m = BETAS.0 * *m + (1.0 - BETAS.0) * g;
                    *v = BETAS.1 * *v + (1.0 - BETAS.1) * g * g;
                    let direction = (*m / mean_bias) / ((*v / square_bias).sqrt() + 1e-8);
                    *x = (*x + rate * direction).clamp(-1.0, 1.0);
                }
            }
        }
    }
}
