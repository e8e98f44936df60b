//! The transforms of Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR
//! 2016): a 3x3 convolution's 2x2 outputs from 4x4 inputs with 16 products per pair of channels instead of 36,
//!
//! ```text
//! y = A' [(G w G') * (B' d B)] A        and for the weights' gradient        gw = G' [(A gy A') * (B' d B)] G
//! ```
//!
//! `*` being the product of equal places ("frequencies"). All transforms are sums and halvings, done for as many channels
//! side by side as a vector holds; channels lie next to one another, filled up to whole vectors.

use std::sync::OnceLock;

use crate::ops::level::best;
use crate::ops::simd::{Four, Vector};

/// Frequencies of a tile.
pub(super) const FREQUENCIES: usize = 16;

/// Where the numbers of a small square lie: the distances between its rows and between its columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Square {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// # Safety
/// `from` is valid for reads, `to` for writes, at every place of their squares or frequencies for `channels` numbers,
/// filled up to whole vectors; they do not overlap; the instructions exist.
type Spread = unsafe fn(from: *const f32, Square, to: *mut f32, frequency: usize, channels: usize);

/// # Safety
/// As [`Spread`].
type Gather = unsafe fn(from: *const f32, frequency: usize, to: *mut f32, Square, channels: usize);

/// The transforms for one set of instructions.
#[derive(Debug)]
pub(super) struct Transforms {
    /// Numbers of a vector.
    pub(super) lanes: usize,
    /// `B' d B` of a 4x4 square.
    pub(super) input: Spread,
    /// `A gy A'` of a 2x2 square.
    pub(super) gradient: Spread,
    /// `G w G'` of a 3x3 square.
    pub(super) weight: Spread,
    /// `G w G'` of a 3x3 square turned by half a turn.
    pub(super) turned_weight: Spread,
    /// `A' m A`, a 2x2 square.
    pub(super) output: Gather,
    /// `G' m G`, a 3x3 square.
    pub(super) weight_gradient: Gather,
}

impl Transforms {
    /// Those whose vectors are as wide as those of [`crate::ops::tile::Instructions::best`].
    pub(super) fn best() -> &'static Self {
        static BEST: OnceLock<&'static Transforms> = OnceLock::new();
        BEST.get_or_init(|| best(Self::all(), |set| set.lanes))
    }

    /// All that this processor has, the widest first.
    fn all() -> Vec<&'static Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                all.push(&x86::AVX512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(&x86::AVX2);
            }
        }
        all.push(&PORTABLE);
        all
    }
}

/// A transform along one axis, from I numbers to O.
trait Axis<const I: usize, const O: usize> {
    /// # Safety
    /// The instructions exist.
    unsafe fn apply<V: Vector>(x: [V; I]) -> [V; O];
}

struct Input;
impl Axis<4, 4> for Input {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
    }
}

struct Gradient;
impl Axis<2, 4> for Gradient {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b]: [V; 2]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [a, a.add(b), a.sub(b), V::splat(0.0).sub(b)] }
    }
}

struct TurnedWeight;
impl Axis<3, 4> for TurnedWeight {
    #[inline(always)]
    unsafe fn apply<V: Vector>([c, b, a]: [V; 3]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { Weight::apply([a, b, c]) }
    }
}

struct Weight;
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

struct Output;
impl Axis<4, 2> for Output {
    #[inline(always)]
    unsafe fn apply<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
    }
}

struct WeightGradient;
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

/// A transform along both axes.
///
/// # Safety
/// The instructions exist.
#[inline(always)]
unsafe fn both<V: Vector, A: Axis<I, O>, const I: usize, const O: usize>(
    x: [[V; I]; I],
) -> [[V; O]; O] {
    // loops, not closures: what is not inlined loses the instructions
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(0.0);
        let (mut rows, mut y) = ([[zero; O]; I], [[zero; O]; O]);
        for i in 0..I {
            rows[i] = A::apply(x[i]);
        }
        for o in 0..O {
            let mut column = [zero; I];
            for i in 0..I {
                column[i] = rows[i][o];
            }
            let column = A::apply(column);
            for i in 0..O {
                y[i][o] = column[i];
            }
        }
        y
    }
}

/// # Safety
/// As [`Spread`].
#[inline(always)]
unsafe fn spread<V: Vector, A: Axis<I, 4>, const I: usize>(
    from: *const f32,
    square: Square,
    to: *mut f32,
    frequency: usize,
    channels: usize,
) {
    for c in (0..channels).step_by(V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut x = [[V::splat(0.0); I]; I];
            for i in 0..I {
                for j in 0..I {
                    x[i][j] = V::load(from.add(i * square.row + j * square.column + c));
                }
            }
            let y = both::<V, A, I, 4>(x);
            for i in 0..4 {
                for j in 0..4 {
                    y[i][j].store(to.add((i * 4 + j) * frequency + c));
                }
            }
        }
    }
}

