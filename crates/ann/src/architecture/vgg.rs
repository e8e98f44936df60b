//! The VGG family of the paper: convolutions in a row, and pools between them.

use super::Depth;
use super::layers::Layers;

/// Channels of each convolution; 0 stands for an average pool.
fn plan(depth: Depth) -> &'static [usize] {
    match depth {
        Depth::Vgg5 => &[64, 0, 128, 128, 0],
        Depth::Vgg9 => &[64, 64, 0, 128, 128, 0, 256, 256, 256, 0],
        Depth::Vgg11 => &[64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512],
        Depth::Vgg13 => &[
            64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0,
        ],
        Depth::Vgg16 => &[
            64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0,
        ],
        Depth::Vgg19 => &[
            64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512,
            512, 0,
        ],
        Depth::Resnet20 => unreachable!("no VGG: built elsewhere"),
    }
}

/// Takes `layers` through the plan of a VGG.
pub(super) fn build(depth: Depth, layers: &mut Layers) {
    let plan = plan(depth);
    for (i, &entry) in plan.iter().enumerate() {
        if entry == 0 {
            layers.pool(2);
        } else {
            layers.convolution(entry, 1);
            layers.activate(plan.get(i + 1) == Some(&0));
        }
    }
}
