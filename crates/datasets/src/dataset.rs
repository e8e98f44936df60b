//! Splits, data sets, and the pictures as the networks take them.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::philox::{Philox, shuffle};
use crate::{Error, Result};

/// Stream purpose of the validation shuffle.
const SHUFFLE: u32 = 0x5348_5546;

/// One split of a data set: pictures with their classes.
#[derive(Debug, Clone)]
pub struct Split {
    /// Pictures, u8 `[N, C, H, W]` on the CPU, values 0..=255, channels in the order red, green, blue.
    pub images: Tensor,
    /// Class of each picture, u32 `[N]` on the CPU.
    pub labels: Tensor,
}

impl Split {
    /// A split from raw bytes, `pixels` being [N, C, H, W] in row-major order with N the number of labels.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no picture or the number of bytes does not fit.
    pub fn new(pixels: Vec<u8>, labels: Vec<u32>, shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        let count = labels.len();
        let expected = shape
            .iter()
            .try_fold(count, |product, &extent| product.checked_mul(extent));
        if expected == Some(0) || expected != Some(pixels.len()) {
            return Err(Error::argument(
                "pixels",
                format!(
                    "a split of {count} labels and shape {channels}x{height}x{width} cannot be made of {} bytes",
                    pixels.len()
                ),
            ));
        }
        Ok(Self {
            images: Tensor::from_vec(pixels, (count, channels, height, width), &Device::Cpu)?,
            labels: Tensor::from_vec(labels, count, &Device::Cpu)?,
        })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.elem_count()
    }

    /// True if there is no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels, height and width of a picture.
    pub fn shape(&self) -> [usize; 3] {
        [1, 2, 3].map(|axis| self.images.dims().get(axis).copied().unwrap_or(0))
    }

    /// The pictures of a range of positions, without a copy.
    ///
    /// # Errors
    /// [`Error::Argument`] if the range is empty or reaches beyond the end.
    pub fn subset(&self, range: Range<usize>) -> Result<Self> {
        if range.is_empty() || range.end > self.len() {
            return Err(Error::argument(
                "range",
                format!(
                    "positions {}..{} cannot be taken from a split of {} pictures",
                    range.start,
                    range.end,
                    self.len()
                ),
            ));
        }
        let count = range.end - range.start;
        Ok(Self {
            images: self.images.narrow(0, range.start, count)?,
            labels: self.labels.narrow(0, range.start, count)?,
        })
    }

    /// The pictures at the given positions, in the given order; a position may come twice.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no position or one is beyond the end.
    pub fn select(&self, positions: &[u32]) -> Result<Self> {
        if positions.is_empty() {
            return Err(Error::argument(
                "positions",
                "there is none to select from a split",
            ));
        }
        if let Some(position) = positions.iter().find(|&&p| p as usize >= self.len()) {
            return Err(Error::argument(
                "positions",
                format!("{position} is beyond a split of {} pictures", self.len()),
            ));
        }
        let index = Tensor::new(positions, self.images.device())?;
        Ok(Self {
            images: self.images.contiguous()?.index_select(&index, 0)?,
            labels: self.labels.contiguous()?.index_select(&index, 0)?,
        })
    }

    /// The same pictures in a class-balanced order: that of [`Dataset::with_validation`], a function of `seed` and the
    /// labels alone.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no picture.
    pub fn balanced(&self, seed: u64) -> Result<Self> {
        self.select(&balanced_order(&self.labels_vec()?, seed))
    }

    /// How many pictures each of the classes 0..`classes` has. Labels from `classes` on are not counted.
    ///
    /// # Errors
    /// Labels that are not numbers.
    pub fn class_counts(&self, classes: usize) -> Result<Vec<usize>> {
        let mut counts = vec![0; classes];
        for label in self.labels_vec()? {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        Ok(counts)
    }

    pub(crate) fn labels_vec(&self) -> Result<Vec<u32>> {
        Ok(self
            .labels
            .to_dtype(DType::U32)?
            .flatten_all()?
            .to_vec1::<u32>()?)
    }
}

/// A data set: its splits and the names of its classes.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Name, for messages and reports.
    pub name: String,
    /// Name of each class; label i means `class_names[i]`.
    pub class_names: Vec<String>,
    /// Pictures to train on.
    pub train: Split,
    /// Pictures to measure on, once.
    pub test: Split,
    /// Pictures to choose settings on. Only sets with a validation split of their own (glyphs) have one from the start.
    pub validation: Option<Split>,
}

