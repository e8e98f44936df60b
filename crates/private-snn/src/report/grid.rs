//! Images side by side.

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};

use super::png;

/// Pixels between two images.
const GAP: usize = 1;

/// A PNG with its size.
#[derive(Debug, Clone)]
pub struct Picture {
    /// PNG bytes.
    pub png: Vec<u8>,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// Images `[N, C, H, W]` (f32 in [-1, 1], C 1 or 3) in rows of `columns`, on white.
///
/// # Errors
/// No images; a number of channels that is neither 1 nor 3.
pub fn grid(images: &Tensor, columns: usize) -> Result<Picture> {
    let (n, channels, h, w) = images.dims4()?;
    if n == 0 || columns == 0 || !matches!(channels, 1 | 3) {
        bail!(
            "a grid needs images of 1 or 3 channels, got {:?} in {columns} columns",
            images.dims()
        );
    }
    let columns = columns.min(n);
    let rows = n.div_ceil(columns);
    let (width, height) = (columns * (w + GAP) - GAP, rows * (h + GAP) - GAP);
    let values: Vec<f32> = images.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let mut rgb = vec![255u8; width * height * 3];
    for (i, image) in values.chunks(channels * h * w).enumerate() {
        let (top, left) = (i / columns * (h + GAP), i % columns * (w + GAP));
        for y in 0..h {
            for x in 0..w {
                for c in 0..3 {
                    let value = image[(c.min(channels - 1) * h + y) * w + x];
                    rgb[((top + y) * width + left + x) * 3 + c] = byte(value);
                }
            }
        }
    }
    Ok(Picture {
        png: png::encode(&rgb, width as u32, height as u32)?,
        width,
        height,
    })
}

/// From [-1, 1] to 0..=255.
fn byte(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn images_are_laid_out_in_rows() {
        let images = Tensor::from_vec(vec![-1f32, 0.0, 1.0], (3, 1, 1, 1), &Device::Cpu).unwrap();
        let picture = grid(&images, 2).unwrap();
        assert_eq!((picture.width, picture.height), (3, 3));
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(picture.png))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; 27];
        reader.next_frame(&mut rgb).unwrap();
        let reds: Vec<u8> = rgb.iter().step_by(3).copied().collect();
        assert_eq!(reds, [0, 255, 128, 255, 255, 255, 255, 255, 255]);
        assert!(
            grid(
                &images
                    .reshape((1, 3, 1, 1))
                    .unwrap()
                    .repeat((1, 2, 1, 1))
                    .unwrap(),
                1
            )
            .is_err()
        );
    }
}
