//! Vectors of numbers, one type for each width of registers.

/// A vector of numbers.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// # Safety
    /// `from` is valid for `LANES` numbers; the instructions exist.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `to` is valid for `LANES` numbers; the instructions exist.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The instructions exist.
    unsafe fn splat(value: f32) -> Self;
    /// `self + a b`, rounded once where the processor can.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn plus(self, a: Self, b: Self) -> Self;
    /// `self + other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn mul(self, other: Self) -> Self;
}

/// Four numbers that any processor's compiler turns into what it has.
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn plus(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| {
            // a fused multiply-add without the instruction is a slow function call
            if cfg!(target_arch = "aarch64") {
                a.0[i].mul_add(b.0[i], self.0[i])
            } else {
                self.0[i] + a.0[i] * b.0[i]
            }
        }))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
        _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Vector;

    macro_rules! vector {
        ($name:ident, $inner:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fmadd:ident,
         $add:ident, $sub:ident, $mul:ident) => {
            #[derive(Clone, Copy)]
            pub(in crate::ops) struct $name($inner);

            impl Vector for $name {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $splat(value) })
                }

                #[inline(always)]
                unsafe fn plus(self, a: Self, b: Self) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $fmadd(a.0, b.0, self.0) })
                }

                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $sub(self.0, other.0) })
                }

                #[inline(always)]
                unsafe fn mul(self, other: Self) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $mul(self.0, other.0) })
                }
            }
        };
    }

    vector!(
        Sixteen,
        __m512,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps
    );
    vector!(
        Eight,
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps
    );
}
