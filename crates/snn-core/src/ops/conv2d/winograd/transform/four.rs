//! F(4x4, 3x3): the points 0, a, -a, b, -b and infinity.
//!
//! The usual points, a = 1 and b = 2, lose more to rounding than a = 5/8 and b = 3/2, whose powers stay nearer to 1. They and the products of their powers below are exact in f32. What differs in its sign alone between a point and
//! its opposite, the odd powers, is computed once for both.

use super::{Axis, Gradient, Input, Output, Weight, WeightGradient};
use crate::ops::simd::Vector;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// What divides the weights at a point: the product of its distances to the others.
const AT_0: f32 = A2 * B2;
const AT_A: f32 = 2.0 * A2 * (A2 - B2);
const AT_B: f32 = 2.0 * B2 * (B2 - A2);

/// `by x`
///
/// # Safety
/// The instructions exist.
#[inline(always)]
unsafe fn times<V: Vector>(by: f32, x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.mul(V::splat(by)) }
}

/// `x + by y`
///
/// # Safety
/// The instructions exist.
#[inline(always)]
unsafe fn plus<V: Vector>(x: V, by: f32, y: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.plus(V::splat(by), y) }
}

/// The numbers at all points, from those at 0 and infinity and the even and odd powers at a and b.
///
/// # Safety
/// The instructions exist.
#[inline(always)]
unsafe fn points<V: Vector>(zero: V, a: (V, V), b: (V, V), infinity: V) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            zero,
            a.0.add(a.1),
            a.0.sub(a.1),
            b.0.add(b.1),
            b.0.sub(b.1),
            infinity,
        ]
    }
}

impl Axis<6, 6> for Input {
    #[inline(always)]
    unsafe fn apply<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; 6]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            points(
                plus(plus(d4, -(A2 + B2), d2), A2 * B2, d0),
                (plus(d4, -B2, d2), times(A, plus(d3, -B2, d1))),
                (plus(d4, -A2, d2), times(B, plus(d3, -A2, d1))),
                plus(plus(d5, -(A2 + B2), d3), A2 * B2, d1),
            )
        }
    }
}

impl Axis<4, 6> for Gradient {
    #[inline(always)]
    unsafe fn apply<V: Vector>([g0, g1, g2, g3]: [V; 4]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            points(
                g0,
                (plus(g0, A2, g2), times(A, plus(g1, A2, g3))),
                (plus(g0, B2, g2), times(B, plus(g1, B2, g3))),
                g3,
            )
        }
    }
}

impl Axis<3, 6> for Weight {
    #[inline(always)]
    unsafe fn apply<V: Vector>([w0, w1, w2]: [V; 3]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            points(
                times(1.0 / AT_0, w0),
                (times(1.0 / AT_A, plus(w0, A2, w2)), times(A / AT_A, w1)),
                (times(1.0 / AT_B, plus(w0, B2, w2)), times(B / AT_B, w1)),
                w2,
            )
        }
    }
}

impl Axis<6, 4> for Output {
    #[inline(always)]
    unsafe fn apply<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let (even_a, odd_a) = (m1.add(m2), times(A, m1.sub(m2)));
            let (even_b, odd_b) = (m3.add(m4), times(B, m3.sub(m4)));
            [
                m0.add(even_a).add(even_b),
                odd_a.add(odd_b),
                plus(times(A2, even_a), B2, even_b),
                plus(plus(m5, A2, odd_a), B2, odd_b),
            ]
        }
    }
}

impl Axis<6, 3> for WeightGradient {
    #[inline(always)]
    unsafe fn apply<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 3] {
        // SAFETY: the caller's promise.
        unsafe {
            let (even_a, odd_a) = (times(1.0 / AT_A, m1.add(m2)), times(A / AT_A, m1.sub(m2)));
            let (even_b, odd_b) = (times(1.0 / AT_B, m3.add(m4)), times(B / AT_B, m3.sub(m4)));
            [
                times(1.0 / AT_0, m0).add(even_a).add(even_b),
                odd_a.add(odd_b),
                plus(plus(m5, A2, even_a), B2, even_b),
            ]
        }
    }
}