impl Dataset {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Carves a validation split of `count` pictures off the end of a class-balanced shuffle of the training split.
    ///
    /// The shuffle is a function of `seed` and the labels alone. It permutes each class by itself, then spreads
    /// the pictures of every class evenly over the whole order, so that any stretch of it holds the classes in
    /// their shares of the whole, within one picture per class and end. The training split keeps the shuffled order:
    /// `train.subset(0..n)` is class-balanced too.
    ///
    /// # Errors
    /// [`Error::Argument`] if the set already has a validation split, if `count` is 0, or if no training picture
    /// would be left.
    pub fn with_validation(self, count: usize, seed: u64) -> Result<Self> {
        if self.validation.is_some() {
            return Err(Error::argument(
                "validation",
                format!(
                    "{} has a split of its own: no other can be carved off its training split",
                    self.name
                ),
            ));
        }
        let total = self.train.len();
        if count == 0 || count >= total {
            return Err(Error::argument(
                "count",
                format!(
                    "a validation split of {count} pictures cannot be carved off the {total} training pictures of {}",
                    self.name
                ),
            ));
        }
        let order = balanced_order(&self.train.labels_vec()?, seed);
        let (train, validation) = order.split_at(total - count);
        Ok(Self {
            validation: Some(self.train.select(validation)?),
            train: self.train.select(train)?,
            ..self
        })
    }
}

/// The permutation of [`Dataset::with_validation`].
fn balanced_order(labels: &[u32], seed: u64) -> Vec<u32> {
    let mut members = BTreeMap::<u32, Vec<u32>>::new();
    for (position, &label) in labels.iter().enumerate() {
        members.entry(label).or_default().push(position as u32);
    }
    // The j-th of n pictures of a class belongs at (j + 1/2) / n of the way; equal places are ordered by chance.
    let mut placed = Vec::with_capacity(labels.len());
    for (class, mut positions) in members {
        let mut rng = Philox::new(seed, SHUFFLE, u64::from(class));
        shuffle(&mut positions, &mut rng);
        let count = positions.len() as u128;
        for (j, &position) in positions.iter().enumerate() {
            let place = ((2 * j as u128 + 1) << 63) / count;
            placed.push((place, rng.word(), position));
        }
    }
    placed.sort_unstable();
    placed
        .into_iter()
        .map(|(_, _, position)| position)
        .collect()
}

