//! Images laid over each other, mirrored and shifted.

use candle_core::Tensor;

use super::Features;
use crate::{Error, Result, check};

/// Windows of images that are `margin` pixels smaller at each side than the images, and shifted by multiples of `step`.
///
/// The window in the middle of a training image is in one of the [`Windows::all`] of a copy that was mirrored and shifted by up
/// to `margin` pixels, if `step` divides the shift, whatever was put in at the borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    margin: usize,
    step: usize,
}

impl Windows {
    /// Both in pixels; a margin of 0 leaves the whole image and its mirror image.
    ///
    /// # Errors
    /// A step of 0.
    pub fn new(margin: usize, step: usize) -> Result<Self> {
        if step == 0 {
            return Err(Error::argument("step", "must be at least 1"));
        }
        Ok(Self { margin, step })
    }

    /// The window in the middle.
    ///
    /// # Errors
    /// Images that are not `[N, C, H, W]` or not larger than twice the margin.
    pub fn middle(&self, images: &Tensor) -> Result<Tensor> {
        self.at(images, self.margin, self.margin)
    }

    /// What `of` makes of each window of the images, then of the mirrored ones, from the upper left on.
    ///
    /// # Errors
    /// As of [`Windows::middle`], and those of `of`.
    pub fn all(
        &self,
        images: &Tensor,
        of: impl Fn(&Tensor) -> Result<Features>,
    ) -> Result<Vec<Features>> {
        let mut found = Vec::new();
        for images in [images, &mirrored(images)?] {
            for y in (0..=2 * self.margin).step_by(self.step) {
                for x in (0..=2 * self.margin).step_by(self.step) {
                    found.push(of(&self.at(images, y, x)?)?);
                }
            }
        }
        Ok(found)
    }

    fn at(&self, images: &Tensor, y: usize, x: usize) -> Result<Tensor> {
        let (_, _, h, w) = images.dims4()?;
        if h.min(w) <= 2 * self.margin {
            return Err(Error::argument(
                "margin",
                format!(
                    "must be less than half of {}, got {}",
                    h.min(w),
                    self.margin
                ),
            ));
        }
        let rows = images.narrow(2, y, h - 2 * self.margin)?;
        Ok(rows.narrow(3, x, w - 2 * self.margin)?.contiguous()?)
    }
}

/// Images `[N, C, H, W]` with left and right exchanged.
///
/// # Errors
/// Another rank.
pub fn mirrored(images: &Tensor) -> Result<Tensor> {
    images.dims4()?;
    Ok(images.flip(&[3])?)
}

impl Features {
    /// Means of `images` `[N, C, H, W]` over squares of `side` pixels: what is left of a picture seen from afar. Rows and
    /// columns at the end that do not fill a square have no part in it.
    ///
    /// # Errors
    /// Images that are not finite or smaller than a square, a side of 0.
    pub fn pixels(images: &Tensor, side: usize) -> Result<Self> {
        check::images("images", images)?;
        let (_, _, h, w) = images.dims4()?;
        if side == 0 || side > h || side > w {
            return Err(Error::argument(
                "side",
                format!("needs 1 to {}, got {side}", h.min(w)),
            ));
        }
        Self::from_tensor(&images.avg_pool2d(side)?.flatten_from(1)?)
    }
}
