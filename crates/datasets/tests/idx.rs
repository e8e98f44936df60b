//! IDX files, plain and gzipped, and every way they can be bad.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::idx::{load, read_images, read_labels};
use datasets::{Error, Kind};
use flate2::{Compression, write::GzEncoder};

fn idx(extents: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    for extent in extents {
        bytes.extend(extent.to_be_bytes());
    }
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The four files of a small set: 4 training and 2 test pictures of 2x3 pixels.
fn files() -> [(&'static str, Vec<u8>); 4] {
    let pixels: Vec<u8> = (0..24).collect();
    [
        ("train-images-idx3-ubyte", idx(&[4, 2, 3], &pixels)),
        ("train-labels-idx1-ubyte", idx(&[4], &[0, 2, 1, 2])),
        ("t10k-images-idx3-ubyte", idx(&[2, 2, 3], &pixels[12..])),
        ("t10k-labels-idx1-ubyte", idx(&[2], &[1, 0])),
    ]
}

fn write_all(dir: &Path, zipped: bool) {
    for (name, bytes) in files() {
        if zipped {
            fs::write(dir.join(format!("{name}.gz")), gzip(&bytes)).unwrap();
        } else {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

#[test]
fn plain_and_gzipped_files_load() {
    for zipped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), zipped);
        let set = load(dir.path(), "toy").unwrap();
        assert_eq!((set.name.as_str(), set.classes()), ("toy", 3));
        assert_eq!(set.train.images.dims(), [4, 1, 2, 3]);
        assert_eq!(set.train.class_counts(3).unwrap(), [1, 1, 2]);
        assert_eq!(set.test.labels.to_vec1::<u32>().unwrap(), [1, 0]);
        assert_eq!(
            set.test
                .images
                .flatten_all()
                .unwrap()
                .to_vec1::<u8>()
                .unwrap(),
            (12..24).collect::<Vec<u8>>()
        );
        assert!(set.validation.is_none());
    }
}

#[test]
fn known_sets_have_their_class_names() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), true);
    let fashion = datasets::load(Kind::FashionMnist, dir.path()).unwrap();
    assert_eq!(
        (fashion.classes(), fashion.class_names[9].as_str()),
        (10, "Ankle boot")
    );
    // The same files below a folder of the set's name.
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join("mnist")).unwrap();
    write_all(&parent.path().join("mnist"), false);
    let mnist = datasets::load(Kind::Mnist, parent.path()).unwrap();
    assert_eq!((mnist.classes(), mnist.class_names[9].as_str()), (10, "9"));
}

#[test]
fn golden_files() {
    let images = read_images(Path::new("tests/golden/pictures.idx3.gz")).unwrap();
    assert_eq!(images.dims(), [3, 1, 2, 4]);
    let expected: Vec<u8> = vec![
        0, 1, 2, 3, 10, 11, 12, 13, 100, 101, 102, 103, 110, 111, 112, 113, 200, 201, 202, 203,
        210, 211, 212, 213,
    ];
    assert_eq!(
        images.flatten_all().unwrap().to_vec1::<u8>().unwrap(),
        expected
    );
    let labels = read_labels(Path::new("tests/golden/labels.idx1.gz")).unwrap();
    assert_eq!(labels.to_vec1::<u32>().unwrap(), [2, 0, 1]);
}

/// The message for `bytes` in the place of file number `which`.
fn complaint(which: usize, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), false);
    let name = files()[which].0;
    fs::write(dir.path().join(name), bytes).unwrap();
    let message = load(dir.path(), "mnist").unwrap_err().to_string();
    assert!(message.contains(name), "{message}");
    message
}

#[test]
fn bad_files_are_named_with_the_reason() {
    let pixels = [0; 24];
    let whole = idx(&[4, 2, 3], &pixels);
    for (which, bytes, reason) in [
        (
            0,
            whole[..whole.len() - 1].to_vec(),
            "has 39 bytes where its header says 40",
        ),
        (
            0,
            [&whole[..], &[0, 0]].concat(),
            "has 41 or more bytes where its header says 40",
        ),
        (0, whole[..10].to_vec(), "truncated"),
        (0, Vec::new(), "truncated"),
        (0, idx(&[4], &[0, 1, 2, 3]), "starts with [0, 0, 8, 1]"),
        (
            0,
            [&[0, 0, 13, 3], &whole[4..]].concat(),
            "starts with [0, 0, 13, 3]",
        ),
        (0, gzip(&whole), "starts with [31, 139"),
        (0, idx(&[0, 2, 3], &[]), "impossible shape"),
        (0, idx(&[u32::MAX; 3], &pixels), "impossible shape"),
        (
            0,
            idx(&[u32::MAX, 1, 1], &pixels),
            "has 40 bytes where its header says",
        ),
        (1, idx(&[3], &[0, 1, 2]), "3 labels"),
        (1, idx(&[4], &[0, 1, 10, 2]), "record 2 has label 10"),
        (3, idx(&[2], &[0, 255]), "record 1 has label 255"),
    ] {
        let message = complaint(which, &bytes);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn test_pictures_must_have_the_training_size() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), false);
    let other = idx(&[2, 3, 2], &[0; 12]);
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), other).unwrap();
    let message = load(dir.path(), "mnist").unwrap_err().to_string();
    assert!(message.contains("t10k-images-idx3-ubyte"), "{message}");
    assert!(message.contains("[1, 3, 2]"), "{message}");
}

#[test]
fn broken_gzip_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gz");
    let whole = gzip(&idx(&[4], &[0, 1, 2, 3]));
    let mut flipped = whole.clone();
    // In the checksum at the end of the stream.
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 4],
        &flipped,
        b"plain",
    ] {
        fs::write(&path, bytes).unwrap();
        let error = read_labels(&path).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
    }
}

#[test]
fn missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), false);
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let message = load(dir.path(), "fashion-mnist").unwrap_err().to_string();
    assert!(
        message.contains("t10k-labels-idx1-ubyte is missing"),
        "{message}"
    );
    assert!(
        message.contains("cargo xtask fetch fashion-mnist"),
        "{message}"
    );
}
