//! Gradient of the weights of a convolution behind which the maximum of 2 x 2 outputs was taken.
//!
//! Of four outputs one has a gradient, another one in every lane. Instead of multiplying with all four,
//! the value that the chosen output has read is selected: first between two rows, then between two
//! columns, which neighbouring taps share.

use super::super::Vector;
use super::product::{Choice, Product};
use super::{at, at_mut};
use crate::kernels::simd::{Kernel, Lanes};
use crate::lanes::LANES;

/// target += gradient x input, summed over the positions of one sample; and the same for the bias.
pub(in crate::lanes) struct PooledWeightGradient<'a> {
    pub product: &'a Product,
    pub input: &'a [Vector],
    pub gradient: &'a [Vector],
    pub choices: &'a [Choice],
    /// Gradients of all parameters.
    pub target: &'a mut [Vector],
}

impl Kernel for PooledWeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let Some(pooled) = self.product.pooled else { return };
        // SAFETY: the processor has the instruction set by the contract of `run`.
        unsafe {
            match self.product.size {
                3 => self.all::<L, 3, 4>(pooled),
                5 => self.all::<L, 5, 6>(pooled),
                size => unreachable!("no kernel of {size} rows"),
            }
        }
    }
}

impl PooledWeightGradient<'_> {
    /// A kernel of `K` rows reads `N` = K + 1 under a pooled position.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn all<L: Lanes, const K: usize, const N: usize>(&mut self, pooled: [usize; 2]) {
        let (outputs, tile) = (self.product.outputs, if L::WIDE { 3 } else { 1 });
        let mut first = 0;
        while first < outputs {
            // SAFETY: as for this function.
            unsafe {
                match tile.min(outputs - first) {
                    1 => self.units::<L, K, N, 1>(first, pooled),
                    2 => self.units::<L, K, N, 2>(first, pooled),
                    _ => self.units::<L, K, N, 3>(first, pooled),
                }
            }
            first += tile;
        }
        let Some(bias) = self.product.bias else { return };
        for (unit, gradient) in self.gradient.chunks_exact(pooled[0] * pooled[1]).enumerate() {
            // SAFETY: as for this function; `at` checks that the places exist.
            unsafe {
                let mut sum = L::splat(0.0);
                for i in 0..gradient.len() {
                    sum = sum.add(L::load(at(gradient, i)));
                }
                let to = at_mut(self.target, bias + unit);
                L::load(to).add(sum).store(to);
            }
        }
    }

    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn units<L: Lanes, const K: usize, const N: usize, const T: usize>(
        &mut self,
        first: usize,
        pooled: [usize; 2],
    ) {
        let [channels, height, width] = self.product.from;
        for channel in 0..channels {
            for row in 0..K {
                let input = &self.input[(channel * height + row) * width..];
                // SAFETY: as for this function; `at` checks that the places exist.
                unsafe {
                    let sums = self.row::<L, K, N, T>(input, first, pooled);
                    let taps = self.product.taps.len();
                    let to = self.product.weight + first * taps + (channel * K + row) * K;
                    for (unit, sums) in sums.into_iter().enumerate() {
                        for (column, sum) in sums.into_iter().enumerate() {
                            let to = at_mut(self.target, to + unit * taps + column);
                            L::load(to).add(sum).store(to);
                        }
                    }
                }
            }
        }
    }

    /// Gradients of one row of the kernels of `T` units; `input` begins at that row.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn row<L: Lanes, const K: usize, const N: usize, const T: usize>(
        &self,
        input: &[Vector],
        first: usize,
        [rows, columns]: [usize; 2],
    ) -> [[L; K]; T] {
        let width = self.product.from[2];
        let plane = rows * columns;
        let (gradient, choices) = (self.gradient, self.choices);
        assert!(choices.len() >= (first + T) * plane && gradient.len() >= (first + T) * plane);
        // SAFETY: N rows and columns lie under every pooled position; the gradients and choices of all units
        // are there; the instruction set is there by the contract of this function.
        unsafe {
            let mut sums = [[L::splat(0.0); K]; T];
            for y in 0..rows {
                let mut x = at(input, 2 * y * width);
                let mut g = at(gradient, first * plane + y * columns);
                let mut choice = choices.as_ptr().add(first * plane + y * columns);
                for _ in 0..columns {
                    let upper: [L; N] = std::array::from_fn(|c| L::load(x.add(c * LANES)));
                    let below = x.wrapping_add(width * LANES);
                    let lower: [L; N] = std::array::from_fn(|c| L::load(below.add(c * LANES)));
                    for (unit, sums) in sums.iter_mut().enumerate() {
                        let Choice { row, column } = *choice.add(unit * plane);
                        let g = L::load(g.add(unit * plane * LANES));
                        let chosen: [L; N] = std::array::from_fn(|c| upper[c].blend(lower[c], row));
                        for c in 0..K {
                            let value = chosen[c].blend(chosen[c + 1], column);
                            sums[c] = sums[c].add_product(g, value);
                        }
                    }
                    x = x.wrapping_add(2 * LANES);
                    g = g.wrapping_add(LANES);
                    choice = choice.wrapping_add(1);
                }
            }
            sums
        }
    }
}
