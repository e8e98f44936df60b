//! The sizes of a convolution.

use std::ops::Range;

/// Sizes of one convolution; all are consistent with one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) out_channels: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Geometry {
    /// For an input `[..., C, H, W]` and a weight `[O, C, k, k]`; `None` if they do not fit.
    pub(super) fn new(
        x: &[usize],
        weight: &[usize],
        stride: usize,
        padding: usize,
    ) -> Option<Self> {
        let (leading, image) = x.split_at(x.len().checked_sub(3)?);
        let (&[channels, height, width], &[out_channels, wc, kernel, k2]) = (image, weight) else {
            return None;
        };
        let sizes = [channels, height, width, out_channels, kernel, stride];
        if leading.is_empty() || channels != wc || kernel != k2 || sizes.contains(&0) {
            return None;
        }
        let side = |n: usize| {
            let padded = n.checked_add(padding.checked_mul(2)?)?;
            Some(padded.checked_sub(kernel)? / stride + 1)
        };
        Some(Self {
            images: leading.iter().product(),
            channels,
            height,
            width,
            out_channels,
            out_height: side(height)?,
            out_width: side(width)?,
            kernel,
            stride,
            padding,
        })
    }

    /// Shape of the result for an input of shape `x`.
    pub(super) fn out_shape(&self, x: &[usize]) -> Vec<usize> {
        let image = [self.out_channels, self.out_height, self.out_width];
        [&x[..x.len() - 3], &image].concat()
    }

    /// Numbers of an input image.
    pub(super) fn image(&self) -> usize {
        self.channels * self.plane()
    }

    /// Numbers of a channel of an input image.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Positions of an output channel.
    pub(super) fn out_plane(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Weights between one channel and one output channel.
    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Taps over the input, not over the padding, at output `i` along an axis of `side` inputs.
    pub(super) fn taps_inside(&self, i: usize, side: usize) -> Range<usize> {
        let first = i * self.stride;
        let from = self.padding.saturating_sub(first).min(self.kernel);
        let to = (side + self.padding).saturating_sub(first).min(self.kernel);
        from..to.max(from)
    }

    /// Outputs whose tap `a` is over the input along an axis of `side` inputs and `out_side` outputs.
    pub(super) fn outputs_inside(&self, a: usize, side: usize, out_side: usize) -> Range<usize> {
        let from = self
            .padding
            .saturating_sub(a)
            .div_ceil(self.stride)
            .min(out_side);
        let to = (side + self.padding)
            .saturating_sub(a)
            .div_ceil(self.stride)
            .min(out_side);
        from..to.max(from)
    }

    /// The convolution that takes the output's gradient to the input's: the weights transposed and turned by half a
    /// turn. It exists at stride 1 if the padding is smaller than the kernel.
    pub(super) fn transposed(&self) -> Option<Self> {
        (self.stride == 1 && self.padding < self.kernel).then(|| Self {
            channels: self.out_channels,
            height: self.out_height,
            width: self.out_width,
            out_channels: self.channels,
            out_height: self.height,
            out_width: self.width,
            padding: self.kernel - 1 - self.padding,
            ..*self
        })
    }
}
