//! Sixteen 32-bit words at a time on every instruction set, as bits: integers of the key stream, and
//! elements that are summed.

use super::Element;
use crate::InstructionSet;

/// Sixteen words in registers.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instruction set.
pub trait Words: Copy {
    /// All words equal.
    unsafe fn splat(word: u32) -> Self;
    /// From an array.
    unsafe fn load(words: &[u32; 16]) -> Self;
    /// To an array.
    unsafe fn store(self, words: &mut [u32; 16]);
    /// Sum modulo 2^32.
    unsafe fn add(self, other: Self) -> Self;
    /// Exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Bits moved up by N, those that leave coming back below.
    unsafe fn rotate_left<const N: i32>(self) -> Self;
    /// Bits moved down by N, zeros coming in.
    unsafe fn shift_right<const N: u32>(self) -> Self;
    /// Word i is that of `table` which the lowest four bits of word i of `self` say.
    unsafe fn look_up(self, table: Self) -> Self;
    /// Sum of elements.
    unsafe fn add_elements<T: Element>(self, other: Self) -> Self;
    /// Difference of elements.
    unsafe fn sub_elements<T: Element>(self, other: Self) -> Self;
    /// Word i of the result's j-th is word j of the i-th.
    unsafe fn transpose(words: [Self; 16]) -> [Self; 16];
}

