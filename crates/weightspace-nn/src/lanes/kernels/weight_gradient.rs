//! Gradients of the weights and the bias of a product.

use super::super::{LANES, Vector};
use super::product::{Grid, Product};
use super::{at, at_mut};
use crate::kernels::simd::{Kernel, Lanes};

/// Taps computed at a time.
const TAPS: usize = 4;

/// target += gradient x input, summed over the positions; and the same for the bias.
pub(in crate::lanes) struct WeightGradient<'a> {
    pub product: &'a Product,
    pub grid: Grid,
    pub input: &'a [Vector],
    pub gradient: &'a [Vector],
    /// Gradients of all parameters.
    pub target: &'a mut [Vector],
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let (outputs, tile) = (self.product.outputs, if L::WIDE { 4 } else { 1 });
        let mut first = 0;
        while first < outputs {
            // SAFETY: the processor has the instruction set by the contract of `run`.
            unsafe {
                match tile.min(outputs - first) {
                    1 => self.units::<L, 1>(first),
                    2 => self.units::<L, 2>(first),
                    3 => self.units::<L, 3>(first),
                    _ => self.units::<L, 4>(first),
                }
            }
            first += tile;
        }
    }
}

impl WeightGradient<'_> {
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn units<L: Lanes, const T: usize>(&mut self, first: usize) {
        let taps = &self.product.taps;
        let weight = self.product.weight + first * taps.len();
        for t in (0..taps.len()).step_by(TAPS) {
            // Taps behind the last are computed again and not kept.
            let group = std::array::from_fn(|i| taps[(t + i).min(taps.len() - 1)]);
            // SAFETY: as for this function; `at` checks that the places exist.
            unsafe {
                let sums = self.tile::<L, T>(first, group);
                for (unit, sums) in sums.into_iter().enumerate() {
                    for (i, sum) in sums.into_iter().enumerate().take(taps.len() - t) {
                        let to = at_mut(self.target, weight + unit * taps.len() + t + i);
                        L::load(to).add(sum).store(to);
                    }
                }
            }
        }
        if let Some(bias) = self.product.bias {
            for unit in first..first + T {
                // SAFETY: as for this function; `at` checks that the places exist.
                unsafe {
                    let mut sum = L::splat(0.0);
                    let [plane, row, column] = self.grid.output;
                    for y in 0..self.grid.rows {
                        for x in 0..self.grid.columns {
                            let from = unit * plane + y * row + x * column;
                            sum = sum.add(L::load(at(self.gradient, from)));
                        }
                    }
                    let to = at_mut(self.target, bias + unit);
                    L::load(to).add(sum).store(to);
                }
            }
        }
    }

    /// # Safety
    /// The processor has the instruction set, and the taps are those of the product.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        &self,
        first: usize,
        taps: [usize; TAPS],
    ) -> [[L; TAPS]; T] {
        let Grid { rows, columns, input: [row, column], output: [plane, out_row, out_column] } =
            self.grid;
        // SAFETY: taps stay inside the input from every position of the grid; `at` checks the positions
        // themselves; the instruction set is there by the contract of this function.
        unsafe {
            let mut sums = [[L::splat(0.0); TAPS]; T];
            for y in 0..rows {
                let mut x = at(self.input, y * row);
                let mut g = at(self.gradient, first * plane + y * out_row);
                for _ in 0..columns {
                    let values = taps.map(|tap| L::load(x.add(tap)));
                    for (unit, sums) in sums.iter_mut().enumerate() {
                        let g = L::load(g.add(unit * plane * LANES));
                        for i in 0..TAPS {
                            sums[i] = sums[i].add_product(g, values[i]);
                        }
                    }
                    x = x.wrapping_add(column * LANES);
                    g = g.wrapping_add(out_column * LANES);
                }
            }
            sums
        }
    }
}
