//! The VGG family of the paper: convolutions in a row, and pools between them. A plan holds the channels of each
//! convolution; 0 stands for an average pool.

use super::layers::Layers;

pub(super) const VGG5: &[usize] = &[64, 0, 128, 128, 0];
pub(super) const VGG9: &[usize] = &[64, 64, 0, 128, 128, 0, 256, 256, 256, 0];
pub(super) const VGG11: &[usize] = &[64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512];
pub(super) const VGG13: &[usize] = &[
    64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0,
];
pub(super) const VGG16: &[usize] = &[
    64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0,
];
pub(super) const VGG19: &[usize] = &[
    64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0,
];

/// Takes `layers` through a plan.
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