/// Plain arrays: whatever the compiler makes of them.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Portable([u32; 16]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(u32) -> u32) -> Self {
        Portable(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Words for Portable {
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        Portable([word; 16])
    }

    #[inline(always)]
    unsafe fn load(words: &[u32; 16]) -> Self {
        Portable(*words)
    }

    #[inline(always)]
    unsafe fn store(self, words: &mut [u32; 16]) {
        *words = self.0;
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }

    #[inline(always)]
    unsafe fn rotate_left<const N: i32>(self) -> Self {
        self.map(|a| a.rotate_left(N as u32))
    }

    #[inline(always)]
    unsafe fn shift_right<const N: u32>(self) -> Self {
        self.map(|a| a >> N)
    }

    #[inline(always)]
    unsafe fn look_up(self, table: Self) -> Self {
        self.map(|index| table.0[(index & 15) as usize])
    }

    #[inline(always)]
    unsafe fn add_elements<T: Element>(self, other: Self) -> Self {
        self.zip(other, T::add_bits)
    }

    #[inline(always)]
    unsafe fn sub_elements<T: Element>(self, other: Self) -> Self {
        self.zip(other, T::sub_bits)
    }

    #[inline(always)]
    unsafe fn transpose(words: [Self; 16]) -> [Self; 16] {
        std::array::from_fn(|i| Portable(std::array::from_fn(|j| words[j].0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Element, Words};

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256i, __m256i);

    impl Avx2 {
        /// Words 8 `index` to 8 `index` + 7 of four.
        #[inline(always)]
        fn half(self, index: usize) -> __m256i {
            if index == 0 { self.0 } else { self.1 }
        }
    }

    // SAFETY (every block below): the processor has AVX2 by the contract of `Words`.
    impl Words for Avx2 {
        #[inline(always)]
        unsafe fn splat(word: u32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_set1_epi32(word as i32), _mm256_set1_epi32(word as i32)) }
        }

        #[inline(always)]
        unsafe fn load(words: &[u32; 16]) -> Self {
            // SAFETY: see above the impl; both halves lie within the array.
            unsafe {
                let pointer: *const __m256i = words.as_ptr().cast();
                Avx2(_mm256_loadu_si256(pointer), _mm256_loadu_si256(pointer.add(1)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, words: &mut [u32; 16]) {
            // SAFETY: see above the impl; both halves lie within the array.
            unsafe {
                let pointer: *mut __m256i = words.as_mut_ptr().cast();
                _mm256_storeu_si256(pointer, self.0);
                _mm256_storeu_si256(pointer.add(1), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_add_epi32(self.0, other.0), _mm256_add_epi32(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx2(_mm256_xor_si256(self.0, other.0), _mm256_xor_si256(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn rotate_left<const N: i32>(self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let (up, down) = (_mm_cvtsi32_si128(N), _mm_cvtsi32_si128(32 - N));
                let rotate =
                    |a| _mm256_or_si256(_mm256_sll_epi32(a, up), _mm256_srl_epi32(a, down));
                Avx2(rotate(self.0), rotate(self.1))
            }
        }

        #[inline(always)]
        unsafe fn shift_right<const N: u32>(self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let count = _mm_cvtsi32_si128(N as i32);
                Avx2(_mm256_srl_epi32(self.0, count), _mm256_srl_epi32(self.1, count))
            }
        }

        #[inline(always)]
        unsafe fn look_up(self, table: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let half = |index| {
                    let low = _mm256_permutevar8x32_epi32(table.0, index);
                    let high = _mm256_permutevar8x32_epi32(table.1, index);
                    // Bit 3 to the sign, by which the blend goes.
                    let choice = _mm256_slli_epi32::<28>(index);
                    let [low, high, choice] = [low, high, choice].map(|a| _mm256_castsi256_ps(a));
                    _mm256_castps_si256(_mm256_blendv_ps(low, high, choice))
                };
                Avx2(half(self.0), half(self.1))
            }
        }

        #[inline(always)]
        unsafe fn add_elements<T: Element>(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                if !T::IS_FLOAT {
                    return self.add(other);
                }
                let add = |a, b| {
                    let sum = _mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
                    _mm256_castps_si256(sum)
                };
                Avx2(add(self.0, other.0), add(self.1, other.1))
            }
        }

        #[inline(always)]
        unsafe fn sub_elements<T: Element>(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                let sub = |a, b| match T::IS_FLOAT {
                    true => {
                        let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
                        _mm256_castps_si256(_mm256_sub_ps(a, b))
                    }
                    false => _mm256_sub_epi32(a, b),
                };
                Avx2(sub(self.0, other.0), sub(self.1, other.1))
            }
        }

        #[inline(always)]
        unsafe fn transpose(words: [Self; 16]) -> [Self; 16] {
            // SAFETY: see above the impl.
            unsafe {
                let block = |rows: usize, columns: usize| {
                    transpose_8(std::array::from_fn(|i| words[8 * rows + i].half(columns)))
                };
                let [a, b, c, d] = [block(0, 0), block(1, 0), block(0, 1), block(1, 1)];
                std::array::from_fn(|i| match i {
                    0..8 => Avx2(a[i], b[i]),
                    _ => Avx2(c[i - 8], d[i - 8]),
                })
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose_8(r: [__m256i; 8]) -> [__m256i; 8] {
        // SAFETY: the processor has AVX2 by the contract of the caller.
        unsafe {
            let low = |i: usize| _mm256_unpacklo_epi32(r[i], r[i + 1]);
            let high = |i: usize| _mm256_unpackhi_epi32(r[i], r[i + 1]);
            let (a, b) = ([low(0), low(2), low(4), low(6)], [high(0), high(2), high(4), high(6)]);
            let quads = |x, y| [_mm256_unpacklo_epi64(x, y), _mm256_unpackhi_epi64(x, y)];
            let top = [quads(a[0], a[1]), quads(b[0], b[1])];
            let bottom = [quads(a[2], a[3]), quads(b[2], b[3])];
            std::array::from_fn(|i| {
                let (x, y) = (top[i % 4 / 2][i % 2], bottom[i % 4 / 2][i % 2]);
                if i < 4 {
                    _mm256_permute2x128_si256::<0x20>(x, y)
                } else {
                    _mm256_permute2x128_si256::<0x31>(x, y)
                }
            })
        }
    }

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512i);

    // SAFETY (every block below): the processor has AVX-512F by the contract of `Words`.
    impl Words for Avx512 {
        #[inline(always)]
        unsafe fn splat(word: u32) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_set1_epi32(word as i32)) }
        }

        #[inline(always)]
        unsafe fn load(words: &[u32; 16]) -> Self {
            // SAFETY: see above the impl; the array has 64 bytes.
            unsafe { Avx512(_mm512_loadu_si512(words.as_ptr().cast())) }
        }

        #[inline(always)]
        unsafe fn store(self, words: &mut [u32; 16]) {
            // SAFETY: see above the impl; the array has 64 bytes.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_add_epi32(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_xor_si512(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn rotate_left<const N: i32>(self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_rol_epi32::<N>(self.0)) }
        }

        #[inline(always)]
        unsafe fn shift_right<const N: u32>(self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_srli_epi32::<N>(self.0)) }
        }

        #[inline(always)]
        unsafe fn look_up(self, table: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe { Avx512(_mm512_permutexvar_epi32(self.0, table.0)) }
        }

        #[inline(always)]
        unsafe fn add_elements<T: Element>(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                if !T::IS_FLOAT {
                    return self.add(other);
                }
                let (a, b) = (_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(other.0));
                Avx512(_mm512_castps_si512(_mm512_add_ps(a, b)))
            }
        }

        #[inline(always)]
        unsafe fn sub_elements<T: Element>(self, other: Self) -> Self {
            // SAFETY: see above the impl.
            unsafe {
                if !T::IS_FLOAT {
                    return Avx512(_mm512_sub_epi32(self.0, other.0));
                }
                let (a, b) = (_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(other.0));
                Avx512(_mm512_castps_si512(_mm512_sub_ps(a, b)))
            }
        }

        #[inline(always)]
        unsafe fn transpose(words: [Self; 16]) -> [Self; 16] {
            // SAFETY: see above the impl.
            unsafe {
                // Four by four words within quarters of registers, then the quarters.
                let mut columns = [[words[0].0; 4]; 4];
                for (i, columns) in columns.iter_mut().enumerate() {
                    let row = |j: usize| words[4 * i + j].0;
                    let (a, b) = (
                        _mm512_unpacklo_epi32(row(0), row(1)),
                        _mm512_unpacklo_epi32(row(2), row(3)),
                    );
                    let (c, d) = (
                        _mm512_unpackhi_epi32(row(0), row(1)),
                        _mm512_unpackhi_epi32(row(2), row(3)),
                    );
                    *columns = [
                        _mm512_unpacklo_epi64(a, b),
                        _mm512_unpackhi_epi64(a, b),
                        _mm512_unpacklo_epi64(c, d),
                        _mm512_unpackhi_epi64(c, d),
                    ];
                }
                // Quarter q of columns[i][j] holds words 4 i to 4 i + 3 of column 4 q + j.
                std::array::from_fn(|column| {
                    let (q, j) = (column / 4, column % 4);
                    let [a, b, c, d] = [0, 1, 2, 3].map(|i| columns[i][j]);
                    let pair = |x, y| match q {
                        0 | 1 => _mm512_shuffle_i32x4::<0x44>(x, y),
                        _ => _mm512_shuffle_i32x4::<0xee>(x, y),
                    };
                    let (x, y) = (pair(a, b), pair(c, d));
                    Avx512(match q % 2 {
                        0 => _mm512_shuffle_i32x4::<0x88>(x, y),
                        _ => _mm512_shuffle_i32x4::<0xdd>(x, y),
                    })
                })
            }
        }
    }
}

