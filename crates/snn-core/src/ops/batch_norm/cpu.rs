//! Sums per plane, then over the samples in order: the same for any number of threads. Sums are in f64.

use rayon::prelude::*;

use crate::ops::cpu::{planes_per_task, sum, sum_of};

/// How `[N, C, ...]` lies in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels {
    pub(super) samples: usize,
    pub(super) count: usize,
    /// Numbers of one channel of one sample.
    pub(super) plane: usize,
}

impl Channels {
    /// Numbers of one channel.
    fn numbers(&self) -> f64 {
        (self.samples * self.plane) as f64
    }

    /// For each channel the sum over its planes of `f(channel, where the plane starts)`.
    fn sums<const K: usize>(&self, f: impl Fn(usize, usize) -> [f64; K] + Sync) -> Vec<[f64; K]> {
        let planes: Vec<[f64; K]> = (0..self.samples * self.count)
            .into_par_iter()
            .with_min_len(planes_per_task(self.plane))
            .map(|plane| f(plane % self.count, plane * self.plane))
            .collect();
        let mut sums = vec![[0.0; K]; self.count];
        for sample in planes.chunks_exact(self.count) {
            for (sum, plane) in sums.iter_mut().zip(sample) {
                for (sum, plane) in sum.iter_mut().zip(plane) {
                    *sum += plane;
                }
            }
        }
        sums
    }

    /// Mean and biased variance per channel.
    pub(super) fn moments(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let plane = |start: usize| &x[start..][..self.plane];
        let mean: Vec<f64> = self
            .sums(|_, start| [sum(plane(start))])
            .iter()
            .map(|[sum]| sum / self.numbers())
            .collect();
        let squares = self.sums(|channel, start| {
            let (x, mean) = (plane(start), mean[channel]);
            [sum_of(x.len(), |i| (f64::from(x[i]) - mean).powi(2))]
        });
        let variance = squares.iter().map(|[sum]| sum / self.numbers()).collect();
        (mean, variance)
    }

    /// Lets `f(channel, where the plane starts, plane of the result)` fill every plane, in parallel.
    fn map(&self, f: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
        let mut y = vec![0f32; self.samples * self.count * self.plane];
        let planes = planes_per_task(self.plane);
        y.par_chunks_mut(self.plane * planes)
            .enumerate()
            .for_each(|(task, y)| {
                for (i, y) in y.chunks_exact_mut(self.plane).enumerate() {
                    let plane = task * planes + i;
                    f(plane % self.count, plane * self.plane, y);
                }
            });
        y
    }
}

/// `(x - mean) * inverse * gamma + beta`
pub(super) struct Normalise {
    pub(super) channels: Channels,
    pub(super) mean: Vec<f32>,
    /// One over the deviation.
    pub(super) inverse: Vec<f32>,
    /// Whether mean and deviation are functions of x.
    pub(super) of_batch: bool,
}

/// Per channel: the gradients of beta and of gamma.
pub(super) struct Sums {
    pub(super) gradient: Vec<f32>,
    pub(super) gradient_times_x: Vec<f32>,
}

impl Normalise {
    pub(super) fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
        self.channels.map(|c, start, y| {
            let (mean, scale, shift) = (self.mean[c], self.inverse[c] * gamma[c], beta[c]);
            for (y, x) in y.iter_mut().zip(&x[start..]) {
                *y = (x - mean) * scale + shift;
            }
        })
    }

    /// Sums of the gradient, and of the gradient times the normalised x.
    pub(super) fn sums(&self, x: &[f32], gy: &[f32]) -> Sums {
        let sums = self.channels.sums(|c, start| {
            let (x, gy) = (
                &x[start..][..self.channels.plane],
                &gy[start..][..self.channels.plane],
            );
            let (mean, inverse) = (self.mean[c], self.inverse[c]);
            [
                sum(gy),
                sum_of(x.len(), |i| {
                    f64::from(gy[i]) * f64::from((x[i] - mean) * inverse)
                }),
            ]
        });
        Sums {
            gradient: sums.iter().map(|s| s[0] as f32).collect(),
            gradient_times_x: sums.iter().map(|s| s[1] as f32).collect(),
        }
    }

    /// Gradient of x; `sums` are needed if the statistics are the batch's.
    pub(super) fn backward_data(
        &self,
        x: &[f32],
        gamma: &[f32],
        gy: &[f32],
        sums: Option<&Sums>,
    ) -> Vec<f32> {
        self.channels.map(|c, start, gx| {
            let scale = self.inverse[c] * gamma[c];
            match sums.filter(|_| self.of_batch) {
                None => {
                    for (gx, gy) in gx.iter_mut().zip(&gy[start..]) {
                        *gx = gy * scale;
                    }
                }
                Some(sums) => {
                    let numbers = self.channels.numbers();
                    let mean_gradient = (f64::from(sums.gradient[c]) / numbers) as f32;
                    // of the normalised x, with the factor that normalises x
                    let slope =
                        (f64::from(sums.gradient_times_x[c]) / numbers) as f32 * self.inverse[c];
                    let mean = self.mean[c];
                    for (gx, (gy, x)) in gx.iter_mut().zip(gy[start..].iter().zip(&x[start..])) {
                        *gx = scale * (gy - mean_gradient - (x - mean) * slope);
                    }
                }
            }
        })
    }
}
