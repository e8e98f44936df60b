//! A block of output rows at a time: its input patches are laid out as the columns of a matrix that stays in cache
//! (im2col), then one matrix product. The blocks depend on the layer's shape alone, so that an image's numbers do not
//! depend on its batch or on the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use crate::ops::cpu::{Disjoint, Matrix, product, scratch, sum};

/// Numbers of a scratch matrix: half a megabyte, so that it stays in the second-level cache.
const SCRATCH: usize = 1 << 17;
/// Columns of a scratch matrix beyond which a product gets no faster.
const COLUMNS: usize = 256;
/// Output channels per product.
const OUT_CHANNELS: usize = 128;
/// Tasks below which the work is cut finer.
const TASKS: usize = 32;

#[derive(Default)]
struct Scratch {
    padded: Vec<f32>,
    columns: Vec<f32>,
    gradient: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Output rows whose patches, of `depth` numbers each, fill the scratch matrix.
fn rows_per_block(g: &Geometry, depth: usize) -> usize {
    let columns = (SCRATCH / depth).clamp(COLUMNS / 4, COLUMNS);
    (columns / g.out_width).clamp(1, g.out_height)
}

/// `[N, O, H', W']`
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![0f32; g.images * g.out_channels * g.out_plane()];
    let depth = g.channels * g.taps();
    let rows = rows_per_block(g, depth);
    let blocks = g.out_height.div_ceil(rows);
    let groups = g.out_channels.div_ceil(OUT_CHANNELS);
    // few images: the groups of output channels become tasks, each with its own copy of the patches
    let split = if g.images * blocks < TASKS { groups } else { 1 };
    let out = Disjoint::new(&mut y);
    (0..g.images * blocks * split)
        .into_par_iter()
        .for_each(|task| {
            let (part, block, image) = (task % split, task / split % blocks, task / split / blocks);
            let rows = block * rows..((block + 1) * rows).min(g.out_height);
            let columns = rows.len() * g.out_width;
            BUFFERS.with_borrow_mut(|buffers| {
                let patches = scratch(&mut buffers.columns, depth * columns);
                let image_values = &x[image * g.image()..][..g.image()];
                let all = 0..g.channels;
                write_patches(
                    g,
                    image_values,
                    all,
                    rows.clone(),
                    &mut buffers.padded,
                    patches,
                    columns,
                );
                for group in (part..groups).step_by(split) {
                    let first = group * OUT_CHANNELS;
                    let count = OUT_CHANNELS.min(g.out_channels - first);
                    let offset =
                        (image * g.out_channels + first) * g.out_plane() + rows.start * g.out_width;
                    if let Some(bias) = bias {
                        for (o, &b) in bias[first..][..count].iter().enumerate() {
                            // SAFETY: these rows of this output channel of this image are this task's alone.
                            unsafe { out.slice(offset + o * g.out_plane(), columns) }.fill(b);
                        }
                    }
                    let a = Matrix {
                        values: &weight[first * depth..][..count * depth],
                        row: depth,
                        column: 1,
                    };
                    let b = Matrix {
                        values: patches,
                        row: columns,
                        column: 1,
                    };
                    // SAFETY: as above, for each of the `count` output channels.
                    unsafe {
                        product(
                            (count, depth, columns),
                            a,
                            b,
                            out.at(offset),
                            g.out_plane(),
                            bias.is_some(),
                        )
                    };
                }
            });
        });
    y
}

/// Gradient of the input, `[N, C, H, W]`.
pub(super) fn backward_data(g: &Geometry, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    match g.transposed() {
        Some(transposed) => forward(&transposed, gy, &turned(g, weight), None),
        None => scattered(g, weight, gy),
    }
}

/// `[O, C, k, k]` to `[C, O, k, k]`, each kernel turned by half a turn.
fn turned(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let (o, c, taps) = (g.out_channels, g.channels, g.taps());
    let mut turned = vec![0f32; weight.len()];
    for out_channel in 0..o {
        for channel in 0..c {
            let from = &weight[(out_channel * c + channel) * taps..][..taps];
            let to = &mut turned[(channel * o + out_channel) * taps..][..taps];
            for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                *to = *from;
            }
        }
    }
    turned
}

