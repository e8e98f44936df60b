//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! A stream is named by (seed, purpose, index), so any image or class can be drawn alone and on any thread.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

fn block(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// One stream of uniform numbers.
pub(crate) struct Philox {
    key: [u32; 2],
    counter: [u32; 4],
    buffer: [u32; 4],
    used: usize,
}

impl Philox {
    /// The stream of `purpose` and `index` under `seed`.
    pub(crate) fn new(seed: u64, purpose: u32, index: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, purpose, index as u32, (index >> 32) as u32],
            buffer: [0; 4],
            used: 4,
        }
    }

    /// Uniform over all 32-bit words.
    pub(crate) fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = block(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [low, high).
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        between(low, high, self.unit())
    }

    /// Uniform in 0..bound, for bound in 1..=2^32, by multiply and shift (bias below bound / 2^32).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.word()) * bound as u64) >> 32) as usize
    }
}

/// `low + (high - low) unit`, but where that is rounded up to `high` the number before it.
fn between(low: f32, high: f32, unit: f32) -> f32 {
    let value = low + (high - low) * unit;
    if low < high && value >= high {
        high.next_down()
    } else {
        value
    }
}

/// Fisher-Yates shuffle.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut Philox) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Known answers from the kat_vectors file of Random123.
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        for (counter, key, answer) in [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [ones; 4],
                [ones; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(block(counter, key), answer);
        }
    }

    #[test]
    fn streams_differ_and_stay_in_range() {
        let first = |seed, purpose, index| Philox::new(seed, purpose, index).word();
        let words = [
            first(0, 0, 0),
            first(1, 0, 0),
            first(0, 1, 0),
            first(0, 0, 1),
            first(1 << 32, 0, 0),
            first(0, 0, 1 << 32),
        ];
        for (i, a) in words.iter().enumerate() {
            assert!(words[i + 1..].iter().all(|b| a != b));
        }
        let mut rng = Philox::new(7, 0, 0);
        let mut seen = [0usize; 5];
        for _ in 0..5_000 {
            let u = rng.unit();
            assert!((0.0..1.0).contains(&u));
            seen[rng.below(5)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
    }

    #[test]
    fn no_range_gives_its_end() {
        let largest = 1.0 - f32::EPSILON / 2.0;
        for (low, high) in [(1.0, 2.0), (0.5, 1.5), (-1.0, 1.0)] {
            assert_eq!(between(low, high, 0.0), low);
            assert!(between(low, high, largest) < high, "{low} to {high}");
        }
        // nothing lies in an empty range: it gives its one end
        assert_eq!(between(1.5, 1.5, 0.5), 1.5);
    }

    #[test]
    fn shuffle_permutes() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items, &mut Philox::new(3, 0, 0));
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
