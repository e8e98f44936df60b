//! CIFAR-10 and CIFAR-100 in their binary versions (Krizhevsky, "Learning multiple layers of features from tiny
//! images", 2009).
//!
//! A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3072 pixel bytes: 1024
//! red, 1024 green, 1024 blue, each a 32x32 plane in row-major order. That is [C, H, W] as it stands in the file.

use std::path::Path;

use rayon::prelude::*;

use crate::file::{self, Official};
use crate::{Dataset, Error, Result, Split};

/// Bytes of a picture.
const PIXELS: usize = 3 * 32 * 32;

/// The two record layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Label byte 0..10, then the pixels.
    Cifar10,
    /// Coarse label byte 0..20, fine label byte 0..100, then the pixels. The fine label is used.
    Cifar100,
}

impl Layout {
    fn classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    fn record(self) -> usize {
        self.label_bytes() + PIXELS
    }

    fn set(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }
}

/// The official files of CIFAR-10, training batches in order, then the test batch; 10 000 records each.
const CIFAR10: [Official; 6] = [
    Official {
        name: "data_batch_1.bin",
        sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    },
    Official {
        name: "data_batch_2.bin",
        sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    },
    Official {
        name: "data_batch_3.bin",
        sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    },
    Official {
        name: "data_batch_4.bin",
        sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    },
    Official {
        name: "data_batch_5.bin",
        sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    },
    Official {
        name: "test_batch.bin",
        sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
];

/// The official files of CIFAR-100; 50 000 and 10 000 records.
const CIFAR100: [Official; 2] = [
    Official {
        name: "train.bin",
        sha256: "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    },
    Official {
        name: "test.bin",
        sha256: "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    },
];

/// CIFAR-10 from the folder `cifar-10-batches-bin`: 50 000 training pictures (`data_batch_1.bin` to
/// `data_batch_5.bin`, one after the other) and 10 000 test pictures (`test_batch.bin`), u8 [N, 3, 32, 32].
///
/// # Errors
/// A file that is missing, of the wrong size, with a label out of range, corrupted (sha256 of the official files) or
/// in the place of another gives the error that names it.
pub fn cifar10(dir: &Path) -> Result<Dataset> {
    let counts = [10_000; 6];
    load(dir, Layout::Cifar10, &CIFAR10, &counts, &CIFAR10_NAMES)
}

/// CIFAR-100 from the folder `cifar-100-binary`, fine labels: 50 000 training pictures (`train.bin`) and 10 000 test
/// pictures (`test.bin`), u8 [N, 3, 32, 32].
///
/// # Errors
/// As for [`cifar10`].
pub fn cifar100(dir: &Path) -> Result<Dataset> {
    let counts = [50_000, 10_000];
    load(dir, Layout::Cifar100, &CIFAR100, &counts, &CIFAR100_NAMES)
}

/// The records of one file, official or not, in file order. No checksum is compared.
///
/// # Errors
/// A missing file, a size that is not a whole number of records, or a label out of range.
pub fn read_batch(path: &Path, layout: Layout) -> Result<Split> {
    let bytes = file::read(path, layout.set())?;
    if bytes.is_empty() || bytes.len() % layout.record() != 0 {
        return Err(Error::Records {
            path: path.into(),
            record: layout.record(),
            actual: bytes.len() as u64,
        });
    }
    let labels = labels(path, &bytes, layout)?;
    let mut images = Vec::with_capacity(labels.len() * PIXELS);
    append_pixels(&mut images, &bytes, layout);
    Split::new(images, labels, [3, 32, 32])
}

fn load(
    dir: &Path,
    layout: Layout,
    officials: &[Official],
    counts: &[usize],
    names: &[&str],
) -> Result<Dataset> {
    let batches: Vec<Result<(Vec<u8>, Vec<u32>)>> = (0..officials.len())
        .into_par_iter()
        .map(|index| {
            let path = dir.join(officials[index].name);
            let bytes = file::read(&path, layout.set())?;
            let expected = counts[index] * layout.record();
            if bytes.len() != expected {
                return Err(Error::Size {
                    path,
                    expected: expected as u64,
                    actual: bytes.len() as u64,
                });
            }
            // The label goes first: it names the record.
            let labels = labels(&path, &bytes, layout)?;
            file::verify(&path, &bytes, index, officials)?;
            Ok((bytes, labels))
        })
        .collect();
    let mut batches = batches.into_iter().collect::<Result<Vec<_>>>()?;
    let test = batches.split_off(officials.len() - 1);
    Ok(Dataset {
        name: layout.set().to_string(),
        class_names: names.iter().map(ToString::to_string).collect(),
        train: join(batches, layout)?,
        test: join(test, layout)?,
        validation: None,
    })
}

/// One split of several files, each dropped as soon as it is copied.
fn join(batches: Vec<(Vec<u8>, Vec<u32>)>, layout: Layout) -> Result<Split> {
    let count: usize = batches.iter().map(|(_, labels)| labels.len()).sum();
    let mut images = Vec::with_capacity(count * PIXELS);
    let mut all = Vec::with_capacity(count);
    for (bytes, labels) in batches {
        append_pixels(&mut images, &bytes, layout);
        all.extend(labels);
    }
    Split::new(images, all, [3, 32, 32])
}

fn append_pixels(images: &mut Vec<u8>, bytes: &[u8], layout: Layout) {
    for record in bytes.chunks_exact(layout.record()) {
        images.extend_from_slice(&record[layout.label_bytes()..]);
    }
}

fn labels(path: &Path, bytes: &[u8], layout: Layout) -> Result<Vec<u32>> {
    bytes
        .chunks_exact(layout.record())
        .enumerate()
        .map(|(record, content)| {
            let label = u32::from(content[layout.label_bytes() - 1]);
            if label as usize >= layout.classes() {
                return Err(Error::Label {
                    path: path.into(),
                    record,
                    label,
                    classes: layout.classes(),
                });
            }
            Ok(label)
        })
        .collect()
}

const CIFAR10_NAMES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

#[rustfmt::skip]
const CIFAR100_NAMES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle",
    "bicycle", "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel",
    "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud",
    "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
    "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree",
    "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter",
    "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea",
    "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television",
    "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
];
