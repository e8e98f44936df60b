//! The events of a stretch of time: for each step and position the channels that fired.

use std::ops::Range;

use crate::ops::packed::channel_blocks;

/// Channels of a block, so that a channel's place in it fits in a byte.
pub(super) const BLOCK: usize = 64;

/// Places that are read at a time; there is room for as many after the last one.
pub(super) const AT_ONCE: usize = 16;

/// Events of one image in a map `[C, H, W]` over some steps, by position, step and block of channels, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Lists {
    pub(super) steps: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    blocks: usize,
    /// Events of each block.
    counts: Vec<u8>,
    /// Place of each event's channel in its block; room for all channels of every position.
    places: Vec<u8>,
    /// Value of each event; none where all are 1.
    values: Option<Vec<f32>>,
    /// Spikes that the events of a position stand for.
    spikes: Vec<u32>,
}

impl Lists {
    pub(super) fn new(steps: usize, [channels, height, width]: [usize; 3], valued: bool) -> Self {
        let (cells, blocks) = (steps * height * width, channels.div_ceil(BLOCK));
        debug_assert!(channel_blocks(channels).all(|block| block.len() <= BLOCK));
        Self {
            steps,
            channels,
            height,
            width,
            blocks,
            counts: vec![0; cells * blocks],
            places: vec![0; cells * channels + AT_ONCE],
            values: valued.then(|| vec![0.0; cells * channels + AT_ONCE]),
            spikes: vec![0; cells],
        }
    }

    /// Positions of the map.
    pub(super) fn positions(&self) -> usize {
        self.height * self.width
    }

    fn cell(&self, step: usize, position: usize) -> usize {
        position * self.steps + step
    }

    /// Adds an event after the last one of its position; `spikes` is how many it stands for.
    pub(super) fn push(
        &mut self,
        (step, position): (usize, usize),
        channel: usize,
        value: f32,
        spikes: u32,
    ) {
        let (cell, block) = (self.cell(step, position), channel / BLOCK);
        let count = &mut self.counts[cell * self.blocks + block];
        let at = cell * self.channels + block * BLOCK + usize::from(*count);
        self.places[at] = (channel % BLOCK) as u8;
        if let Some(values) = &mut self.values {
            values[at] = value;
        }
        *count += 1;
        self.spikes[cell] += spikes;
    }

    /// The neurons of a position that fired, in order of their channels, 1 or 0 each, filled up to whole eights; the
    /// position has no events yet.
    pub(super) fn fill(&mut self, (step, position): (usize, usize), fired: &[u8]) {
        let cell = self.cell(step, position);
        let mut spikes = 0;
        for (block, bytes) in fired.chunks(BLOCK).enumerate().take(self.blocks) {
            // a bit for each neuron: walking over these costs by the spike, not by the neuron
            let mut mask = bytes
                .chunks_exact(8)
                .enumerate()
                .fold(0u64, |mask, (i, bytes)| {
                    let word = bytes
                        .iter()
                        .rev()
                        .fold(0u64, |word, &byte| word << 8 | u64::from(byte));
                    mask | (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i)
                });
            let count = mask.count_ones();
            let places = &mut self.places[cell * self.channels + block * BLOCK..];
            for place in &mut places[..count as usize] {
                *place = mask.trailing_zeros() as u8;
                mask &= mask - 1;
            }
            self.counts[cell * self.blocks + block] = count as u8;
            spikes += count;
        }
        self.spikes[cell] = spikes;
    }

    /// Places and values of the events of one block of channels.
    pub(super) fn block(
        &self,
        (step, position): (usize, usize),
        block: usize,
    ) -> (&[u8], Option<&[f32]>) {
        let cell = self.cell(step, position);
        let from = cell * self.channels + block * BLOCK;
        let range = from..from + usize::from(self.counts[cell * self.blocks + block]);
        (
            &self.places[range.clone()],
            self.values.as_ref().map(|values| &values[range]),
        )
    }

    /// Spikes behind the events of a position.
    pub(super) fn spikes(&self, (step, position): (usize, usize)) -> u32 {
        self.spikes[self.cell(step, position)]
    }

    /// Where the events of a block lie among all, and how many they are.
    pub(super) fn range(&self, (step, position): (usize, usize), block: usize) -> (usize, usize) {
        let cell = self.cell(step, position);
        let count = self.counts[cell * self.blocks + block];
        (cell * self.channels + block * BLOCK, usize::from(count))
    }

    /// Places of `AT_ONCE` events from `at` on.
    pub(super) fn places(&self, at: usize) -> &[u8] {
        &self.places[at..at + AT_ONCE]
    }

    /// Values of `AT_ONCE` events from `at` on; none where all are 1.
    pub(super) fn values(&self, at: usize) -> Option<&[f32]> {
        self.values.as_ref().map(|values| &values[at..at + AT_ONCE])
    }

    /// Calls `f` with channel and value of each event of a position, in order.
    fn each(&self, at: (usize, usize), mut f: impl FnMut(usize, f32)) {
        for block in 0..self.blocks {
            let (places, values) = self.block(at, block);
            for (i, &place) in places.iter().enumerate() {
                let value = values.map_or(1.0, |values| values[i]);
                f(block * BLOCK + usize::from(place), value);
            }
        }
    }

    /// Adds 1 to the count `[C, H, W]` of every neuron for each event.
    pub(super) fn count(&self, counts: &mut [f32]) {
        for step in 0..self.steps {
            for position in 0..self.positions() {
                self.each((step, position), |channel, _| {
                    counts[channel * self.positions() + position] += 1.0;
                });
            }
        }
    }

