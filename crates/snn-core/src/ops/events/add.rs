//! Adds up the rows of a weight that lists name.

use super::Lists;
use crate::ops::aligned::LINE;
use crate::ops::memory::prefetch;
use crate::ops::simd::Vector;

/// # Safety
/// `weight` is valid for `rows_of_weight` rows of as many vectors as the function is for, `sums` for as many lines as there
/// are cells and one more, `start` for one unless it is null; the lists are for as many cells side by side as the function
/// is; the instructions exist.
pub(super) type Add =
    unsafe fn(lists: &Lists, weight: *const f32, start: *const f32, sums: *mut f32, next: &[f32]);

/// # Safety
/// As [`Add`], for `G` cells and `B` vectors.
#[inline(always)]
pub(super) unsafe fn add<V: Vector, const G: usize, const B: usize>(
    lists: &Lists,
    weight: *const f32,
    start: *const f32,
    sums: *mut f32,
    next: &[f32],
) {
    let width = B * V::LANES;
    let pace = next.len().div_ceil(lists.groups().max(1));
    let mut ahead = next.chunks(pace.next_multiple_of(LINE).max(LINE));
    for (len, cells, rows, values) in lists.each::<G>() {
        // rows are read in no order that the processor foresees
        prefetch(ahead.next().unwrap_or_default());
        if len == 0 && start.is_null() {
            // nothing to add to what is there
            continue;
        }
        // loops, not closures: what is not inlined loses the instructions
        // SAFETY: the caller's promises; there are G lists of `len` rows one after another.
        unsafe {
            let mut totals = [[V::splat(0.0); B]; G];
            for g in 0..G {
                let from = match start.is_null() {
                    true => sums.add(cells[g] as usize * width),
                    false => start,
                };
                for b in 0..B {
                    totals[g][b] = V::load(from.add(b * V::LANES));
                }
            }
            match values {
                None => {
                    for i in 0..len {
                        for g in 0..G {
                            let from = weight.add(usize::from(*rows.add(g * len + i)) * width);
                            for b in 0..B {
                                totals[g][b] = totals[g][b].add(V::load(from.add(b * V::LANES)));
                            }
                        }
                    }
                }
                Some(values) => {
                    for i in 0..len {
                        for g in 0..G {
                            let from = weight.add(usize::from(*rows.add(g * len + i)) * width);
                            let value = V::splat(*values.add(g * len + i));
                            for b in 0..B {
                                let row = V::load(from.add(b * V::LANES));
                                totals[g][b] = totals[g][b].plus(value, row);
                            }
                        }
                    }
                }
            }
            for g in 0..G {
                for b in 0..B {
                    totals[g][b].store(sums.add(cells[g] as usize * width + b * V::LANES));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SETS, Spikes, Values};

    /// Sums of several cells, with the rows' values and without, by every set of instructions, against f64.
    #[test]
    fn rows_are_added_with_their_values() {
        let mut stream = crate::rng::Seed::new(1).stream();
        let (channels, per_position, positions, steps) = (7, 3, 5, 4);
        let words: Vec<u64> = (0..positions * steps)
            .map(|i| {
                // so many silent ones that some are added up together
                let share = if i % steps < 3 { 0.0 } else { 0.3 };
                (0..channels).fold(0, |word, c| word | u64::from(stream.uniform() < share) << c)
            })
            .collect();
        let values: Vec<f32> = (0..16 * words.len())
            .map(|_| stream.uniform() - 0.5)
            .collect();
        let taps: Vec<usize> = (0..positions * per_position)
            .map(|i| i * 3 % positions * steps)
            .collect();
        let counts: Vec<u8> = words.iter().map(|word| word.count_ones() as u8).collect();
        for kernels in SETS.all() {
            for (vectors, values, started) in [
                (1, None, true),
                (2, None, false),
                (1, Some(&values), false),
                (2, Some(&values), true),
            ] {
                let mut lists = kernels.lists();
                let spikes = Spikes {
                    words: &words,
                    values: values.map_or(Values::Ones, |values| Values::Numbers(values)),
                    taps: &taps,
                    per_position,
                    block: 0,
                    blocks: 1,
                    counts: &counts,
                    line: 16,
                    steps,
                    channels,
                };
                // SAFETY: the counts are those of the words.
                unsafe { lists.fill(&spikes) };
                let (width, rows) = (vectors * kernels.lanes, per_position * channels);
                let mut weight: Vec<f32> =
                    (0..rows * width).map(|_| stream.uniform() - 0.5).collect();
                weight.resize((rows + 1) * width, 0.0);
                let cells = positions * steps;
                let before: Vec<f32> = (0..(cells + 1) * width).map(|_| stream.uniform()).collect();
                let mut sums = before.clone();
                let first: Vec<f32> = (0..width).map(|_| stream.uniform()).collect();
                let start = started.then_some(&first[..]);
                kernels.add(&lists, &weight, start, &mut sums, &weight);
                for place in 0..cells * width {
                    let (cell, column) = (place / width, place % width);
                    let mut expected =
                        f64::from(start.map_or(before[place], |start| start[column]));
                    for row in 0..rows {
                        let (tap, c) = (row / channels, row % channels);
                        let word = taps[cell / steps * per_position + tap] + cell % steps;
                        let rank = (words[word] & !(!0 << c)).count_ones() as usize;
                        let value = values.map_or(1.0, |values| values[16 * word + rank]);
                        if words[word] >> c & 1 == 1 {
                            expected += f64::from(value) * f64::from(weight[row * width + column]);
                        }
                    }
                    assert!(
                        (f64::from(sums[place]) - expected).abs() < 1e-5,
                        "{width} {place}"
                    );
                }
            }
        }
    }
}