/// Pictures as the networks take them: `x / 127.5 - 1`, u8 0..=255 to f32 in [-1, 1], any shape, same device.
///
/// The end points are exact: 0 becomes -1 and 255 becomes 1.
///
/// # Errors
/// [`Error::Argument`] if the tensor is not u8.
pub fn normalise(images_u8: &Tensor) -> Result<Tensor> {
    if images_u8.dtype() != DType::U8 {
        return Err(Error::argument(
            "images_u8",
            format!("u8 pictures are needed, not {:?}", images_u8.dtype()),
        ));
    }
    Ok(images_u8.to_dtype(DType::F32)?.affine(1.0 / 127.5, -1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(labels: &[u32]) -> Split {
        let pixels = (0..labels.len() * 2).map(|i| i as u8).collect();
        Split::new(pixels, labels.to_vec(), [1, 1, 2]).unwrap()
    }

    fn dataset(labels: &[u32]) -> Dataset {
        Dataset {
            name: "toy".into(),
            class_names: vec!["a".into(), "b".into(), "c".into()],
            train: split(labels),
            test: split(&[0, 1, 2]),
            validation: None,
        }
    }

    #[test]
    fn split_accessors() {
        let split = split(&[0, 2, 2, 1]);
        assert_eq!((split.len(), split.is_empty()), (4, false));
        assert_eq!(split.shape(), [1, 1, 2]);
        assert_eq!(split.class_counts(3).unwrap(), [1, 1, 2]);
        assert_eq!(split.class_counts(2).unwrap(), [1, 1]);
        let tail = split.subset(2..4).unwrap();
        assert_eq!(tail.labels_vec().unwrap(), [2, 1]);
        let picked = tail.select(&[1, 0, 1]).unwrap();
        assert_eq!(picked.labels_vec().unwrap(), [1, 2, 1]);
        assert_eq!(
            picked
                .images
                .flatten_all()
                .unwrap()
                .to_vec1::<u8>()
                .unwrap(),
            [6, 7, 4, 5, 6, 7]
        );
    }

    #[test]
    fn split_refuses_bad_arguments() {
        let split = split(&[0, 1]);
        for range in [0..0, 1..3, 2..4, usize::MAX - 1..usize::MAX] {
            assert!(matches!(split.subset(range), Err(Error::Argument { .. })));
        }
        assert!(matches!(split.select(&[]), Err(Error::Argument { .. })));
        assert!(matches!(split.select(&[0, 2]), Err(Error::Argument { .. })));
        for (pixels, labels, shape) in [
            (5, 1, [1, 2, 2]),
            (0, 0, [1, 2, 2]),
            (0, 1, [0, 2, 2]),
            (4, 2, [usize::MAX, 2, 2]),
        ] {
            let made = Split::new(vec![0; pixels], vec![0; labels], shape);
            assert!(matches!(made, Err(Error::Argument { .. })));
        }
    }

    #[test]
    fn any_stretch_of_a_balanced_split_holds_every_class() {
        let labels: Vec<u32> = (0..60).map(|i| i / 20).collect();
        let split = dataset(&labels).train;
        let balanced = split.balanced(5).unwrap();
        assert_eq!(balanced.class_counts(3).unwrap(), [20, 20, 20]);
        for start in [0, 7, 45] {
            let part = balanced.subset(start..start + 15).unwrap();
            for count in part.class_counts(3).unwrap() {
                assert!(count.abs_diff(5) <= 1, "from {start}: {count}");
            }
        }
        let order = |seed| {
            split
                .balanced(seed)
                .unwrap()
                .images
                .flatten_all()
                .unwrap()
                .to_vec1::<u8>()
                .unwrap()
        };
        assert_eq!(order(5), order(5));
        assert_ne!(order(5), order(6));
    }

    #[test]
    fn validation_is_balanced_disjoint_and_fixed() {
        let labels: Vec<u32> = (0..90).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect();
        let carved = dataset(&labels).with_validation(12, 5).unwrap();
        let validation = carved.validation.as_ref().unwrap();
        assert_eq!((carved.train.len(), validation.len()), (78, 12));
        for (counts, expected) in [
            (validation.class_counts(3).unwrap(), [6.0, 4.0, 2.0]),
            (
                carved.train.subset(0..30).unwrap().class_counts(3).unwrap(),
                [15.0, 10.0, 5.0],
            ),
        ] {
            for (count, expected) in counts.iter().zip(expected) {
                assert!((*count as f64 - expected).abs() <= 1.0, "{counts:?}");
            }
        }
        let firsts = |split: &Split| -> Vec<u8> {
            let pixels = split.images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
            pixels.into_iter().step_by(2).collect()
        };
        let mut all = [firsts(&carved.train), firsts(validation)].concat();
        all.sort_unstable();
        assert_eq!(all, (0..90).map(|i| 2 * i).collect::<Vec<u8>>());

        let again = dataset(&labels).with_validation(12, 5).unwrap();
        assert_eq!(firsts(&again.train), firsts(&carved.train));
        let other = dataset(&labels).with_validation(12, 6).unwrap();
        assert_ne!(firsts(&other.train), firsts(&carved.train));
    }

    #[test]
    fn equal_classes_give_an_equal_validation_split() {
        let labels: Vec<u32> = (0..300).map(|i| i % 3).collect();
        let pixels = vec![0; 300];
        let mut set = dataset(&[0]);
        set.train = Split::new(pixels, labels, [1, 1, 1]).unwrap();
        let set = set.with_validation(60, 0).unwrap();
        assert_eq!(
            set.validation.unwrap().class_counts(3).unwrap(),
            [20, 20, 20]
        );
    }

    #[test]
    fn labels_may_have_gaps_and_be_of_any_size() {
        let order = split(&[0, 4, 4, 1, 0, 4, 1, 4]).balanced(5).unwrap();
        let pixels = order.images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let positions: Vec<u8> = pixels.into_iter().step_by(2).map(|p| p / 2).collect();
        assert_eq!(positions, [2, 0, 3, 5, 1, 4, 6, 7]);

        let labels = [0, u32::MAX, 1, u32::MAX, 0, 1];
        assert_eq!(split(&labels).balanced(0).unwrap().len(), 6);
        let carved = dataset(&labels).with_validation(3, 5).unwrap();
        let mut labels = carved.validation.unwrap().labels_vec().unwrap();
        labels.sort_unstable();
        assert_eq!(labels, [0, 1, u32::MAX]);
    }

    #[test]
    fn validation_refuses_bad_counts() {
        for count in [0, 3, 4] {
            let carved = dataset(&[0, 1, 2]).with_validation(count, 0);
            assert!(matches!(carved, Err(Error::Argument { .. })));
        }
        let carved = dataset(&[0, 1, 2]).with_validation(1, 0).unwrap();
        assert!(matches!(
            carved.with_validation(1, 0),
            Err(Error::Argument { .. })
        ));
    }

    #[test]
    fn normalise_maps_bytes_to_the_unit_range() {
        let bytes = Tensor::from_vec((0..=255u8).collect::<Vec<_>>(), 256, &Device::Cpu).unwrap();
        let values = normalise(&bytes).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((values[0], values[255]), (-1.0, 1.0));
        for (byte, value) in values.iter().enumerate() {
            assert!((value - (byte as f32 / 127.5 - 1.0)).abs() < 2e-7);
        }
        assert!(normalise(&bytes.to_dtype(DType::F32).unwrap()).is_err());
    }
}