    /// From the steps of a dense map `[steps, C, H, W]`.
    pub(crate) fn of_dense(values: &[f32], shape: [usize; 3]) -> Self {
        let [channels, height, width] = shape;
        let plane = height * width;
        let mut lists = Self::new(values.len() / (channels * plane), shape, true);
        for (step, values) in values.chunks_exact(channels * plane).enumerate() {
            for (channel, values) in values.chunks_exact(plane).enumerate() {
                for (position, &value) in values.iter().enumerate() {
                    if value != 0.0 {
                        lists.push((step, position), channel, value, 1);
                    }
                }
            }
        }
        lists
    }

    /// After an average over squares of side `kernel`: an event's value is the share of its square that fired, rounded as
    /// the dense pool rounds it. For events of value 1.
    pub(super) fn pooled(&self, kernel: usize) -> Self {
        let (height, width) = (self.height / kernel, self.width / kernel);
        let mut lists = Self::new(self.steps, [self.channels, height, width], true);
        let share = 1.0 / (kernel * kernel) as f32;
        for position in 0..height * width {
            let (i, j) = (position / width * kernel, position % width * kernel);
            let square = (i..i + kernel).flat_map(|y| (j..j + kernel).map(move |x| (y, x)));
            let square: Vec<usize> = square.map(|(y, x)| y * self.width + x).collect();
            for step in 0..self.steps {
                for block in 0..self.blocks {
                    let (mut fired, mut mask) = ([0u32; BLOCK], 0u64);
                    for &under in &square {
                        let (at, count) = self.range((step, under), block);
                        for &place in &self.places[at..at + count] {
                            fired[usize::from(place)] += 1;
                            mask |= 1 << place;
                        }
                    }
                    while mask != 0 {
                        let place = mask.trailing_zeros() as usize;
                        let count = fired[place];
                        let channel = block * BLOCK + place;
                        lists.push((step, position), channel, count as f32 * share, count);
                        mask &= mask - 1;
                    }
                }
            }
        }
        lists
    }

    /// As one position with a channel for each neuron, in the order of `[C, H, W]`.
    pub(super) fn flattened(&self) -> Self {
        let positions = self.positions();
        let features = self.channels * positions;
        let mut lists = Self::new(self.steps, [features, 1, 1], self.values.is_some());
        let mut dense = vec![0f32; features];
        for step in 0..self.steps {
            let mut range: Range<usize> = features..0;
            for position in 0..positions {
                self.each((step, position), |channel, value| {
                    let feature = channel * positions + position;
                    dense[feature] = value;
                    range = range.start.min(feature)..range.end.max(feature + 1);
                });
                let spikes = self.spikes((step, position));
                lists.spikes[step] += spikes;
            }
            for feature in range {
                if dense[feature] != 0.0 {
                    lists.push((step, 0), feature, dense[feature], 0);
                    dense[feature] = 0.0;
                }
            }
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_and_flattening_keep_what_the_dense_maps_hold() {
        let (shape, steps) = ([70, 4, 6], 3);
        let mut stream = crate::rng::Seed::new(1).stream();
        let dense: Vec<f32> = (0..steps * 70 * 24)
            .map(|_| f32::from(u8::from(stream.uniform() < 0.2)))
            .collect();
        let mut lists = Lists::new(steps, shape, false);
        for step in 0..steps {
            for position in 0..24 {
                let fired: Vec<u8> = (0..72)
                    .map(|c| match c {
                        0..70 => dense[(step * 70 + c) * 24 + position] as u8,
                        _ => 0,
                    })
                    .collect();
                lists.fill((step, position), &fired);
            }
        }
        let back = |lists: &Lists| {
            let positions = lists.positions();
            let mut dense = vec![0f32; lists.steps * lists.channels * positions];
            for step in 0..lists.steps {
                for position in 0..positions {
                    lists.each((step, position), |channel, value| {
                        dense[(step * lists.channels + channel) * positions + position] = value;
                    });
                }
            }
            dense
        };
        assert_eq!(back(&lists), dense);
        assert_eq!(back(&lists.flattened()), dense);
        assert_eq!(back(&Lists::of_dense(&dense, shape)), dense);
        let pooled = back(&lists.pooled(2));
        for step in 0..steps {
            for c in 0..70 {
                for (i, j) in [(0, 0), (1, 2)] {
                    let at = |y: usize, x: usize| dense[((step * 70 + c) * 4 + y) * 6 + x];
                    let mean = [(0, 0), (0, 1), (1, 0), (1, 1)]
                        .map(|(a, b)| at(2 * i + a, 2 * j + b))
                        .iter()
                        .sum::<f32>()
                        / 4.0;
                    assert_eq!(pooled[((step * 70 + c) * 2 + i) * 3 + j], mean);
                }
            }
        }
        let spikes = |lists: &Lists| -> u32 { lists.spikes.iter().sum() };
        let all = dense.iter().sum::<f32>() as u32;
        assert_eq!(spikes(&lists), all);
        assert_eq!(spikes(&lists.pooled(2)), all);
        assert_eq!(spikes(&lists.pooled(2).flattened()), all);
        let mut counts = vec![0f32; 70 * 24];
        lists.count(&mut counts);
        assert_eq!(counts.iter().sum::<f32>(), all as f32);
    }
}
