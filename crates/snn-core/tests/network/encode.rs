use candle_core::{Device, Tensor, Var};
use snn_core::encode::{poisson, poisson_straight_through};
use snn_core::ops::time;
use snn_core::rng::{Seed, unit};
use testkit::{Tolerance, assert_close, assert_thread_independent, devices};

use crate::{bytes, images};

const SEED: u64 = 11;

#[test]
fn rates_and_signs() {
    const T: usize = 4000;
    let pixels = [-1.0f32, -0.75, -0.01, 0.0, 0.2, 0.5, 0.999, 1.0];
    let image = Tensor::new(&pixels, &Device::Cpu)
        .and_then(|x| x.reshape((1, 1, 2, 4)))
        .expect("an image");
    let spikes = poisson(&image, &[7], 0, T, Seed::new(SEED)).expect("spikes");
    let rates = spikes.mean(0).expect("a mean over time");
    for (i, &pixel) in pixels.iter().enumerate() {
        let here = |x: &Tensor| x.flatten_all().and_then(|x| x.get(i)).expect("a pixel");
        let p = f64::from(pixel.abs());
        let tolerance = Tolerance::Statistical {
            n: T,
            sigma: (p * (1.0 - p)).sqrt(),
        };
        assert_close(
            &here(&rates),
            &here(&image),
            tolerance,
            &format!("rate of {pixel}"),
        );
    }
    let values: Vec<f32> = spikes
        .flatten_all()
        .and_then(|s| s.to_vec1())
        .expect("numbers");
    for (i, spike) in values.into_iter().enumerate() {
        assert!(
            spike == 0.0 || spike == pixels[i % 8].signum(),
            "{spike} at pixel {}",
            pixels[i % 8]
        );
    }
}

#[test]
fn steps_are_independent() {
    const T: usize = 4000;
    let image = Tensor::full(0.5f32, (1, 1, 1, 2), &Device::Cpu).expect("an image");
    let spikes = poisson(&image, &[7], 0, T, Seed::new(SEED)).expect("spikes");
    let spikes: Vec<f32> = spikes
        .flatten_all()
        .and_then(|s| s.to_vec1())
        .expect("numbers");
    // products of a pixel with itself one step on, and with its neighbour: means of 0.25
    let pairs = |shift: usize, stride: usize| {
        let products = (0..spikes.len() - shift)
            .step_by(stride)
            .map(|i| f64::from(spikes[i] * spikes[i + shift]));
        let n = products.len();
        (products.sum::<f64>() / n as f64, n)
    };
    for (shift, stride) in [(2, 2), (1, 2)] {
        let (mean, n) = pairs(shift, stride);
        let bound = Tolerance::Statistical {
            n,
            sigma: 0.1875f64.sqrt(),
        }
        .bound(0.0);
        assert!((mean - 0.25).abs() < bound, "shift {shift}: {mean}");
    }
}

#[test]
fn a_sample_does_not_see_batch_chunk_or_thread() {
    let images = images(5);
    let ids = [3, 1 << 40, 5, 0, 9];
    let seed = Seed::new(SEED);
    let draw = |n: usize, count: usize, first: usize, steps: usize| {
        let part = images.narrow(0, n, count).expect("a part");
        poisson(&part, &ids[n..][..count], first, steps, seed).expect("spikes")
    };
    let whole = Tensor::from_vec(
        assert_thread_independent("poisson", || {
            let spikes = draw(0, 5, 0, 9);
            bytes(&spikes)
        }),
        (9, 5, 3 * 8 * 8),
        &Device::Cpu,
    )
    .expect("bits");
    for (n, count, first, steps) in [(0, 1, 0, 9), (3, 2, 0, 9), (0, 5, 4, 5), (2, 1, 8, 1)] {
        let part = whole
            .narrow(0, first, steps)
            .and_then(|w| w.narrow(1, n, count))
            .expect("a part");
        let part: Vec<u32> = part.flatten_all().and_then(|p| p.to_vec1()).expect("bits");
        assert_eq!(
            bytes(&draw(n, count, first, steps)),
            part,
            "{count} from {n}, {steps} steps from {first}"
        );
    }
    let other = poisson(&images, &ids, 0, 9, Seed::new(SEED + 1)).expect("spikes");
    assert_ne!(bytes(&other), bytes(&draw(0, 5, 0, 9)));
}

