//! What the ascent does to one image in memory: planes `[H, W]`, row after row.

/// Gaussian blur of deviation `sigma` pixels, cut off at three deviations; the border pixels go on beyond the border.
pub(super) struct Blur {
    kernel: Vec<f32>,
    scratch: Vec<f32>,
}

impl Blur {
    pub(super) fn new(sigma: f64) -> Self {
        let reach = (3.0 * sigma).ceil() as i64;
        let weights: Vec<f64> = (-reach..=reach)
            .map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        Self {
            kernel: weights.iter().map(|w| (w / sum) as f32).collect(),
            scratch: Vec::new(),
        }
    }

    /// Blurs every plane of `image` `[C, height, width]`.
    pub(super) fn apply(&mut self, image: &mut [f32], height: usize, width: usize) {
        let reach = self.kernel.len() / 2;
        self.scratch.resize(height * width, 0.0);
        let at = |i: usize, d: usize, n: usize| (i + d).saturating_sub(reach).min(n - 1);
        for plane in image.chunks_mut(height * width) {
            for i in 0..height {
                for j in 0..width {
                    let taps = self.kernel.iter().enumerate();
                    self.scratch[i * width + j] = taps
                        .map(|(d, k)| k * plane[i * width + at(j, d, width)])
                        .sum();
                }
            }
            for i in 0..height {
                for j in 0..width {
                    let taps = self.kernel.iter().enumerate();
                    plane[i * width + j] = taps
                        .map(|(d, k)| k * self.scratch[at(i, d, height) * width + j])
                        .sum();
                }
            }
        }
    }
}

/// Rolls every plane of `image` `[C, height, width]` down by `dy` and right by `dx`; what leaves enters opposite.
pub(super) fn roll(
    image: &[f32],
    out: &mut [f32],
    height: usize,
    width: usize,
    dy: usize,
    dx: usize,
) {
    for (plane, out) in image
        .chunks(height * width)
        .zip(out.chunks_mut(height * width))
    {
        for (i, row) in plane.chunks(width).enumerate() {
            let i = (i + dy) % height;
            let out = &mut out[i * width..][..width];
            let split = width - dx % width;
            out[width - split..].copy_from_slice(&row[..split]);
            out[..width - split].copy_from_slice(&row[split..]);
        }
    }
}

/// Divides by the root mean square; zeros stay.
pub(super) fn to_unit(values: &mut [f32]) {
    let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
    let scale = (square / values.len() as f64).sqrt();
    if scale > 0.0 {
        for v in values {
            *v = (f64::from(*v) / scale) as f32;
        }
    }
}

/// Smooths the corner of the total variation at flat places.
const FLAT: f32 = 1e-4;

/// Subtracts `weight` times the gradient of the total variation
/// `sum over pixels of sqrt((x[i+1,j] - x[i,j])^2 + (x[i,j+1] - x[i,j])^2 + 1e-4)`, differences beyond the border being 0.
pub(super) fn subtract_total_variation(
    image: &[f32],
    gradient: &mut [f32],
    height: usize,
    width: usize,
    weight: f32,
) {
    for (x, g) in image
        .chunks(height * width)
        .zip(gradient.chunks_mut(height * width))
    {
        for i in 0..height {
            for j in 0..width {
                let p = i * width + j;
                let down = if i + 1 < height {
                    x[p + width] - x[p]
                } else {
                    0.0
                };
                let right = if j + 1 < width { x[p + 1] - x[p] } else { 0.0 };
                let share = weight / (down * down + right * right + FLAT).sqrt();
                g[p] += share * (down + right);
                if i + 1 < height {
                    g[p + width] -= share * down;
                }
                if j + 1 < width {
                    g[p + 1] -= share * right;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<f32> {
        let mut stream = snn_core::rng::Seed::new(4).stream();
        (0..n).map(|_| stream.uniform() * 2.0 - 1.0).collect()
    }

    #[test]
    fn blur_keeps_flat_images_and_spreads_a_point() {
        let mut flat = vec![0.7f32; 2 * 5 * 6];
        Blur::new(1.0).apply(&mut flat, 5, 6);
        assert!(flat.iter().all(|v| (v - 0.7).abs() < 1e-6));

        let (h, w) = (15, 17);
        let mut point = vec![0f32; h * w];
        point[7 * w + 8] = 1.0;
        Blur::new(1.0).apply(&mut point, h, w);
        // the continuous Gaussian sampled at whole pixels sums to 1 within 1e-8, the cut at three deviations to 0.3 %
        for (i, j) in [(7, 8), (7, 9), (9, 8), (6, 10)] {
            let (y, x) = (i as f64 - 7.0, j as f64 - 8.0);
            let expected = (-0.5 * (y * y + x * x)).exp() / std::f64::consts::TAU;
            let got = f64::from(point[i * w + j]);
            assert!(
                (got / expected - 1.0).abs() < 0.01,
                "({i}, {j}): {got} for {expected}"
            );
        }
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn unit_values_have_a_mean_square_of_one() {
        // squares of the first would leave the range of f32
        for scale in [1e-30f32, 1e-3, 1e30] {
            let mut values: Vec<f32> = noise(60).iter().map(|v| v * scale).collect();
            let ratio = values[7] / values[3];
            to_unit(&mut values);
            let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((square / 60.0 - 1.0).abs() < 1e-6, "{scale}: {square}");
            assert!(
                (values[7] / values[3] / ratio - 1.0).abs() < 1e-5,
                "{scale}"
            );
        }
        let mut zeros = [0.0; 5];
        to_unit(&mut zeros);
        assert_eq!(zeros, [0.0; 5]);
    }

    #[test]
    fn rolling_back_gives_the_image() {
        let (h, w) = (5, 7);
        let image = noise(2 * h * w);
        for (dy, dx) in [(0, 0), (1, 0), (0, 3), (4, 6)] {
            let (mut there, mut back) = (vec![0.0; image.len()], vec![0.0; image.len()]);
            roll(&image, &mut there, h, w, dy, dx);
            assert_eq!(there[dy * w + dx], image[0]);
            roll(&there, &mut back, h, w, h - dy, w - dx);
            assert_eq!(back, image);
        }
    }

    #[test]
    fn total_variation_gradient_matches_differences() {
        let (h, w) = (4, 5);
        let image = noise(2 * h * w);
        let variation = |x: &[f32]| -> f64 {
            let mut sum = 0.0;
            for x in x.chunks(h * w) {
                for i in 0..h {
                    for j in 0..w {
                        let v = |i: usize, j: usize| f64::from(x[i * w + j]);
                        let down = if i + 1 < h {
                            v(i + 1, j) - v(i, j)
                        } else {
                            0.0
                        };
                        let right = if j + 1 < w {
                            v(i, j + 1) - v(i, j)
                        } else {
                            0.0
                        };
                        sum += (down * down + right * right + f64::from(FLAT)).sqrt();
                    }
                }
            }
            sum
        };
        let mut gradient = vec![0.0; image.len()];
        subtract_total_variation(&image, &mut gradient, h, w, 0.5);
        for p in 0..image.len() {
            let shifted = |d: f32| {
                let mut x = image.clone();
                x[p] += d;
                (variation(&x), f64::from(x[p]))
            };
            let ((up, xu), (down, xd)) = (shifted(1e-3), shifted(-1e-3));
            let expected = -0.5 * (up - down) / (xu - xd);
            assert!(
                (f64::from(gradient[p]) - expected).abs() < 1e-3,
                "pixel {p}"
            );
        }
    }
}