/// Does something for i = 0 to 15 without a loop: an array that a loop runs over lives in memory, here its
/// elements stay in registers.
macro_rules! for_sixteen {
    ($i:ident => $body:expr) => {
        $crate::basis::words::for_sixteen!(@ $i, $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident, $body:expr, $($value:literal)*) => {
        $({
            const $i: usize = $value;
            $body
        })*
    };
}
pub(super) use for_sixteen;

/// Code that is generic over the instruction set.
pub trait Kernel {
    /// Runs with one implementation.
    ///
    /// # Safety
    /// The processor has the instruction set of `W`.
    unsafe fn run<W: Words>(self);
}

/// Runs a kernel, compiled for the given instruction set.
///
/// # Panics
/// If this machine does not have it.
pub fn dispatch<K: Kernel>(set: InstructionSet, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512<K: Kernel>(kernel: K) {
            // SAFETY: this function only runs where AVX-512F is there.
            unsafe { kernel.run::<x86::Avx512>() }
        }
        #[target_feature(enable = "avx2")]
        fn avx2<K: Kernel>(kernel: K) {
            // SAFETY: this function only runs where AVX2 is there.
            unsafe { kernel.run::<x86::Avx2>() }
        }
        match set {
            InstructionSet::Avx512 if is_x86_feature_detected!("avx512f") => {
                // SAFETY: just detected.
                return unsafe { avx512(kernel) };
            }
            InstructionSet::Avx2 if is_x86_feature_detected!("avx2") => {
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
