//! Sums per plane, then over the samples in order: the same for any number of threads. Sums are in f64.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::after::Elementwise;
use crate::ops::cpu::{planes_per_task, sum_of};
use crate::ops::memory::room;
use crate::ops::widest::{self, Task};

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

    /// For each channel the sum over its planes of `f(channel, where the plane lies)`.
    fn sums<const K: usize>(
        &self,
        f: impl Fn(usize, std::ops::Range<usize>) -> [f64; K] + Sync,
    ) -> Vec<[f64; K]> {
        let planes: Vec<[f64; K]> = (0..self.samples * self.count)
            .into_par_iter()
            .with_min_len(planes_per_task(self.plane))
            .map(|plane| f(plane % self.count, self.range(plane)))
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

    fn range(&self, plane: usize) -> std::ops::Range<usize> {
        plane * self.plane..(plane + 1) * self.plane
    }

    /// Mean and biased variance per channel.
    pub(super) fn moments(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        // one of the channel's numbers, near which the others lie: what a large mean would cancel is taken off before
        let near = |channel: usize| f64::from(x[channel * self.plane]);
        let sums = self.sums(|channel, plane| {
            widest::run(Moments {
                x: &x[plane],
                near: near(channel),
            })
        });
        let sums = sums.iter().enumerate();
        sums.map(|(channel, sums)| {
            let [mean, square] = sums.map(|sum| sum / self.numbers());
            let variance = square - mean * mean;
            // rounding alone makes it negative; a NaN stays one
            let variance = if variance < 0.0 { 0.0 } else { variance };
            (near(channel) + mean, variance)
        })
        .unzip()
    }

    /// Lets `f(channel, where the plane lies, plane of the result)` write every plane, in parallel.
    ///
    /// # Safety
    /// `f` writes every number of the plane that it is given.
    unsafe fn map(
        &self,
        f: impl Fn(usize, std::ops::Range<usize>, &mut [MaybeUninit<f32>]) + Sync,
    ) -> Vec<f32> {
        let len = self.samples * self.count * self.plane;
        let mut y = room(len);
        let planes = planes_per_task(self.plane);
        y.spare_capacity_mut()[..len]
            .par_chunks_mut(self.plane * planes)
            .enumerate()
            .for_each(|(task, y)| {
                for (i, y) in y.chunks_exact_mut(self.plane).enumerate() {
                    let plane = task * planes + i;
                    f(plane % self.count, self.range(plane), y);
                }
            });
        // SAFETY: the caller's promise, for every plane.
        unsafe { y.set_len(len) };
        y
    }
}

/// The sums of the differences from a number, and of their squares.
struct Moments<'a> {
    x: &'a [f32],
    near: f64,
}

impl Task for Moments<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run(self) -> [f64; 2] {
        let near = self.near;
        let mut sums = [0.0; 2];
        // one sum at a time over numbers that the nearest cache holds: loops of several sums are not made vector loops
        for x in self.x.chunks(BLOCK) {
            let difference = |i: usize| f64::from(x[i]) - near;
            sums[0] += sum_of(x.len(), difference);
            sums[1] += sum_of(x.len(), |i| difference(i) * difference(i));
        }
        sums
    }
}

/// Numbers of a plane that are worked on at a time.
const BLOCK: usize = 128;

/// `(x - mean) * inverse * gamma + beta`, and what follows it number by number.
pub(super) struct Normalise {
    pub(super) channels: Channels,
    pub(super) mean: Vec<f32>,
    /// One over the deviation.
    pub(super) inverse: Vec<f32>,
}

/// The constants of one channel.
#[derive(Clone, Copy)]
struct Line {
    mean: f32,
    scale: f32,
    shift: f32,
}

impl Line {
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.shift
    }
}

/// Per channel: the gradients of beta and of gamma, and the sum of what each number gives to the gradient of a threshold.
pub(super) struct Sums {
    pub(super) gradient: Vec<f32>,
    pub(super) gradient_times_x: Vec<f32>,
    pub(super) of_threshold: f64,
}

impl Normalise {
    fn line(&self, channel: usize, gamma: &[f32], beta: &[f32]) -> Line {
        Line {
            mean: self.mean[channel],
            scale: self.inverse[channel] * gamma[channel],
            shift: beta[channel],
        }
    }

    pub(super) fn forward(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        after: impl Elementwise,
    ) -> Vec<f32> {
        // SAFETY: the task writes all of `y`, which is as long as the plane.
        unsafe {
            self.channels.map(|c, plane, y| {
                widest::run(Forward {
                    x: &x[plane],
                    y,
                    line: self.line(c, gamma, beta),
                    after,
                });
            })
        }
    }

