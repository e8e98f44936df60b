//! Bits to lists: which rows of a weight each cell adds.

use std::sync::OnceLock;

use crate::ops::widest::{self, Task};

/// Places that may be written beyond the end of a list.
const SLACK: usize = 64;
/// Numbers that are copied at a time.
pub(crate) const SEGMENT: usize = 16;

/// Values of the channels whose bits are set, one after another from the first of their block on, `[input cells, line]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    /// All are 1, and none is listed.
    Ones,
    /// Multiples of a share.
    Shares(&'a [u8], f32),
    /// Any.
    Numbers(&'a [f32]),
}

impl Values<'_> {
    fn are_ones(&self) -> bool {
        matches!(self, Self::Ones)
    }
}

/// Spikes under some taps, for some positions at all steps.
#[derive(Debug, Clone)]
pub(crate) struct Spikes<'a> {
    /// A bit for each channel, `[input cells, blocks]`: an input cell is a position at a step, a block at most 64 channels.
    pub(crate) words: &'a [u64],
    pub(crate) blocks: usize,
    /// Bits that are set in the block that matters, `[input cells]`.
    pub(crate) counts: &'a [u8],
    pub(crate) values: Values<'a>,
    /// Values of an input cell, filled up to whole segments.
    pub(crate) line: usize,
    /// The input cell under each tap at the first step, `[positions, taps]`; those of the other steps follow it.
    pub(crate) taps: &'a [usize],
    /// Taps of a position.
    pub(crate) per_position: usize,
    /// The block that matters.
    pub(crate) block: usize,
    pub(crate) steps: usize,
    /// Channels of the block: channel c under tap a selects row `a * channels + c`.
    pub(crate) channels: usize,
}

impl Spikes<'_> {
    fn rows(&self) -> usize {
        self.per_position * self.channels
    }

    fn positions(&self) -> usize {
        self.taps.len() / self.per_position
    }
}

/// For each cell, `[positions, steps]`, the rows of a weight that it adds. Cells that add about as many make a group; its
/// shorter lists end with the row after the last one, which is to be zero.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    side: usize,
    rows: Vec<u8>,
    values: Vec<f32>,
    valued: bool,
    rows_of_weight: usize,
    cells: usize,
    /// Length of the lists of each group.
    lens: Vec<usize>,
    /// Cells of each group; what a group lacks is the cell after the last one.
    order: Vec<u32>,
    counts: Vec<u8>,
}

impl Lists {
    /// For groups of `side` cells.
    pub(super) fn new(side: usize) -> Self {
        Self {
            side,
            ..Self::default()
        }
    }

    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Groups of cells.
    pub(super) fn groups(&self) -> usize {
        self.lens.len()
    }

    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// Rows that the weight has, with the one of zeros.
    pub(super) fn rows_of_weight(&self) -> usize {
        self.rows_of_weight
    }

    /// Of each group the length of its lists, its cells, the start of its rows and of its values.
    #[inline(always)]
    pub(super) fn each<const G: usize>(
        &self,
    ) -> impl Iterator<Item = (usize, &[u32; G], *const u8, Option<*const f32>)> {
        let (groups, _) = self.order.as_chunks::<G>();
        let mut start = 0;
        self.lens.iter().zip(groups).map(move |(&len, cells)| {
            let rows = self.rows[start..].as_ptr();
            let values = self.valued.then(|| self.values[start..].as_ptr());
            start += G * len;
            (len, cells, rows, values)
        })
    }

    /// Replaces the lists by those of some spikes.
    ///
    /// # Safety
    /// The counts are those of the words, in which no bit beyond their block's channels is set.
    pub(crate) unsafe fn fill(&mut self, spikes: &Spikes) {
        static BEST: OnceLock<Write> = OnceLock::new();
        // SAFETY: the caller's promise.
        unsafe { self.fill_by(spikes, *BEST.get_or_init(best)) }
    }

