//! Rows to columns: between images with whole channels one after another and images with their channels side by side.

use std::sync::OnceLock;

use super::level::widest_lanes;

/// Side of the squares that are transposed in registers.
const SIDE: usize = 8;

/// # Safety
/// `from` is valid for `SIDE` numbers from each of `SIDE` rows, `to` likewise; they do not overlap; the instructions
/// exist.
type Square = unsafe fn(from: *const f32, from_row: usize, to: *mut f32, to_row: usize);

/// `to[j * to_row + i] = from[i * from_row + j]` for i below `rows` and j below `columns`.
///
/// # Safety
/// `from` is valid for reads and `to` for writes at these places, which nobody else touches and which do not overlap.
pub(crate) unsafe fn transpose(
    (from, from_row): (*const f32, usize),
    (rows, columns): (usize, usize),
    (to, to_row): (*mut f32, usize),
) {
    static BEST: OnceLock<Square> = OnceLock::new();
    let square = *BEST.get_or_init(best);
    // SAFETY: squares and single numbers lie within the rows and columns.
    unsafe {
        for i in (0..rows).step_by(SIDE) {
            for j in (0..columns).step_by(SIDE) {
                let (from, to) = (from.add(i * from_row + j), to.add(j * to_row + i));
                if rows - i >= SIDE && columns - j >= SIDE {
                    square(from, from_row, to, to_row);
                } else {
                    some((from, from_row), (rows - i, columns - j), (to, to_row));
                }
            }
        }
    }
}

/// What is left of a square.
///
/// # Safety
/// As [`transpose`], for at most `SIDE` rows and columns.
unsafe fn some(
    (from, from_row): (*const f32, usize),
    (rows, columns): (usize, usize),
    (to, to_row): (*mut f32, usize),
) {
    let (rows, columns) = (rows.min(SIDE), columns.min(SIDE));
    #[cfg(target_arch = "x86_64")]
    if columns == x86::QUARTER && rows == SIDE {
        // planes of four columns are as common as they are narrow
        for i in [0, x86::QUARTER] {
            // SAFETY: the caller's promise; all processors of this architecture have the instructions.
            unsafe { x86::quarter(from.add(i * from_row), from_row, to.add(i), to_row) };
        }
        return;
    }
    for i in 0..rows {
        for j in 0..columns {
            // SAFETY: the caller's promise.
            unsafe { *to.add(j * to_row + i) = *from.add(i * from_row + j) };
        }
    }
}

fn best() -> Square {
    #[cfg(target_arch = "x86_64")]
    if widest_lanes() >= 8 && is_x86_feature_detected!("avx") {
        return x86::square;
    }
    portable
}

/// # Safety
/// As [`Square`].
unsafe fn portable(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
    // SAFETY: the caller's promise.
    unsafe { some((from, from_row), (SIDE, SIDE), (to, to_row)) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps,
        _mm_unpacklo_ps, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps,
        _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    use super::SIDE;

    /// Side of a quarter of a square.
    pub(super) const QUARTER: usize = SIDE / 2;

    /// # Safety
    /// As [`super::Square`], for `QUARTER` rows and columns.
    pub(super) unsafe fn quarter(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm_loadu_ps(from.add(i * from_row)));
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            let columns = [
                _mm_movelh_ps(ab, cd),
                _mm_movehl_ps(cd, ab),
                _mm_movelh_ps(ab_high, cd_high),
                _mm_movehl_ps(cd_high, ab_high),
            ];
            for (j, column) in columns.into_iter().enumerate() {
                _mm_storeu_ps(to.add(j * to_row), column);
            }
        }
    }

    /// # Safety
    /// As [`super::Square`].
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn square(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = _mm256_setzero_ps();
            let (mut rows, mut low, mut high) = ([zero; SIDE], [zero; 4], [zero; 4]);
            for i in 0..SIDE {
                rows[i] = _mm256_loadu_ps(from.add(i * from_row));
            }
            // within halves: pairs of rows, then fours; then the halves
            for i in 0..4 {
                low[i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                high[i] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            let a = _mm256_shuffle_ps::<0x44>(low[0], low[1]);
            let b = _mm256_shuffle_ps::<0xEE>(low[0], low[1]);
            let c = _mm256_shuffle_ps::<0x44>(high[0], high[1]);
            let d = _mm256_shuffle_ps::<0xEE>(high[0], high[1]);
            let e = _mm256_shuffle_ps::<0x44>(low[2], low[3]);
            let f = _mm256_shuffle_ps::<0xEE>(low[2], low[3]);
            let g = _mm256_shuffle_ps::<0x44>(high[2], high[3]);
            let h = _mm256_shuffle_ps::<0xEE>(high[2], high[3]);
            let columns = [
                _mm256_permute2f128_ps::<0x20>(a, e),
                _mm256_permute2f128_ps::<0x20>(b, f),
                _mm256_permute2f128_ps::<0x20>(c, g),
                _mm256_permute2f128_ps::<0x20>(d, h),
                _mm256_permute2f128_ps::<0x31>(a, e),
                _mm256_permute2f128_ps::<0x31>(b, f),
                _mm256_permute2f128_ps::<0x31>(c, g),
                _mm256_permute2f128_ps::<0x31>(d, h),
            ];
            for (j, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(j * to_row), column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        for (rows, columns) in [
            (1, 1),
            (8, 8),
            (16, 24),
            (7, 9),
            (33, 17),
            (24, 4),
            (17, 12),
        ] {
            let (from_row, to_row) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_row).map(|i| i as f32).collect();
            for square in [best(), portable as Square] {
                let mut to = vec![-1f32; columns * to_row];
                // SAFETY: both have room for all rows and columns.
                unsafe {
                    if rows == SIDE && columns == SIDE {
                        square(from.as_ptr(), from_row, to.as_mut_ptr(), to_row);
                    } else {
                        let target = (to.as_mut_ptr(), to_row);
                        transpose((from.as_ptr(), from_row), (rows, columns), target);
                    }
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