/// The gradient of the input for any stride: gradients of the patches, added up where patches overlap.
fn scattered(g: &Geometry, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let mut gx = vec![0f32; g.images * g.image()];
    let depth = g.channels * g.taps();
    let group = (SCRATCH / (g.taps() * g.out_plane())).clamp(1, g.channels);
    let groups = g.channels.div_ceil(group);
    let out = Disjoint::new(&mut gx);
    (0..g.images * groups).into_par_iter().for_each(|task| {
        let (image, first) = (task / groups, task % groups * group);
        let channels = first..(first + group).min(g.channels);
        let size = channels.len() * g.taps();
        BUFFERS.with_borrow_mut(|buffers| {
            let patches = scratch(&mut buffers.columns, size * g.out_plane());
            let a = Matrix {
                values: &weight[first * g.taps()..],
                row: 1,
                column: depth,
            };
            let b = Matrix {
                values: &gy[image * g.out_channels * g.out_plane()..],
                row: g.out_plane(),
                column: 1,
            };
            // SAFETY: `patches` is this thread's and has `size` rows of `out_plane` numbers.
            unsafe {
                let to = patches.as_mut_ptr();
                product(
                    (size, g.out_channels, g.out_plane()),
                    a,
                    b,
                    to,
                    g.out_plane(),
                    false,
                );
            }
            // SAFETY: these channels of this image are this task's alone.
            let gx = unsafe {
                out.slice(
                    (image * g.channels + first) * g.plane(),
                    channels.len() * g.plane(),
                )
            };
            add_patches(g, patches, gx);
        });
    });
    gx
}

/// Adds the gradients of patches to the channels of an image they were taken from.
fn add_patches(g: &Geometry, patches: &[f32], gx: &mut [f32]) {
    let mut row = patches.chunks_exact(g.out_width);
    for plane in gx.chunks_exact_mut(g.plane()) {
        for a in 0..g.kernel {
            for b in 0..g.kernel {
                for i in 0..g.out_height {
                    let from = row.next().expect("a row per channel, tap and output row");
                    let Some(y) = (i * g.stride + a)
                        .checked_sub(g.padding)
                        .filter(|&y| y < g.height)
                    else {
                        continue;
                    };
                    let to = &mut plane[y * g.width..][..g.width];
                    for (j, from) in from.iter().enumerate() {
                        if let Some(to) = (j * g.stride + b)
                            .checked_sub(g.padding)
                            .and_then(|x| to.get_mut(x))
                        {
                            *to += from;
                        }
                    }
                }
            }
        }
    }
}

/// Gradient of the weight, `[O, C, k, k]`: per chunk of the batch and group of channels one sum that stays in cache,
/// then the chunks' sums in order.
pub(super) fn backward_weight(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let (o, taps) = (g.out_channels, g.taps());
    let depth = g.channels * taps;
    // an item is a block of rows of one image, or several small images
    let rows = (COLUMNS / g.out_width).clamp(1, g.out_height);
    let blocks = g.out_height.div_ceil(rows);
    let together = (COLUMNS / (rows * g.out_width)).max(1);
    let items = g.images.div_ceil(together) * blocks;
    // the sums and the patches of a group of channels both stay in cache
    let columns = together * rows * g.out_width;
    let group = (SCRATCH / (o.max(columns) * taps)).clamp(1, g.channels);
    let groups = g.channels.div_ceil(group);
    let chunks = TASKS.div_ceil(groups).min(items.div_ceil(4));
    // the sums are [chunk][C, k, k][O]: the transposed product is the faster one
    let mut sums = vec![0f32; chunks * depth * o];
    let out = Disjoint::new(&mut sums);
    (0..chunks * groups).into_par_iter().for_each(|task| {
        let (chunk, first) = (task / groups, task % groups * group);
        let channels = first..(first + group).min(g.channels);
        let size = channels.len() * taps;
        BUFFERS.with_borrow_mut(|buffers| {
            for item in chunk * items / chunks..(chunk + 1) * items / chunks {
                let (first_image, block) = (item / blocks * together, item % blocks);
                let images = first_image..(first_image + together).min(g.images);
                let rows = block * rows..((block + 1) * rows).min(g.out_height);
                let (start, columns) = (rows.start * g.out_width, rows.len() * g.out_width);
                let line = images.len() * columns;
                let matrix = scratch(&mut buffers.columns, size * line);
                let gradient = scratch(&mut buffers.gradient, o * line);
                for (i, image) in images.enumerate() {
                    let x = &x[image * g.image()..][..g.image()];
                    let to = &mut matrix[i * columns..];
                    write_patches(
                        g,
                        x,
                        channels.clone(),
                        rows.clone(),
                        &mut buffers.padded,
                        to,
                        line,
                    );
                    let gy = &gy[image * o * g.out_plane()..][..o * g.out_plane()];
                    for (to, gy) in gradient
                        .chunks_exact_mut(line)
                        .zip(gy.chunks_exact(g.out_plane()))
                    {
                        to[i * columns..][..columns].copy_from_slice(&gy[start..][..columns]);
                    }
                }
                let a = Matrix {
                    values: matrix,
                    row: line,
                    column: 1,
                };
                let b = Matrix {
                    values: gradient,
                    row: 1,
                    column: line,
                };
                // SAFETY: these channels' sums of this chunk are this task's alone.
                unsafe {
                    let to = out.at((chunk * depth + first * taps) * o);
                    product((size, line, o), a, b, to, o, true);
                }
            }
        });
    });
    let mut gw = vec![0f32; o * depth];
    const LINE: usize = 16;
    gw.par_chunks_mut(LINE * depth)
        .enumerate()
        .for_each(|(line, gw)| {
            let count = gw.len() / depth;
            for d in 0..depth {
                let mut total = [0f32; LINE];
                for chunk in sums.chunks_exact(depth * o) {
                    for (total, part) in
                        total.iter_mut().zip(&chunk[d * o + line * LINE..][..count])
                    {
                        *total += part;
                    }
                }
                for (i, total) in total[..count].iter().enumerate() {
                    gw[i * depth + d] = *total;
                }
            }
        });
    gw
}

