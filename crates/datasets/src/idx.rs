//! The IDX format of the MNIST family (LeCun, Cortes, Burges), plain or gzipped.
//!
//! An IDX file is two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, the extent of each as a
//! big-endian u32, then the values in row-major order.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use flate2::bufread::MultiGzDecoder;

use crate::file::{failed, malformed};
use crate::{Dataset, Error, Result, Split};

/// Type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 8;

const FASHION_NAMES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// The four files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte` of a folder, each as it is or with `.gz` (the plain one is taken if both are there).
/// Pictures are u8 [N, 1, H, W].
///
/// `name` becomes the name of the set. `mnist` and `fashion-mnist` have ten classes with their usual names; any other
/// set has as many classes as the largest training label says, named by their numbers.
///
/// # Errors
/// A missing file; another magic number than that of unsigned bytes; more or fewer bytes than the header says; a
/// broken gzip stream; unequal numbers of pictures and labels; a label out of range; test pictures of another size than
/// the training pictures.
pub fn load(dir: &Path, name: &str) -> Result<Dataset> {
    let (train, train_labels) = read_pair(dir, name, "train")?;
    let (test, test_labels) = read_pair(dir, name, "t10k")?;
    if train.shape() != test.shape() {
        return Err(malformed(
            &find(dir, "t10k-images-idx3-ubyte"),
            format!(
                "has pictures of shape {:?}, but the training pictures have {:?}",
                test.shape(),
                train.shape()
            ),
        ));
    }
    let class_names: Vec<String> = match name {
        "fashion-mnist" => FASHION_NAMES.iter().map(ToString::to_string).collect(),
        "mnist" => (0..10).map(|digit| digit.to_string()).collect(),
        _ => {
            let largest = train_labels.values.iter().max().copied().unwrap_or(0);
            (0..=largest).map(|label| label.to_string()).collect()
        }
    };
    train_labels.check(class_names.len())?;
    test_labels.check(class_names.len())?;
    Ok(Dataset {
        name: name.to_string(),
        class_names,
        train,
        test,
        validation: None,
    })
}

/// Pictures of an `idx3` file, u8 [N, 1, H, W]. A name that ends in `.gz` is unpacked.
///
/// # Errors
/// As for [`load`].
pub fn read_images(path: &Path) -> Result<Tensor> {
    let ([count, height, width], pixels) = read(path, "IDX files")?;
    Ok(Tensor::from_vec(
        pixels,
        (count, 1, height, width),
        &Device::Cpu,
    )?)
}

/// Labels of an `idx1` file, u32 `[N]`. A name that ends in `.gz` is unpacked.
///
/// # Errors
/// As for [`load`].
pub fn read_labels(path: &Path) -> Result<Tensor> {
    let ([count], bytes) = read(path, "IDX files")?;
    let labels = bytes.into_iter().map(u32::from).collect::<Vec<_>>();
    Ok(Tensor::from_vec(labels, count, &Device::Cpu)?)
}

struct Labels {
    path: PathBuf,
    values: Vec<u8>,
}

impl Labels {
    fn check(&self, classes: usize) -> Result<()> {
        match self.values.iter().position(|&l| usize::from(l) >= classes) {
            None => Ok(()),
            Some(record) => Err(Error::Label {
                path: self.path.clone(),
                record,
                label: u32::from(self.values[record]),
                classes,
            }),
        }
    }
}

fn read_pair(dir: &Path, name: &str, prefix: &str) -> Result<(Split, Labels)> {
    let path = find(dir, &format!("{prefix}-images-idx3-ubyte"));
    let ([count, height, width], pixels) = read(&path, name)?;
    let labels_path = find(dir, &format!("{prefix}-labels-idx1-ubyte"));
    let ([label_count], values) = read(&labels_path, name)?;
    if label_count != count {
        return Err(malformed(
            &labels_path,
            format!(
                "has {label_count} labels, but {} has {count} pictures: the files do not belong together",
                path.display()
            ),
        ));
    }
    let labels = values.iter().copied().map(u32::from).collect();
    let split = Split::new(pixels, labels, [1, height, width])?;
    Ok((
        split,
        Labels {
            path: labels_path,
            values,
        },
    ))
}

/// The plain file if it is there, else the gzipped one if that is there, else the plain one to complain about.
fn find(dir: &Path, file: &str) -> PathBuf {
    let plain = dir.join(file);
    let zipped = dir.join(format!("{file}.gz"));
    if !plain.exists() && zipped.exists() {
        zipped
    } else {
        plain
    }
}

fn read<const DIMS: usize>(path: &Path, set: &str) -> Result<([usize; DIMS], Vec<u8>)> {
    let file = BufReader::new(File::open(path).map_err(|source| failed(path, set, source))?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        parse(path, MultiGzDecoder::new(file))
    } else {
        parse(path, file)
    }
}

/// The extents and the values. Memory grows with the bytes found, not with what the header claims.
fn parse<const DIMS: usize>(
    path: &Path,
    mut reader: impl Read,
) -> Result<([usize; DIMS], Vec<u8>)> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => malformed(
            path,
            format!("is truncated or corrupted ({source}); delete it and fetch it again"),
        ),
        _ => Error::Io {
            path: path.into(),
            source,
        },
    };
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(unreadable)?;
    let expected = [0, 0, UNSIGNED_BYTE, DIMS as u8];
    if magic != expected {
        return Err(malformed(
            path,
            format!(
                "starts with {magic:?} where an IDX file of {DIMS}-dimensional unsigned bytes starts with {expected:?}"
            ),
        ));
    }
    let mut extents = [0; DIMS];
    for extent in &mut extents {
        let mut word = [0; 4];
        reader.read_exact(&mut word).map_err(unreadable)?;
        *extent = u32::from_be_bytes(word) as usize;
    }
    let claimed = extents
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
        .filter(|&bytes| bytes > 0 && bytes < usize::MAX / 2)
        .ok_or_else(|| malformed(path, format!("claims the impossible shape {extents:?}")))?;
    let mut values = Vec::new();
    let limit = claimed as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut values)
        .map_err(unreadable)?;
    if values.len() != claimed {
        let header = 4 + 4 * DIMS as u64;
        let more = if values.len() > claimed {
            " or more"
        } else {
            ""
        };
        return Err(malformed(
            path,
            format!(
                "has {}{more} bytes where its header says {}; delete it and fetch it again",
                header + values.len() as u64,
                header + claimed as u64
            ),
        ));
    }
    Ok((extents, values))
}
