//! The metrics against goldens (`golden/metrics.py`), hand-made cases and bad input.

mod common;

use ann::Ann;
use attack_eval::metrics::{Features, Gauge, Windows, frechet_distance, judge, nearest, ssim};
use attack_eval::report::leakage;
use attack_eval::{Reconstruction, Scorer};
use candle_core::{Device, Tensor};
use common::{Outcome, network, per_layer};
use serde_json::Value;
use snn_core::rng::Seed;
use snn_core::{Layer, Parameters, Topology};

fn golden() -> Outcome<Value> {
    Ok(serde_json::from_str(include_str!("golden/metrics.json"))?)
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

fn features(rows: &[f32], dimension: usize) -> Outcome<Features> {
    let rows = Tensor::from_vec(
        rows.to_vec(),
        (rows.len() / dimension, dimension),
        &Device::Cpu,
    )?;
    Ok(Features::from_tensor(&rows)?)
}

#[test]
fn frechet_distance_matches_scipy() -> Outcome<()> {
    for case in golden()?["frechet"].as_array().expect("cases") {
        let dimension = case["a"][0].as_array().expect("a row").len();
        let set = |name: &str| features(&numbers(&case[name]), dimension);
        let (a, b) = (set("a")?, set("b")?);
        let expected = case["distance"].as_f64().expect("a number");
        for got in [frechet_distance(&a, &b)?, frechet_distance(&b, &a)?] {
            assert!(
                (got - expected).abs() < 1e-5 * expected,
                "{got} for {expected}"
            );
        }
        assert!(frechet_distance(&a, &a)? < 1e-5 * expected);
    }
    Ok(())
}

/// On one line the distance is `(difference of means)^2 + (difference of deviations)^2`.
#[test]
fn frechet_distance_on_a_line() -> Outcome<()> {
    let got = frechet_distance(
        &features(&[1.0, 3.0, 5.0], 1)?,
        &features(&[0.0, 1.0, 2.0, -1.0, -2.0], 1)?,
    )?;
    let expected = 9.0 + (2.0 - 2.5f64.sqrt()).powi(2);
    assert!((got - expected).abs() < 1e-9, "{got} for {expected}");
    Ok(())
}

#[test]
fn frechet_distance_refuses() -> Outcome<()> {
    let (two, one, wide) = (
        features(&[0.0, 1.0], 1)?,
        features(&[1.0], 1)?,
        features(&[1.0, 2.0, 3.0, 4.0], 2)?,
    );
    assert!(frechet_distance(&two, &one).is_err());
    assert!(frechet_distance(&one, &two).is_err());
    assert!(frechet_distance(&two, &wide).is_err());
    assert!(features(&[1.0, f32::NAN], 1).is_err());
    assert!(
        Features::from_tensor(&Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?).is_err()
    );
    assert!(two.select(&[]).is_err() && two.select(&[2]).is_err());
    Ok(())
}

#[test]
fn ssim_matches_scipy() -> Outcome<()> {
    let pair = &golden()?["ssim"];
    let image = |name: &str| Tensor::from_vec(numbers(&pair[name]), (1, 2, 12, 14), &Device::Cpu);
    let (a, b) = (image("a")?, image("b")?);
    let expected = pair["ssim"].as_f64().expect("a number");
    let both = ssim(&Tensor::cat(&[&a, &a], 0)?, &Tensor::cat(&[&b, &a], 0)?)?;
    assert!(
        (both[0] - expected).abs() < 1e-6,
        "{} for {expected}",
        both[0]
    );
    assert!((both[1] - 1.0).abs() < 1e-12);
    assert!(ssim(&a, &a.narrow(3, 0, 12)?.contiguous()?).is_err());
    assert!(
        ssim(
            &a.narrow(3, 0, 10)?.contiguous()?,
            &b.narrow(3, 0, 10)?.contiguous()?
        )
        .is_err()
    );
    Ok(())
}

#[test]
fn nearest_image_of_the_class() -> Outcome<()> {
    let real = features(&[0.0, 0.0, 3.0, 4.0, 1.0, 0.0, 10.0, 0.0], 2)?;
    let made = features(&[0.9, 0.0, 0.0, 0.0, 3.0, 0.0], 2)?;
    let found = nearest(&made, &[0, 1, 1], &real, &[0, 1, 1, 0])?;
    assert_eq!(found.indices, [0, 2, 2]);
    for (got, expected) in found.distances.iter().zip([0.9, 1.0, 2.0]) {
        assert!((got - expected).abs() < 1e-6);
    }
    assert!((found.mean - 1.3).abs() < 1e-6 && (found.median - 1.0).abs() < 1e-6);
    assert!(nearest(&made, &[0, 1, 2], &real, &[0, 1, 1, 0]).is_err());
    assert!(nearest(&made, &[0, 1], &real, &[0, 1, 1, 0]).is_err());
    assert!(nearest(&features(&[1.0], 1)?, &[0], &real, &[0, 1, 1, 0]).is_err());
    Ok(())
}

#[test]
fn likeness_is_how_much_the_nearest_stands_out() -> Outcome<()> {
    let training = features(&[1.0, 2.0, 3.0, 3.0, 2.0, 2.0], 3)?;
    let unseen = [features(&[1.0, 3.0, 2.0, 0.0, 0.0, 1.0], 3)?];
    // brighter and of more contrast, reversed, flat
    let made = features(&[11.0, 31.0, 51.0, 5.0, 3.0, 1.0, 7.0, 7.0, 7.0], 3)?;
    let gauge = Gauge::new(&training, &unseen)?;
    let found = gauge.measure(std::slice::from_ref(&made))?;
    let high = 0.75f64.sqrt();
    // of the correlations with the two rows, of the nearer and of the other
    let likeness = |first: f64, second: f64| 1.0 - (1.0 - first) / (1.0 - second);
    let (lower, upper) = (likeness(0.5, -high), likeness(high, -0.5));
    for (got, expected) in [
        (found.largest, 1.0),
        (found.median, likeness(high, -1.0)),
        (found.limit, upper),
        (found.median_unseen, (lower + upper) / 2.0),
        (found.beyond, 2.0 / 3.0),
    ] {
        assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
    }
    assert_eq!(
        (found.samples, found.unseen_samples, found.training_samples),
        (3, 2, 2)
    );
    // the best view counts: the flat one's is a copy
    let other = features(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 2.0, 2.0], 3)?;
    let best = gauge.measure(&[made.clone(), other])?;
    assert!((best.median - 1.0).abs() < 1e-6 && (best.beyond - 2.0 / 3.0).abs() < 1e-6);
    // all training images alike: none stands out
    let alike = features(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 3)?;
    let of_alike = Gauge::new(&alike, &unseen)?.measure(std::slice::from_ref(&made))?;
    assert_eq!((of_alike.largest, of_alike.beyond), (0.0, 0.0));
    assert!(Gauge::new(&features(&[1.0, 2.0, 3.0], 3)?, &unseen).is_err());
    let parts = [
        features(&[1.0, 2.0, 3.0], 3)?,
        features(&[3.0, 2.0, 2.0], 3)?,
    ];
    let whole = Gauge::new(&Features::concat(&parts)?, &unseen)?;
    assert_eq!(whole.measure(std::slice::from_ref(&made))?, found);
    assert!(Features::concat(&[]).is_err());
    let wider = features(&[1.0, 2.0], 2)?;
    assert!(Features::concat(&[made.clone(), wider.clone()]).is_err());
    for views in [vec![], vec![wider.clone()], vec![made, parts[0].clone()]] {
        assert!(gauge.measure(&views).is_err(), "{views:?}");
    }
    assert!(Gauge::new(&wider, &unseen).is_err());
    Ok(())
}

