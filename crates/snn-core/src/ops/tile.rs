//! A tile of a sum of outer products, held in registers:
//!
//! ```text
//! c[r][j] += sum over segments (p, q), k < depth of a[p + rows[r] + k * a_step] * b[q + k * b_step + j]
//! ```
//!
//! Every number of `c` is one chain of multiply-adds, fused where the processor can, in the order of the segments and of k,
//! whatever the tile's size: results do not depend on how the work is cut. The widest instructions the processor has are
//! chosen at run time.

use std::sync::OnceLock;

use super::level::Sets;
use super::simd::{Four, Vector};

/// Where a tile's operands lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands<'a> {
    /// Starts in `a` and `b`.
    pub(super) segments: &'a [(usize, usize)],
    /// Products of a segment.
    pub(super) depth: usize,
    pub(super) a: &'a [f32],
    pub(super) a_step: usize,
    pub(super) b: &'a [f32],
    pub(super) b_step: usize,
}

impl Operands<'_> {
    /// Whether all that a tile with these rows and this width reads lies inside the slices.
    fn hold(&self, rows: &[usize], width: usize) -> bool {
        let Some(last) = self.depth.checked_sub(1) else {
            return true;
        };
        let row = rows.iter().max().copied().unwrap_or(0) + last * self.a_step;
        let line = last * self.b_step + width;
        self.segments
            .iter()
            .all(|&(p, q)| p + row < self.a.len() && q + line <= self.b.len())
    }
}

type Run = unsafe fn(&Operands, rows: &[usize], c: *mut f32, c_rows: &[usize]);

/// A tile of `rows` rows and a fixed number of vectors.
#[derive(Debug, Clone, Copy)]
struct Tile {
    rows: usize,
    run: Run,
}

/// A set of instructions and the tiles that fill its registers.
#[derive(Debug)]
pub(super) struct Instructions {
    /// Their name.
    pub(super) name: &'static str,
    /// Numbers of a vector.
    pub(super) lanes: usize,
    /// By number of vectors, from one.
    tiles: &'static [Tile],
}

static SETS: Sets<Instructions> = Sets {
    #[cfg(target_arch = "x86_64")]
    avx512: &x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    avx2: &x86::AVX2,
    portable: &PORTABLE,
};

impl Instructions {
    /// The widest that this processor has.
    pub(super) fn best() -> &'static Self {
        static BEST: OnceLock<&'static Instructions> = OnceLock::new();
        BEST.get_or_init(|| SETS.best(|set| set.lanes))
    }

    /// Columns of the widest tile.
    pub(super) fn width(&self) -> usize {
        self.tiles.len() * self.lanes
    }

    /// Columns, filled up to whole vectors.
    pub(super) fn padded(&self, columns: usize) -> usize {
        columns.next_multiple_of(self.lanes)
    }

    /// The columns cut into the widest tiles: first column and width of each; the last is filled up to whole vectors.
    pub(super) fn groups(&self, columns: usize) -> Vec<(usize, usize)> {
        let (all, width) = (self.padded(columns), self.width());
        (0..all)
            .step_by(width)
            .map(|first| (first, width.min(all - first)))
            .collect()
    }

    /// All rows of `rows`, `width` columns: row i of the result is `c[c_rows[i]..][..width]`. `spare` is the start of a
    /// row in `c` that may be overwritten.
    ///
    /// # Safety
    /// `c` is valid for `width` numbers from each of `c_rows` and from `spare`, nobody else touches these, and they do not
    /// overlap the operands.
    pub(super) unsafe fn run(
        &self,
        operands: &Operands,
        rows: &[usize],
        c: *mut f32,
        c_rows: &[usize],
        spare: usize,
        width: usize,
    ) {
        const MOST: usize = 16;
        assert!(
            rows.len() == c_rows.len()
                && width.is_multiple_of(self.lanes)
                && operands.hold(rows, width)
        );
        let tile = &self.tiles[width / self.lanes - 1];
        for (rows, c_rows) in rows.chunks(tile.rows).zip(c_rows.chunks(tile.rows)) {
            if rows.len() == tile.rows {
                // SAFETY: reads were checked, writes are the caller's promise.
                unsafe { (tile.run)(operands, rows, c, c_rows) };
                continue;
            }
            // rows that are missing read what the first one reads and go to the spare row
            let (mut all, mut targets) = ([rows[0]; MOST], [spare; MOST]);
            all[..rows.len()].copy_from_slice(rows);
            targets[..rows.len()].copy_from_slice(c_rows);
            // SAFETY: as above.
            unsafe { (tile.run)(operands, &all[..tile.rows], c, &targets[..tile.rows]) };
        }
    }
}

