//! Images as the judge sees them before its class scores.

use ann::Ann;
use candle_core::Tensor;

use crate::{Error, Result, check};

/// Feature vectors `[N, F]`, one row per image.
#[derive(Debug, Clone)]
pub struct Features {
    values: Vec<f32>,
    dimension: usize,
}

impl Features {
    /// Features of `images` `[N, C, H, W]` in [-1, 1]: output of the judge's last activation layer
    /// ([`Ann::features`]), `batch` images at a time.
    ///
    /// # Errors
    /// Images that are not finite or not of the judge's shape, a batch of none.
    pub fn extract(judge: &Ann, images: &Tensor, batch: usize) -> Result<Self> {
        let n = check::images("images", images)?;
        let batch = check::batch(batch)?;
        let judge = judge.detached();
        let device = judge.parameters().device();
        let mut rows = Vec::new();
        for first in (0..n).step_by(batch) {
            let part = images
                .detach()
                .narrow(0, first, batch.min(n - first))?
                .force_contiguous()?
                .to_device(&device)?;
            rows.push(judge.features(&part)?);
        }
        Self::from_tensor(&Tensor::cat(&rows, 0)?)
    }

    /// Takes features `[N, F]` f32 from elsewhere.
    ///
    /// # Errors
    /// Another shape, no rows, a value that is not finite.
    pub fn from_tensor(rows: &Tensor) -> Result<Self> {
        let (n, dimension) = match *rows.dims() {
            [n, f] if n > 0 && f > 0 => (n, f),
            ref dims => {
                return Err(Error::argument(
                    "features",
                    format!("needs [N, F] with N and F at least 1, got {dims:?}"),
                ));
            }
        };
        let values: Vec<f32> = rows.flatten_all()?.to_vec1()?;
        if let Some(p) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::argument(
                "features",
                format!(
                    "row {} of {n} holds a value that is not finite",
                    p / dimension
                ),
            ));
        }
        Ok(Self { values, dimension })
    }

    /// The rows of several parts, in order.
    ///
    /// # Errors
    /// No part; features of different lengths.
    pub fn concat(parts: &[Self]) -> Result<Self> {
        let first = parts.first();
        let dimension = first.map_or(0, Self::dimension);
        if dimension == 0 || parts.iter().any(|part| part.dimension != dimension) {
            return Err(Error::argument(
                "features",
                "needs at least one part, and all of one length",
            ));
        }
        Ok(Self {
            values: parts
                .iter()
                .flat_map(|part| &part.values)
                .copied()
                .collect(),
            dimension,
        })
    }

    /// Number of images, N.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Length of a feature vector, F.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Features of image `index`.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimension..][..self.dimension]
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Errors
    /// No index, or one beyond the end.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        if indices.is_empty() || indices.iter().any(|&i| i >= self.len()) {
            return Err(Error::argument(
                "features",
                format!("needs at least one index, and all below {}", self.len()),
            ));
        }
        Ok(Self {
            values: indices.iter().flat_map(|&i| self.row(i)).copied().collect(),
            dimension: self.dimension,
        })
    }
}
