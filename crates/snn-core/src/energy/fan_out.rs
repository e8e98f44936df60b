//! Which products a spike takes part in.

use crate::topology::{Layer, Topology};
use crate::{Error, Result};

/// What feeds a weighted layer.
pub(super) enum Source {
    Input,
    Population(usize),
}

/// The population (or input) that feeds weighted layer `layer`, and for each of its units the number of weights that
/// one of its spikes meets there.
pub(super) fn fan_out(
    topology: &Topology,
    shapes: &[Vec<usize>],
    layer: usize,
) -> Result<(Source, Vec<f64>)> {
    let shape_before = |index: usize| match index {
        0 => topology.input().to_vec(),
        _ => shapes[index - 1].clone(),
    };
    let mut fan_out = weight_uses(
        &topology.layers()[layer],
        &shape_before(layer),
        &shapes[layer],
    );
    for index in (0..layer).rev() {
        let between = &topology.layers()[index];
        match between {
            Layer::Activation { .. } => return Ok((Source::Population(index), fan_out)),
            Layer::Flatten | Layer::Dropout { .. } => {}
            Layer::AvgPool2d { kernel } => {
                fan_out = through_pool(&fan_out, &shape_before(index), *kernel)
            }
            _ => {
                return Err(Error::Layer {
                    index: layer,
                    kind: topology.layers()[layer].kind(),
                    message: format!(
                        "is fed by layer {index} ({}), which does not spike: accumulates cannot be counted",
                        between.kind()
                    ),
                });
            }
        }
    }
    Ok((Source::Input, fan_out))
}

/// For each input unit of a weighted layer the number of products it takes part in.
fn weight_uses(layer: &Layer, input: &[usize], output: &[usize]) -> Vec<f64> {
    match (layer, input, output) {
        (
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                ..
            },
            &[channels, height, width],
            &[out_channels, out_height, out_width],
        ) => {
            let along = |side: usize, out_side: usize| -> Vec<f64> {
                (0..side)
                    .map(|at| {
                        let reaches = |i: &usize| {
                            let first = i * stride;
                            (first..first + kernel).contains(&(at + padding))
                        };
                        (0..out_side).filter(reaches).count() as f64
                    })
                    .collect()
            };
            let (rows, columns) = (along(height, out_height), along(width, out_width));
            let plane: Vec<f64> = rows
                .iter()
                .flat_map(|row| {
                    columns
                        .iter()
                        .map(move |column| row * column * out_channels as f64)
                })
                .collect();
            plane.repeat(channels)
        }
        _ => vec![output.iter().product::<usize>() as f64; input.iter().product()],
    }
}

/// From pooled pixels back to the pixels `[C, H, W]` that each of them averages.
fn through_pool(pooled: &[f64], shape: &[usize], kernel: usize) -> Vec<f64> {
    let (height, width) = (shape[1], shape[2]);
    let (out_height, out_width) = (height / kernel, width / kernel);
    (0..shape.iter().product())
        .map(|i| {
            let (channel, y, x) = (i / (height * width), i / width % height, i % width);
            pooled[(channel * out_height + y / kernel) * out_width + x / kernel]
        })
        .collect()
}
