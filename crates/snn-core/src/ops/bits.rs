//! Spikes as bits: one row of whole words for each step and image.

use super::widest::{self, Task};

/// Neurons of a word.
pub(crate) const WORD: usize = 64;

/// Spikes `[rows, units]`, a row for each step and image, filled up to whole words with zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    units: usize,
}

impl Bits {
    /// No spikes.
    pub(crate) fn silent(rows: usize, units: usize) -> Self {
        Self {
            words: vec![0; rows * units.div_ceil(WORD)],
            units,
        }
    }

    /// Words of a row.
    pub(crate) fn width(&self) -> usize {
        self.units.div_ceil(WORD)
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.words[..])
    }

    /// A row as numbers, 0 or 1.
    pub(crate) fn unpack(&self, row: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.units);
        let words = &self.words[row * self.width()..][..self.width()];
        widest::run(Unpack { words, to });
    }
}

/// Bytes that are 0 or 1 to bits, 64 to a word; the last word is filled up with zeros.
#[inline(always)]
pub(crate) fn pack(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(WORD)) {
        *word = 0;
        for (i, eight) in bytes.chunks(8).enumerate() {
            let mut whole = [0; 8];
            whole[..eight.len()].copy_from_slice(eight);
            // the product brings the lowest bit of byte j to bit 56 + j, and nothing carries into these
            let bits = u64::from_le_bytes(whole).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            *word |= bits << (8 * i);
        }
    }
}

struct Unpack<'a> {
    words: &'a [u64],
    to: &'a mut [f32],
}

impl Task for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (word, to) in self.words.iter().zip(self.to.chunks_mut(WORD)) {
            for (half, to) in [*word as u32, (*word >> 32) as u32]
                .into_iter()
                .zip(to.chunks_mut(WORD / 2))
            {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = (half >> i & 1) as i32 as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let mut stream = crate::rng::Seed::new(1).stream();
        for units in [1, 7, 8, 31, 63, 64, 65, 129, 200] {
            let mut bits = Bits::silent(3, units);
            let fired: Vec<Vec<u8>> = (0..3)
                .map(|_| {
                    (0..units)
                        .map(|_| u8::from(stream.uniform() < 0.4))
                        .collect()
                })
                .collect();
            let width = bits.width();
            for (row, words) in fired.iter().zip(bits.words_mut().chunks_exact_mut(width)) {
                pack(row, words);
            }
            for (row, fired) in fired.iter().enumerate() {
                let mut numbers = vec![0.5; units];
                bits.unpack(row, &mut numbers);
                assert!(numbers.iter().zip(fired).all(|(x, f)| *x == f32::from(*f)));
            }
        }
    }
}
