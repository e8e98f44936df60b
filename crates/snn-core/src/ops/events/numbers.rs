//! Between bits and numbers: up to 64 channels, filled up to whole vectors.

use crate::ops::simd::Vector;

/// # Safety
/// The instructions exist.
pub(super) type Mark = unsafe fn(numbers: &[f32]) -> u64;

/// # Safety
/// The instructions exist.
#[inline(always)]
pub(super) unsafe fn mark<V: Vector>(numbers: &[f32]) -> u64 {
    let mut word = 0;
    for (i, numbers) in numbers.chunks_exact(V::LANES).enumerate() {
        // SAFETY: the caller's promise; `numbers` are a vector.
        unsafe {
            let bits = V::bits(V::load(numbers.as_ptr()).differs(V::splat(0.0)));
            word |= bits << (i * V::LANES);
        }
    }
    word
}

/// # Safety
/// As many whole vectors in `numbers` as in `to`, at most 64 numbers; the instructions exist.
pub(super) type Compress = unsafe fn(word: u64, numbers: &[f32], to: &mut [f32]);

/// # Safety
/// As [`Compress`].
#[inline(always)]
pub(super) unsafe fn compress<V: Vector>(word: u64, numbers: &[f32], to: &mut [f32]) {
    let mut at = 0;
    for (i, numbers) in numbers.chunks_exact(V::LANES).enumerate() {
        let bits = word >> (i * V::LANES) & (!0 >> (64 - V::LANES));
        // SAFETY: the caller's promise; at most i vectors were written before.
        unsafe {
            V::load(numbers.as_ptr())
                .compress(bits)
                .store(to.as_mut_ptr().add(at))
        };
        at += bits.count_ones() as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::super::SETS;

    #[test]
    fn bits_and_numbers_stand_for_each_other() {
        let mut stream = crate::rng::Seed::new(1).stream();
        for kernels in SETS.all() {
            for channels in [16, 48, 64] {
                let set: Vec<bool> = (0..channels).map(|_| stream.uniform() < 0.4).collect();
                let any = (0..channels).fold(0u64, |word, c| word | u64::from(set[c]) << c);
                let number = |c: usize| if set[c] { c as f32 - 90.0 } else { 0.0 };
                let numbers: Vec<f32> = (0..channels).map(number).collect();
                assert_eq!(kernels.mark(&numbers), any);
                let mut some = vec![0f32; channels];
                kernels.compress(any, &numbers, &mut some);
                let expected = numbers.iter().filter(|x| **x != 0.0);
                assert!(some.iter().zip(expected).all(|(x, y)| x == y));
            }
        }
    }
}
