//! From stored bytes to a training batch: random crop, flip, normalisation.

mod source;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use snn_core::rng::Seed;

pub(crate) use self::source::Source;
use crate::{Error, Result};

/// What is done to each training image before it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// The image is moved by up to this many pixels in each direction; what comes in from outside is black (byte 0).
    /// The same as a crop of the original size out of the image padded by so many pixels. Default 0.
    pub crop_padding: usize,
    /// Mirrors every second image, on average, left to right. Default false.
    pub flip: bool,
}

impl Augment {
    /// Padding 4 and flips, the authors' setting.
    pub fn paper() -> Self {
        Self {
            crop_padding: 4,
            flip: true,
        }
    }

    /// Augments and normalises `images` u8 `[N, C, H, W]` to f32 in [-1, 1] of the same shape, on the CPU. The draw of
    /// image n depends on `seed` and `ids[n]` alone.
    ///
    /// # Errors
    /// Images that are not u8 of four axes, a number of ids other than N, a padding larger than the image.
    pub fn apply(&self, images: &Tensor, ids: &[u64], seed: Seed) -> Result<Tensor> {
        let n = images.dims().first().copied().unwrap_or(0);
        if ids.len() != n {
            return Err(Error::argument(
                "ids",
                format!("{} for {n} images", ids.len()),
            ));
        }
        let rows: Vec<usize> = (0..n).collect();
        with_pixels(images, |pixels, shape| {
            self.gather(pixels, shape, &rows, ids, seed)
        })
    }

    /// Checks the settings against the image size.
    pub(crate) fn check(&self, [_, height, width]: [usize; 3]) -> Result<()> {
        if self.crop_padding > height.min(width) {
            let message = format!(
                "{} pixels are more than an image of {height}x{width} has",
                self.crop_padding
            );
            return Err(Error::argument("augment.crop_padding", message));
        }
        Ok(())
    }

    /// The images at `rows` of a set given as bytes, in that order.
    pub(crate) fn gather(
        &self,
        pixels: &[u8],
        shape: [usize; 3],
        rows: &[usize],
        ids: &[u64],
        seed: Seed,
    ) -> Result<Tensor> {
        self.check(shape)?;
        let [channels, height, width] = shape;
        let table = byte_values();
        let size = channels * height * width;
        let mut values = vec![0f32; rows.len() * size];
        values
            .par_chunks_mut(size)
            .zip(rows)
            .zip(ids)
            .for_each(|((out, &row), &id)| {
                let source = &pixels[row * size..][..size];
                let (dy, dx, flip) = self.draw(id, seed);
                for (line, out) in out.chunks_mut(width).enumerate() {
                    let (channel, y) = (line / height, (line % height) as isize + dy);
                    if y < 0 || y >= height as isize {
                        out.fill(table[0]);
                        continue;
                    }
                    let source = &source[(channel * height + y as usize) * width..][..width];
                    for (x, out) in out.iter_mut().enumerate() {
                        let x = if flip { width - 1 - x } else { x } as isize + dx;
                        let byte = if x < 0 {
                            0
                        } else {
                            source.get(x as usize).copied().unwrap_or(0)
                        };
                        *out = table[byte as usize];
                    }
                }
            });
        Ok(Tensor::from_vec(
            values,
            (rows.len(), channels, height, width),
            &Device::Cpu,
        )?)
    }

    /// Shift down, shift right, mirrored.
    fn draw(&self, id: u64, seed: Seed) -> (isize, isize, bool) {
        let words = seed.words([0, 0, id as u32, (id >> 32) as u32]);
        let choices = 2 * self.crop_padding as u64 + 1;
        let shift =
            |word: u32| ((u64::from(word) * choices) >> 32) as isize - self.crop_padding as isize;
        (
            shift(words[0]),
            shift(words[1]),
            self.flip && words[2] >> 31 == 1,
        )
    }
}

/// `x / 127.5 - 1` for u8 images; f32 images, which are in [-1, 1] already, are passed through.
///
/// # Errors
/// Images of another type or without four axes.
pub fn normalise(images: &Tensor) -> Result<Tensor> {
    if images.dtype() == DType::F32 && images.rank() == 4 {
        return Ok(images.clone());
    }
    let table = byte_values();
    with_pixels(images, |pixels, _| {
        let mut values = vec![0f32; pixels.len()];
        values
            .par_chunks_mut(1 << 14)
            .zip(pixels.par_chunks(1 << 14))
            .for_each(|(out, pixels)| {
                for (out, &byte) in out.iter_mut().zip(pixels) {
                    *out = table[byte as usize];
                }
            });
        Ok(Tensor::from_vec(values, images.shape(), &Device::Cpu)?)
    })
}

fn byte_values() -> [f32; 256] {
    std::array::from_fn(|byte| byte as f32 * (1.0 / 127.5) as f32 - 1.0)
}