#[test]
fn the_gradient_passes_straight_through() {
    let seed = Seed::new(SEED);
    let plain = poisson(&images(2), &[1, 2], 3, 4, seed).expect("spikes");
    let weights = Seed::new(1)
        .normal(&[4, 2, 3, 8, 8], 0.0, 1.0, &Device::Cpu)
        .expect("weights");
    let sum = weights.sum(0).expect("a sum over time");
    for device in devices() {
        let images = images(2).to_device(&device).expect("moved");
        let images = Var::from_tensor(&images).expect("a variable");
        let spikes = poisson_straight_through(&images, &[1, 2], 3, 4, seed).expect("spikes");
        assert_close(&spikes, &plain, Tolerance::Exact, "forward");
        let quiet = poisson(&images.detach(), &[1, 2], 3, 4, seed).expect("spikes");
        assert_close(&quiet, &plain, Tolerance::Exact, "without a graph");
        let gradients = (weights.to_device(&device))
            .and_then(|weights| (spikes * weights)?.sum_all()?.backward())
            .expect("backward");
        assert_close(
            gradients.get(&images).expect("a gradient"),
            &sum,
            Tolerance::Rounding(8.0),
            "backward",
        );
    }
}

/// The definition, pixel by pixel.
fn by_definition(pixels: &[f32], ids: &[u64], first: usize, steps: usize, seed: Seed) -> Vec<f32> {
    let per_sample = pixels.len() / ids.len();
    let mut spikes = Vec::new();
    for t in first..first + steps {
        for (i, x) in pixels.iter().enumerate() {
            let (id, pixel) = (ids[i / per_sample], i % per_sample);
            let counter = [(pixel / 4) as u32, t as u32, id as u32, (id >> 32) as u32];
            let u = unit(seed.words(counter)[pixel % 4]);
            let fires = *x != 0.0 && u <= x.abs();
            spikes.push(if fires { x.signum() } else { 0.0 });
        }
    }
    spikes
}

#[test]
fn every_device_draws_the_same_bits() {
    let seed = Seed::new(SEED).derive("bits");
    for ([n, c, h, w], first, steps) in [
        ([5, 3, 8, 8], 0, 9),
        ([3, 1, 1, 1], 4, 7),
        ([2, 1, 3, 11], 1 << 20, 1),
        ([3, 1, 1, 127], 2, 33),
        ([1, 3, 43, 3], 0, 2),
    ] {
        let what = format!("[{n}, {c}, {h}, {w}], {steps} steps from {first}");
        let mut pixels = vec![0.0, 1.0, -1.0, -0.0];
        pixels.extend((4..n * c * h * w).map(|i| ((i * 37) % 201) as f32 / 100.0 - 1.0));
        pixels.truncate(n * c * h * w);
        let ids: Vec<u64> = (0..n as u64).map(|i| i << 33 | (7 * i + 1)).collect();
        let expected = by_definition(&pixels, &ids, first, steps, seed);
        let expected =
            Tensor::from_vec(expected, (steps, n, c, h, w), &Device::Cpu).expect("as many spikes");
        for device in devices() {
            let images = Tensor::from_slice(&pixels, (n, c, h, w), &device).expect("images");
            // the same numbers, every second one of a longer tensor
            let views = Tensor::stack(&[&images, &images], 4)
                .and_then(|x| x.narrow(4, 1, 1)?.squeeze(4))
                .expect("a view");
            for images in [images, views] {
                let spikes = poisson(&images, &ids, first, steps, seed).expect("spikes");
                assert_eq!(bytes(&spikes), bytes(&expected), "{what} on {device:?}");
                let through = poisson_straight_through(&images, &ids, first, steps, seed);
                let through = through.expect("spikes");
                assert_eq!(bytes(&through), bytes(&expected), "{what} on {device:?}");
            }
        }
    }
}

#[test]
fn bad_batches_are_errors() {
    let images = images(2);
    for (ids, steps) in [(&[1u64][..], 3), (&[1, 2], 0), (&[], 3)] {
        let message = poisson(&images, ids, 0, steps, Seed::new(1))
            .expect_err("a misfit")
            .to_string();
        assert!(message.contains("poisson"), "{message}");
    }
}

#[test]
fn time_equals_the_reference() {
    for len in [1, 31, 129, 40_000] {
        let x = Seed::new(2)
            .normal(&[5, len], 0.0, 1.0, &Device::Cpu)
            .expect("numbers");
        let events = time::events(&x).expect("events");
        assert_close(
            &events,
            &time::reference::events(&x).expect("events"),
            Tolerance::Rounding(8.0),
            "events",
        );
        let one = Var::from_tensor(&x.narrow(0, 2, 1).expect("a step")).expect("a variable");
        let held = time::hold(&one, 5).expect("held");
        assert_close(
            &held,
            &time::reference::hold(&one, 5).expect("held"),
            Tolerance::Exact,
            "held",
        );
        let gradients = (held * &x)
            .and_then(|y| y.sum_all()?.backward())
            .expect("backward");
        let sum = x.sum_keepdim(0).expect("a sum");
        assert_close(
            gradients.get(&one).expect("a gradient"),
            &sum,
            Tolerance::Rounding(8.0),
            "gradient",
        );
    }
    let x = images(3);
    assert!(time::hold(&x, 5).is_err() && time::hold(&x, 0).is_err());
    assert_close(
        &time::hold(&x, 3).expect("as it is"),
        &x,
        Tolerance::Exact,
        "as it is",
    );
}
