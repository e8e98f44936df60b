//! From pixels in [-1, 1] to the input of the first layer over time.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::rng::{Seed, unit};
use crate::{Error, Result, ops};

/// How an image enters the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Signed Poisson (rate) coding: at every step `s = sign(x)` with probability `|x|`, else 0.
    #[default]
    Poisson,
    /// The pixel itself is the input current of every step.
    Direct,
}

/// Signed Poisson spikes `s = sign(x) [u <= |x|]`, u uniform in [0, 1).
///
/// `images` `[N, C, H, W]` f32 in [-1, 1]; result `[steps, N, C, H, W]` for the steps `first_step ..`. The draw of pixel p of
/// sample `ids[n]` at step t is lane `p % 4` of Philox counter `[p / 4, t, id]`: a sample's spikes depend on the seed and
/// its id alone, whatever batch, chunk of time or device it is in.
///
/// # Errors
/// A number of ids other than N; no images; no steps.
pub fn poisson(
    images: &Tensor,
    ids: &[u64],
    first_step: usize,
    steps: usize,
    seed: Seed,
) -> Result<Tensor> {
    let coder = Coder::new(images, ids, first_step, steps, seed)?;
    #[cfg(feature = "cuda")]
    if ops::cuda::takes(&[images]) {
        return Ok(images.contiguous()?.apply_op1_no_bwd(&coder)?);
    }
    let values: Vec<f32> = images.flatten_all()?.to_vec1()?;
    Ok(Tensor::from_vec(
        coder.draw(&values),
        coder.shape(images.dims()),
        images.device(),
    )?)
}

/// Signed Poisson spikes as a function that lets the gradient through: forward as [`poisson`], backward the identity
/// per step (straight-through estimator), so that the gradient of the image is the sum over time.
///
/// # Errors
/// As for [`poisson`].
pub fn poisson_straight_through(
    images: &Tensor,
    ids: &[u64],
    first_step: usize,
    steps: usize,
    seed: Seed,
) -> Result<Tensor> {
    let coder = Coder::new(images, ids, first_step, steps, seed)?;
    #[cfg(feature = "cuda")]
    if ops::cuda::takes(&[images]) {
        return Ok(images.contiguous()?.apply_op1(coder)?);
    }
    if ops::cpu::takes(&[images]) {
        return Ok(images.contiguous()?.apply_op1(coder)?);
    }
    let spikes = poisson(&images.detach(), ids, first_step, steps, seed)?;
    let through = images.unsqueeze(0)?.broadcast_as(spikes.shape())?;
    Ok((&through + (spikes - &through)?.detach())?)
}

struct Coder {
    ids: Vec<u64>,
    first_step: usize,
    steps: usize,
    seed: Seed,
}

impl Coder {
    fn new(
        images: &Tensor,
        ids: &[u64],
        first_step: usize,
        steps: usize,
        seed: Seed,
    ) -> Result<Self> {
        let n = images.dim(0)?;
        if ids.len() != n || images.elem_count() == 0 || steps == 0 {
            return Err(Error::argument(
                "poisson",
                format!(
                    "{n} images, {} sample ids and {steps} steps: needs as many ids as images, and at least one of each",
                    ids.len()
                ),
            ));
        }
        Ok(Self {
            ids: ids.to_vec(),
            first_step,
            steps,
            seed,
        })
    }

    fn shape(&self, images: &[usize]) -> Vec<usize> {
        [&[self.steps], images].concat()
    }

    fn draw(&self, images: &[f32]) -> Vec<f32> {
        let n = self.ids.len();
        let pixels = images.len() / n;
        let mut spikes = vec![0f32; self.steps * images.len()];
        spikes
            .par_chunks_mut(pixels)
            .enumerate()
            .for_each(|(row, out)| {
                let (t, sample) = ((self.first_step + row / n) as u32, row % n);
                let image = &images[sample * pixels..][..pixels];
                let id = self.ids[sample];
                for (block, (out, x)) in out.chunks_mut(4).zip(image.chunks(4)).enumerate() {
                    let words = self
                        .seed
                        .words([block as u32, t, id as u32, (id >> 32) as u32]);
                    for ((s, &x), word) in out.iter_mut().zip(x).zip(words) {
                        if unit(word) <= x.abs() && x != 0.0 {
                            *s = x.signum();
                        }
                    }
                }
            });
        spikes
    }
}

/// Forward the spikes, backward the sum over the steps.
impl CustomOp1 for Coder {
    fn name(&self) -> &'static str {
        "poisson"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let spikes = self.draw(ops::cpu::values(images, layout)?);
        Ok((
            CpuStorage::F32(spikes),
            Shape::from(self.shape(layout.dims())),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        images: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda::draw(self, images, layout)
    }

    fn bwd(
        &self,
        images: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if gradient.device().is_cuda() {
            return Ok(Some(cuda::total(gradient, images.shape())?));
        }
        let sum = ops::cpu::with_values(gradient, |g| {
            ops::time::total(g, images.elem_count(), |g| g)
        })?;
        Ok(Some(Tensor::from_vec(
            sum,
            images.shape(),
            images.device(),
        )?))
    }
}
