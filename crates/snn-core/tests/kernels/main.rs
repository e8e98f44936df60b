//! Each kernel against its reference, against finite differences, against other people's code, and against itself on
//! other pools and batches.

mod batch_norm;
mod conv2d;
#[cfg(feature = "cuda")]
mod cuda;
mod elementwise;
mod golden;
mod linear;
mod neuron;
mod surrogate;
mod without_graph;

#[path = "../with/instructions.rs"]
mod instructions;

use candle_core::{Device, Tensor, Var};
use snn_core::rng::Seed;
use snn_core::{Error, Result};
use testkit::{Tolerance, assert_close, devices};

/// First by its name: it bounds the instructions where [`instructions`] asks for that.
#[test]
fn a_bound_comes_before_everything_else() {
    instructions::bound();
}

/// Sides, channels and batches around the widths of vector registers and blocks.
const AWKWARD: [usize; 7] = [1, 2, 31, 33, 127, 128, 129];

/// Normal numbers, a different set for every `seed`.
fn normal(seed: u64, shape: &[usize]) -> Tensor {
    Seed::new(seed)
        .normal(shape, 0.0, 1.0, &Device::Cpu)
        .expect("normal numbers")
}

/// The same numbers in a tensor that is not contiguous.
fn scattered(x: &Tensor) -> Tensor {
    let last = x.rank() - 1;
    let twice =
        Tensor::stack(&[x, &x.zeros_like().expect("zeros")], x.rank()).expect("a pair of each");
    let scattered = twice
        .narrow(last + 1, 0, 1)
        .and_then(|t| t.squeeze(last + 1));
    let scattered = scattered.expect("every second number");
    assert!(scattered.elem_count() < 2 || !scattered.is_contiguous());
    scattered
}

/// A scalar in which every number of `y` has another weight, so that its gradient tells all of them apart.
fn weighted(y: &Tensor) -> Result<Tensor> {
    let weights = normal(99, y.dims()).to_device(y.device())?;
    Ok((y * weights)?.sum_all()?)
}

fn bytes(x: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers");
    values.into_iter().map(f32::to_bits).collect()
}

/// Runs `fast` on every device there is and `slow` on the CPU, on the same inputs, all of them variables, and compares
/// results and gradients.
#[track_caller]
fn assert_twins(
    what: &str,
    inputs: &[Tensor],
    tolerance: Tolerance,
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let run = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>, device: &Device| {
        let variables: Vec<Var> = inputs
            .iter()
            .map(|input| Var::from_tensor(&input.to_device(device)?))
            .collect::<candle_core::Result<_>>()?;
        let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors)?;
        let gradients = weighted(&y)?.backward()?;
        let gradients: Vec<Tensor> = variables
            .iter()
            .map(|v| {
                gradients
                    .get(v)
                    .expect("a gradient for every input")
                    .clone()
            })
            .collect();
        Ok::<_, Error>((y, gradients))
    };
    let (slow, slow_gradients) = run(&slow, &Device::Cpu).expect("the reference");
    for device in devices() {
        let what = format!("{what} on {device:?}");
        let (fast, fast_gradients) = run(&fast, &device).expect("the fast path");
        assert_close(&fast, &slow, tolerance, &what);
        for (i, (fast, slow)) in fast_gradients.iter().zip(&slow_gradients).enumerate() {
            let what = format!("{what}: gradient of input {i}");
            assert_close(fast, slow, tolerance, &what);
        }
    }
}