/// Hands over the bytes of u8 images `[N, C, H, W]` and `[C, H, W]`, without a copy where they lie in order on the CPU.
pub(crate) fn with_pixels<T>(
    images: &Tensor,
    f: impl FnOnce(&[u8], [usize; 3]) -> Result<T>,
) -> Result<T> {
    let shape = match *images.dims() {
        [n, c, h, w] if n * c * h * w > 0 && images.dtype() == DType::U8 => [c, h, w],
        ref dims => {
            let message = format!(
                "needs u8 [N, C, H, W], N at least 1, got {:?} {dims:?}",
                images.dtype()
            );
            return Err(Error::argument("images", message));
        }
    };
    let images = images.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = images.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::U8(bytes)), Some((start, end))) => f(&bytes[start..end], shape),
        _ => unreachable!("u8 on the CPU and contiguous, by the lines above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: (usize, usize, usize, usize) = (40, 2, 6, 5);

    fn images() -> Tensor {
        let count = SHAPE.0 * SHAPE.1 * SHAPE.2 * SHAPE.3;
        let bytes = (0..count).map(|i| (i * 7 % 251) as u8 + 1).collect();
        Tensor::from_vec(bytes, SHAPE, &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn every_image_is_a_shift_and_perhaps_a_mirror() -> Result<()> {
        let augment = Augment {
            crop_padding: 2,
            flip: true,
        };
        let images = images();
        let ids: Vec<u64> = (100..140).collect();
        let out = augment.apply(&images, &ids, Seed::new(1))?;
        let (mut seen, mut mirrored) = (std::collections::BTreeSet::new(), 0);
        for n in 0..SHAPE.0 {
            let source: Vec<Vec<Vec<u8>>> = images.get(n)?.to_vec3()?;
            let out: Vec<Vec<Vec<f32>>> = out.get(n)?.to_vec3()?;
            let slow = |dy: isize, dx: isize, flip: bool, c: usize, y: usize, x: usize| {
                let x = if flip { SHAPE.3 - 1 - x } else { x };
                let (y, x) = (y as isize + dy, x as isize + dx);
                let inside = y >= 0 && x >= 0 && y < SHAPE.2 as isize && x < SHAPE.3 as isize;
                let byte = if inside {
                    source[c][y as usize][x as usize]
                } else {
                    0
                };
                f32::from(byte) / 127.5 - 1.0
            };
            let fits = |&(dy, dx, flip): &(isize, isize, bool)| {
                (0..SHAPE.1).all(|c| {
                    (0..SHAPE.2).all(|y| {
                        (0..SHAPE.3)
                            .all(|x| (out[c][y][x] - slow(dy, dx, flip, c, y, x)).abs() < 1e-6)
                    })
                })
            };
            let all = (-2..=2)
                .flat_map(|dy| (-2..=2).flat_map(move |dx| [(dy, dx, false), (dy, dx, true)]));
            let found: Vec<_> = all.filter(fits).collect();
            assert_eq!(found.len(), 1, "image {n}: {found:?}");
            seen.insert((found[0].0, found[0].1));
            mirrored += usize::from(found[0].2);
        }
        assert!(seen.len() > 15, "{} of 25 shifts in 40 images", seen.len());
        assert!((8..=32).contains(&mirrored), "{mirrored} of 40 mirrored");
        Ok(())
    }

    #[test]
    fn an_image_depends_on_its_id_alone() -> Result<()> {
        let augment = Augment::paper();
        let images = images();
        let all = augment.apply(&images, &(0..40).collect::<Vec<_>>(), Seed::new(1))?;
        let some = augment.apply(
            &images.narrow(0, 10, 5)?,
            &[10, 11, 12, 13, 14],
            Seed::new(1),
        )?;
        let difference = (all.narrow(0, 10, 5)? - some)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert_eq!(difference, 0.0);
        Ok(())
    }

    #[test]
    fn without_augmentation_it_normalises_like_the_data_sets() -> Result<()> {
        let bytes = Tensor::from_vec((0..=255u8).collect(), (1, 1, 16, 16), &Device::Cpu)?;
        let theirs = datasets::normalise(&bytes)
            .expect("u8 images")
            .flatten_all()?
            .to_vec1::<f32>()?;
        let plain = Augment::default().apply(&bytes, &[9], Seed::new(1))?;
        assert_eq!(plain.flatten_all()?.to_vec1::<f32>()?, theirs);
        assert_eq!(normalise(&bytes)?.flatten_all()?.to_vec1::<f32>()?, theirs);
        assert_eq!((theirs[0], theirs[255]), (-1.0, 1.0));
        Ok(())
    }

    #[test]
    fn bad_images_are_refused() -> Result<()> {
        let images = images();
        let seed = Seed::new(1);
        assert!(Augment::default().apply(&images, &[1], seed).is_err());
        assert!(
            Augment::default()
                .apply(&images.to_dtype(DType::F32)?, &[0; 40], seed)
                .is_err()
        );
        assert!(
            Augment::default()
                .apply(&images.flatten_from(1)?, &[0; 40], seed)
                .is_err()
        );
        assert!(normalise(&images.to_dtype(DType::U32)?).is_err());
        let wide = Augment {
            crop_padding: 6,
            flip: false,
        };
        assert!(wide.apply(&images, &[0; 40], seed).is_err());
        Ok(())
    }
}