#[test]
fn altered_copies_are_more_like_the_training_images_than_unseen_ones() -> Outcome<()> {
    let images = |count: usize, name: &str| {
        let seed = Seed::new(1).derive(name);
        seed.uniform(&[count, 3, 8, 8], -1.0, 1.0, &Device::Cpu)
    };
    let training = images(40, "training")?;
    let windows = Windows::new(2, 1)?;
    let of = |images: &Tensor| Features::pixels(images, 2);
    let views = |images: &Tensor| windows.all(images, of);
    let middles = of(&windows.middle(&training)?)?;
    assert_eq!(middles.dimension(), 3 * 2 * 2);
    let unseen = views(&images(40, "unseen")?)?;
    assert_eq!(unseen.len(), 2 * 5 * 5);
    let gauge = Gauge::new(&middles, &unseen)?;
    // as a thief would hide them: paler, mirrored, one pixel down and two to the right
    let pale = ((&training * 0.4)? + 0.3)?.flip(&[3])?;
    let (noise, black) = (
        images(40, "border")?,
        Tensor::full(-1f32, (40, 3, 8, 2), &Device::Cpu)?,
    );
    let moved = Tensor::cat(&[&noise.narrow(2, 0, 1)?, &pale.narrow(2, 0, 7)?], 2)?;
    let moved = Tensor::cat(&[&black, &moved.narrow(3, 0, 6)?], 3)?;
    for copies in [&pale, &moved] {
        let copied = gauge.measure(&views(copies)?)?;
        assert_eq!(copied.beyond, 1.0);
        assert!(copied.median > 0.999999 && copied.limit < 0.99);
    }
    // which a comparison in place does not see
    let plain = Gauge::new(&of(&training)?, &[of(&images(40, "unseen")?)?])?;
    assert!(plain.measure(&[of(&moved)?])?.beyond < 0.5);
    let fresh = gauge.measure(&views(&images(40, "fresh")?)?)?;
    assert!(fresh.beyond < 0.25, "{}", fresh.beyond);
    for side in [0, 9] {
        assert!(Features::pixels(&training, side).is_err());
    }
    assert!(Windows::new(2, 0).is_err());
    assert!(Windows::new(4, 1)?.middle(&training).is_err());
    assert_eq!(Windows::new(0, 1)?.all(&training, of)?.len(), 2);
    Ok(())
}

