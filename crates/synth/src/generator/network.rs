//! The generator's layers.

use candle_core::{DType, Device, Tensor, Var};
use snn_core::ops::batch_norm::batch_norm;
use snn_core::ops::conv2d::{Sums, conv2d_with};
use snn_core::ops::linear::linear;
use snn_core::rng::Seed;

use crate::{Error, GeneratorConfig, Result};

const EPSILON: f64 = 1e-5;
/// Slope of the activation below zero.
const SLOPE: f64 = 0.2;

/// From latent vectors `[N, Z]` to images `[N, C, H, W]` in (-1, 1):
///
/// ```text
/// linear Z -> 2c x H/4 x W/4, norm
/// twice: nearest neighbour to twice the sides, conv 3x3, norm, leaky ReLU (0.2); 2c and then c channels
/// conv 3x3 -> C, tanh
/// ```
///
/// Norm is batch norm with the batch's own statistics.
#[derive(Debug)]
pub(super) struct Network {
    /// `[C, H, W]`
    shape: [usize; 3],
    channels: usize,
    variables: Vec<(String, Var)>,
}

impl Network {
    /// Weights drawn from `seed` (normal, deviation `1 / sqrt(inputs)`), no biases, norms at the identity.
    pub(super) fn new(
        config: &GeneratorConfig,
        shape: [usize; 3],
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let [colours, height, width] = shape;
        if height % 4 != 0 || width % 4 != 0 {
            return Err(Error::argument(
                "generator",
                format!("makes images whose sides are multiples of 4, not {height}x{width}"),
            ));
        }
        let c = config.channels;
        let mut variables = Vec::new();
        for (name, dims) in [
            (
                "linear",
                vec![2 * c * height / 4 * width / 4, config.latent],
            ),
            ("conv1", vec![2 * c, 2 * c, 3, 3]),
            ("conv2", vec![c, 2 * c, 3, 3]),
            ("conv3", vec![colours, c, 3, 3]),
        ] {
            let inputs: usize = dims[1..].iter().product();
            let deviation = (inputs as f64).powf(-0.5) as f32;
            let weight = seed.derive(name).normal(&dims, 0.0, deviation, device)?;
            variables.push((format!("{name}.weight"), Var::from_tensor(&weight)?));
        }
        for (name, count) in [("norm0", 2 * c), ("norm1", 2 * c), ("norm2", c)] {
            let gamma = Var::ones(count, DType::F32, device)?;
            let beta = Var::zeros(count, DType::F32, device)?;
            variables.push((format!("{name}.gamma"), gamma));
            variables.push((format!("{name}.beta"), beta));
        }
        Ok(Self {
            shape,
            channels: c,
            variables,
        })
    }

    pub(super) fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    fn get(&self, name: &str) -> &Tensor {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map_or_else(
            || unreachable!("`{name}` was made"),
            |(_, variable)| variable.as_tensor(),
        )
    }

    /// The images of latent vectors; differentiable in these and in the weights.
    pub(super) fn forward(&self, latent: &Tensor) -> Result<Tensor> {
        let [_, height, width] = self.shape;
        let grown = linear(latent, self.get("linear.weight"), None)?;
        let start = (latent.dim(0)?, 2 * self.channels, height / 4, width / 4);
        let mut x = self.norm("norm0", &grown.reshape(start)?)?;
        for (conv, norm) in [("conv1", "norm1"), ("conv2", "norm2")] {
            x = self.conv(conv, &twice_the_sides(&x)?)?;
            x = self.norm(norm, &x)?;
            x = x.maximum(&(&x * SLOPE)?)?;
        }
        Ok(self.conv("conv3", &x)?.tanh()?)
    }

    fn conv(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"));
        Ok(conv2d_with(x, weight, None, 1, 1, Sums::Fastest)?)
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (gamma, beta) = (format!("{name}.gamma"), format!("{name}.beta"));
        Ok(batch_norm(x, self.get(&gamma), self.get(&beta), EPSILON)?.0)
    }
}

/// Each pixel of `[N, C, H, W]` as a square of four: `[N, C, 2 H, 2 W]`.
fn twice_the_sides(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let squares = x
        .reshape((n * c, h, 1, w, 1))?
        .broadcast_as((n * c, h, 2, w, 2))?;
    Ok(squares.reshape((n, c, 2 * h, 2 * w))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_becomes_a_square() -> Result<()> {
        let x = Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
        let rows: Vec<Vec<f32>> = twice_the_sides(&x)?.squeeze(0)?.squeeze(0)?.to_vec2()?;
        let (above, below) = ([1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]);
        assert_eq!(rows, [above, above, below, below]);
        Ok(())
    }

    /// Slopes of a weighted sum of the pixels along its gradient, in each weight and in the latent vectors.
    #[test]
    fn the_gradient_is_a_slope() -> Result<()> {
        let (config, device) = (small(), Device::Cpu);
        let network = Network::new(&config, [2, 8, 8], Seed::new(1), &device)?;
        let latent = Seed::new(2).normal(&[3, config.latent], 0.0, 1.0, &device)?;
        let latent = Var::from_tensor(&latent)?;
        let weights = Seed::new(3).normal(&[3, 2, 8, 8], 0.0, 1.0, &device)?;
        let loss = || -> Result<Tensor> { Ok((network.forward(&latent)? * &weights)?.sum_all()?) };
        let gradients = loss()?.backward()?;
        let mut all: Vec<&Var> = network.variables().iter().map(|(_, v)| v).collect();
        all.push(&latent);
        for (number, variable) in all.into_iter().enumerate() {
            let gradient = gradients.get(variable).expect("a gradient");
            let size = gradient.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
            let steepest = (gradient / f64::from(size))?;
            let at = variable.as_tensor().copy()?;
            // so short that few activations turn their corner on it
            let step = 5e-4;
            let mut ends = [0.0; 2];
            for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
                variable.set(&(&at + (&steepest * (sign * step))?)?)?;
                *end = loss()?.to_scalar::<f32>()?;
            }
            variable.set(&at)?;
            let slope = (ends[0] - ends[1]) / (2.0 * step as f32);
            assert!(
                (slope - size).abs() < 0.02 * size,
                "{number}: {slope} and {size}"
            );
        }
        Ok(())
    }

    #[test]
    fn images_lie_within_the_range_and_odd_sides_are_refused() -> Result<()> {
        let network = Network::new(&small(), [3, 8, 12], Seed::new(1), &Device::Cpu)?;
        let latent = Seed::new(2).normal(&[4, 5], 0.0, 1.0, &Device::Cpu)?;
        let images = network.forward(&latent)?;
        assert_eq!(images.dims(), [4, 3, 8, 12]);
        assert!(images.abs()?.max_all()?.to_scalar::<f32>()? <= 1.0);
        let refused = Network::new(&small(), [3, 8, 10], Seed::new(1), &Device::Cpu);
        assert!(refused.is_err_and(|error| error.to_string().contains("8x10")));
        Ok(())
    }

    fn small() -> GeneratorConfig {
        GeneratorConfig {
            latent: 5,
            channels: 4,
            ..GeneratorConfig::default()
        }
    }
}
