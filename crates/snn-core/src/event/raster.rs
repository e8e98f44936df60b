//! The spikes of some images over a stretch of time: a bit for each neuron and step.

use crate::ops::aligned::{Lent, Shelf};
use crate::ops::cpu::scratch;
use crate::ops::events::{Kernels, ROOM, SEGMENT, Values, tally};
use crate::ops::packed::channel_blocks;
use crate::ops::transpose::transpose;
use crate::ops::widest::{self, Task};

/// Channels of a word.
pub(crate) const WORD: usize = 64;

/// Events of some images in a map `[C, H, W]` over some steps.
pub(crate) struct Raster {
    pub(super) images: usize,
    pub(super) steps: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Words of a position at a step.
    pub(super) blocks: usize,
    /// Values of a position at a step, filled up to whole segments.
    pub(super) line: usize,
    /// `[images, positions, steps, blocks]`: a bit for each channel that has an event. After them is a position at which
    /// nothing fires: it stands for the padding.
    pub(super) words: Vec<u64>,
    pub(super) values: EventValues,
    /// Events of each block, `[blocks, images, positions, steps]`, with those of the padding for each block.
    pub(super) counts: Vec<u8>,
    /// Spikes behind the events at all steps, `[images, positions]`.
    pub(super) spikes: Vec<u64>,
}

/// The values of each block's events, one after another from the block's first place on, `[.., line]`.
pub(super) enum EventValues {
    /// All are 1.
    Ones,
    /// Multiples of a share.
    Shares(Vec<u8>, f32),
    /// Any.
    Numbers(Lent),
}

impl EventValues {
    /// As the lists of events take them.
    pub(super) fn of_events(&self) -> Values<'_> {
        match self {
            Self::Ones => Values::Ones,
            Self::Shares(counts, share) => Values::Shares(counts, *share),
            Self::Numbers(numbers) => Values::Numbers(numbers),
        }
    }

    /// Sets those of a block, from place `at` on: shares of the words that have the bits which are set in `any`.
    fn pool(&mut self, words: &[u64], any: u64, share: f32, at: usize) {
        match self {
            Self::Ones => unreachable!("a pool has values"),
            Self::Shares(counts, _) => {
                let to = counts[at..].first_chunk_mut();
                tally(words, to.expect("room beyond the last count"));
            }
            Self::Numbers(numbers) => {
                let set = (0..WORD).filter(|bit| any >> bit & 1 == 1);
                for (bit, to) in set.zip(&mut numbers.values()[at..]) {
                    let count = words.iter().map(|word| word >> bit & 1).sum::<u64>();
                    *to = count as f32 * share;
                }
            }
        }
    }

    /// The one at a place.
    fn at(&self, place: usize) -> f32 {
        match self {
            Self::Ones => 1.0,
            Self::Shares(counts, share) => f32::from(counts[place]) * share,
            Self::Numbers(numbers) => numbers[place],
        }
    }
}

static VALUES: Shelf = Shelf::new();

impl Raster {
    /// Without events.
    pub(super) fn silent(
        (images, steps): (usize, usize),
        [channels, height, width]: [usize; 3],
    ) -> Self {
        let (blocks, positions) = (channels.div_ceil(WORD), images * height * width);
        debug_assert!(channel_blocks(channels).all(|block| block.len() <= WORD));
        let (cells, line) = ((positions + 1) * steps, channels.next_multiple_of(SEGMENT));
        Self {
            images,
            steps,
            channels,
            height,
            width,
            blocks,
            line,
            words: vec![0; cells * blocks],
            values: EventValues::Ones,
            counts: vec![0; blocks * cells],
            spikes: vec![0; positions],
        }
    }

    /// Places of values.
    fn places(&self) -> usize {
        self.cell(0, self.positions() + 1) * self.line
    }

    /// Room for all values, whatever is in it.
    fn numbers(&self) -> Lent {
        VALUES.lend(self.places())
    }

    /// Positions of the maps of all images.
    pub(super) fn positions(&self) -> usize {
        self.images * self.plane()
    }