/// A judge whose score of class k is pixel k.
fn pixel_judge(classes: usize) -> Outcome<Ann> {
    let layers = vec![
        Layer::Flatten,
        Layer::Linear {
            in_features: 8,
            out_features: classes,
            bias: false,
        },
    ];
    let topology = Topology::new("pixels", [1, 2, 4], layers)?;
    let weight: Vec<f32> = (0..classes * 8)
        .map(|i| f32::from(i / 8 == i % 8))
        .collect();
    let weight = Tensor::from_vec(weight, (classes, 8), &Device::Cpu)?;
    let parameters = Parameters::new(&topology, [("1.weight".to_string(), weight)].into())?;
    Ok(Ann::new(topology, parameters))
}

#[test]
fn the_judge_counts_ranks() -> Outcome<()> {
    let judge_of_seven = pixel_judge(7)?;
    let falling = [0.7f32, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];
    let images = Tensor::from_vec([falling; 4].concat(), (4, 1, 2, 4), &Device::Cpu)?;
    let classes = Tensor::new(&[0u32, 4, 5, 0], &Device::Cpu)?;
    for batch in [1, 3, 100] {
        let judged = judge(&judge_of_seven, &images, &classes, batch)?;
        assert_eq!((judged.samples, judged.top1, judged.top5), (4, 0.5, 0.75));
        assert_eq!(judged.per_class_top1[0], Some(1.0));
        assert_eq!(
            (judged.per_class_top1[4], judged.per_class_top5[4]),
            (Some(0.0), Some(1.0))
        );
        assert_eq!(
            (judged.per_class_top1[1], judged.per_class_top5[5]),
            (None, Some(0.0))
        );
    }
    let equal = Tensor::zeros((1, 1, 2, 4), candle_core::DType::F32, &Device::Cpu)?;
    let judged = |class: u32| {
        judge(
            &judge_of_seven,
            &equal,
            &Tensor::new(&[class], &Device::Cpu)?,
            1,
        )
    };
    assert_eq!(
        (
            judged(0)?.top1,
            judged(1)?.top1,
            judged(4)?.top5,
            judged(5)?.top5
        ),
        (1.0, 0.0, 1.0, 0.0)
    );
    Ok(())
}

