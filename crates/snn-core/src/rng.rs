//! The counter-based generator behind every random number of the stages: Philox 4x32-10 (Salmon et al., "Parallel
//! random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! A number is a pure function of (seed, purpose, position). So any shard, thread or device draws the same bits, and
//! nothing has to be saved to resume but the seed and the position.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::Result;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four words for a 128-bit counter under a 64-bit key.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key[0] = key[0].wrapping_add(WEYL[0]);
            key[1] = key[1].wrapping_add(WEYL[1]);
        }
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// Uniform in `[0, 1)` with 24 bits, from one word.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// `low + (high - low) unit(word)`, but where that is rounded up to `high` the number before it.
fn between(low: f32, high: f32, word: u32) -> f32 {
    let value = low + (high - low) * unit(word);
    if low < high && value >= high {
        high.next_down()
    } else {
        value
    }
}

/// A seed, split by purpose: `Seed::new(7).derive("synth").index(3)` has nothing in common with its parent's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// A root seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The 64 bits.
    pub fn value(self) -> u64 {
        self.0
    }

    /// The seed for a named purpose.
    pub fn derive(self, purpose: &str) -> Self {
        // FNV-1a: short names to well-spread 64 bits; Philox does the mixing
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
            (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.child(hash, 1)
    }

    /// The seed for item `index` of this purpose.
    pub fn index(self, index: u64) -> Self {
        self.child(index, 2)
    }

    fn child(self, value: u64, domain: u32) -> Self {
        let [lo, hi, ..] = self.words([value as u32, (value >> 32) as u32, domain, u32::MAX]);
        Self(u64::from(hi) << 32 | u64::from(lo))
    }

    /// Four words at a counter.
    pub fn words(self, counter: [u32; 4]) -> [u32; 4] {
        philox4x32(counter, [self.0 as u32, (self.0 >> 32) as u32])
    }

    /// Words drawn one after another.
    pub fn stream(self) -> Stream {
        Stream {
            seed: self,
            block: 0,
            buffer: [0; 4],
            left: 0,
        }
    }

    /// Fills `out` with words of the stream that `(a, b)` selects; element `i` is lane `i % 4` of counter
    /// `[i / 4, a, b_low, b_high]`.
    pub fn fill(self, out: &mut [u32], a: u32, b: u64) {
        for (block, lanes) in out.chunks_mut(4).enumerate() {
            let words = self.words([block as u32, a, b as u32, (b >> 32) as u32]);
            lanes.copy_from_slice(&words[..lanes.len()]);
        }
    }

    /// Uniform f32 in `[low, high)` of any shape, in parallel; all `low` where `high` is equal to it.
    ///
    /// # Errors
    /// A device that does not take the tensor.
    pub fn uniform(self, shape: &[usize], low: f32, high: f32, device: &Device) -> Result<Tensor> {
        let values = self.generate(shape, |words| words.map(|w| between(low, high, w)));
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    /// Normal f32 (Box-Muller) of any shape, in parallel.
    ///
    /// # Errors
    /// A device that does not take the tensor.
    pub fn normal(
        self,
        shape: &[usize],
        mean: f32,
        deviation: f32,
        device: &Device,
    ) -> Result<Tensor> {
        let values = self.generate(shape, |words| {
            let pair = |a: u32, b: u32| {
                let (x, y) = gauss_pair(a, b);
                (mean + deviation * x as f32, mean + deviation * y as f32)
            };
            let ((a, b), (c, d)) = (pair(words[0], words[1]), pair(words[2], words[3]));
            [a, b, c, d]
        });
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    fn generate(self, shape: &[usize], f: impl Fn([u32; 4]) -> [f32; 4] + Sync) -> Vec<f32> {
        const CHUNK: usize = 1 << 14;
        let mut values = vec![0.0; shape.iter().product()];
        values
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, out)| {
                for (block, lanes) in out.chunks_mut(4).enumerate() {
                    let counter = (chunk * (CHUNK / 4) + block) as u64;
                    let four = f(self.words([counter as u32, (counter >> 32) as u32, 0, 0]));
                    lanes.copy_from_slice(&four[..lanes.len()]);
                }
            });
        values
    }
}

fn gauss_pair(a: u32, b: u32) -> (f64, f64) {
    // (0, 1]: the logarithm of zero never happens
    let u = (f64::from(a) + 1.0) / 4_294_967_296.0;
    let angle = std::f64::consts::TAU * f64::from(b) / 4_294_967_296.0;
    let radius = (-2.0 * u.ln()).sqrt();
    (radius * angle.cos(), radius * angle.sin())
}

/// Sequential draws from one [`Seed`].
#[derive(Debug, Clone)]
pub struct Stream {
    seed: Seed,
    block: u64,
    buffer: [u32; 4],
    left: usize,
}

impl Stream {
    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        if self.left == 0 {
            self.buffer = self
                .seed
                .words([self.block as u32, (self.block >> 32) as u32, 0, 1]);
            self.block += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.buffer[3 - self.left]
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f32 {
        unit(self.next_u32())
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        let bits = u64::from(self.next_u32()) << 32 | u64::from(self.next_u32());
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (self.next_u32(), self.next_u32());
        gauss_pair(a, b).0
    }

    /// Uniform in `0..bound`, without bias.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "below(0) has no value");
        // Lemire's multiply-shift with rejection
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u64::from(self.next_u32()) * u64::from(bound);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }

    /// `0..n` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn no_interval_gives_its_end() {
        for (low, high) in [(1.0, 2.0), (0.5, 1.5), (-1.0, 1.0)] {
            assert_eq!(between(low, high, 0), low);
            assert!(between(low, high, u32::MAX) < high, "{low} to {high}");
        }
        // nothing lies in an empty interval: it gives its one end, and its zero has no sign
        assert_eq!(between(1.5, 1.5, 7), 1.5);
        assert!(between(-0.0, 0.0, 7).is_sign_positive());
    }

    #[test]
    fn purposes_are_apart() {
        let root = Seed::new(1);
        assert_ne!(root.derive("a"), root.derive("b"));
        assert_ne!(root.derive("a").index(0), root.derive("a").index(1));
        assert_eq!(root.derive("a").index(5), root.derive("a").index(5));
    }

    #[test]
    fn moments_and_threads() -> Result<()> {
        let draw = || -> Result<Vec<f32>> {
            let x = Seed::new(3).normal(&[50_001], 2.0, 3.0, &Device::Cpu)?;
            Ok(x.to_vec1()?)
        };
        let pool = |n| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .expect("a thread pool")
        };
        let one = pool(1).install(draw)?;
        let four = pool(4).install(draw)?;
        assert_eq!(one, four);
        let n = one.len() as f64;
        let mean = one.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = one
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!((mean - 2.0).abs() < 5.0 * 3.0 / n.sqrt(), "mean {mean}");
        assert!(
            (variance / 9.0 - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
            "variance {variance}"
        );
        Ok(())
    }

    #[test]
    fn permutation_is_one() {
        let mut order = Seed::new(9).stream().permutation(1000);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }
}
