//! Code compiled once for each set of vector instructions, and run with the widest that the processor has.
//!
//! No set has other roundings than another: products are not fused with sums, so that the numbers are the same.

#[cfg(target_arch = "x86_64")]
use super::level::widest_lanes;

/// Work whose loops the compiler turns into vector instructions.
pub(crate) trait Task {
    /// What the work gives.
    type Output;
    /// Does the work. To be `#[inline(always)]`, as must be what it calls: code that is not inlined keeps the narrow
    /// instructions.
    fn run(self) -> Self::Output;
}

/// Runs `task` with the widest instructions.
pub(crate) fn run<T: Task>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if widest_lanes() >= 16
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has these instructions.
            return unsafe { avx512(task) };
        }
        if widest_lanes() >= 8 && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has these instructions.
            return unsafe { avx2(task) };
        }
    }
    task.run()
}

/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<T: Task>(task: T) -> T::Output {
    task.run()
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<T: Task>(task: T) -> T::Output {
    task.run()
}
