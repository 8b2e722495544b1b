//! Gradient of the input of a product.

use super::super::{LANES, Vector};
use super::product::{Grid, Product};
use super::{at, at_mut};
use crate::kernels::simd::{Kernel, Lanes};

/// Taps and positions computed at a time.
const TAPS: usize = 4;
const POSITIONS: usize = 4;

/// target += transposed weights x gradient.
pub(in crate::lanes) struct InputGradient<'a> {
    pub product: &'a Product,
    pub grid: Grid,
    pub parameters: &'a [Vector],
    pub gradient: &'a [Vector],
    pub target: &'a mut [Vector],
}

impl Kernel for InputGradient<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let taps = &self.product.taps;
        let weights = self.product.weights(self.parameters);
        let Grid { rows, columns, input: [row, column], output: [plane, out_row, out_column] } =
            self.grid;
        for t in (0..taps.len()).step_by(TAPS) {
            // Taps and positions behind the last are computed again and not kept.
            let group: [usize; TAPS] = std::array::from_fn(|i| (t + i).min(taps.len() - 1));
            for y in 0..rows {
                for x in (0..columns).step_by(POSITIONS) {
                    let positions: [usize; POSITIONS] =
                        std::array::from_fn(|j| (x + j).min(columns - 1));
                    // SAFETY: every unit has as many weights as taps and a gradient at every position; the
                    // taps stay inside the input from there; the instruction set is there by the contract.
                    unsafe {
                        let mut sums = [[L::splat(0.0); POSITIONS]; TAPS];
                        let g = positions.map(|x| at(self.gradient, y * out_row + x * out_column));
                        let w = group.map(|i| at(weights, i));
                        for unit in 0..self.product.outputs {
                            let g = g.map(|g| L::load(g.add(unit * plane * LANES)));
                            for i in 0..TAPS {
                                let w = L::load(w[i].add(unit * taps.len() * LANES));
                                for j in 0..POSITIONS {
                                    sums[i][j] = sums[i][j].add_product(w, g[j]);
                                }
                            }
                        }
                        for (i, sums) in sums.into_iter().enumerate().take(taps.len() - t) {
                            for (j, sum) in sums.into_iter().enumerate().take(columns - x) {
                                let to = y * row + (x + j) * column + taps[t + i] / LANES;
                                let to = at_mut(self.target, to);
                                L::load(to).add(sum).store(to);
                            }
                        }
                    }
                }
            }
        }
    }
}
