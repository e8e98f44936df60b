//! Bits to small counts: how many of some words have each bit.

use std::sync::OnceLock;

use crate::ops::level::widest_lanes;

/// Bytes that a tally may write, however few bits are set.
pub(crate) const ROOM: usize = 64;

/// # Safety
/// At most 255 words; the instructions exist.
type Tally = unsafe fn(words: &[u64], to: &mut [u8; ROOM]);

/// For each bit that is set in any word, ascending, the number of words in which it is; what follows these numbers in `to` is
/// undefined. At most 255 words.
pub(crate) fn tally(words: &[u64], to: &mut [u8; ROOM]) {
    static BEST: OnceLock<Tally> = OnceLock::new();
    assert!(words.len() <= usize::from(u8::MAX));
    // SAFETY: the number of words was checked; the instructions are the processor's.
    unsafe { BEST.get_or_init(best)(words, to) }
}

fn best() -> Tally {
    #[cfg(target_arch = "x86_64")]
    if widest_lanes() >= 16 && x86::exists() {
        return x86::tally;
    }
    portable
}

/// # Safety
/// As [`Tally`].
unsafe fn portable(words: &[u64], to: &mut [u8; ROOM]) {
    let mut any = words.iter().fold(0, |any, word| any | word);
    for to in to {
        if any == 0 {
            break;
        }
        let bit = any.trailing_zeros();
        *to = words.iter().map(|word| (word >> bit & 1) as u8).sum();
        any &= any - 1;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm512_maskz_compress_epi8, _mm512_movm_epi8, _mm512_setzero_si512, _mm512_storeu_si512,
        _mm512_sub_epi8,
    };

    use super::ROOM;

    /// Whether the processor has the instructions of this module.
    pub(super) fn exists() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
    }

    /// # Safety
    /// As [`super::Tally`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
    pub(super) unsafe fn tally(words: &[u64], to: &mut [u8; ROOM]) {
        let (mut counts, mut any) = (_mm512_setzero_si512(), 0);
        for &word in words {
            // a set bit becomes a byte of -1
            counts = _mm512_sub_epi8(counts, _mm512_movm_epi8(word));
            any |= word;
        }
        let counts = _mm512_maskz_compress_epi8(any, counts);
        // SAFETY: `to` has room for a whole vector.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), counts) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_bits() {
        let mut stream = crate::rng::Seed::new(1).stream();
        for (count, rate) in [(0, 0.0), (1, 0.0), (4, 0.3), (9, 1.0), (255, 0.5)] {
            let words: Vec<u64> = (0..count)
                .map(|_| (0..64).fold(0, |word, c| word | u64::from(stream.uniform() < rate) << c))
                .collect();
            let of_bit = |bit: u32| words.iter().map(|word| word >> bit & 1).sum::<u64>();
            let expected: Vec<u64> = (0..64).map(of_bit).filter(|count| *count > 0).collect();
            for tally in [portable, best()] {
                let mut counts = [7; ROOM];
                // SAFETY: there are few enough words; the instructions are the processor's.
                unsafe { tally(&words, &mut counts) };
                let counts = counts[..expected.len()].iter().copied().map(u64::from);
                assert!(counts.eq(expected.iter().copied()));
            }
        }
    }
}
