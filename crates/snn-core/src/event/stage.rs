//! The pieces in which a layer adds up the rows of its weight.

use std::ops::Range;

use crate::ops::events::Kernels;
use crate::ops::packed::channel_blocks;

/// Bytes of a weight's rows that stay in the first-level cache while they are added up.
const CACHED: usize = 28 << 10;

/// Some taps over a block of channels.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) block: usize,
    pub(super) channels: Range<usize>,
    pub(super) taps: Range<usize>,
    /// Rows of the stages before it.
    pub(super) start: usize,
    /// Number of the family: its stages have the same taps of different rows of the kernel, so that what one of them adds
    /// at a row of outputs another one adds at another row. Stages of whole kernels, which share nothing, have number 0.
    pub(super) family: usize,
}

impl Stage {
    /// Rows, with the one of zeros.
    pub(super) fn rows(&self) -> usize {
        self.taps.len() * self.channels.len() + 1
    }

    /// All of a layer, in the order in which a dense convolution adds.
    pub(super) fn all(channels: usize, kernel: usize) -> Vec<Self> {
        let width = Kernels::best().columns() * size_of::<f32>();
        let (mut stages, mut start, mut families) = (Vec::new(), 0, 1);
        for (block, channels) in channel_blocks(channels).enumerate() {
            // a row's number fits in a byte
            let most = usize::from(u8::MAX).min(CACHED / width) / channels.len();
            let most = most.max(1);
            let mut push = |taps, family| {
                let stage = Self {
                    block,
                    channels: channels.clone(),
                    taps,
                    start,
                    family,
                };
                start += stage.rows();
                stages.push(stage);
            };
            if kernel * kernel <= most {
                push(0..kernel * kernel, 0);
                continue;
            }
            let parts = kernel.div_ceil(most);
            for first in (0..kernel).map(|row| row * kernel) {
                for part in 0..parts {
                    let taps = part * kernel / parts..(part + 1) * kernel / parts;
                    push(first + taps.start..first + taps.end, families + part);
                }
            }
            families += parts;
        }
        stages
    }
}