    /// Sums of the gradient before what follows, and of that times the normalised x.
    pub(super) fn sums(
        &self,
        x: &[f32],
        (gamma, beta): (&[f32], &[f32]),
        gy: &[f32],
        after: impl Elementwise,
    ) -> Sums {
        let sums = self.channels.sums(|c, plane| {
            widest::run(Gradients {
                x: &x[plane.clone()],
                gy: &gy[plane],
                line: self.line(c, gamma, beta),
                inverse: self.inverse[c],
                after,
            })
        });
        Sums {
            gradient: sums.iter().map(|s| s[0] as f32).collect(),
            gradient_times_x: sums.iter().map(|s| s[1] as f32).collect(),
            of_threshold: sums.iter().map(|s| s[2]).sum(),
        }
    }

    /// Gradient of x through the statistics, which are the batch's.
    pub(super) fn of_batch(&self, gamma: &[f32], sums: &Sums) -> Vec<Shift> {
        let of_channel = |sums: &[f32], c: usize| f64::from(sums[c]) / self.channels.numbers();
        (0..self.channels.count)
            .map(|c| {
                let scale = self.inverse[c] * gamma[c];
                // of the normalised x, with the factor that normalises x
                let slope = of_channel(&sums.gradient_times_x, c) as f32 * self.inverse[c];
                Shift {
                    constant: -scale * of_channel(&sums.gradient, c) as f32,
                    slope: -scale * slope,
                }
            })
            .collect()
    }

    /// Gradient of x through mean and biased variance of the batch, whose own gradients are given, where the statistics
    /// are others.
    pub(super) fn of_moments(&self, mean: &[f32], gradients: [&[f32]; 2]) -> Vec<Shift> {
        let numbers = self.channels.numbers();
        let [of_mean, of_variance] = gradients;
        (0..self.channels.count)
            .map(|c| {
                let slope = 2.0 * f64::from(of_variance[c]) / numbers;
                let apart = f64::from(self.mean[c]) - f64::from(mean[c]);
                Shift {
                    constant: (f64::from(of_mean[c]) / numbers + slope * apart) as f32,
                    slope: slope as f32,
                }
            })
            .collect()
    }

    /// Gradient of x: through the line, and the `shifts` of the channels on top.
    pub(super) fn backward_data(
        &self,
        x: &[f32],
        (gamma, beta): (&[f32], &[f32]),
        gy: &[f32],
        shifts: Option<&[Shift]>,
        after: impl Elementwise,
    ) -> Vec<f32> {
        // SAFETY: the task writes all of `gx`, which is as long as the plane.
        unsafe {
            self.channels.map(|c, plane, gx| {
                widest::run(Backward {
                    x: &x[plane.clone()],
                    gy: &gy[plane],
                    gx,
                    line: self.line(c, gamma, beta),
                    shift: shifts.map_or(Shift::default(), |shifts| shifts[c]),
                    after,
                });
            })
        }
    }
}

/// What is added to the gradient of x: `constant + slope (x - mean)`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shift {
    constant: f32,
    slope: f32,
}

struct Forward<'a, A> {
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
    line: Line,
    after: A,
}

impl<A: Elementwise> Task for Forward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (line, after) = (self.line, self.after);
        for (y, x) in self.y.iter_mut().zip(self.x) {
            y.write(after.value(line.at(*x)));
        }
    }
}

struct Gradients<'a, A> {
    x: &'a [f32],
    gy: &'a [f32],
    line: Line,
    inverse: f32,
    after: A,
}

impl<A: Elementwise> Task for Gradients<'_, A> {
    type Output = [f64; 3];

    #[inline(always)]
    fn run(self) -> [f64; 3] {
        let Self {
            line,
            inverse,
            after,
            ..
        } = self;
        let mut sums = [0.0; 3];
        let mut normal = [0f32; BLOCK];
        let mut gradient = [0f32; BLOCK];
        let mut of_threshold = [0f32; BLOCK];
        for (x, gy) in self.x.chunks(BLOCK).zip(self.gy.chunks(BLOCK)) {
            let places = normal.iter_mut().zip(&mut gradient).zip(&mut of_threshold);
            for (((normal, gradient), of_threshold), (x, gy)) in places.zip(x.iter().zip(gy)) {
                let z = line.at(*x);
                *normal = (x - line.mean) * inverse;
                *gradient = after.gradient(z, *gy);
                *of_threshold = after.of_threshold(z);
            }
            sums[0] += sum_of(x.len(), |i| f64::from(gradient[i]));
            sums[1] += sum_of(x.len(), |i| f64::from(gradient[i]) * f64::from(normal[i]));
            if A::HAS_THRESHOLD {
                sums[2] += sum_of(x.len(), |i| f64::from(gy[i]) * f64::from(of_threshold[i]));
            }
        }
        sums
    }
}

struct Backward<'a, A> {
    x: &'a [f32],
    gy: &'a [f32],
    gx: &'a mut [MaybeUninit<f32>],
    line: Line,
    shift: Shift,
    after: A,
}

impl<A: Elementwise> Task for Backward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (line, shift, after) = (self.line, self.shift, self.after);
        for (gx, (gy, x)) in self.gx.iter_mut().zip(self.gy.iter().zip(self.x)) {
            let gradient = after.gradient(line.at(*x), *gy);
            gx.write(line.scale * gradient + shift.constant + (x - line.mean) * shift.slope);
        }
    }
}
