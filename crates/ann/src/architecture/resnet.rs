//! The residual networks for small images of He et al., "Deep residual learning for image recognition" (CVPR 2016),
//! section 4.2, with parameter-free shortcuts (option A), which average where they halve the sides so that spikes can
//! take them.

use super::layers::Layers;
use crate::{Error, Result};

/// Channels of the three stages.
const STAGES: [usize; 3] = [16, 32, 64];

/// A convolution, so many blocks a stage, and a pool over what is left of the image:
///
/// ```text
/// block: x -> activation(norm(conv(activation(norm(conv(x))))) + shortcut(x))
/// ```
///
/// # Errors
/// Images that are not square.
pub(super) fn build(blocks: usize, layers: &mut Layers) -> Result<()> {
    let [_, height, width] = layers.shape();
    if height != width {
        let message = format!("a residual network needs square ones, got {height}x{width}");
        return Err(Error::argument("images", message));
    }
    layers.convolution(STAGES[0], 1);
    let mut from = layers.activate(false);
    for (stage, channels) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let halved = stage > 0 && block == 0;
            layers.convolution(channels, if halved { 2 } else { 1 });
            layers.activate(false);
            layers.convolution(channels, 1);
            layers.shortcut(&from);
            from = layers.activate(stage + 1 == STAGES.len() && block + 1 == blocks);
        }
    }
    layers.pool_all();
    Ok(())
}
