//! A convolution of maps in which little fired, as sums over events.

use candle_core::Tensor;
use rayon::prelude::*;

use super::convolution::Convolution;
use crate::Result;
use crate::event::layer::{Weighted, Window};
use crate::event::raster::Raster;
use crate::event::work::Work;
use crate::ops::cpu::Disjoint;

/// Maps of a task.
const MAPS: usize = 16;
/// Currents that are added up together: with the rows of a block they stay in the second-level cache.
const SUMS: usize = 1 << 16;

/// The dense convolution's results, bit for bit, of some maps of `x`, written to the places of the same numbers.
///
/// # Safety
/// `out` has a place for the result of each map of `x`, and nobody else touches those of `some`.
pub(super) unsafe fn forward(
    convolution: &Convolution,
    weight: &Tensor,
    bias: Option<&Tensor>,
    x: &[f32],
    some: &[usize],
    out: Disjoint,
) -> Result<()> {
    let (input, [channels, height, width]) = (convolution.input, convolution.output);
    let window = Window {
        stride: convolution.stride,
        padding: convolution.padding,
        out_height: height,
        out_width: width,
    };
    let layer = Weighted::new(0, weight, bias, window)?;
    let positions = height * width;
    let (map, size) = (input.iter().product::<usize>(), channels * positions);
    some.par_chunks(MAPS)
        .for_each_init(Work::default, |work, some| {
            let count = some.len();
            let maps = some.iter().map(|number| &x[number * map..][..map]);
            let raster = Raster::of_dense(maps, 1, input);
            layer.currents(&raster, SUMS / layer.line, work, |work| {
                for (group, here, sums) in work.sums() {
                    let width = group.len();
                    for (i, number) in some.iter().enumerate() {
                        for c in group.start..group.end.min(channels) {
                            let start = number * size + c * positions + here.start;
                            let from = sums[i * width + c - group.start..].iter();
                            let from = from.step_by(count * width).take(here.len());
                            for (place, from) in from.enumerate() {
                                // SAFETY: the results of these maps are this task's alone.
                                unsafe { out.at(start + place).write(*from) };
                            }
                        }
                    }
                }
            });
        });
    Ok(())
}
