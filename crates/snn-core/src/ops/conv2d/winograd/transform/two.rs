//! F(2x2, 3x3): the points 0, 1, -1 and infinity. Sums and halvings.

use super::{Axis, Gradient, Input, Output, Weight, WeightGradient};
use crate::ops::simd::Vector;

impl Axis<4, 4> for Input {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
    }
}

impl Axis<2, 4> for Gradient {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b]: [V; 2]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [a, a.add(b), a.sub(b), V::splat(0.0).sub(b)] }
    }
}

impl Axis<3, 4> for Weight {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c]: [V; 3]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let half = V::splat(0.5);
            let (outer, inner) = (a.add(c).mul(half), b.mul(half));
            [a, outer.add(inner), outer.sub(inner), c]
        }
    }
}

impl Axis<4, 2> for Output {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
    }
}

impl Axis<4, 3> for WeightGradient {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 3] {
        // SAFETY: the caller's promise.
        unsafe {
            let half = V::splat(0.5);
            let (sum, difference) = (b.add(c).mul(half), b.sub(c).mul(half));
            [a.add(sum), difference, sum.add(d)]
        }
    }
}
