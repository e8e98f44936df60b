//! The official files, where they are: set PRIVATE_SNN_DATA to the folder that holds `cifar-10-batches-bin` and the
//! like, with its full path. Without it, or without a set, the test of that set says so and ends.

use std::fs;
use std::path::{Path, PathBuf};

use datasets::{Error, Kind, Split, cifar, load};

fn folder(kind: Kind) -> Option<PathBuf> {
    let folder = std::env::var_os("PRIVATE_SNN_DATA")
        .map(|data| Path::new(&data).join(kind.folder().unwrap_or_default()))
        .filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: PRIVATE_SNN_DATA names no folder with {kind}");
    }
    folder
}

fn first(split: &Split) -> Vec<u8> {
    split
        .images
        .get(0)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn cifar10() {
    let Some(dir) = folder(Kind::Cifar10) else {
        return;
    };
    let set = load(Kind::Cifar10, &dir).unwrap();
    assert_eq!(set.class_names, names(&dir.join("batches.meta.txt")));
    assert_eq!(set.train.images.dims(), [50_000, 3, 32, 32]);
    assert_eq!(set.train.class_counts(10).unwrap(), [5_000; 10]);
    assert_eq!(set.test.class_counts(10).unwrap(), [1_000; 10]);
    assert!(first(&set.test) == fs::read("tests/golden/cifar10.bin").unwrap());
    assert_eq!(
        set.test.labels.get(0).unwrap().to_scalar::<u32>().unwrap(),
        3
    );

    let third = cifar::read_batch(&dir.join("data_batch_3.bin"), cifar::Layout::Cifar10).unwrap();
    assert!(first(&set.train.subset(20_000..20_001).unwrap()) == first(&third));

    let carved = set.with_validation(5_000, 0).unwrap();
    assert_eq!(carved.train.class_counts(10).unwrap(), [4_500; 10]);
    assert_eq!(
        carved.validation.unwrap().class_counts(10).unwrap(),
        [500; 10]
    );
}

#[test]
fn cifar10_with_swapped_files() {
    let Some(dir) = folder(Kind::Cifar10) else {
        return;
    };
    let swapped = tempfile::tempdir().unwrap();
    for name in 1..=5 {
        let name = format!("data_batch_{name}.bin");
        let source = if name == "data_batch_2.bin" {
            "test_batch.bin"
        } else {
            &name
        };
        fs::copy(dir.join(source), swapped.path().join(&name)).unwrap();
    }
    let test = swapped.path().join("test_batch.bin");
    fs::copy(dir.join("test_batch.bin"), &test).unwrap();
    let error = cifar::cifar10(swapped.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Swapped { path, holds } if path.ends_with("data_batch_2.bin") && holds == "test_batch.bin"),
        "{error}"
    );
}

#[test]
fn cifar100() {
    let Some(dir) = folder(Kind::Cifar100) else {
        return;
    };
    let set = load(Kind::Cifar100, &dir).unwrap();
    assert_eq!(set.class_names, names(&dir.join("fine_label_names.txt")));
    assert_eq!(set.train.class_counts(100).unwrap(), [500; 100]);
    assert_eq!(set.test.class_counts(100).unwrap(), [100; 100]);
    assert!(first(&set.test) == fs::read("tests/golden/cifar100.bin").unwrap());
}

/// Any part of the set will do: the counts are those of the folders.
#[test]
fn tiny_imagenet() {
    let Some(dir) = folder(Kind::TinyImagenet) else {
        return;
    };
    let set = load(Kind::TinyImagenet, &dir).unwrap();
    let wnids = names(&dir.join("wnids.txt"));
    assert_eq!(set.classes(), wnids.len());
    assert_eq!(set.train.shape(), [3, 64, 64]);
    let files = |folder: PathBuf| fs::read_dir(folder).unwrap().count();
    let counts: Vec<usize> = wnids
        .iter()
        .map(|wnid| files(dir.join("train").join(wnid).join("images")))
        .collect();
    assert_eq!(set.train.class_counts(wnids.len()).unwrap(), counts);
    assert_eq!(set.test.len(), files(dir.join("val/images")));
}
