//! A convolution, map by map in the way that is fastest for what fired in it.

use candle_core::Tensor;
use rayon::prelude::*;

use super::events;
use crate::Result;
use crate::ops::conv2d::{Sums, slices};
use crate::ops::cpu::{Unwritten, with_weights};
use crate::ops::widest::{self, Task};

/// Share of numbers that are not zero below which events are faster than a dense convolution in the same order.
const FEW: f64 = 0.6;
/// The same beside Winograd's convolution.
const FEW_TRANSFORMED: f64 = 0.2;

/// Sizes of a convolution but for its channels and its kernel, which its weight tells.
#[derive(Debug)]
pub(super) struct Convolution {
    /// `[C, H, W]`
    pub(super) input: [usize; 3],
    /// `[O, H', W']`
    pub(super) output: [usize; 3],
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Convolution {
    /// Its kernels for so many maps and a weight `[O, C, k, k]`.
    pub(super) fn kernels(&self, weight: &[usize], maps: usize) -> slices::Convolution {
        let x = [&[maps], &self.input[..]].concat();
        let kernels = slices::Convolution::new(&x, weight, self.stride, self.padding);
        kernels.expect("sizes that the topology checked")
    }

    /// Share of numbers that are not zero below which a map goes by its events.
    fn few(&self, weight: &[usize], sums: Sums) -> f64 {
        match self.kernels(weight, 1).transforms(sums) {
            true => FEW_TRANSFORMED,
            false => FEW,
        }
    }

    /// The results of `maps` maps. Which way a map goes depends on nothing but what is in it.
    pub(super) fn forward(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        x: &[f32],
        maps: usize,
        sums: Sums,
    ) -> Result<Vec<f32>> {
        let limit = self.few(weight.dims(), sums);
        let [map, size] = [self.input, self.output].map(|shape| shape.iter().product::<usize>());
        let dense = |x: &[f32], maps: usize| {
            let kernels = self.kernels(weight.dims(), maps);
            with_weights(weight, bias, |weight, bias| {
                kernels.forward(x, weight, bias, sums)
            })
        };
        let (few, many): (Vec<usize>, Vec<usize>) = (0..maps)
            .into_par_iter()
            .partition(|i| share(&x[i * map..][..map]) < limit);
        if few.is_empty() {
            return Ok(dense(x, maps)?);
        }
        let mut y = Unwritten::new(maps * size);
        let out = y.places();
        // SAFETY: each map's result has its place.
        unsafe { events::forward(self, weight, bias, x, &few, out) }?;
        if !many.is_empty() {
            let x: Vec<f32> = many
                .par_iter()
                .flat_map_iter(|i| x[i * map..][..map].iter().copied())
                .collect();
            let dense = dense(&x, many.len())?;
            many.par_iter()
                .zip(dense.par_chunks_exact(size))
                .for_each(|(i, from)| {
                    // SAFETY: as above, and these are other maps.
                    unsafe {
                        out.at(i * size)
                            .copy_from_nonoverlapping(from.as_ptr(), size)
                    };
                });
        }
        // SAFETY: every map went one way or the other.
        Ok(unsafe { y.written() })
    }
}

/// Share of numbers that are not zero.
fn share(x: &[f32]) -> f64 {
    struct Count<'a>(&'a [f32]);

    impl Task for Count<'_> {
        type Output = u32;

        #[inline(always)]
        fn run(self) -> u32 {
            self.0.iter().map(|x| u32::from(*x != 0.0)).sum()
        }
    }

    f64::from(widest::run(Count(x))) / x.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::conv2d::conv2d_with;
    use crate::rng::Seed;

    #[test]
    fn the_share_counts_what_is_not_zero() {
        let mut x = vec![0.0; 40_000];
        x[15_000..25_000].fill(-0.5);
        assert_eq!(share(&x), 0.25);
        assert_eq!(share(&[]), 0.0);
    }

    /// Maps of which little fired and maps of which much did, in one batch, over several tasks, blocks of channels and
    /// columns: each is one of the dense convolution's two results, bit for bit.
    #[test]
    fn every_map_goes_its_own_way() -> Result<()> {
        let mut stream = Seed::new(1).stream();
        for (maps, [c, h, w], o, [kernel, stride, padding]) in [
            (1, [1, 1, 1], 1, [1, 1, 0]),
            (38, [67, 5, 7], 33, [3, 2, 1]),
            (99, [3, 8, 8], 130, [3, 1, 1]),
            (4, [64, 20, 20], 64, [3, 1, 0]),
        ] {
            let tensor = |shape: &[usize], value: &mut dyn FnMut(usize) -> f32| {
                let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
                Tensor::from_vec(values, shape, &Device::Cpu)
            };
            for rates in [&[0.1][..], &[0.9], &[0.1, 0.9, 0.3, 0.0]] {
                let x = tensor(&[maps, c, h, w], &mut |i| {
                    let rate = rates[i / (c * h * w) % rates.len()];
                    let value = 0.25 + stream.uniform();
                    f32::from(u8::from(stream.uniform() < rate)) * value
                })?;
                let weight = tensor(&[o, c, kernel, kernel], &mut |_| stream.uniform() - 0.5)?;
                let bias = tensor(&[o], &mut |_| stream.uniform() - 0.5)?;
                for (bias, sums) in [None, Some(&bias)]
                    .into_iter()
                    .flat_map(|bias| [(bias, Sums::Ordered), (bias, Sums::Fastest)])
                {
                    let dense = |sums| {
                        let y = conv2d_with(&x, &weight, bias, stride, padding, sums)?;
                        Ok::<_, crate::Error>((y.dims4()?, y.flatten_all()?.to_vec1::<f32>()?))
                    };
                    let ((_, _, height, width), ordered) = dense(Sums::Ordered)?;
                    let fastest = dense(sums)?.1;
                    let convolution = Convolution {
                        input: [c, h, w],
                        output: [o, height, width],
                        stride,
                        padding,
                    };
                    let x = x.flatten_all()?.to_vec1::<f32>()?;
                    let y = convolution.forward(&weight, bias, &x, maps, sums)?;
                    let limit = convolution.few(weight.dims(), sums);
                    let size = o * height * width;
                    for (i, x) in x.chunks_exact(c * h * w).enumerate() {
                        let expected = if share(x) < limit { &ordered } else { &fastest };
                        let map = i * size..(i + 1) * size;
                        assert_eq!(
                            y[map.clone()],
                            expected[map],
                            "map {i} of {maps}, {rates:?}"
                        );
                    }
                }
            }
        }
        Ok(())
    }
}