/// # Safety
/// As [`Gather`].
#[inline(always)]
unsafe fn gather<V: Vector, A: Axis<4, O>, const O: usize>(
    from: *const f32,
    frequency: usize,
    to: *mut f32,
    square: Square,
    channels: usize,
) {
    for c in (0..channels).step_by(V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut x = [[V::splat(0.0); 4]; 4];
            for i in 0..4 {
                for j in 0..4 {
                    x[i][j] = V::load(from.add((i * 4 + j) * frequency + c));
                }
            }
            let y = both::<V, A, 4, O>(x);
            for i in 0..O {
                for j in 0..O {
                    y[i][j].store(to.add(i * square.row + j * square.column + c));
                }
            }
        }
    }
}

macro_rules! transforms {
    ($name:ident, $vector:ty $(, $feature:literal)?) => {
        pub(super) static $name: Transforms = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn spread<A: Axis<I, 4>, const I: usize>(
                from: *const f32,
                square: Square,
                to: *mut f32,
                frequency: usize,
                channels: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::spread::<$vector, A, I>(from, square, to, frequency, channels) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn gather<A: Axis<4, O>, const O: usize>(
                from: *const f32,
                frequency: usize,
                to: *mut f32,
                square: Square,
                channels: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::gather::<$vector, A, O>(from, frequency, to, square, channels) }
            }

            Transforms {
                lanes: <$vector as Vector>::LANES,
                input: spread::<Input, 4>,
                gradient: spread::<Gradient, 2>,
                weight: spread::<Weight, 3>,
                turned_weight: spread::<TurnedWeight, 3>,
                output: gather::<Output, 2>,
                weight_gradient: gather::<WeightGradient, 3>,
            }
        };
    };
}

mod portable {
    use super::WeightGradient;
    use super::{
        Axis, Four, Gradient, Input, Output, Square, Transforms, TurnedWeight, Vector, Weight,
    };

    transforms!(PORTABLE, Four);
}
use portable::PORTABLE;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{
        Axis, Gradient, Input, Output, Square, Transforms, TurnedWeight, Vector, Weight,
        WeightGradient,
    };
    use crate::ops::simd::x86::{Eight, Sixteen};

    transforms!(AVX512, Sixteen, "avx512f");
    transforms!(AVX2, Eight, "avx2,fma");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        let mut stream = crate::rng::Seed::new(seed).stream();
        (0..n).map(|_| stream.uniform() - 0.5).collect()
    }

    /// One tile of some channels, number `[square place][channel]`.
    #[test]
    fn a_tile_is_a_convolution() {
        for transforms in Transforms::all() {
            let channels = 2 * transforms.lanes;
            let square = |side| Square {
                row: side * channels,
                column: channels,
            };
            let (d, w, gy) = (
                numbers(1, 16 * channels),
                numbers(2, 9 * channels),
                numbers(3, 4 * channels),
            );
            let turned: Vec<f32> = w.chunks(channels).rev().flatten().copied().collect();
            let spread = |f: Spread, from: &[f32], side| {
                let mut to = vec![0f32; 16 * channels];
                // SAFETY: `from` is a square of lines, `to` has a line for each frequency.
                unsafe {
                    f(
                        from.as_ptr(),
                        square(side),
                        to.as_mut_ptr(),
                        channels,
                        channels,
                    )
                };
                to
            };
            let gather = |f: Gather, a: &[f32], b: &[f32], side: usize| {
                let products: Vec<f32> = a.iter().zip(b).map(|(a, b)| a * b).collect();
                let mut to = vec![0f32; side * side * channels];
                // SAFETY: `products` has a line for each frequency, `to` is a square of lines.
                unsafe {
                    f(
                        products.as_ptr(),
                        channels,
                        to.as_mut_ptr(),
                        square(side),
                        channels,
                    )
                };
                to
            };
            let (fd, fw, fg) = (
                spread(transforms.input, &d, 4),
                spread(transforms.turned_weight, &turned, 3),
                spread(transforms.gradient, &gy, 2),
            );
            assert_eq!(spread(transforms.weight, &w, 3), fw);
            let y = gather(transforms.output, &fd, &fw, 2);
            let gw = gather(transforms.weight_gradient, &fd, &fg, 3);
            // both correlate the input with a smaller square
            let correlated = |small: &[f32], side: usize, i: usize, j: usize, c: usize| {
                let at = |values: &[f32], side: usize, i: usize, j: usize| {
                    f64::from(values[(i * side + j) * channels + c])
                };
                let mut sum = 0f64;
                for a in 0..side {
                    for b in 0..side {
                        sum += at(&d, 4, i + a, j + b) * at(small, side, a, b);
                    }
                }
                sum
            };
            for c in 0..channels {
                for (values, side, small, of) in [(&y, 2, &w, 3), (&gw, 3, &gy, 2)] {
                    for (place, i, j) in (0..side * side).map(|p| (p, p / side, p % side)) {
                        let expected = correlated(small, of, i, j, c);
                        let got = f64::from(values[place * channels + c]);
                        assert!(
                            (got - expected).abs() < 1e-6,
                            "{} lanes, {side}x{side} at {place}, channel {c}: {got} for {expected}",
                            transforms.lanes
                        );
                    }
                }
            }
        }
    }
}
