//! Vectors of numbers, one type for each width of registers.

/// A vector of numbers.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// Which numbers pass a comparison.
    type Mask: Copy;
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
    /// `self > other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn above(self, other: Self) -> Self::Mask;
    /// `self >= other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn at_least(self, other: Self) -> Self::Mask;
    /// `self != other`
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn differs(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is set, else `no`.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn choose(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// A bit for each number, the lowest for the first.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn bits(mask: Self::Mask) -> u64;
    /// The numbers whose bits are set, one after another; what follows them is undefined.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn compress(self, bits: u64) -> Self;
}

/// [`Vector::compress`] number by number.
///
/// # Safety
/// The instructions exist.
#[inline(always)]
unsafe fn compress<V: Vector, const LANES: usize>(vector: V, mut bits: u64) -> V {
    let (mut numbers, mut some, mut at) = ([0f32; LANES], [0f32; LANES], 0);
    // SAFETY: the caller's promise; both hold a vector.
    unsafe {
        vector.store(numbers.as_mut_ptr());
        while bits != 0 {
            some[at] = numbers[bits.trailing_zeros() as usize];
            at += 1;
            bits &= bits - 1;
        }
        V::load(some.as_ptr())
    }
}

/// Four numbers that any processor's compiler turns into what it has.
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;
    type Mask = [bool; 4];

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

    #[inline(always)]
    unsafe fn above(self, other: Self) -> [bool; 4] {
        std::array::from_fn(|i| self.0[i] > other.0[i])
    }

    #[inline(always)]
    unsafe fn at_least(self, other: Self) -> [bool; 4] {
        std::array::from_fn(|i| self.0[i] >= other.0[i])
    }

    #[inline(always)]
    unsafe fn differs(self, other: Self) -> [bool; 4] {
        std::array::from_fn(|i| self.0[i] != other.0[i])
    }

    #[inline(always)]
    unsafe fn choose(mask: [bool; 4], yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if mask[i] { yes.0[i] } else { no.0[i] }
        }))
    }

    #[inline(always)]
    unsafe fn bits(mask: [bool; 4]) -> u64 {
        (0..4).fold(0, |bits, i| bits | u64::from(mask[i]) << i)
    }

    #[inline(always)]
    unsafe fn compress(self, bits: u64) -> Self {
        // SAFETY: the caller's promise.
        unsafe { compress::<Self, 4>(self, bits) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _CMP_GE_OQ, _CMP_GT_OQ, _CMP_NEQ_UQ, _mm256_add_ps, _mm256_blendv_ps,
        _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_mul_ps,
        _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_cmp_ps_mask,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_maskz_compress_ps,
        _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Vector;

    macro_rules! vector {
        ($name:ident, $inner:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fmadd:ident,
         $add:ident, $sub:ident, $mul:ident, $mask:ty, $compare:ident, $choose:ident, $bits:ident, $compress:ident) => {
            #[derive(Clone, Copy)]
            pub(in crate::ops) struct $name($inner);

            impl Vector for $name {
                const LANES: usize = $lanes;
                type Mask = $mask;

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

                #[inline(always)]
                unsafe fn above(self, other: Self) -> $mask {
                    // SAFETY: the caller's promise.
                    unsafe { $compare::<_CMP_GT_OQ>(self.0, other.0) }
                }

                #[inline(always)]
                unsafe fn at_least(self, other: Self) -> $mask {
                    // SAFETY: the caller's promise.
                    unsafe { $compare::<_CMP_GE_OQ>(self.0, other.0) }
                }

                #[inline(always)]
                unsafe fn differs(self, other: Self) -> $mask {
                    // SAFETY: the caller's promise.
                    unsafe { $compare::<_CMP_NEQ_UQ>(self.0, other.0) }
                }

                #[inline(always)]
                unsafe fn choose(mask: $mask, yes: Self, no: Self) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $choose(mask, yes.0, no.0) })
                }

                #[inline(always)]
                unsafe fn bits(mask: $mask) -> u64 {
                    // SAFETY: the caller's promise.
                    unsafe { $bits(mask) }
                }

                #[inline(always)]
                unsafe fn compress(self, bits: u64) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { $compress(self, bits) }
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
        _mm512_mul_ps,
        u16,
        _mm512_cmp_ps_mask,
        choose_sixteen,
        bits_sixteen,
        compress_sixteen
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
        _mm256_mul_ps,
        __m256,
        _mm256_cmp_ps,
        choose_eight,
        bits_eight,
        compress_eight
    );

    /// # Safety
    /// The instructions exist.
    #[inline(always)]
    unsafe fn choose_sixteen(mask: u16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }

    /// # Safety
    /// None is needed; it is unsafe as its twin for eight is.
    #[inline(always)]
    unsafe fn bits_sixteen(mask: u16) -> u64 {
        u64::from(mask)
    }

    /// # Safety
    /// The instructions exist.
    #[inline(always)]
    unsafe fn compress_sixteen(vector: Sixteen, bits: u64) -> Sixteen {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm512_maskz_compress_ps(bits as u16, vector.0) })
    }

    /// # Safety
    /// The instructions exist.
    #[inline(always)]
    unsafe fn compress_eight(vector: Eight, bits: u64) -> Eight {
        // SAFETY: the caller's promise.
        unsafe { super::compress::<Eight, 8>(vector, bits) }
    }

    /// # Safety
    /// The instructions exist.
    #[inline(always)]
    unsafe fn choose_eight(mask: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }

    /// # Safety
    /// The instructions exist.
    #[inline(always)]
    unsafe fn bits_eight(mask: __m256) -> u64 {
        // SAFETY: the caller's promise.
        u64::from(unsafe { _mm256_movemask_ps(mask) } as u32)
    }
}
