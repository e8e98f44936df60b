//! The transforms of Winograd's F(2x2, 3x3) and F(4x4, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural
//! networks", CVPR 2016): a 3x3 convolution's m x m outputs from n x n inputs, n = m + 2, with n^2 products per pair of
//! channels instead of 9 m^2,
//!
//! ```text
//! y = A' [(G w G') * (B' d B)] A        and for the weights' gradient        gw = G' [(A gy A') * (B' d B)] G
//! ```
//!
//! `*` being the product of equal places ("frequencies"). A frequency is a point at which polynomials are multiplied. The
//! transforms are done for as many channels side by side as a vector holds; channels lie next to one another, filled up to
//! whole vectors.

mod four;
mod two;

use std::sync::OnceLock;

use crate::ops::level::Sets;
use crate::ops::simd::{Four, Vector};

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

/// The transforms of one size of tiles for one set of instructions.
#[derive(Debug)]
pub(super) struct Transforms {
    /// Rows and columns of a tile of outputs, m.
    pub(super) side: usize,
    /// Frequencies of a tile, n^2.
    pub(super) frequencies: usize,
    /// Numbers of a vector.
    pub(super) lanes: usize,
    /// `B' d B` of an n x n square.
    pub(super) input: Spread,
    /// `A gy A'` of an m x m square.
    pub(super) gradient: Spread,
    /// `G w G'` of a 3x3 square.
    pub(super) weight: Spread,
    /// `G w G'` of a 3x3 square turned by half a turn.
    pub(super) turned_weight: Spread,
    /// `A' m A`, an m x m square.
    pub(super) output: Gather,
    /// `G' m G`, a 3x3 square.
    pub(super) weight_gradient: Gather,
}

/// The transforms of all sizes of tiles, the smallest first.
type BySide = [Transforms; 2];

static SETS: Sets<BySide> = Sets {
    #[cfg(target_arch = "x86_64")]
    avx512: &x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    avx2: &x86::AVX2,
    portable: &PORTABLE,
};

impl Transforms {
    /// Those whose vectors are as wide as those of [`crate::ops::tile::Instructions::best`].
    pub(super) fn best() -> &'static BySide {
        static BEST: OnceLock<&'static BySide> = OnceLock::new();
        BEST.get_or_init(|| SETS.best(|sizes| sizes[0].lanes))
    }
}

/// A transform along one axis, from I numbers to O.
trait Axis<const I: usize, const O: usize> {
    /// # Safety
    /// The instructions exist.
    unsafe fn apply<V: Vector>(x: [V; I]) -> [V; O];
}

/// `B'`
struct Input;
/// `A`
struct Gradient;
/// `G`
struct Weight;
/// `G` from the last weight to the first.
struct TurnedWeight;
/// `A'`
struct Output;
/// `G'`
struct WeightGradient;

impl<const N: usize> Axis<3, N> for TurnedWeight
where
    Weight: Axis<3, N>,
{
    #[inline(always)]
    unsafe fn apply<V: Vector>([c, b, a]: [V; 3]) -> [V; N] {
        // SAFETY: the caller's promise.
        unsafe { Weight::apply([a, b, c]) }
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
unsafe fn spread<V: Vector, A: Axis<I, N>, const I: usize, const N: usize>(
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
            let y = both::<V, A, I, N>(x);
            for i in 0..N {
                for j in 0..N {
                    y[i][j].store(to.add((i * N + j) * frequency + c));
                }
            }
        }
    }
}

