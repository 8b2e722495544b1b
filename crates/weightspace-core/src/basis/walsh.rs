//! The fast Walsh-Hadamard transform.

use super::Element;
use super::words::{Kernel, Words};

/// Multiplies, in place, by the Hadamard matrix whose entry i, j is -1 where i and j have an odd number of
/// common one bits, else 1. The number of elements is a power of two.
pub struct Transform<'a, T> {
    /// The vector.
    pub elements: &'a mut [T],
}

impl<T: Element> Kernel for Transform<'_, T> {
    #[inline(always)]
    unsafe fn run<W: Words>(self) {
        let words: &mut [u32] = bytemuck::cast_slice_mut(self.elements);
        let (registers, rest) = words.as_chunks_mut::<16>();
        if !registers.len().is_multiple_of(16) || registers.is_empty() {
            debug_assert!(rest.is_empty() || registers.is_empty());
            return transform_plainly::<T>(words);
        }
        for registers in registers.as_chunks_mut::<16>().0 {
            // SAFETY: the processor has the instruction set of W by the contract of `run`.
            unsafe { transform_256::<T, W>(registers) }
        }
        let mut half = 16;
        while half < registers.len() {
            // SAFETY: as above.
            half = unsafe {
                match 4 * half <= registers.len() {
                    true => pass_4::<T, W>(registers, half),
                    false => pass_2::<T, W>(registers, half),
                }
            };
        }
    }
}

/// Vectors of less than 256 elements.
fn transform_plainly<T: Element>(words: &mut [u32]) {
    let mut half = 1;
    while half < words.len() {
        for pair in words.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (T::add_bits(*low, *high), T::sub_bits(*low, *high));
            }
        }
        half *= 2;
    }
}

#[inline(always)]
unsafe fn butterfly<T: Element, W: Words>(a: W, b: W) -> (W, W) {
    // SAFETY: by the contract of the caller.
    unsafe { (a.add_elements::<T>(b), a.sub_elements::<T>(b)) }
}

/// Eight levels: four across registers and, transposed, four within them.
#[inline(always)]
unsafe fn transform_256<T: Element, W: Words>(registers: &mut [[u32; 16]; 16]) {
    // SAFETY: by the contract of the caller.
    unsafe {
        let mut x: [W; 16] = std::array::from_fn(|i| W::load(&registers[i]));
        for _ in 0..2 {
            for half in [1, 2, 4, 8] {
                for low in (0..16).filter(|i| i & half == 0) {
                    (x[low], x[low + half]) = butterfly::<T, W>(x[low], x[low + half]);
                }
            }
            x = W::transpose(x);
        }
        for (register, x) in registers.iter_mut().zip(x) {
            x.store(register);
        }
    }
}

/// Two levels; returns where the next begins.
#[inline(always)]
unsafe fn pass_4<T: Element, W: Words>(registers: &mut [[u32; 16]], half: usize) -> usize {
    for quad in registers.chunks_exact_mut(4 * half) {
        let (low, high) = quad.split_at_mut(2 * half);
        let ((a, b), (c, d)) = (low.split_at_mut(half), high.split_at_mut(half));
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            // SAFETY: by the contract of the caller.
            unsafe {
                let (p, q) = butterfly::<T, W>(W::load(a), W::load(b));
                let (r, s) = butterfly::<T, W>(W::load(c), W::load(d));
                let ((p, r), (q, s)) = (butterfly::<T, W>(p, r), butterfly::<T, W>(q, s));
                p.store(a);
                q.store(b);
                r.store(c);
                s.store(d);
            }
        }
    }
    4 * half
}

/// One level; returns where the next begins.
#[inline(always)]
unsafe fn pass_2<T: Element, W: Words>(registers: &mut [[u32; 16]], half: usize) -> usize {
    for pair in registers.chunks_exact_mut(2 * half) {
        let (low, high) = pair.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            // SAFETY: by the contract of the caller.
            unsafe {
                let (low, high) = butterfly::<T, W>(W::load(a), W::load(b));
                low.store(a);
                high.store(b);
            }
        }
    }
    2 * half
}
