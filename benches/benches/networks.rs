//! Whole networks: forward of the source network and of its spiking counterpart.

use ann::{Depth, Mode};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use private_snn_benches::{images, spiking, vgg};
use snn_core::encode::Encoder;
use snn_core::event::EventNetwork;
use snn_core::network::Batch;
use snn_core::rng::Seed;

fn forward(c: &mut Criterion) {
    let n = 16;
    let images = images(n);
    let ids: Vec<u64> = (0..n as u64).collect();
    let ann = vgg(Depth::Vgg9, 0.5);
    let mut group = c.benchmark_group("vgg9-width0.5/N16x3x32x32");
    group.sample_size(10);
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function("ann", |b| {
        b.iter(|| ann.forward(&images, Mode::Inference).expect("logits"))
    });
    for (name, encoder) in [("direct", Encoder::Direct), ("poisson", Encoder::Poisson)] {
        let network = spiking(&ann, encoder);
        let batch = Batch {
            images: &images,
            ids: &ids,
            seed: Seed::new(4),
        };
        group.bench_function(format!("snn-{name}/T16"), |b| {
            b.iter(|| network.run(batch, 16, 16).expect("run"))
        });
        let events = EventNetwork::new(&network).expect("a network on the CPU");
        group.bench_function(format!("snn-{name}-events/T16"), |b| {
            b.iter(|| events.run(batch, 16).expect("run"))
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
