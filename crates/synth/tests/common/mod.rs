//! What the tests of synthesis and generator share.

use ann::{Ann, Depth, NetworkConfig, SyntheticSet};
use candle_core::{Device, Tensor};
use snn_core::rng::Seed;

const CLASSES: usize = 4;

pub fn network(batch_norm: bool) -> Ann {
    let config = NetworkConfig {
        width: 0.1,
        hidden: 48,
        hidden_dropout: 0.0,
        batch_norm,
        conv_dropout: 0.0,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    let topology = config.topology([3, 8, 8], CLASSES).expect("a valid plan");
    Ann::initialise(topology, Seed::new(5), &Device::Cpu).expect("a network")
}

pub fn assert_same(a: &SyntheticSet, b: &SyntheticSet, what: &str) {
    let floats = |t: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = t.flatten_all().and_then(|t| t.to_vec1()).expect("floats");
        values.into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(a.images.dims(), b.images.dims(), "{what}");
    assert_eq!(floats(&a.images), floats(&b.images), "{what}: images");
    assert_eq!(
        floats(&a.soft_targets),
        floats(&b.soft_targets),
        "{what}: targets"
    );
    assert_eq!(floats(&a.logits), floats(&b.logits), "{what}: logits");
    let classes = |s: &SyntheticSet| s.classes.to_vec1::<u32>().expect("classes");
    assert_eq!(classes(a), classes(b), "{what}: classes");
}
