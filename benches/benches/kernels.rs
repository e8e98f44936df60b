//! The kernels alone: neuron scan, convolution, Poisson coder. Sizes are in the ids.

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use private_snn_benches::{images, normal};
use snn_core::encode;
use snn_core::neuron::{self, NeuronSettings};
use snn_core::ops::conv2d::conv2d;
use snn_core::rng::Seed;

fn neuron_scan(c: &mut Criterion) {
    let shape = [16, 32, 128, 16, 16];
    let currents = normal(&shape, "currents");
    let threshold = Tensor::new(&[1f32], &Device::Cpu).expect("one number");
    let membrane = normal(&shape[1..], "membrane").zeros_like().expect("zeros");
    let mut group = c.benchmark_group("neuron/T16xN32xC128x16x16");
    group.sample_size(10);
    group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
    for (name, leak) in [("if", 1.0), ("lif", 0.5)] {
        let settings = NeuronSettings {
            leak,
            ..NeuronSettings::default()
        };
        group.bench_function(format!("{name}/forward"), |b| {
            b.iter(|| neuron::scan(&currents, &threshold, &membrane, &settings).expect("scan"));
        });
        let variable = Var::from_tensor(&currents).expect("variable");
        group.bench_function(format!("{name}/forward+backward"), |b| {
            b.iter(|| {
                let scan = neuron::scan(variable.as_tensor(), &threshold, &membrane, &settings)
                    .expect("scan");
                scan.spikes.backward().expect("gradient")
            });
        });
    }
    group.finish();
}

fn convolution(c: &mut Criterion) {
    for (n, channels, side) in [(16, 64, 32), (16, 128, 16), (16, 256, 8), (16, 512, 4)] {
        let x = Var::from_tensor(&normal(&[n, channels, side, side], "x")).expect("variable");
        let weight =
            Var::from_tensor(&normal(&[channels, channels, 3, 3], "weight")).expect("variable");
        let macs = n * channels * channels * 9 * side * side;
        let mut group = c.benchmark_group(format!("conv2d/N{n}xC{channels}x{side}x{side}-k3"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(macs as u64));
        group.bench_function("forward", |b| {
            b.iter(|| {
                conv2d(
                    &x.as_detached_tensor(),
                    &weight.as_detached_tensor(),
                    None,
                    1,
                    1,
                )
                .expect("conv2d")
            });
        });
        group.bench_function("forward+backward", |b| {
            b.iter(|| {
                let y = conv2d(x.as_tensor(), weight.as_tensor(), None, 1, 1).expect("conv2d");
                y.backward().expect("gradient")
            });
        });
        group.finish();
    }
}

fn poisson(c: &mut Criterion) {
    let n = 64;
    let images = images(n);
    let ids: Vec<u64> = (0..n as u64).collect();
    let mut group = c.benchmark_group("encoder");
    group.throughput(Throughput::Elements((16 * n * 3 * 32 * 32) as u64));
    group.bench_function("poisson/T16xN64xC3x32x32", |b| {
        b.iter(|| encode::poisson(&images, &ids, 0, 16, Seed::new(3)).expect("spikes"));
    });
    group.finish();
}

criterion_group!(benches, neuron_scan, convolution, poisson);
criterion_main!(benches);
