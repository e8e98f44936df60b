//! The VGG family of the paper: convolutions in a row, and pools between them.

use super::layers::Layers;

/// Takes `layers` through a plan: channels of each convolution, 0 for an average pool.
pub(super) fn build(plan: &[usize], layers: &mut Layers) {
    for (i, &entry) in plan.iter().enumerate() {
        if entry == 0 {
            layers.pool(2);
        } else {
            layers.convolution(entry, 1);
            layers.activate(plan.get(i + 1) == Some(&0));
        }
    }
}
