//! A layer of leaky neurons learns the exclusive or of two rate-coded signs.
//!
//! `cargo run --release -p snn-core --example lif_toy`

use candle_core::{D, Device, Tensor, Var};
use snn_core::Result;
use snn_core::encode::poisson;
use snn_core::neuron::{NeuronSettings, scan};
use snn_core::ops::linear::linear;
use snn_core::rng::Seed;

const T: usize = 16;
const HIDDEN: usize = 32;
const BATCH: usize = 64;
const RATE: f64 = 0.05;

/// Points `[N, 3]` (two noisy signs and a constant) and whether the signs differ, as one-hot rows `[N, 2]`.
fn task(seed: Seed) -> Result<(Tensor, Tensor)> {
    let mut stream = seed.stream();
    let (mut points, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..BATCH {
        let signs = [stream.below(2), stream.below(2)];
        for sign in signs {
            points.push((2.0 * sign as f32 - 1.0) * (0.6 + 0.4 * stream.uniform()));
        }
        points.push(1.0);
        let differ = signs[0] != signs[1];
        targets.extend([f32::from(u8::from(!differ)), f32::from(u8::from(differ))]);
    }
    let points = Tensor::from_vec(points, (BATCH, 3), &Device::Cpu)?;
    Ok((points, Tensor::from_vec(targets, (BATCH, 2), &Device::Cpu)?))
}

fn main() -> Result<()> {
    let seed = Seed::new(1);
    let weights = |name: &str, shape: &[usize], deviation: f32| -> Result<Var> {
        let start = seed
            .derive(name)
            .normal(shape, 0.0, deviation, &Device::Cpu)?;
        Ok(Var::from_tensor(&start)?)
    };
    let hidden = weights("hidden", &[HIDDEN, 3], 0.5)?;
    let readout = weights("readout", &[2, HIDDEN], 0.3)?;
    let threshold = Tensor::new(&[1f32], &Device::Cpu)?;
    let settings = NeuronSettings {
        leak: 0.9,
        ..NeuronSettings::default()
    };
    let ids: Vec<u64> = (0..BATCH as u64).collect();

    for step in 0..=200 {
        let (points, targets) = task(seed.derive("task").index(step))?;
        let input = poisson(&points, &ids, 0, T, seed.derive("coder").index(step))?;

        let currents = linear(&input.flatten(0, 1)?, &hidden, None)?.reshape((T, BATCH, HIDDEN))?;
        let rest = currents.get(0)?.zeros_like()?;
        let spikes = scan(&currents, &threshold, &rest, &settings)?.spikes;
        let rates = spikes.mean(0)?;
        let scores = linear(&rates, &readout, None)?;

        let loss = (&scores - &targets)?.sqr()?.mean_all()?;
        let gradients = loss.backward()?;
        for weight in [&hidden, &readout] {
            if let Some(gradient) = gradients.get(weight) {
                weight.set(&(weight.as_tensor() - (gradient * RATE)?)?)?;
            }
        }
        if step % 25 == 0 {
            let right = scores.argmax(D::Minus1)?.eq(&targets.argmax(D::Minus1)?)?;
            let right = right.to_dtype(candle_core::DType::F32)?.mean_all()?;
            println!(
                "step {step:3}  loss {:.3}  right {:5.1} %  spikes per neuron and step {:.2}",
                loss.to_scalar::<f32>()?,
                100.0 * right.to_scalar::<f32>()?,
                rates.mean_all()?.to_scalar::<f32>()?,
            );
        }
    }
    Ok(())
}
