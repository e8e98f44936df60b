//! Large buffers.

use super::aligned::LINE;
use super::cpu::Disjoint;
#[cfg(target_arch = "x86_64")]
use super::level::widest_lanes;

/// Bytes from which a buffer is worth large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 22;

/// Bytes from which a result is gone from the caches before anyone reads it.
const PAST_CACHES: usize = 1 << 25;

/// Numbers that every processor writes past the caches at once.
#[cfg(target_arch = "x86_64")]
const FOUR: usize = 4;

/// `len` zeros. What is large lies in large pages where the system has them: to touch a fresh buffer page by page costs
/// more time than most kernels need to fill it.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let mut buffer = vec![0f32; len];
    in_large_pages(&mut buffer);
    buffer
}

/// Room for `len` numbers, in large pages as [`zeros`].
pub(crate) fn room(len: usize) -> Vec<f32> {
    let mut buffer = Vec::with_capacity(len);
    in_large_pages(&mut buffer);
    buffer
}

#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
fn in_large_pages(buffer: &mut Vec<f32>) {
    #[cfg(target_os = "linux")]
    if buffer.capacity() * size_of::<f32>() >= LARGE {
        const PAGE: usize = 1 << 12;
        let bytes = buffer.as_mut_ptr().cast::<u8>();
        let skipped = bytes.align_offset(PAGE);
        let whole = (buffer.capacity() * size_of::<f32>() - skipped) / PAGE * PAGE;
        // SAFETY: the range lies in the buffer; the advice changes no content. It may be refused, at no loss.
        unsafe { libc::madvise(bytes.add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

/// A result that parallel tasks write a few numbers at a time. One that is gone from the caches before anyone reads it is
/// written past them, without the read of what is written over.
#[derive(Clone, Copy)]
pub(crate) struct Sink {
    to: Disjoint,
    past_caches: bool,
    /// Whether the processor writes whole lines past the caches.
    #[cfg(target_arch = "x86_64")]
    lines: bool,
}

impl Sink {
    /// To a buffer of `len` numbers.
    pub(crate) fn new(to: Disjoint, len: usize) -> Self {
        Self {
            to,
            past_caches: cfg!(target_arch = "x86_64") && len * size_of::<f32>() >= PAST_CACHES,
            #[cfg(target_arch = "x86_64")]
            lines: widest_lanes() >= LINE && is_x86_feature_detected!("avx512f"),
        }
    }

    /// Writes `values` from number `at` on.
    ///
    /// # Safety
    /// The places lie in the buffer, and no other task touches them.
    #[inline(always)]
    pub(crate) unsafe fn write(self, at: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        let to = unsafe { self.to.at(at) };
        #[cfg(target_arch = "x86_64")]
        if self.past_caches && to.addr().is_multiple_of(16) && values.len().is_multiple_of(FOUR) {
            // SAFETY: as above; what begins at every fourth number is aligned like the first.
            unsafe { self.stream(to, values) };
            return;
        }
        // SAFETY: as above.
        unsafe { to.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }

    /// # Safety
    /// As [`Sink::write`]; `to` is aligned to 16 bytes, and there is a multiple of `FOUR` values.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, values: &[f32]) {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps, _mm512_loadu_ps, _mm512_stream_ps};
        let from = values.as_ptr();
        let mut i = 0;
        // SAFETY: the caller's promises; lines are written where they begin, if the processor has the instruction.
        unsafe {
            while i < values.len() {
                let at_line = to.add(i).addr().is_multiple_of(LINE * size_of::<f32>());
                if self.lines && at_line && i + LINE <= values.len() {
                    _mm512_stream_ps(to.add(i), _mm512_loadu_ps(from.add(i)));
                    i += LINE;
                } else {
                    _mm_stream_ps(to.add(i), _mm_loadu_ps(from.add(i)));
                    i += FOUR;
                }
            }
        }
    }

    /// Ends a task's writes, before any other thread is told that they are done.
    #[inline(always)]
    pub(crate) fn finish(self) {
        #[cfg(target_arch = "x86_64")]
        if self.past_caches {
            // SAFETY: all processors of this architecture have it.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// Has numbers brought into the caches that will be read soon: where a kernel leaps from one time step's numbers to the
/// next one's, the processor doesn't foresee them.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub(crate) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..values.len()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; all processors of this architecture have it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().add(i).cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_writes_every_number_and_no_other() {
        let from: Vec<f32> = (1..=45).map(|i| i as f32).collect();
        for (past_caches, lines) in [(false, true), (true, false), (true, true)] {
            for (start, len) in (0..20).flat_map(|s| [0, 1, 3, 4, 9, 40].map(|len| (s, len))) {
                let mut to = vec![0f32; 65];
                let mut sink = Sink::new(Disjoint::new(&mut to), 0);
                sink.past_caches = past_caches;
                #[cfg(target_arch = "x86_64")]
                {
                    sink.lines &= lines;
                }
                // SAFETY: `to` has room for them.
                unsafe { sink.write(start, &from[..len]) };
                sink.finish();
                assert_eq!(to[start..][..len], from[..len]);
                assert!(
                    to[..start]
                        .iter()
                        .chain(&to[start + len..])
                        .all(|x| *x == 0.0)
                );
            }
        }
    }
}