    /// Positions of a map.
    fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Image, row and column of a position.
    fn place(&self, position: usize) -> (usize, usize, usize) {
        let (image, at) = (position / self.plane(), position % self.plane());
        (image, at / self.width, at % self.width)
    }

    /// Number of a position at a step.
    fn cell(&self, step: usize, position: usize) -> usize {
        position * self.steps + step
    }

    /// Counts the events, and as spikes too: they are until a pool says otherwise.
    pub(super) fn count_events(&mut self) {
        let cells = self.cell(0, self.positions() + 1);
        widest::run(Ones {
            words: &self.words,
            blocks: self.blocks,
            counts: &mut self.counts,
        });
        for counts in self.counts.chunks_exact(cells) {
            for (spikes, counts) in self.spikes.iter_mut().zip(counts.chunks_exact(self.steps)) {
                *spikes += counts.iter().map(|&count| u64::from(count)).sum::<u64>();
            }
        }
    }

    /// Events of a block of channels in each cell.
    pub(super) fn counts(&self, block: usize) -> &[u8] {
        let cells = self.cell(0, self.positions() + 1);
        &self.counts[block * cells..][..cells]
    }

    /// Calls `f` with channel and value of each event of a position, in order.
    pub(super) fn each(&self, step: usize, position: usize, mut f: impl FnMut(usize, f32)) {
        let cell = self.cell(step, position);
        for block in 0..self.blocks {
            let mut word = self.words[cell * self.blocks + block];
            let mut value = cell * self.line + block * WORD;
            while word != 0 {
                let channel = block * WORD + word.trailing_zeros() as usize;
                f(channel, self.values.at(value));
                value += 1;
                word &= word - 1;
            }
        }
    }

    /// Adds 1 to the count `[images, C, H, W]` of every neuron for each event.
    pub(super) fn count(&self, counts: &mut [f32]) {
        let plane = self.plane();
        for position in 0..self.positions() {
            let first = position / plane * self.channels * plane + position % plane;
            for step in 0..self.steps {
                self.each(step, position, |channel, _| {
                    counts[first + channel * plane] += 1.0
                });
            }
        }
    }

