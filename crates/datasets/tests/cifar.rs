//! CIFAR records: layout, order, and every way a file can be bad.

use std::fs::{self, File};
use std::path::Path;

use candle_core::Tensor;
use datasets::cifar::{Layout, cifar10, cifar100, read_batch};
use datasets::{Error, Split};

const LAYOUTS: [(Layout, usize); 2] = [(Layout::Cifar10, 1), (Layout::Cifar100, 2)];

/// A record whose label bytes are all `label` and whose pixel p is `seed` + 7 p.
fn record(labels: usize, label: u8, seed: u8) -> Vec<u8> {
    let mut bytes = vec![label; labels];
    bytes.extend((0..3072).map(|p: usize| seed.wrapping_add((p * 7) as u8)));
    bytes
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn labels(split: &Split) -> Vec<u32> {
    split.labels.to_vec1().unwrap()
}

#[test]
fn records_keep_their_order_and_layout() {
    let dir = tempfile::tempdir().unwrap();
    for (layout, label_bytes) in LAYOUTS {
        let path = dir.path().join("batch.bin");
        let records = [record(label_bytes, 3, 0), record(label_bytes, 9, 100)];
        fs::write(&path, records.concat()).unwrap();
        let split = read_batch(&path, layout).unwrap();
        assert_eq!(split.images.dims(), [2, 3, 32, 32]);
        assert_eq!(labels(&split), [3, 9]);
        for (n, record) in records.iter().enumerate() {
            assert_eq!(bytes(&split.images.get(n).unwrap()), record[label_bytes..]);
        }
    }
}

#[test]
fn fine_label_is_the_second_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.bin");
    let mut content = record(2, 99, 0);
    content[0] = 19;
    fs::write(&path, &content).unwrap();
    assert_eq!(labels(&read_batch(&path, Layout::Cifar100).unwrap()), [99]);
}

/// The golden pictures were read from the official files pixel by pixel by tests/golden/make.py.
#[test]
fn golden_pictures() {
    let dir = tempfile::tempdir().unwrap();
    for ((layout, label_bytes), name) in LAYOUTS.into_iter().zip(["cifar10.bin", "cifar100.bin"]) {
        let golden = fs::read(Path::new("tests/golden").join(name)).unwrap();
        let path = dir.path().join(name);
        fs::write(&path, [&vec![1; label_bytes][..], &golden].concat()).unwrap();
        assert_eq!(bytes(&read_batch(&path, layout).unwrap().images), golden);
    }
}

#[test]
fn label_out_of_range_names_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.bin");
    for ((layout, label_bytes), bad) in LAYOUTS.into_iter().zip([10, 100]) {
        let good = record(label_bytes, 0, 0);
        fs::write(
            &path,
            [good.clone(), good, record(label_bytes, bad, 0)].concat(),
        )
        .unwrap();
        let error = read_batch(&path, layout).unwrap_err();
        assert!(
            matches!(error, Error::Label { record: 2, label, .. } if label == u32::from(bad)),
            "{error}"
        );
    }
}

#[test]
fn partial_records_and_empty_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.bin");
    for (layout, label_bytes) in LAYOUTS {
        let whole = record(label_bytes, 0, 0);
        for content in [&whole[..whole.len() - 1], &[]] {
            fs::write(&path, content).unwrap();
            let error = read_batch(&path, layout).unwrap_err();
            let actual = content.len() as u64;
            assert!(matches!(error, Error::Records { actual: a, .. } if a == actual));
        }
    }
}

#[test]
fn missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = cifar10(dir.path()).unwrap_err().to_string();
    let path = dir.path().join("data_batch_1.bin");
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains("cargo xtask fetch cifar10"), "{message}");
    let message = cifar100(dir.path()).unwrap_err().to_string();
    assert!(message.contains("cargo xtask fetch cifar100"), "{message}");
}

#[test]
fn truncated_file_gives_both_sizes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data_batch_1.bin"), record(1, 0, 0)).unwrap();
    let error = cifar10(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Size {
                expected: 30_730_000,
                actual: 3_073,
                ..
            }
        ),
        "{error}"
    );
    fs::write(dir.path().join("train.bin"), record(2, 0, 0)).unwrap();
    let error = cifar100(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Size {
                expected: 153_700_000,
                actual: 3_074,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn right_size_with_other_bytes_is_corrupted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data_batch_1.bin");
    File::create(&path).unwrap().set_len(30_730_000).unwrap();
    let error = cifar10(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Checksum { path: named, .. } if *named == path),
        "{error}"
    );
}

#[test]
fn folder_in_the_place_of_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data_batch_1.bin")).unwrap();
    assert!(matches!(cifar10(dir.path()), Err(Error::Io { .. })));
}