    /// # Safety
    /// As [`Lists::fill`].
    unsafe fn fill_by(&mut self, spikes: &Spikes, write: Write) {
        let input = spikes
            .taps
            .iter()
            .max()
            .map_or(0, |last| last + spikes.steps);
        assert!(spikes.rows() <= usize::from(u8::MAX) && (1..=64).contains(&spikes.channels));
        assert!(spikes.block < spikes.blocks);
        assert!(input * spikes.blocks <= spikes.words.len() && input <= spikes.counts.len());
        let values = match spikes.values {
            Values::Ones => None,
            Values::Shares(values, _) => Some(values.len()),
            Values::Numbers(values) => Some(values.len()),
        };
        if let Some(values) = values {
            let last = 64 * spikes.block + spikes.channels.next_multiple_of(SEGMENT);
            assert!(last <= spikes.line && input * spikes.line <= values);
        }
        self.rows_of_weight = spikes.rows() + 1;
        self.cells = spikes.positions() * spikes.steps;
        self.valued = !spikes.values.are_ones();
        self.counts.resize(self.cells, 0);
        self.counts.fill(0);
        widest::run(Count {
            spikes,
            counts: &mut self.counts,
        });
        let listed = self.sort();
        if self.rows.len() < listed + SLACK {
            self.rows.resize(listed + SLACK, 0);
        }
        if self.valued && self.values.len() < listed + SLACK {
            self.values.resize(listed + SLACK, 0.0);
        }
        // SAFETY: the taps' words lie among the words at every step; there is room for the lists, which are as long as the
        // caller promises, and for what is written beyond their ends; the instructions are the processor's.
        unsafe { write(spikes, self) };
    }

    /// Groups the cells by how many rows they add, ascending; the places in all lists.
    fn sort(&mut self) -> usize {
        // neighbours often add as many, and the processor waits for a number that it has just written
        const APART: usize = 4;
        // how many cells add so many rows, then where the next of them goes
        let mut places = [[0u32; APART]; 256];
        let most = self
            .counts
            .iter()
            .max()
            .map_or(0, |&most| usize::from(most));
        for (cell, &count) in self.counts.iter().enumerate() {
            places[usize::from(count)][cell % APART] += 1;
        }
        let mut next = 0;
        for place in places[..=most].as_flattened_mut() {
            next += std::mem::replace(place, next);
        }
        self.order.clear();
        let spare = self.cells as u32;
        let filled = self.cells.next_multiple_of(self.side);
        self.order.resize(filled, spare);
        for (cell, &count) in self.counts.iter().enumerate() {
            let at = &mut places[usize::from(count)][cell % APART];
            self.order[*at as usize] = cell as u32;
            *at += 1;
        }
        self.lens.clear();
        for first in (0..self.cells).step_by(self.side) {
            let longest = self.order[self.cells.min(first + self.side) - 1];
            self.lens.push(usize::from(self.counts[longest as usize]));
        }
        self.lens.iter().sum::<usize>() * self.side
    }
}

/// How many rows each cell adds, added to `counts` `[positions, steps]`.
struct Count<'a> {
    spikes: &'a Spikes<'a>,
    counts: &'a mut [u8],
}

impl Task for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let spikes = self.spikes;
        let positions = spikes.taps.chunks_exact(spikes.per_position);
        for (taps, counts) in positions.zip(self.counts.chunks_exact_mut(spikes.steps)) {
            for tap in taps {
                let under = &spikes.counts[*tap..][..spikes.steps];
                for (count, under) in counts.iter_mut().zip(under) {
                    *count += under;
                }
            }
        }
    }
}

/// # Safety
/// The taps' words lie among the words at every step, the lists have room for all rows and `SLACK` more; the instructions
/// exist.
type Write = unsafe fn(spikes: &Spikes, lists: &mut Lists);

fn best() -> Write {
    #[cfg(target_arch = "x86_64")]
    if x86::exists() {
        return x86::write;
    }
    write::<Portable>
}

/// How the set bits of a word become a list.
trait Compress {
    /// The places of the bits, ascending, `first` being that of the lowest.
    ///
    /// # Safety
    /// `to` is valid for 64 numbers; the instructions exist.
    unsafe fn places(word: u64, first: u8, to: *mut u8);
}

/// # Safety
/// As [`Write`].
#[inline(always)]
unsafe fn write<C: Compress>(spikes: &Spikes, lists: &mut Lists) {
    let zero = spikes.rows() as u8;
    let steps = spikes.steps as u32;
    // of its own: the compiler must assume that bytes which are written may lie in what a reference points to
    let spikes = spikes.clone();
    let (rows, values) = (lists.rows.as_mut_ptr(), lists.values.as_mut_ptr());
    let all = lists.cells as u32;
    let mut start = 0;
    for (len, cells) in lists.lens.iter().zip(lists.order.chunks_exact(lists.side)) {
        if *len == 0 {
            continue;
        }
        for &cell in cells {
            let mut at = start;
            // SAFETY: the caller's promises; the places of a cell are at most `len`, and what is written beyond them is
            // written over by the next list or lies in the slack.
            unsafe {
                if cell < all {
                    let (position, step) = ((cell / steps) as usize, (cell % steps) as usize);
                    let (rows, values) = (rows.add(at), values.wrapping_add(at));
                    at += list::<C>(&spikes, position, step, rows, values);
                }
                start += len;
                loop {
                    // at least once: whether a list is shorter than its group's is hard to foresee
                    let to = rows.add(at).cast::<[u8; SEGMENT]>();
                    to.write_unaligned([zero; SEGMENT]);
                    if !spikes.values.are_ones() {
                        let to = values.add(at).cast::<[f32; SEGMENT]>();
                        to.write_unaligned([0.0; SEGMENT]);
                    }
                    at += SEGMENT;
                    if at >= start {
                        break;
                    }
                }
            }
        }
    }
}