/// # Safety
/// `operands` hold what rows and width need; `c` is valid for B vectors from each of `c_rows`; the instructions exist.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const B: usize>(
    operands: &Operands,
    rows: &[usize],
    c: *mut f32,
    c_rows: &[usize],
) {
    assert!(rows.len() == R && c_rows.len() == R);
    // SAFETY: the caller's promises; the loops stay within them.
    unsafe {
        let mut sums: [[V; B]; R] = std::array::from_fn(|r| {
            std::array::from_fn(|v| V::load(c.add(c_rows[r] + v * V::LANES)))
        });
        let starts: [*const f32; R] =
            std::array::from_fn(|r| operands.a.as_ptr().wrapping_add(rows[r]));
        let (a_step, b_step) = (operands.a_step, operands.b_step);
        for &(p, q) in operands.segments {
            // may end beyond the slice where the depth is 0 and after the last line: never followed there
            let mut b = operands.b.as_ptr().wrapping_add(q);
            let mut at = p;
            for _ in 0..operands.depth {
                let line: [V; B] = std::array::from_fn(|v| V::load(b.add(v * V::LANES)));
                for r in 0..R {
                    let a = V::splat(*starts[r].add(at));
                    for v in 0..B {
                        sums[r][v] = sums[r][v].plus(a, line[v]);
                    }
                }
                at += a_step;
                b = b.wrapping_add(b_step);
            }
        }
        for r in 0..R {
            for v in 0..B {
                sums[r][v].store(c.add(c_rows[r] + v * V::LANES));
            }
        }
    }
}

/// # Safety
/// As [`tile`].
unsafe fn portable<const R: usize, const B: usize>(
    operands: &Operands,
    rows: &[usize],
    c: *mut f32,
    c_rows: &[usize],
) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Four, R, B>(operands, rows, c, c_rows) }
}

static PORTABLE: Instructions = Instructions {
    name: "portable",
    lanes: 4,
    tiles: &[
        Tile {
            rows: 8,
            run: portable::<8, 1>,
        },
        Tile {
            rows: 4,
            run: portable::<4, 2>,
        },
    ],
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Instructions, Operands, Tile, tile};
    use crate::ops::simd::x86::{Eight, Sixteen};

    /// # Safety
    /// As [`tile`].
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const R: usize, const B: usize>(
        operands: &Operands,
        rows: &[usize],
        c: *mut f32,
        c_rows: &[usize],
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<Sixteen, R, B>(operands, rows, c, c_rows) }
    }

    /// # Safety
    /// As [`tile`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const R: usize, const B: usize>(
        operands: &Operands,
        rows: &[usize],
        c: *mut f32,
        c_rows: &[usize],
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<Eight, R, B>(operands, rows, c, c_rows) }
    }

    // 32 registers: sums, a line of b, one number of a
    pub(super) static AVX512: Instructions = Instructions {
        name: "avx512",
        lanes: 16,
        tiles: &[
            Tile {
                rows: 14,
                run: avx512::<14, 1>,
            },
            Tile {
                rows: 12,
                run: avx512::<12, 2>,
            },
            Tile {
                rows: 8,
                run: avx512::<8, 3>,
            },
            Tile {
                rows: 6,
                run: avx512::<6, 4>,
            },
        ],
    };

    // 16 registers
    pub(super) static AVX2: Instructions = Instructions {
        name: "avx2",
        lanes: 8,
        tiles: &[
            Tile {
                rows: 12,
                run: avx2::<12, 1>,
            },
            Tile {
                rows: 6,
                run: avx2::<6, 2>,
            },
        ],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of instructions and every tile, full and partial, against the sum in f64.
    #[test]
    fn tiles_equal_the_sum_written_out() {
        let mut stream = crate::rng::Seed::new(5).stream();
        let mut noise = |n: usize| -> Vec<f32> { (0..n).map(|_| stream.uniform() - 0.5).collect() };
        let (a, b) = (noise(4000), noise(6000));
        let segments = [(3, 0), (70, 1500), (1, 900)];
        let (depth, a_step, b_step) = (7, 2, 67);
        for instructions in SETS.all() {
            for vectors in 1..=instructions.tiles.len() {
                let width = vectors * instructions.lanes;
                for count in [1, 5, 6, 14, 29] {
                    let rows: Vec<usize> = (0..count).map(|r| r * 37 % 1000).collect();
                    let c_rows: Vec<usize> = (0..count).map(|r| r * width).collect();
                    let before = noise((count + 1) * width);
                    let mut c = before.clone();
                    let operands = Operands {
                        segments: &segments,
                        depth,
                        a: &a,
                        a_step,
                        b: &b,
                        b_step,
                    };
                    // SAFETY: `c` has a row for each of `c_rows` and one more.
                    unsafe {
                        let to = c.as_mut_ptr();
                        instructions.run(&operands, &rows, to, &c_rows, count * width, width);
                    }
                    for r in 0..count {
                        for j in 0..width {
                            let mut sum = f64::from(before[r * width + j]);
                            for (p, q) in segments {
                                for k in 0..depth {
                                    sum += f64::from(a[p + rows[r] + k * a_step])
                                        * f64::from(b[q + k * b_step + j]);
                                }
                            }
                            let got = f64::from(c[r * width + j]);
                            assert!(
                                (got - sum).abs() < 1e-5,
                                "{} {vectors} vectors, row {r} of {count}, column {j}: {got} for {sum}",
                                instructions.name
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "hold")]
    fn operands_that_end_too_early_are_refused() {
        let (a, b) = ([0f32; 20], [0f32; 64]);
        let operands = Operands {
            segments: &[(0, 0)],
            depth: 3,
            a: &a,
            a_step: 10,
            b: &b,
            b_step: 16,
        };
        let instructions = &PORTABLE;
        let mut c = [0f32; 8];
        // SAFETY: `c` has the row and a spare one.
        unsafe { instructions.run(&operands, &[0], c.as_mut_ptr(), &[0], 4, 4) };
    }
}