/// Gradient of the bias, `[O]`.
pub(super) fn backward_bias(g: &Geometry, gy: &[f32]) -> Vec<f32> {
    let plane = g.out_plane();
    (0..g.out_channels)
        .into_par_iter()
        .map(|o| {
            let planes =
                (0..g.images).map(|image| &gy[(image * g.out_channels + o) * plane..][..plane]);
            planes.map(sum).sum::<f64>() as f32
        })
        .collect()
}

/// Writes the patches under the output rows `rows`: for each channel and tap `rows * W'` numbers, `line` apart.
fn write_patches(
    g: &Geometry,
    image: &[f32],
    channels: Range<usize>,
    rows: Range<usize>,
    padded: &mut Vec<f32>,
    matrix: &mut [f32],
    line: usize,
) {
    let (height, width) = (
        (rows.len() - 1) * g.stride + g.kernel,
        g.width + 2 * g.padding,
    );
    let padded = scratch(padded, channels.len() * height * width);
    let top = (rows.start * g.stride) as isize - g.padding as isize;
    for (channel, padded) in channels.zip(padded.chunks_exact_mut(height * width)) {
        let plane = &image[channel * g.plane()..][..g.plane()];
        for (i, to) in padded.chunks_exact_mut(width).enumerate() {
            match usize::try_from(top + i as isize) {
                Ok(y) if y < g.height => {
                    to[..g.padding].fill(0.0);
                    to[g.padding..][..g.width].copy_from_slice(&plane[y * g.width..][..g.width]);
                    to[g.padding + g.width..].fill(0.0);
                }
                _ => to.fill(0.0),
            }
        }
    }
    let columns = rows.len() * g.out_width;
    let mut lines = matrix.chunks_mut(line);
    for padded in padded.chunks_exact(height * width) {
        for a in 0..g.kernel {
            for b in 0..g.kernel {
                let to = lines.next().expect("a line per channel and tap");
                let to = &mut to[..columns];
                let from = &padded[a * width + b..];
                match (g.stride, g.out_width) {
                    (1, 4) => copy_rows::<4>(from, width, to),
                    (1, 8) => copy_rows::<8>(from, width, to),
                    (1, 16) => copy_rows::<16>(from, width, to),
                    (1, 32) => copy_rows::<32>(from, width, to),
                    (1, 64) => copy_rows::<64>(from, width, to),
                    _ => {
                        for (i, to) in to.chunks_exact_mut(g.out_width).enumerate() {
                            let from = &from[i * g.stride * width..];
                            for (to, from) in to.iter_mut().zip(from.iter().step_by(g.stride)) {
                                *to = *from;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Copies rows of a length known to the compiler.
fn copy_rows<const W: usize>(from: &[f32], stride: usize, to: &mut [f32]) {
    for (i, to) in to.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        *to = *from[i * stride..]
            .first_chunk()
            .expect("rows lie inside the padded image");
    }
}