/// Writes the list of a cell, and says how long it is.
///
/// # Safety
/// As [`Write`]; the list's rows and values, if there are any, have room for it and `SLACK` more.
#[inline(always)]
unsafe fn list<C: Compress>(
    spikes: &Spikes,
    position: usize,
    step: usize,
    rows: *mut u8,
    values: *mut f32,
) -> usize {
    let (channels, taps) = (spikes.channels, spikes.per_position);
    let mut at = 0;
    // SAFETY: the caller's promises.
    unsafe {
        let under = spikes.taps.as_ptr().add(position * taps);
        let words = spikes.words.as_ptr().add(spikes.block);
        if !spikes.values.are_ones() {
            for i in 0..taps {
                let cell = *under.add(i) + step;
                let count = (*words.add(cell * spikes.blocks)).count_ones() as usize;
                let (from, to) = (cell * spikes.line + 64 * spikes.block, values.add(at));
                for some in (0..count).step_by(SEGMENT) {
                    let segment = segment(spikes.values, from + some);
                    let to = to.add(some).cast::<[f32; SEGMENT]>();
                    to.write_unaligned(segment);
                }
                at += count;
            }
            at = 0;
        }
        // narrow taps share a word
        let (mut word, mut filled, mut row) = (0, 0, 0);
        for i in 0..taps {
            if filled + channels > 64 {
                C::places(word, row as u8, rows.add(at));
                at += word.count_ones() as usize;
                row += filled;
                (word, filled) = (0, 0);
            }
            word |= *words.add((*under.add(i) + step) * spikes.blocks) << filled;
            filled += channels;
        }
        C::places(word, row as u8, rows.add(at));
        at + word.count_ones() as usize
    }
}

/// The values from place `at` on.
///
/// # Safety
/// There are as many.
#[inline(always)]
unsafe fn segment(values: Values, at: usize) -> [f32; SEGMENT] {
    // SAFETY: the caller's promise.
    unsafe {
        match values {
            Values::Ones => [1.0; SEGMENT],
            Values::Shares(counts, share) => {
                let counts = counts.as_ptr().add(at).cast::<[u8; SEGMENT]>();
                let mut segment = [0.0; SEGMENT];
                // a loop, not a closure: what is not inlined loses the instructions
                for (value, count) in segment.iter_mut().zip(counts.read_unaligned()) {
                    *value = f32::from(count) * share;
                }
                segment
            }
            Values::Numbers(numbers) => {
                let numbers = numbers.as_ptr().add(at).cast::<[f32; SEGMENT]>();
                numbers.read_unaligned()
            }
        }
    }
}

struct Portable;

impl Compress for Portable {
    #[inline(always)]
    unsafe fn places(mut word: u64, first: u8, mut to: *mut u8) {
        while word != 0 {
            // SAFETY: the caller's promise.
            unsafe {
                *to = first + word.trailing_zeros() as u8;
                to = to.add(1);
            }
            word &= word - 1;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_storeu_si128, _mm512_add_epi8, _mm512_castsi512_si128, _mm512_loadu_si512,
        _mm512_maskz_compress_epi8, _mm512_set1_epi8, _mm512_storeu_si512,
    };

    use super::{Compress, Lists, Spikes};
    use crate::ops::level::widest_lanes;

    /// Whether the processor has the instructions of this module.
    pub(super) fn exists() -> bool {
        widest_lanes() >= 16
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt")
    }

    /// # Safety
    /// As [`super::Write`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    pub(super) unsafe fn write(spikes: &Spikes, lists: &mut Lists) {
        // SAFETY: the caller's promise.
        unsafe { super::write::<Wide>(spikes, lists) }
    }

    struct Wide;

