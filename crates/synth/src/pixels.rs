//! What happens to the pixels of one image between two passes: shift, total variation, Adam. Plain code on slices, one
//! task per image, so that an image's numbers depend on nothing but the image.

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Step size and bias corrections of one Adam step (Kingma and Ba 2015; betas 0.9 and 0.999, epsilon 1e-8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    rate: f32,
    root_correction: f32,
}

impl AdamStep {
    /// Step `t`, from 1.
    pub(crate) fn new(learning_rate: f64, t: usize) -> Self {
        let t = t as f64;
        let first = 1.0 - f64::from(BETA1).powf(t);
        let second = 1.0 - f64::from(BETA2).powf(t);
        Self {
            rate: (learning_rate / first) as f32,
            root_correction: second.sqrt() as f32,
        }
    }

    /// Moves pixels against the gradient and clamps them to [-1, 1].
    pub(crate) fn apply(self, pixels: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((x, &g), m), v) in pixels.iter_mut().zip(gradient).zip(m).zip(v) {
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            let step = self.rate * *m / (v.sqrt() / self.root_correction + EPSILON);
            *x = (*x - step).clamp(-1.0, 1.0);
        }
    }
}

/// `out[c, (y + dy) mod H, (x + dx) mod W] = image[c, y, x]` for an image `[C, H, W]`.
pub(crate) fn roll(
    image: &[f32],
    out: &mut [f32],
    [height, width]: [usize; 2],
    [dy, dx]: [usize; 2],
) {
    let plane = height * width;
    for (image, out) in image.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
        for (y, row) in image.chunks_exact(width).enumerate() {
            let to = &mut out[(y + dy) % height * width..][..width];
            let (head, tail) = row.split_at(width - dx);
            to[dx..].copy_from_slice(head);
            to[..dx].copy_from_slice(tail);
        }
    }
}

/// Adds the gradient of the anisotropic total variation, `weight` times the sum of `|difference|` over vertical and
/// horizontal neighbours, and returns that term. The gradient of `|0|` is taken as 0.
pub(crate) fn total_variation(
    image: &[f32],
    gradient: &mut [f32],
    [height, width]: [usize; 2],
    weight: f32,
) -> f32 {
    let plane = height * width;
    let mut sum = 0.0;
    for (image, gradient) in image
        .chunks_exact(plane)
        .zip(gradient.chunks_exact_mut(plane))
    {
        let mut pair = |a: usize, b: usize| {
            let difference = image[b] - image[a];
            sum += difference.abs();
            let slope = if difference > 0.0 {
                weight
            } else if difference < 0.0 {
                -weight
            } else {
                0.0
            };
            gradient[b] += slope;
            gradient[a] -= slope;
        };
        for y in 0..height {
            for x in 0..width {
                let here = y * width + x;
                if x + 1 < width {
                    pair(here, here + 1);
                }
                if y + 1 < height {
                    pair(here, here + width);
                }
            }
        }
    }
    sum * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the textbook form, in f64, over several steps.
    #[test]
    fn adam_against_the_textbook() {
        let gradients = [
            [0.5f32, -2.0, 1e-3],
            [0.25, -1.0, -4e-3],
            [-0.5, -3.0, 2e-3],
        ];
        let mut x = [0.1f32, 0.2, -0.3];
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        let mut expected = x.map(f64::from);
        let (mut em, mut ev) = ([0f64; 3], [0f64; 3]);
        for (t, g) in gradients.iter().enumerate() {
            AdamStep::new(0.01, t + 1).apply(&mut x, g, &mut m, &mut v);
            for i in 0..3 {
                let g = f64::from(g[i]);
                em[i] = 0.9 * em[i] + 0.1 * g;
                ev[i] = 0.999 * ev[i] + 0.001 * g * g;
                let m_hat = em[i] / (1.0 - 0.9f64.powi(t as i32 + 1));
                let v_hat = ev[i] / (1.0 - 0.999f64.powi(t as i32 + 1));
                expected[i] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        for i in 0..3 {
            assert!(
                (f64::from(x[i]) - expected[i]).abs() < 1e-6,
                "{x:?} {expected:?}"
            );
        }
    }

    #[test]
    fn adam_clamps() {
        let mut x = [0.99, -0.99];
        AdamStep::new(0.1, 1).apply(&mut x, &[-1.0, 1.0], &mut [0.0; 2], &mut [0.0; 2]);
        assert_eq!(x, [1.0, -1.0]);
    }

    #[test]
    fn roll_moves_and_comes_back() {
        let image: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32).collect();
        let (mut there, mut back) = (vec![0.0; 24], vec![0.0; 24]);
        roll(&image, &mut there, [3, 4], [1, 3]);
        for c in 0..2 {
            for y in 0..3 {
                for x in 0..4 {
                    assert_eq!(
                        there[c * 12 + (y + 1) % 3 * 4 + (x + 3) % 4],
                        image[c * 12 + y * 4 + x]
                    );
                }
            }
        }
        roll(&there, &mut back, [3, 4], [3 - 1, 4 - 3]);
        assert_eq!(back, image);
    }

    /// Finite differences: the term is piecewise linear, so central differences are exact up to rounding.
    #[test]
    fn total_variation_gradient() {
        let image: Vec<f32> = [
            0.3, -0.2, 0.9, 0.1, 0.4, -0.7, 0.25, 0.0, 0.6, -0.9, 0.8, 0.5,
        ]
        .into();
        let weight = 0.5;
        let term =
            |image: &[f32]| f64::from(total_variation(image, &mut [0.0; 12], [2, 3], weight));
        // by hand, first channel [[.3, -.2, .9], [.1, .4, -.7]]: rows .5 + 1.1 + .3 + 1.1, columns .2 + .6 + 1.6
        let mut first = [0.0; 6];
        let by_hand = 0.5 * (0.5 + 1.1 + 0.3 + 1.1 + 0.2 + 0.6 + 1.6);
        assert!((total_variation(&image[..6], &mut first, [2, 3], weight) - by_hand).abs() < 1e-6);
        let mut gradient = [0.0; 12];
        total_variation(&image, &mut gradient, [2, 3], weight);
        for i in 0..12 {
            let (mut up, mut down) = (image.clone(), image.clone());
            up[i] += 0.01;
            down[i] -= 0.01;
            let slope = (term(&up) - term(&down)) / 0.02;
            assert!(
                (slope - f64::from(gradient[i])).abs() < 1e-3,
                "pixel {i}: {slope} and {}",
                gradient[i]
            );
        }
    }
}
