//! Structural similarity (Wang et al. 2004).

use candle_core::Tensor;
use rayon::prelude::*;

use crate::{Error, Result, check};

/// Side of the window.
const WINDOW: usize = 11;
/// Deviation of the window's weights, in pixels.
const SIGMA: f64 = 1.5;
/// Largest pixel less smallest.
const RANGE: f64 = 2.0;

/// SSIM of each pair of images, `a` and `b` `[N, C, H, W]` in [-1, 1]; 1 for equal images.
///
/// Gaussian window 11x11 of deviation 1.5, `K1 = 0.01`, `K2 = 0.03`, range 2, weighted variances without Bessel's
/// correction, windows that lie wholly inside the image, mean over windows and channels.
///
/// # Errors
/// Images that are not finite, of different shapes, or smaller than the window.
pub fn ssim(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let n = check::images("ssim", a)?;
    check::images("ssim", b)?;
    let (_, _, h, w) = a.dims4()?;
    if a.dims() != b.dims() || h < WINDOW || w < WINDOW {
        return Err(Error::argument(
            "ssim",
            format!(
                "needs images of one shape and at least {WINDOW}x{WINDOW}, got {:?} and {:?}",
                a.dims(),
                b.dims()
            ),
        ));
    }
    let a: Vec<f32> = a.flatten_all()?.to_vec1()?;
    let b: Vec<f32> = b.flatten_all()?.to_vec1()?;
    let size = a.len() / n;
    let kernel = kernel();
    let image = |(a, b): (&[f32], &[f32])| {
        let planes = a.chunks(h * w).zip(b.chunks(h * w));
        let count = size / (h * w);
        planes.map(|(a, b)| plane(a, b, h, w, &kernel)).sum::<f64>() / count as f64
    };
    Ok(a.par_chunks(size)
        .zip(b.par_chunks(size))
        .map(image)
        .collect())
}

fn kernel() -> [f64; WINDOW] {
    let centre = (WINDOW / 2) as f64;
    let weights: [f64; WINDOW] =
        std::array::from_fn(|i| (-0.5 * ((i as f64 - centre) / SIGMA).powi(2)).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|v| v / sum)
}

fn plane(a: &[f32], b: &[f32], h: usize, w: usize, kernel: &[f64; WINDOW]) -> f64 {
    let filtered = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        let (rows, columns) = (h - WINDOW + 1, w - WINDOW + 1);
        let mut across = vec![0f64; h * columns];
        for i in 0..h {
            for j in 0..columns {
                across[i * columns + j] = (0..WINDOW)
                    .map(|d| {
                        let p = i * w + j + d;
                        kernel[d] * f(f64::from(a[p]), f64::from(b[p]))
                    })
                    .sum();
            }
        }
        let mut out = vec![0f64; rows * columns];
        for i in 0..rows {
            for j in 0..columns {
                out[i * columns + j] = (0..WINDOW)
                    .map(|d| kernel[d] * across[(i + d) * columns + j])
                    .sum();
            }
        }
        out
    };
    let (mean_a, mean_b) = (filtered(&|x, _| x), filtered(&|_, y| y));
    let (aa, bb, ab) = (
        filtered(&|x, _| x * x),
        filtered(&|_, y| y * y),
        filtered(&|x, y| x * y),
    );
    let (c1, c2) = ((0.01 * RANGE).powi(2), (0.03 * RANGE).powi(2));
    let count = mean_a.len();
    let sum: f64 = (0..count)
        .map(|p| {
            let (ma, mb) = (mean_a[p], mean_b[p]);
            let (va, vb, cov) = (aa[p] - ma * ma, bb[p] - mb * mb, ab[p] - ma * mb);
            (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        })
        .sum();
    sum / count as f64
}
