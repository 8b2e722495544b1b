//! Sixteen `f32` lanes on every instruction set: the width of a channel block.
//!
//! Kernels are generic over [`Lanes`] and marked `#[inline(always)]`; [`dispatch`] calls them inside
//! a function compiled for the best instruction set of the machine, so one source serves all.

/// Sixteen `f32` values in registers.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instruction set.
pub trait Lanes: Copy {
    /// Registers are 512 bits wide and there are 32 of them: kernels may use larger tiles.
    const WIDE: bool;

    /// All lanes equal.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// Reads 16 consecutive values.
    ///
    /// # Safety
    /// `source` is readable for 16 values; the processor has the instruction set.
    unsafe fn load(source: *const f32) -> Self;

    /// Writes 16 consecutive values.
    ///
    /// # Safety
    /// `target` is writable for 16 values; the processor has the instruction set.
    unsafe fn store(self, target: *mut f32);

    /// a * b + self (one rounding where the processor has fused multiply-add).
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// self + other.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(self, other: Self) -> Self;

    /// self - other.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn sub(self, other: Self) -> Self;

    /// self * other.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn mul(self, other: Self) -> Self;

    /// self / other.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn div(self, other: Self) -> Self;

    /// Square roots.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn sqrt(self) -> Self;

    /// The larger of each pair of lanes; the second where either is NaN.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn max(self, other: Self) -> Self;

    /// The lanes where `other` is positive, else 0.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn where_positive(self, other: Self) -> Self;

    /// Bits of the lanes that are larger than those of `other`, or NaN.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn exceeds(self, other: Self) -> u16;

    /// `other` in the lanes whose bits are set, else `self`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn blend(self, other: Self, bits: u16) -> Self;

    /// Rows to columns.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn transpose(rows: [Self; 16]) -> [Self; 16] {
        let mut values = [[0.0; 16]; 16];
        // SAFETY: arrays of 16 values; the rest by the contract of this function.
        unsafe {
            for (values, row) in values.iter_mut().zip(rows) {
                row.store(values.as_mut_ptr());
            }
            std::array::from_fn(|i| Self::load(values.map(|row| row[i]).as_ptr()))
        }
    }
}

/// Plain arrays: whatever the compiler makes of them.
#[derive(Clone, Copy)]
pub struct Portable([f32; 16]);

impl Lanes for Portable {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 16])
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: readable for 16 values by the contract; an array of f32 needs no more alignment.
        Portable(unsafe { *source.cast::<[f32; 16]>() })
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: writable for 16 values by the contract.
        unsafe { *target.cast::<[f32; 16]>() = self.0 }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] / other.0[i]))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Portable(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Portable(std::array::from_fn(
            |i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] },
        ))
    }

    #[inline(always)]
    unsafe fn where_positive(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| if other.0[i] > 0.0 { self.0[i] } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn exceeds(self, other: Self) -> u16 {
        let exceeds = |i: usize| self.0[i] > other.0[i] || self.0[i].is_nan();
        (0..16).fold(0, |bits, i| bits | u16::from(exceeds(i)) << i)
    }

    #[inline(always)]
    unsafe fn blend(self, other: Self, bits: u16) -> Self {
        Portable(std::array::from_fn(|i| if bits >> i & 1 == 1 { other.0[i] } else { self.0[i] }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    // SAFETY (every block below): the processor has AVX2 and FMA by the contract of `Lanes`, and
    // pointers are valid for 16 values by the contract of the method.
    impl Lanes for Avx2 {
        const WIDE: bool = false;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_loadu_ps(source), _mm256_loadu_ps(source.add(8))) }
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            // SAFETY: see above the impl.
            unsafe {
                _mm256_storeu_ps(target, self.0);
                _mm256_storeu_ps(target.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn where_positive(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let zero = _mm256_setzero_ps();
                Avx2(
                    _mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GT_OQ>(other.0, zero)),
                    _mm256_and_ps(self.1, _mm256_cmp_ps::<_CMP_GT_OQ>(other.1, zero)),
                )
            }
        }

        #[inline(always)]
        unsafe fn exceeds(self, other: Self) -> u16 {
            // SAFETY: see above the impl.
            unsafe {
                let bits = |a, b| {
                    let larger = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
                    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
                    _mm256_movemask_ps(_mm256_or_ps(larger, nan)) as u16
                };
                bits(self.0, other.0) | bits(self.1, other.1) << 8
            }
        }

        #[inline(always)]
        unsafe fn blend(self, other: Self, bits: u16) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let bits = _mm256_set1_epi32(i32::from(bits));
                let mask = |first: i32| {
                    let of_lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                    let of_lane = _mm256_mullo_epi32(of_lane, _mm256_set1_epi32(first));
                    let set = _mm256_cmpeq_epi32(_mm256_and_si256(bits, of_lane), of_lane);
                    _mm256_castsi256_ps(set)
                };
                Avx2(
                    _mm256_blendv_ps(self.0, other.0, mask(1)),
                    _mm256_blendv_ps(self.1, other.1, mask(256)),
                )
            }
        }
    }

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    // SAFETY (every block below): the processor has AVX-512F by the contract of `Lanes`, and
    // pointers are valid for 16 values by the contract of the method.
    impl Lanes for Avx512 {
        const WIDE: bool = true;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_loadu_ps(source)) }
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            // SAFETY: see above the impl.
            unsafe { _mm512_storeu_ps(target, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_sub_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_mul_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_div_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_sqrt_ps(self.0)) }
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_max_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn where_positive(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other.0, _mm512_setzero_ps());
                Avx512(_mm512_maskz_mov_ps(mask, self.0))
            }
        }

        #[inline(always)]
        unsafe fn exceeds(self, other: Self) -> u16 {
            // SAFETY: see above the impl.
            unsafe {
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0)
                    | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)
            }
        }

        #[inline(always)]
        unsafe fn blend(self, other: Self, bits: u16) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_mask_blend_ps(bits, self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn transpose(rows: [Self; 16]) -> [Self; 16] {
            // SAFETY: see above the impl.
            unsafe {
                // Element c of part l of `fours[4 g + c]`: rows 4 g.. of column 4 l + c.
                let mut fours = [rows[0].0; 16];
                for g in (0..16).step_by(4) {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[g + i].0);
                    let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                    let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                    let pairs = [(low, low2), (high, high2)];
                    for (i, (first, second)) in pairs.into_iter().enumerate() {
                        let first = _mm512_castps_pd(first);
                        let second = _mm512_castps_pd(second);
                        let even = _mm512_unpacklo_pd(first, second);
                        let odd = _mm512_unpackhi_pd(first, second);
                        fours[g + 2 * i] = _mm512_castpd_ps(even);
                        fours[g + 2 * i + 1] = _mm512_castpd_ps(odd);
                    }
                }
                let mut columns = rows;
                for c in 0..4 {
                    let [p, q, r, s] = [0, 4, 8, 12].map(|g| fours[g + c]);
                    // Parts 0 and 2, and parts 1 and 3, of two.
                    let (even, odd) =
                        (_mm512_shuffle_f32x4::<0x88>(p, q), _mm512_shuffle_f32x4::<0xdd>(p, q));
                    let (even2, odd2) =
                        (_mm512_shuffle_f32x4::<0x88>(r, s), _mm512_shuffle_f32x4::<0xdd>(r, s));
                    columns[c] = Avx512(_mm512_shuffle_f32x4::<0x88>(even, even2));
                    columns[c + 4] = Avx512(_mm512_shuffle_f32x4::<0x88>(odd, odd2));
                    columns[c + 8] = Avx512(_mm512_shuffle_f32x4::<0xdd>(even, even2));
                    columns[c + 12] = Avx512(_mm512_shuffle_f32x4::<0xdd>(odd, odd2));
                }
                columns
            }
        }
    }
}

