//! What the CPU kernels share: views of tensors as slices, a matrix product, a buffer written by many tasks.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

use super::memory::room;
use super::widest::{self, Task};

/// Whether the fast path takes these tensors: f32 on the CPU.
pub(crate) fn takes(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// A tensor as a custom op receives it.
pub(super) type View<'a> = (&'a CpuStorage, &'a Layout);

/// The numbers of a contiguous f32 tensor, as a custom op receives them.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all: &[f32] = storage.as_slice()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// Calls `f` with the numbers of an f32 CPU tensor, which is copied first if it is not contiguous.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(values(storage, layout)?)),
        _ => candle_core::bail!("a CPU kernel was given a tensor on another device"),
    }
}

/// [`with_values`] of several tensors.
pub(crate) fn with_all<const K: usize, R>(
    tensors: [&Tensor; K],
    f: impl FnOnce([&[f32]; K]) -> R,
) -> Result<R> {
    let tensors: Vec<Tensor> = tensors
        .iter()
        .map(|tensor| tensor.contiguous())
        .collect::<Result<_>>()?;
    let storages: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = [[].as_slice(); K];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&storages) {
        *slice = match &**storage {
            Storage::Cpu(storage) => values(storage, layout)?,
            _ => candle_core::bail!("a CPU kernel was given a tensor on another device"),
        };
    }
    Ok(f(slices))
}

/// [`with_values`] of a weight and of a bias, if there is one.
pub(crate) fn with_weights<R>(
    weight: &Tensor,
    bias: Option<&Tensor>,
    f: impl FnOnce(&[f32], Option<&[f32]>) -> R,
) -> Result<R> {
    with_values(weight, |weight| match bias {
        Some(bias) => with_values(bias, |bias| f(weight, Some(bias))),
        None => Ok(f(weight, None)),
    })?
}

/// A buffer to which parallel tasks write at places that no two of them share.
pub(crate) struct Disjoint<T = f32>(*mut T);

impl<T> Clone for Disjoint<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Disjoint<T> {}

// SAFETY: the pointer is only followed through `slice`, whose callers promise that places are not shared.
unsafe impl<T: Send> Send for Disjoint<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<T> {}

impl<T> Disjoint<T> {
    pub(crate) fn new(buffer: &mut [T]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    /// Where number `offset` of the buffer is.
    ///
    /// # Safety
    /// It lies in the buffer.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }

    /// # Safety
    /// `offset..offset + len` lies in the buffer, which outlives the slice, and no other task touches that range.
    pub(crate) unsafe fn slice<'a>(self, offset: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }
}

/// A buffer that parallel tasks fill, without the zeros that would be written over.
pub(crate) struct Unwritten {
    values: Vec<f32>,
    len: usize,
}

impl Unwritten {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            values: room(len),
            len,
        }
    }

    /// Where the tasks write.
    pub(crate) fn places(&mut self) -> Disjoint {
        Disjoint(self.values.as_mut_ptr())
    }

    /// The buffer.
    ///
    /// # Safety
    /// Every number was written.
    pub(crate) unsafe fn written(mut self) -> Vec<f32> {
        // SAFETY: the capacity was asked for, and the numbers are the caller's promise.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

/// A matrix in memory: element (i, j) at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Matrix<'_> {
    fn check(&self, rows: usize, columns: usize) {
        let last = (rows - 1) * self.row + (columns - 1) * self.column;
        assert!(
            last < self.values.len(),
            "a {rows}x{columns} matrix ends at {last} of {}",
            self.values.len()
        );
    }
}

/// `out = a b`, or `out += a b`: `a` m x k, `b` k x n, `out` m x n with rows `out_row` apart and elements of a row side
/// by side. One thread, so that the order of additions depends on m, k and n alone.
///
/// # Safety
/// `out` is valid for reads and writes at every `i * out_row + j`, `i < m`, `j < n`, and nobody else touches these.
#[allow(clippy::too_many_arguments)] // a matrix product has this many
pub(super) unsafe fn product(
    (m, k, n): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    out: *mut f32,
    out_row: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k > 0 {
        a.check(m, k);
        b.check(k, n);
    }
    // SAFETY: `a` and `b` were checked against their slices; `out` is the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            out_row as isize,
            accumulate,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The first `len` numbers of a scratch buffer that only ever grows; their values are whatever was there.
pub(crate) fn scratch(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Sum in f64 with a fixed order of additions that leaves room for vector instructions.
pub(super) fn sum(values: &[f32]) -> f64 {
    struct Sum<'a>(&'a [f32]);

    impl Task for Sum<'_> {
        type Output = f64;

        #[inline(always)]
        fn run(self) -> f64 {
            sum_of(self.0.len(), |i| f64::from(self.0[i]))
        }
    }

    widest::run(Sum(values))
}

/// Sum of `f(i)` over `i < len`, like [`sum`].
#[inline(always)]
pub(super) fn sum_of(len: usize, f: impl Fn(usize) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0f64; LANES];
    for block in 0..len / LANES {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(block * LANES + lane);
        }
    }
    let tail: f64 = (len / LANES * LANES..len).map(f).sum();
    lanes.iter().sum::<f64>() + tail
}

/// Numbers per task of an elementwise kernel.
pub(super) const CHUNK: usize = 1 << 14;

/// How many planes of so many numbers make a task of decent size.
pub(super) fn planes_per_task(plane: usize) -> usize {
    (CHUNK / plane.max(1)).max(1)
}

/// `f` of every number, in parallel.
pub(super) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    zip(x, x, |x, _| f(x))
}

/// `f` of every pair of numbers, in parallel.
pub(super) fn zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    struct Pairs<'a, F> {
        a: &'a [f32],
        b: &'a [f32],
        y: &'a mut [MaybeUninit<f32>],
        f: F,
    }

    impl<F: Fn(f32, f32) -> f32> Task for Pairs<'_, F> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for (y, (a, b)) in self.y.iter_mut().zip(self.a.iter().zip(self.b)) {
                y.write((self.f)(*a, *b));
            }
        }
    }

    assert_eq!(a.len(), b.len(), "pairs of unequal slices");
    let mut y = room(a.len());
    let places = y.spare_capacity_mut()[..a.len()].par_chunks_mut(CHUNK);
    let inputs = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    places
        .zip(inputs)
        .for_each(|(y, (a, b))| widest::run(Pairs { a, b, y, f: &f }));
    // SAFETY: every place was written, as `y` and the inputs are cut alike.
    unsafe { y.set_len(a.len()) };
    y
}