    /// From the maps `[C, H, W]`, those of all images at a step before those of the next one, each event being a spike.
    pub(crate) fn of_dense<'a>(
        maps: impl ExactSizeIterator<Item = &'a [f32]>,
        images: usize,
        shape: [usize; 3],
    ) -> Self {
        let [channels, height, width] = shape;
        let plane = height * width;
        let mut raster = Self::silent((images, maps.len() / images), shape);
        let kernels = Kernels::best();
        let line = raster.line;
        let mut buffer = Vec::new();
        let mut numbers_of_events = raster.numbers();
        let values = numbers_of_events.values();
        let mut all_one = true;
        for (map, values_of_map) in maps.enumerate() {
            assert_eq!(values_of_map.len(), channels * plane);
            let (step, image) = (map / images, map % images);
            let lines = scratch(&mut buffer, plane * line);
            // SAFETY: both sides hold as many channels and positions.
            unsafe {
                let from = (values_of_map.as_ptr(), plane);
                transpose(from, (channels, plane), (lines.as_mut_ptr(), line));
            }
            for (position, line) in lines.chunks_exact(line).enumerate() {
                let cell = raster.cell(step, image * plane + position);
                all_one &= line.iter().all(|x| *x == 0.0 || *x == 1.0);
                let values = values[cell * raster.line..][..raster.line].chunks_mut(WORD);
                for (block, (numbers, values)) in line.chunks(WORD).zip(values).enumerate() {
                    let word = kernels.mark(numbers);
                    raster.words[cell * raster.blocks + block] = word;
                    kernels.compress(word, numbers, values);
                }
            }
        }
        raster.count_events();
        if !all_one {
            raster.values = EventValues::Numbers(numbers_of_events);
        }
        raster
    }

    /// After an average over squares of side `kernel`: an event's value is the share of its square that fired, rounded as
    /// the dense pool rounds it. For events of value 1.
    pub(super) fn pooled(&self, kernel: usize) -> Self {
        let (height, width) = (self.height / kernel, self.width / kernel);
        let times = (self.images, self.steps);
        let mut pooled = Self::silent(times, [self.channels, height, width]);
        let share = 1.0 / (kernel * kernel) as f32;
        let mut values = match kernel * kernel <= usize::from(u8::MAX) {
            // a tally writes beyond its last count
            true => EventValues::Shares(vec![0; pooled.places() + ROOM], share),
            false => EventValues::Numbers(pooled.numbers()),
        };
        let (row, words) = (
            self.width * self.steps * self.blocks,
            self.steps * self.blocks,
        );
        let (mut square, mut under) = (vec![0; kernel * kernel], vec![0; kernel * kernel]);
        for position in 0..pooled.positions() {
            let (image, i, j) = pooled.place(position);
            let first = image * self.plane() * words + i * kernel * row + j * kernel * words;
            for (place, square) in square.iter_mut().enumerate() {
                *square = first + place / kernel * row + place % kernel * words;
            }
            for word in 0..words {
                let mut any = 0;
                for (under, square) in under.iter_mut().zip(&square) {
                    *under = self.words[square + word];
                    any |= *under;
                }
                if any != 0 {
                    pooled.words[position * words + word] = any;
                    let cell = pooled.cell(word / self.blocks, position);
                    let at = cell * self.line + word % self.blocks * WORD;
                    values.pool(&under, any, share, at);
                }
            }
        }
        pooled.count_events();
        pooled.spikes.fill(0);
        for position in 0..self.positions() {
            let (image, i, j) = self.place(position);
            if i / kernel < height && j / kernel < width {
                let to = (image * height + i / kernel) * width + j / kernel;
                pooled.spikes[to] += self.spikes[position];
            }
        }
        pooled.values = values;
        pooled
    }

    /// As one position with a channel for each neuron, in the order of `[C, H, W]`.
    pub(super) fn flattened(&self) -> Self {
        let plane = self.plane();
        let features = self.channels * plane;
        let times = (self.images, self.steps);
        let mut flat = Self::silent(times, [features, 1, 1]);
        let mut numbers = match self.values {
            EventValues::Ones => None,
            _ => Some(flat.numbers()),
        };
        let mut values = vec![0f32; flat.line];
        for (image, step) in (0..self.images).flat_map(|i| (0..self.steps).map(move |t| (i, t))) {
            let cell = flat.cell(step, image);
            let words = &mut flat.words[cell * flat.blocks..][..flat.blocks];
            for position in 0..plane {
                self.each(step, image * plane + position, |channel, value| {
                    let feature = channel * plane + position;
                    words[feature / WORD] |= 1 << (feature % WORD);
                    values[feature] = value;
                });
            }
            if let Some(numbers) = &mut numbers {
                let to = numbers.values()[cell * flat.line..][..flat.line].chunks_mut(WORD);
                for (word, (values, to)) in words.iter().zip(values.chunks(WORD).zip(to)) {
                    Kernels::best().compress(*word, values, to);
                }
            }
        }
        flat.values = numbers.map_or(EventValues::Ones, EventValues::Numbers);
        flat.count_events();
        for (image, spikes) in flat.spikes.iter_mut().enumerate() {
            *spikes = self.spikes[image * plane..][..plane].iter().sum();
        }
        flat
    }
}

/// How many bits are set in the words `[cells, blocks]`, `[blocks, cells]`.
struct Ones<'a> {
    words: &'a [u64],
    blocks: usize,
    counts: &'a mut [u8],
}

