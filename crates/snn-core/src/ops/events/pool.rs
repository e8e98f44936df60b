//! Between bits and numbers: up to 64 channels, filled up to whole vectors.

use crate::ops::simd::Vector;

/// # Safety
/// The instructions exist.
pub(super) type Pool = unsafe fn(words: &[u64], share: f32, to: &mut [f32]);

/// # Safety
/// The instructions exist.
pub(super) type Mark = unsafe fn(numbers: &[f32]) -> u64;

/// # Safety
/// The instructions exist.
#[inline(always)]
pub(super) unsafe fn pool<V: Vector>(words: &[u64], share: f32, to: &mut [f32]) {
    for (i, to) in to.chunks_exact_mut(V::LANES).enumerate() {
        // SAFETY: the caller's promise; `to` is a vector.
        unsafe {
            let mut count = V::splat(0.0);
            for word in words {
                count = count.add(V::ones(word >> (i * V::LANES)));
            }
            count.mul(V::splat(share)).store(to.as_mut_ptr());
        }
    }
}

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
                let mut bits = || {
                    let some = (0..channels).filter(|_| stream.uniform() < 0.4);
                    some.fold(0u64, |word, c| word | 1 << c)
                };
                let words = [bits(), bits(), bits()];
                let mut numbers = vec![0f32; channels];
                kernels.pool(&words, 0.25, &mut numbers);
                for (c, number) in numbers.iter().enumerate() {
                    let count: u64 = words.iter().map(|word| word >> c & 1).sum();
                    assert_eq!(*number, count as f32 * 0.25);
                }
                let any = words[0] | words[1] | words[2];
                assert_eq!(kernels.mark(&numbers), any);
                let mut some = vec![0f32; channels];
                kernels.compress(any, &numbers, &mut some);
                let expected = numbers.iter().filter(|x| **x != 0.0);
                assert!(some.iter().zip(expected).all(|(x, y)| x == y));
            }
        }
    }
}
