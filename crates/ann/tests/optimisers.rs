//! Ten steps of each optimiser against PyTorch's; see `golden/optim.py`.

use std::collections::HashMap;

use ann::{Optimiser, OptimiserConfig};
use candle_core::{Device, Tensor, Var};

fn adam(
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    amsgrad: bool,
) -> OptimiserConfig {
    OptimiserConfig::Adam {
        beta1: betas.0,
        beta2: betas.1,
        epsilon,
        weight_decay,
        decoupled,
        amsgrad,
    }
}

fn sgd(momentum: f64, weight_decay: f64, nesterov: bool) -> OptimiserConfig {
    OptimiserConfig::Sgd {
        momentum,
        weight_decay,
        nesterov,
    }
}

/// Largest difference of weights and biases from PyTorch's over ten steps on `device`.
fn error(
    golden: &HashMap<String, Tensor>,
    name: &str,
    config: OptimiserConfig,
    rate: f64,
    device: &Device,
) -> candle_core::Result<f32> {
    let first = |name: &str| golden[name].copy()?.to_device(device);
    let (x, y) = (first("x")?, first("y")?);
    let (w, b) = (
        Var::from_tensor(&first("w")?)?,
        Var::from_tensor(&first("b")?)?,
    );
    let variables = vec![("w".to_string(), w.clone()), ("b".to_string(), b.clone())];
    let mut optimiser = Optimiser::new(config, variables).expect("constants in their domain");
    let mut worst = 0f32;
    for theirs in golden[&format!("{name}.trace")].to_vec2::<f32>()? {
        let residual = (x.matmul(&w.t()?)?.broadcast_add(b.as_tensor())? - &y)?;
        let gradients = residual.sqr()?.mean_all()?.backward()?;
        optimiser.step(&gradients, rate).expect("a step");
        let ours = [w.flatten_all()?.to_vec1::<f32>()?, b.to_vec1::<f32>()?].concat();
        assert_eq!(ours.len(), theirs.len());
        worst = ours
            .iter()
            .zip(theirs)
            .fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
    }
    Ok(worst)
}

#[test]
fn ten_steps_follow_pytorch() -> candle_core::Result<()> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/optim.safetensors"
    );
    let golden = candle_core::safetensors::load(path, &Device::Cpu)?;
    let usual = (0.9, 0.999);
    let cases = [
        ("sgd", sgd(0.0, 0.0, false), 0.05),
        ("sgd_momentum", sgd(0.9, 0.1, false), 0.05),
        ("sgd_nesterov", sgd(0.9, 0.1, true), 0.05),
        ("adam", OptimiserConfig::adam(), 0.05),
        ("adam_l2", adam((0.8, 0.95), 1e-6, 0.1, false, false), 0.05),
        (
            "adam_amsgrad",
            adam((0.8, 0.5), 1e-8, 0.0, false, true),
            0.3,
        ),
        ("adamw", adam(usual, 1e-8, 0.1, true, false), 0.05),
        (
            "adamw_amsgrad",
            adam((0.8, 0.5), 1e-8, 0.1, true, true),
            0.3,
        ),
    ];
    for (name, config, rate) in cases {
        for device in testkit::devices() {
            let error = error(&golden, name, config, rate, &device)?;
            assert!(error < 5e-6, "{name} on {device:?}: {error}");
        }
    }
    // the switches matter on this problem: with the wrong one the same comparison fails
    for (name, config, rate) in [
        (
            "adam_amsgrad",
            adam((0.8, 0.5), 1e-8, 0.0, false, false),
            0.3,
        ),
        ("adamw", adam(usual, 1e-8, 0.1, false, false), 0.05),
        ("sgd_nesterov", sgd(0.9, 0.1, false), 0.05),
    ] {
        let error = error(&golden, name, config, rate, &Device::Cpu)?;
        assert!(error > 1e-3, "{name} with another rule: {error}");
    }
    Ok(())
}
