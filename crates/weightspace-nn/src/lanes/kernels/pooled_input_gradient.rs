//! Gradient of the input of a convolution behind which the maximum of 2 x 2 outputs was taken.
//!
//! The kernel lies under another one of four outputs in every lane: of every input under a pooled position,
//! the weight that the chosen output has read it with is selected, between two rows and two columns.

use super::super::Vector;
use super::product::{Choice, Product};
use super::{at, at_mut};
use crate::kernels::simd::{Kernel, Lanes};
use crate::lanes::LANES;

/// target += transposed weights x gradient, of one sample.
pub(in crate::lanes) struct PooledInputGradient<'a> {
    pub product: &'a Product,
    pub parameters: &'a [Vector],
    pub gradient: &'a [Vector],
    pub choices: &'a [Choice],
    pub target: &'a mut [Vector],
}

impl Kernel for PooledInputGradient<'_> {
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

impl PooledInputGradient<'_> {
    /// A kernel of `K` rows reads `N` = K + 1 under a pooled position.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn all<L: Lanes, const K: usize, const N: usize>(
        &mut self,
        [rows, columns]: [usize; 2],
    ) {
        let [channels, height, width] = self.product.from;
        let plane = rows * columns;
        assert!(self.choices.len() >= self.product.outputs * plane);
        assert!(self.gradient.len() >= self.product.outputs * plane);
        for channel in 0..channels {
            for y in 0..rows {
                for x in 0..columns {
                    let to = (channel * height + 2 * y) * width + 2 * x;
                    let position = y * columns + x;
                    // SAFETY: as for this function.
                    unsafe {
                        self.rows::<L, K, N, 0>(channel, position, plane, to);
                        self.rows::<L, K, N, 2>(channel, position, plane, to);
                        if N > 4 {
                            self.rows::<L, K, N, 4>(channel, position, plane, to);
                        }
                    }
                }
            }
        }
    }

    /// Rows `R` and `R + 1` under a pooled position.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const K: usize, const N: usize, const R: usize>(
        &mut self,
        channel: usize,
        position: usize,
        plane: usize,
        to: usize,
    ) {
        let taps = self.product.taps.len();
        let width = self.product.from[2];
        // SAFETY: every unit has K x K weights of this channel, and a gradient and a choice at every position;
        // N rows and columns lie under it; the instruction set is there by the contract.
        unsafe {
            let zero = L::splat(0.0);
            let mut sums = [[zero; N]; 2];
            let mut weights = at(self.product.weights(self.parameters), channel * K * K);
            let mut g = at(self.gradient, position);
            let mut choice = self.choices.as_ptr().add(position);
            for _ in 0..self.product.outputs {
                let weight = |row: usize| -> [L; K] {
                    std::array::from_fn(|c| match row < K {
                        true => L::load(weights.add((row * K + c) * LANES)),
                        false => zero,
                    })
                };
                let kernel_rows = [weight(R.wrapping_sub(1)), weight(R), weight(R + 1)];
                let gradient = L::load(g);
                let Choice { row, column } = *choice;
                for r in 0..2 {
                    let chosen: [L; K] = std::array::from_fn(|c| {
                        kernel_rows[r + 1][c].blend(kernel_rows[r][c], row)
                    });
                    for c in 0..N {
                        let left = if c < K { chosen[c] } else { zero };
                        let right = if c > 0 { chosen[c - 1] } else { zero };
                        sums[r][c] = sums[r][c].add_product(gradient, left.blend(right, column));
                    }
                }
                weights = weights.wrapping_add(taps * LANES);
                g = g.wrapping_add(plane * LANES);
                choice = choice.wrapping_add(plane);
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    let to = at_mut(self.target, to + (R + r) * width + c);
                    L::load(to).add(sum).store(to);
                }
            }
        }
    }
}