    static PLACES: [u8; 64] = {
        let mut places = [0; 64];
        let mut i = 0;
        while i < 64 {
            places[i] = i as u8;
            i += 1;
        }
        places
    };

    impl Compress for Wide {
        #[inline(always)]
        unsafe fn places(word: u64, first: u8, to: *mut u8) {
            // SAFETY: the caller's promises.
            unsafe {
                let all = _mm512_loadu_si512(PLACES.as_ptr().cast());
                let set = _mm512_maskz_compress_epi8(word, all);
                let places = _mm512_add_epi8(set, _mm512_set1_epi8(first as i8));
                // most words have few bits, and a whole vector lies across two cache lines
                if word.count_ones() <= 16 {
                    _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(places));
                } else {
                    _mm512_storeu_si512(to.cast(), places);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of a small map, by every set of instructions, against the bits one by one.
    #[test]
    fn a_list_names_the_rows_under_the_taps() {
        let mut stream = crate::rng::Seed::new(1).stream();
        for (channels, per_position, share) in [
            (1, 9, 0.5),
            (5, 9, 0.0),
            (24, 9, 0.1),
            (28, 9, 1.0),
            (33, 3, 0.3),
            (64, 3, 0.2),
        ] {
            let (positions, steps, blocks, inputs, block, line) = (5, 3, 2, 4, 1, 64 + 64);
            let mut words = vec![0u64; inputs * steps * blocks];
            for word in &mut words {
                *word = (0..channels)
                    .fold(0, |word, c| word | u64::from(stream.uniform() < share) << c);
            }
            let numbers: Vec<f32> = (0..inputs * steps * line)
                .map(|_| stream.uniform())
                .collect();
            let counts_of_words: Vec<u8> = numbers.iter().map(|x| (x * 200.0) as u8).collect();
            let taps: Vec<usize> = (0..positions * per_position)
                .map(|i| i * 7 % inputs * steps)
                .collect();
            let of_block = words.iter().skip(block).step_by(blocks);
            let counts: Vec<u8> = of_block.map(|word| word.count_ones() as u8).collect();
            for values in [
                Values::Ones,
                Values::Shares(&counts_of_words, 0.25),
                Values::Numbers(&numbers),
            ] {
                let spikes = Spikes {
                    words: &words,
                    values,
                    taps: &taps,
                    per_position,
                    block,
                    blocks,
                    counts: &counts,
                    line,
                    steps,
                    channels,
                };
                for write in [write::<Portable>, best()] {
                    let mut lists = Lists::new(4);
                    // SAFETY: the counts are those of the words.
                    unsafe { lists.fill_by(&spikes, write) };
                    let mut seen = vec![0; positions * steps];
                    for (len, cells, rows, of_rows) in lists.each::<4>() {
                        for (g, &cell) in cells.iter().enumerate() {
                            // SAFETY: each group has 4 lists of `len` rows, and values if it has any.
                            let (rows, of_rows) = unsafe {
                                (
                                    std::slice::from_raw_parts(rows.add(g * len), len),
                                    of_rows
                                        .map(|v| std::slice::from_raw_parts(v.add(g * len), len)),
                                )
                            };
                            let mut expected = Vec::new();
                            if (cell as usize) < positions * steps {
                                seen[cell as usize] += 1;
                                let (position, step) =
                                    (cell as usize / steps, cell as usize % steps);
                                for tap in 0..per_position {
                                    let input = taps[position * per_position + tap] + step;
                                    let word = words[input * blocks + block];
                                    let set = (0..channels).filter(|c| word >> c & 1 == 1);
                                    for (rank, c) in set.enumerate() {
                                        let at = input * line + 64 * block + rank;
                                        let value = match values {
                                            Values::Ones => 1.0,
                                            Values::Shares(counts, share) => {
                                                f32::from(counts[at]) * share
                                            }
                                            Values::Numbers(numbers) => numbers[at],
                                        };
                                        expected.push((tap * channels + c, value));
                                    }
                                }
                            }
                            let zero = (per_position * channels, 0.0);
                            for (i, &row) in rows.iter().enumerate() {
                                let (expected, value) = *expected.get(i).unwrap_or(&zero);
                                assert_eq!(usize::from(row), expected);
                                if let Some(values) = of_rows {
                                    assert_eq!(values[i], value);
                                }
                            }
                            assert!(expected.len() <= len);
                        }
                    }
                    assert!(seen.iter().all(|&seen| seen == 1), "every cell, once");
                }
            }
        }
    }
}