/// # Safety
/// As [`Gather`].
#[inline(always)]
unsafe fn gather<V: Vector, A: Axis<N, O>, const N: usize, const O: usize>(
    from: *const f32,
    frequency: usize,
    to: *mut f32,
    square: Square,
    channels: usize,
) {
    for c in (0..channels).step_by(V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut x = [[V::splat(0.0); N]; N];
            for i in 0..N {
                for j in 0..N {
                    x[i][j] = V::load(from.add((i * N + j) * frequency + c));
                }
            }
            let y = both::<V, A, N, O>(x);
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
        pub(super) static $name: BySide = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn spread<A: Axis<I, N>, const I: usize, const N: usize>(
                from: *const f32,
                square: Square,
                to: *mut f32,
                frequency: usize,
                channels: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::spread::<$vector, A, I, N>(from, square, to, frequency, channels) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn gather<A: Axis<N, O>, const N: usize, const O: usize>(
                from: *const f32,
                frequency: usize,
                to: *mut f32,
                square: Square,
                channels: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::gather::<$vector, A, N, O>(from, frequency, to, square, channels) }
            }

            const fn size<const M: usize, const N: usize>() -> Transforms
            where
                Input: Axis<N, N>,
                Gradient: Axis<M, N>,
                Weight: Axis<3, N>,
                Output: Axis<N, M>,
                WeightGradient: Axis<N, 3>,
            {
                Transforms {
                    side: M,
                    frequencies: N * N,
                    lanes: <$vector as Vector>::LANES,
                    input: spread::<Input, N, N>,
                    gradient: spread::<Gradient, M, N>,
                    weight: spread::<Weight, 3, N>,
                    turned_weight: spread::<TurnedWeight, 3, N>,
                    output: gather::<Output, N, M>,
                    weight_gradient: gather::<WeightGradient, N, 3>,
                }
            }

            [size::<2, 4>(), size::<4, 6>()]
        };
    };
}

mod portable {
    use super::{
        Axis, BySide, Four, Gradient, Input, Output, Square, Transforms, TurnedWeight, Vector,
        Weight, WeightGradient,
    };

    transforms!(PORTABLE, Four);
}
use portable::PORTABLE;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{
        Axis, BySide, Gradient, Input, Output, Square, Transforms, TurnedWeight, Vector, Weight,
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
        for transforms in SETS.all().into_iter().flatten() {
            let channels = 2 * transforms.lanes;
            let (m, n) = (transforms.side, transforms.side + 2);
            assert_eq!(transforms.frequencies, n * n);
            let square = |side| Square {
                row: side * channels,
                column: channels,
            };
            let (d, w, gy) = (
                numbers(1, n * n * channels),
                numbers(2, 9 * channels),
                numbers(3, m * m * channels),
            );
            let turned: Vec<f32> = w.chunks(channels).rev().flatten().copied().collect();
            let spread = |f: Spread, from: &[f32], side| {
                let mut to = vec![0f32; n * n * channels];
                let (from, to_start) = (from.as_ptr(), to.as_mut_ptr());
                // SAFETY: `from` is a square of lines, `to` has a line for each frequency.
                unsafe { f(from, square(side), to_start, channels, channels) };
                to
            };
            let gather = |f: Gather, a: &[f32], b: &[f32], side: usize| {
                let products: Vec<f32> = a.iter().zip(b).map(|(a, b)| a * b).collect();
                let mut to = vec![0f32; side * side * channels];
                let (from, to_start) = (products.as_ptr(), to.as_mut_ptr());
                // SAFETY: `products` has a line for each frequency, `to` is a square of lines.
                unsafe { f(from, channels, to_start, square(side), channels) };
                to
            };
            let (fd, fw, fg) = (
                spread(transforms.input, &d, n),
                spread(transforms.turned_weight, &turned, 3),
                spread(transforms.gradient, &gy, m),
            );
            assert_eq!(spread(transforms.weight, &w, 3), fw);
            let y = gather(transforms.output, &fd, &fw, m);
            let gw = gather(transforms.weight_gradient, &fd, &fg, 3);
            // both correlate the input with a smaller square
            let correlated = |small: &[f32], side: usize, i: usize, j: usize, c: usize| {
                let at = |values: &[f32], side: usize, i: usize, j: usize| {
                    f64::from(values[(i * side + j) * channels + c])
                };
                let mut sum = 0f64;
                for a in 0..side {
                    for b in 0..side {
                        sum += at(&d, n, i + a, j + b) * at(small, side, a, b);
                    }
                }
                sum
            };
            for c in 0..channels {
                for (values, side, small, of) in [(&y, m, &w, 3), (&gw, 3, &gy, m)] {
                    for (place, i, j) in (0..side * side).map(|p| (p, p / side, p % side)) {
                        let expected = correlated(small, of, i, j, c);
                        let got = f64::from(values[place * channels + c]);
                        assert!(
                            (got - expected).abs() < 2e-6,
                            "{} lanes, tiles of {m}, {side}x{side} at {place}, channel {c}: {got} for {expected}",
                            transforms.lanes
                        );
                    }
                }
            }
        }
    }
}
