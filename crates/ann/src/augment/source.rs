//! Where the batches of a training come from: bytes on the host for the CPU, bytes on the device for a device.

use candle_core::{DType, Device, Tensor};
use snn_core::rng::Seed;

use super::Augment;
use crate::Result;

/// A training set, from which batches are cut.
pub(crate) enum Source<'a> {
    /// Image by image, in parallel.
    Host { pixels: &'a [u8], shape: [usize; 3] },
    /// All images of a batch at once, where they are trained on: only the draws travel.
    Resident(Resident),
}

impl<'a> Source<'a> {
    /// Of the bytes `[N, C, H, W]` of images `[C, H, W]`.
    pub(crate) fn new(
        pixels: &'a [u8],
        shape: [usize; 3],
        augment: &Augment,
        device: &Device,
    ) -> Result<Self> {
        augment.check(shape)?;
        Ok(match device {
            Device::Cpu => Self::Host { pixels, shape },
            device => Self::Resident(Resident::new(pixels, shape, augment, device)?),
        })
    }

    /// The images at `rows`, augmented and normalised; see [`Augment::apply`].
    pub(crate) fn batch(
        &self,
        augment: &Augment,
        rows: &[u32],
        ids: &[u64],
        seed: Seed,
    ) -> Result<Tensor> {
        match self {
            Self::Host { pixels, shape } => {
                let rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
                augment.gather(pixels, *shape, &rows, ids, seed)
            }
            Self::Resident(resident) => resident.batch(augment, rows, ids, seed),
        }
    }
}

/// Images on a device, with black (byte 0) around them as far as they are moved.
pub(crate) struct Resident {
    /// u8 `[N, C, (H + 2 p) (W + 2 p)]`
    pixels: Tensor,
    shape: [usize; 3],
    padding: usize,
}

impl Resident {
    fn new(pixels: &[u8], shape: [usize; 3], augment: &Augment, device: &Device) -> Result<Self> {
        let ([channels, height, width], padding) = (shape, augment.crop_padding);
        let count = pixels.len() / (channels * height * width);
        let pixels = Tensor::from_slice(pixels, (count, channels, height, width), device)?
            .pad_with_zeros(2, padding, padding)?
            .pad_with_zeros(3, padding, padding)?
            .flatten_from(2)?
            .contiguous()?;
        Ok(Self {
            pixels,
            shape,
            padding,
        })
    }

    fn batch(&self, augment: &Augment, rows: &[u32], ids: &[u64], seed: Seed) -> Result<Tensor> {
        let [channels, height, width] = self.shape;
        let line = width + 2 * self.padding;
        // of the padded images: where the lines of each crop begin, and its columns in order
        let (mut lines, mut columns) = (Vec::new(), Vec::new());
        for &id in ids {
            let (down, right, flip) = augment.draw(id, seed);
            let [top, left] = [down, right].map(|shift| (shift + self.padding as isize) as usize);
            lines.extend((top..top + height).map(|y| (y * line) as u32));
            let column = |x: usize| if flip { width - 1 - x } else { x };
            columns.extend((0..width).map(|x| (left + column(x)) as u32));
        }
        let (count, device) = (rows.len(), self.pixels.device());
        let lines = Tensor::from_vec(lines, (count, height, 1), device)?;
        let columns = Tensor::from_vec(columns, (count, 1, width), device)?;
        let places = lines
            .broadcast_add(&columns)?
            .reshape((count, 1, height * width))?
            .broadcast_as((count, channels, height * width))?
            .contiguous()?;
        let images = self
            .pixels
            .index_select(&Tensor::new(rows, device)?, 0)?
            .gather(&places, 2)?
            .to_dtype(DType::F32)?
            .affine(1.0 / 127.5, -1.0)?;
        Ok(images.reshape((count, channels, height, width))?)
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Tolerance, assert_close, devices};

    use super::*;

    #[test]
    fn a_device_cuts_the_batches_of_the_host() -> Result<()> {
        let (shape, count) = ([3, 6, 5], 40);
        let bytes: Vec<u8> = (0..count * 90).map(|i| (i * 7 % 251) as u8 + 1).collect();
        let rows: Vec<u32> = (0..20).map(|i| i * 11 % count as u32).collect();
        let ids: Vec<u64> = rows.iter().map(|&row| u64::from(row)).collect();
        let all = [(0, false), (2, true), (5, false)];
        for (crop_padding, flip) in all {
            let augment = Augment { crop_padding, flip };
            let host = Source::new(&bytes, shape, &augment, &Device::Cpu)?;
            let host = host.batch(&augment, &rows, &ids, Seed::new(3))?;
            for device in devices() {
                let resident = Resident::new(&bytes, shape, &augment, &device)?;
                let batch = resident.batch(&augment, &rows, &ids, Seed::new(3))?;
                let tolerance = match device {
                    Device::Cpu => Tolerance::Exact,
                    // product and sum may be one operation there
                    _ => Tolerance::Rounding(1.0),
                };
                let what = format!("{augment:?} on {device:?}");
                assert_close(&batch.to_device(&Device::Cpu)?, &host, tolerance, &what);
            }
        }
        Ok(())
    }
}