pub use weightspace_core::InstructionSet;

/// A kernel: code that is generic over the lanes.
pub trait Kernel {
    /// Runs with one implementation of the lanes.
    ///
    /// # Safety
    /// The processor has the instruction set of `L`.
    unsafe fn run<L: Lanes>(self);
}

/// Runs a kernel, compiled for the given instruction set.
///
/// # Panics
/// If this machine does not have it.
#[inline]
pub fn dispatch<K: Kernel>(set: InstructionSet, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512<K: Kernel>(kernel: K) {
            // SAFETY: this function only runs where AVX-512F is there.
            unsafe { kernel.run::<x86::Avx512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<K: Kernel>(kernel: K) {
            // SAFETY: this function only runs where AVX2 and FMA are there.
            unsafe { kernel.run::<x86::Avx2>() }
        }
        match set {
            InstructionSet::Avx512 if is_x86_feature_detected!("avx512f") => {
                // SAFETY: just detected.
                return unsafe { avx512(kernel) };
            }
            InstructionSet::Avx2
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") =>
            {
                // SAFETY: just detected.
                return unsafe { avx2(kernel) };
            }
            _ => {}
        }
    }
    assert_eq!(set, InstructionSet::Portable, "instruction set not available on this machine");
    // SAFETY: portable code needs no instruction set.
    unsafe { kernel.run::<Portable>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;

    impl Kernel for Check {
        unsafe fn run<L: Lanes>(self) {
            let numbers: [[f32; 16]; 16] =
                std::array::from_fn(|i| std::array::from_fn(|j| (i * 16 + j) as f32));
            let mut out = [0.0; 16];
            // SAFETY: arrays of 16 values; the processor has the instruction set by the contract of `run`.
            unsafe {
                let rows = numbers.map(|row| L::load(row.as_ptr()));
                for (i, column) in L::transpose(rows).into_iter().enumerate() {
                    column.store(out.as_mut_ptr());
                    assert_eq!(out, std::array::from_fn(|j| numbers[j][i]));
                }
                let bits = 0b1010_0000_1100_0101;
                rows[0].blend(rows[1], bits).store(out.as_mut_ptr());
                let of = |i: usize| numbers[usize::from(bits >> i & 1)][i];
                assert_eq!(out, std::array::from_fn(of));
                let mut other = numbers[3];
                (other[2], other[4], other[15]) = (50.0, f32::NAN, 49.0);
                assert_eq!(L::load(other.as_ptr()).exceeds(rows[3]), 1 << 4);
                other[2] = 50.5;
                assert_eq!(L::load(other.as_ptr()).exceeds(rows[3]), 1 << 2 | 1 << 4);
                assert_eq!(rows[3].exceeds(L::load(other.as_ptr())), 1 << 15);
                rows[2].div(rows[1]).sqrt().store(out.as_mut_ptr());
                assert_eq!(out, std::array::from_fn(|i| (numbers[2][i] / numbers[1][i]).sqrt()));
            }
        }
    }

    #[test]
    fn every_instruction_set_does_the_same() {
        for set in InstructionSet::available() {
            dispatch(set, Check);
        }
    }
}