#[test]
fn the_judge_refuses() -> Outcome<()> {
    let judge_of_seven = pixel_judge(7)?;
    let images = Tensor::zeros((2, 1, 2, 4), candle_core::DType::F32, &Device::Cpu)?;
    let classes = |values: &[u32]| Tensor::new(values, &Device::Cpu);
    assert!(judge(&judge_of_seven, &images, &classes(&[0, 7])?, 1).is_err());
    assert!(judge(&judge_of_seven, &images, &classes(&[0])?, 1).is_err());
    assert!(judge(&judge_of_seven, &images, &classes(&[0, 1])?, 0).is_err());
    assert!(judge(&judge_of_seven, &(&images / 0.0)?, &classes(&[0, 1])?, 1).is_err());
    assert!(
        judge(
            &judge_of_seven,
            &images.reshape((2, 1, 4, 2))?,
            &classes(&[0, 1])?,
            1
        )
        .is_err()
    );
    Ok(())
}

/// Noise scores its own ceiling, real images their floor, and a copy of the real images no distance at all.
#[test]
fn the_scorer_orders_noise_and_real_images() -> Outcome<()> {
    let judge = network(true, Seed::new(4))?;
    // "real": a class-dependent flat colour and a little noise
    let n = 200usize;
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 4).collect();
    let noise: Vec<f32> = Seed::new(1)
        .normal(&[n * 192], 0.0, 0.05, &Device::Cpu)?
        .to_vec1()?;
    let real = |offset: usize| -> Outcome<Tensor> {
        let pixel =
            |i: usize| 0.4 * ((i / 192) % 4) as f32 - 0.6 + noise[(i + offset) % noise.len()];
        Ok(Tensor::from_vec(
            (0..n * 192).map(pixel).collect::<Vec<_>>(),
            (n, 3, 8, 8),
            &Device::Cpu,
        )?)
    };
    let scorer = Scorer::new(
        &judge,
        &real(0)?,
        &Tensor::new(labels, &Device::Cpu)?,
        64,
        Seed::new(3),
    )?;
    let made = |images: Tensor| -> Outcome<_> {
        let images = images.narrow(0, 0, 60)?;
        let classes = Tensor::new((0..60).map(|i| i % 4).collect::<Vec<u32>>(), &Device::Cpu)?;
        let made = Reconstruction {
            images,
            classes,
            confidence: vec![0.5; 60],
            guided: (0..60).map(|i| i % 3).collect(),
            iterations: 3,
        };
        Ok(scorer.score("A1", "source", &made)?)
    };
    let fresh = made(real(500)?)?;
    let noisy = made(Seed::new(9).uniform(&[n, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?)?;
    let copied = made(real(0)?)?;
    assert!(
        fresh.fid < 3.0 * fresh.fid_floor && fresh.fid < 0.1 * fresh.fid_ceiling,
        "{fresh:?}"
    );
    assert!(
        (noisy.fid / noisy.fid_ceiling - 1.0).abs() < 0.3,
        "{noisy:?}"
    );
    assert_eq!(
        (
            fresh.fid_samples,
            fresh.fid_floor_samples,
            fresh.fid_reference_samples
        ),
        (60, 60, 140)
    );
    assert_eq!(
        (fresh.fid_floor, fresh.fid_ceiling),
        (noisy.fid_floor, noisy.fid_ceiling)
    );
    assert_eq!(copied.nearest_distance, 0.0);
    assert_eq!(copied.nearest_indices, (0..60).collect::<Vec<_>>());
    let real_distance = fresh.nearest_distance_real.unwrap();
    assert!(
        (fresh.nearest_distance / real_distance - 1.0).abs() < 0.3,
        "{fresh:?}"
    );
    // guided in none or in one of three iterations
    assert_eq!(fresh.without_gradient, 40);
    assert!(noisy.nearest_distance > 2.0 * fresh.nearest_distance);
    assert_eq!(
        (
            fresh.nearest_ssim,
            fresh.target_confidence,
            fresh.per_class_top1.iter().flatten().count()
        ),
        (None, 0.5, 4)
    );
    // by value: a number that goes through text may come back off by a rounding
    let value = serde_json::to_value(&fresh)?;
    assert_eq!(
        serde_json::from_value::<attack_eval::AttackOutcome>(value)?,
        fresh
    );

    let single = Reconstruction {
        images: real(0)?.narrow(0, 0, 1)?,
        classes: Tensor::new(&[0u32], &Device::Cpu)?,
        confidence: vec![1.0],
        guided: vec![1],
        iterations: 1,
    };
    assert!(scorer.score("A1", "source", &single).is_err());
    let mut unequal = single.clone();
    unequal.images = real(0)?.narrow(0, 0, 2)?;
    unequal.classes = Tensor::new(&[0u32, 0], &Device::Cpu)?;
    assert!(scorer.score("A1", "source", &unequal).is_err());
    unequal.confidence.push(1.0);
    unequal.guided.push(1);
    let of_one_class = scorer.score("A1", "source", &unequal)?;
    assert!(of_one_class.per_class_top1[0].is_some());
    assert_eq!(of_one_class.per_class_top1[1..], [None; 3]);
    let few = Tensor::new(&[0u32, 1, 2], &Device::Cpu)?;
    assert!(Scorer::new(&judge, &real(0)?.narrow(0, 0, 3)?, &few, 64, Seed::new(3)).is_err());
    Ok(())
}

#[test]
fn leakage_reports_accuracy_and_change() -> Outcome<()> {
    let source = network(true, Seed::new(4))?;
    let images = Seed::new(1).uniform(&[20, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?;
    let logits: Vec<Vec<f32>> = source.forward(&images, ann::Mode::Inference)?.to_vec2()?;
    let labels: Vec<u32> = logits
        .iter()
        .map(|row| ann::loss::argmax(row).expect("finite") as u32)
        .collect();
    let labels = Tensor::new(labels, &Device::Cpu)?;
    // thresholds that clip nothing
    let own = per_layer(&source, &[1e3, 1e3, 1e3])?;
    let own = leakage("own", &source, &own, &images, &labels, 8)?;
    assert_eq!(own.relu_reading_accuracy, 1.0);
    assert!(own.rate_reading_accuracy >= 0.9);
    // and thresholds that clip all but a little
    let clipped = per_layer(&source, &[1e-3, 1e-3, 1e-3])?;
    let clipped = leakage("clipped", &source, &clipped, &images, &labels, 8)?;
    assert_eq!(clipped.relu_reading_accuracy, 1.0);
    assert!(clipped.rate_reading_accuracy < 1.0);
    assert!(
        own.weight_change_by_layer
            .iter()
            .all(|change| change.relative == 0.0)
    );
    let other = leakage(
        "other",
        &source,
        &per_layer(&network(true, Seed::new(5))?, &[1e3, 1e3, 1e3])?,
        &images,
        &labels,
        8,
    )?;
    assert!(other.relu_reading_accuracy < 1.0 && other.weight_change_by_layer[0].relative > 0.5);
    Ok(())
}