impl Task for Ones<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cells = self.words.len() / self.blocks;
        for (block, counts) in self.counts.chunks_exact_mut(cells).enumerate() {
            let words = self.words[block..].iter().step_by(self.blocks);
            for (count, word) in counts.iter_mut().zip(words) {
                *count = word.count_ones() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_and_flattening_keep_what_the_dense_maps_hold() {
        let (shape, images, steps, map) = ([70, 4, 6], 2, 3, 70 * 24);
        let mut stream = crate::rng::Seed::new(1).stream();
        let dense: Vec<f32> = (0..steps * images * map)
            .map(|_| f32::from(u8::from(stream.uniform() < 0.2)))
            .collect();
        let raster = Raster::of_dense(dense.chunks_exact(map), images, shape);
        assert!(
            matches!(raster.values, EventValues::Ones),
            "spikes have the value 1"
        );
        let back = |raster: &Raster| {
            let plane = raster.plane();
            let mut dense = vec![0f32; raster.steps * raster.channels * raster.positions()];
            for step in 0..raster.steps {
                for position in 0..raster.positions() {
                    raster.each(step, position, |channel, value| {
                        let image = step * images + position / plane;
                        let place = image * raster.channels + channel;
                        dense[place * plane + position % plane] = value;
                    });
                }
            }
            dense
        };
        assert_eq!(back(&raster), dense);
        assert_eq!(back(&raster.flattened()), dense);
        let halves: Vec<f32> = dense.iter().map(|x| x * 0.5).collect();
        let valued = Raster::of_dense(halves.chunks_exact(map), images, shape);
        assert_eq!(back(&valued), halves);
        assert_eq!(back(&valued.flattened()), halves);
        let pooled = back(&raster.pooled(2));
        for plane in 0..steps * images * 70 {
            for (i, j) in [(0, 0), (1, 2)] {
                let at = |y: usize, x: usize| dense[(plane * 4 + y) * 6 + x];
                let mean = [(0, 0), (0, 1), (1, 0), (1, 1)]
                    .map(|(a, b)| at(2 * i + a, 2 * j + b))
                    .iter()
                    .sum::<f32>()
                    / 4.0;
                assert_eq!(pooled[(plane * 2 + i) * 3 + j], mean);
            }
        }
        let spikes = |raster: &Raster| raster.spikes.clone();
        let all = |image: usize| -> u64 {
            let maps = dense.chunks_exact(map).skip(image).step_by(images);
            maps.flatten().sum::<f32>() as u64
        };
        let flat = vec![all(0), all(1)];
        assert_eq!(spikes(&raster.flattened()), flat);
        assert_eq!(spikes(&raster.pooled(2).flattened()), flat);
        assert_eq!(
            spikes(&raster.pooled(2)).iter().sum::<u64>(),
            all(0) + all(1)
        );
        let mut counts = vec![0f32; images * map];
        raster.count(&mut counts);
        for (neuron, count) in counts.iter().enumerate() {
            let fired: f32 = dense[neuron..].iter().step_by(images * map).sum();
            assert_eq!(*count, fired);
        }
    }

    /// More places than a tally counts.
    #[test]
    fn pools_of_any_side() {
        let mut stream = crate::rng::Seed::new(2).stream();
        let (shape, map) = ([3, 16, 32], 3 * 16 * 32);
        let dense: Vec<f32> = (0..2 * map)
            .map(|_| f32::from(u8::from(stream.uniform() < 0.5)))
            .collect();
        let raster = Raster::of_dense(dense.chunks_exact(map), 1, shape);
        for kernel in [1, 8, 15, 16] {
            let pooled = raster.pooled(kernel);
            let (height, width) = (16 / kernel, 32 / kernel);
            let mut seen = 0;
            for (step, position) in (0..2).flat_map(|t| (0..height * width).map(move |p| (t, p))) {
                let (y, x) = (position / width * kernel, position % width * kernel);
                pooled.each(step, position, |channel, value| {
                    let plane = &dense[step * map + channel * 512..][..512];
                    let rows = plane.chunks(32).skip(y).take(kernel);
                    let sum: f32 = rows.flat_map(|row| &row[x..x + kernel]).sum();
                    assert_eq!(value, sum * (1.0 / (kernel * kernel) as f32));
                    seen += 1;
                });
            }
            let many = 2 * 3 * height * width;
            assert!(
                seen == many || kernel == 1 && seen < many,
                "{kernel}: {seen}"
            );
        }
    }
}
