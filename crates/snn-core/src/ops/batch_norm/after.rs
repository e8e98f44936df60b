//! What follows a normalisation number by number, in the same pass over memory.

use crate::ops::qcfs::Staircase;

/// A function of single numbers and its gradients.
pub(super) trait Elementwise: Copy + Sync {
    /// Whether it has a threshold that is trained.
    const HAS_THRESHOLD: bool;

    /// `y(z)`
    fn value(&self, z: f32) -> f32;
    /// The gradient of z, from that of y.
    fn gradient(&self, z: f32, gy: f32) -> f32;
    /// The slope of y with the threshold, times the threshold.
    fn of_threshold(&self, z: f32) -> f32;
}

/// Nothing follows.
#[derive(Clone, Copy)]
pub(super) struct Nothing;

impl Elementwise for Nothing {
    const HAS_THRESHOLD: bool = false;

    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        z
    }

    #[inline(always)]
    fn gradient(&self, _z: f32, gy: f32) -> f32 {
        gy
    }

    #[inline(always)]
    fn of_threshold(&self, _z: f32) -> f32 {
        0.0
    }
}

/// [`crate::ops::relu::relu`]
#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Elementwise for Relu {
    const HAS_THRESHOLD: bool = false;

    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }

    #[inline(always)]
    fn gradient(&self, z: f32, gy: f32) -> f32 {
        if z > 0.0 { gy } else { 0.0 }
    }

    #[inline(always)]
    fn of_threshold(&self, _z: f32) -> f32 {
        0.0
    }
}

impl Elementwise for Staircase {
    const HAS_THRESHOLD: bool = true;

    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        self.at(z)
    }

    #[inline(always)]
    fn gradient(&self, z: f32, gy: f32) -> f32 {
        if self.passes(z) { gy } else { 0.0 }
    }

    #[inline(always)]
    fn of_threshold(&self, z: f32) -> f32 {
        self.of_threshold(z, self.at(z))
    }
}
