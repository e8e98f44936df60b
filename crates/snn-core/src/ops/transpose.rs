//! Rows to columns: between images with whole channels one after another and images with their channels side by side.

use std::sync::OnceLock;

use super::level::widest_lanes;

/// Side of the squares that are taken at once.
const SIDE: usize = 8;

/// [`transpose`] by some instructions.
///
/// # Safety
/// As [`transpose`]; the instructions exist.
type Transpose = unsafe fn(Rows, (usize, usize), Columns);

/// Where the first row is read, and the distance from one row to the next.
type Rows = (*const f32, usize);

/// Where the first column of the rows is written as a row, and the distance from one to the next.
type Columns = (*mut f32, usize);

/// `to[j * to_row + i] = from[i * from_row + j]` for i below `rows` and j below `columns`.
///
/// # Safety
/// `from` is valid for reads and `to` for writes at these places, which nobody else touches and which do not overlap.
pub(crate) unsafe fn transpose(from: Rows, (rows, columns): (usize, usize), to: Columns) {
    static BEST: OnceLock<Transpose> = OnceLock::new();
    // SAFETY: the caller's promise; the best instructions exist.
    unsafe { BEST.get_or_init(best)(from, (rows, columns), to) }
}

fn best() -> Transpose {
    #[cfg(target_arch = "x86_64")]
    if widest_lanes() >= 8 && is_x86_feature_detected!("avx") {
        return x86::transpose;
    }
    portable
}

/// # Safety
/// As [`transpose`].
unsafe fn portable(from: Rows, (rows, columns): (usize, usize), to: Columns) {
    for i in (0..rows).step_by(SIDE) {
        for j in (0..columns).step_by(SIDE) {
            let square = (SIDE.min(rows - i), SIDE.min(columns - j));
            // SAFETY: the caller's promise.
            unsafe { some(at(from, i, j), square, (to.0.add(j * to.1 + i), to.1)) };
        }
    }
}

/// The rows from one's number on.
///
/// # Safety
/// They are there.
unsafe fn at((from, from_row): Rows, i: usize, j: usize) -> Rows {
    // SAFETY: the caller's promise.
    unsafe { (from.add(i * from_row + j), from_row) }
}

/// Number by number.
///
/// # Safety
/// As [`transpose`].
#[inline]
unsafe fn some((from, from_row): Rows, (rows, columns): (usize, usize), (to, to_row): Columns) {
    for i in 0..rows {
        for j in 0..columns {
            // SAFETY: the caller's promise.
            unsafe { *to.add(j * to_row + i) = *from.add(i * from_row + j) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm_loadu_ps, _mm256_castps128_ps256, _mm256_insertf128_ps, _mm256_shuffle_ps,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    use super::{Columns, Rows, SIDE, at, some};

    /// Half a vector.
    const HALF: usize = SIDE / 2;

    /// # Safety
    /// As [`super::Transpose`].
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn transpose(
        from: Rows,
        (rows, columns): (usize, usize),
        (to, to_row): Columns,
    ) {
        let (whole_rows, squares) = (rows - rows % SIDE, columns - columns % SIDE);
        let whole = columns - columns % HALF;
        // The wider apart side has the planes, mostly at a power of two, where the first-level cache keeps few lines. Of planes
        // that are written, 16 numbers, a line, follow one another; of planes that are read, they do so anyway.
        let together = if to_row > from.1 { 2 * SIDE } else { SIDE };
        // SAFETY: the caller's promise; what is taken lies within the rows and columns, and what that leaves is not empty.
        unsafe {
            let place = |i, j| (to.add(j * to_row + i), to_row);
            for first in (0..whole_rows).step_by(together) {
                let some_rows = first..whole_rows.min(first + together);
                for j in (0..squares).step_by(SIDE) {
                    for i in some_rows.clone().step_by(SIDE) {
                        let (left, right) = (load(at(from, i, j)), load(at(from, i, j + HALF)));
                        store(left, place(i, j));
                        store(right, place(i, j + HALF));
                    }
                }
                // planes of four columns are as common as they are narrow
                if squares < whole {
                    for i in some_rows.step_by(SIDE) {
                        store(load(at(from, i, squares)), place(i, squares));
                    }
                }
            }
            if whole < columns && whole_rows > 0 {
                let right = (whole_rows, columns - whole);
                some(at(from, 0, whole), right, place(0, whole));
            }
            if whole_rows < rows && columns > 0 {
                let below = (rows - whole_rows, columns);
                some(at(from, whole_rows, 0), below, place(whole_rows, 0));
            }
        }
    }

    /// [`HALF`] columns of [`SIDE`] rows: row i and, half a vector on, row i + 4, which an insertion from memory puts there
    /// beside the shuffles.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn load((from, from_row): Rows) -> [__m256; HALF] {
        [0, 1, 2, 3].map(|i| {
            // SAFETY: the caller's promise.
            unsafe {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(i * from_row)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add((i + HALF) * from_row)))
            }
        })
    }

    /// Writes what [`load`] read as [`HALF`] columns of [`SIDE`] numbers.
    ///
    /// # Safety
    /// There is room for them.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn store([a, b, c, d]: [__m256; HALF], (to, to_row): Columns) {
        let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let columns = [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xEE>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
        ];
        for (j, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to.add(j * to_row), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All remainders, on sides whose last number is the last of its memory.
    #[test]
    fn rows_become_columns() {
        for (rows, columns) in
            (0..=41).flat_map(|rows| (0..=21).map(move |columns| (rows, columns)))
        {
            // either side wider apart than the other
            for (from_row, to_row) in [(columns + 3, rows + 40), (columns + 40, rows)] {
                let len = |lines: usize, pitch: usize, last: usize| match lines {
                    0 => 0,
                    lines => (lines - 1) * pitch + last,
                };
                let from: Vec<f32> = (0..len(rows, from_row, columns))
                    .map(|i| i as f32)
                    .collect();
                for any in [best(), portable, transpose] {
                    let mut to = vec![-1f32; len(columns, to_row, rows)];
                    // SAFETY: both have room for all rows and columns.
                    unsafe {
                        let target = (to.as_mut_ptr(), to_row);
                        any((from.as_ptr(), from_row), (rows, columns), target);
                    }
                    for (place, value) in to.iter().enumerate() {
                        let (j, i) = (place / to_row, place % to_row);
                        let expected = if i < rows {
                            from[i * from_row + j]
                        } else {
                            -1.0
                        };
                        assert_eq!(*value, expected, "{rows} x {columns}: row {i}, column {j}");
                    }
                }
            }
        }
    }
}
