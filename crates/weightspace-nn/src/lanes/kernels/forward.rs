//! Products forward.

use super::super::{LANES, Vector};
use super::product::{Choice, Grid, Product};
use super::{at, at_mut};
use crate::kernels::simd::{Kernel, Lanes};

/// Positions computed at a time.
const POSITIONS: usize = 4;

/// output = weights x input + bias, or the maximum of it over 2 x 2 positions.
pub(in crate::lanes) struct Forward<'a> {
    pub product: &'a Product,
    pub grid: Grid,
    pub parameters: &'a [Vector],
    pub input: &'a [Vector],
    pub output: &'a mut [Vector],
    pub choices: &'a mut [Choice],
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let (outputs, tile) = (self.product.outputs, self.product.tile(L::WIDE));
        let mut first = 0;
        while first < outputs {
            // SAFETY: the processor has the instruction set by the contract of `run`.
            unsafe {
                match tile.min(outputs - first) {
                    1 => self.units::<L, 1>(first),
                    2 => self.units::<L, 2>(first),
                    3 => self.units::<L, 3>(first),
                    4 => self.units::<L, 4>(first),
                    5 => self.units::<L, 5>(first),
                    _ => self.units::<L, 6>(first),
                }
            }
            first += tile;
        }
    }
}

impl Forward<'_> {
    /// All positions of `T` units.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn units<L: Lanes, const T: usize>(&mut self, first: usize) {
        let Grid { rows, columns, input: [row, column], output: [plane, out_row, out_column] } =
            self.grid;
        match self.product.pooled {
            Some([pooled_rows, pooled_columns]) => {
                for y in 0..pooled_rows {
                    for x in 0..pooled_columns {
                        let corner = 2 * (y * row + x * column);
                        let positions = [0, column, row, row + column].map(|d| corner + d);
                        // SAFETY: as for this function.
                        let sums = unsafe { self.tile::<L, T>(first, positions) };
                        for (unit, sums) in sums.into_iter().enumerate() {
                            let to = ((first + unit) * pooled_rows + y) * pooled_columns + x;
                            // SAFETY: as for this function; `at_mut` checks that the place exists.
                            unsafe {
                                let (largest, choice) = largest(sums);
                                largest.store(at_mut(self.output, to));
                                self.choices[to] = choice;
                            }
                        }
                    }
                }
            }
            None => {
                for y in 0..rows {
                    for x in (0..columns).step_by(POSITIONS) {
                        // Positions behind the last are computed again and not kept.
                        let last = columns - 1;
                        let positions =
                            std::array::from_fn(|j| y * row + (x + j).min(last) * column);
                        // SAFETY: as for this function.
                        let sums = unsafe { self.tile::<L, T>(first, positions) };
                        let from = first * plane + y * out_row + x * out_column;
                        for (unit, sums) in sums.into_iter().enumerate() {
                            for (j, sum) in sums.into_iter().enumerate().take(columns - x) {
                                let to = from + unit * plane + j * out_column;
                                // SAFETY: as for this function; `at_mut` checks the place.
                                unsafe { sum.store(at_mut(self.output, to)) };
                            }
                        }
                    }
                }
            }
        }
    }

    /// Sums of `T` units at four positions.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        &self,
        first: usize,
        positions: [usize; POSITIONS],
    ) -> [[L; POSITIONS]; T] {
        let Product { taps, .. } = self.product;
        let weights = self.product.weights(self.parameters);
        let bias = self.product.biases(self.parameters);
        let x = positions.map(|position| at(self.input, position));
        let w: [*const f32; T] =
            std::array::from_fn(|unit| at(weights, (first + unit) * taps.len()));
        // SAFETY: taps stay inside the input from every position of the grid, and every unit has as many
        // weights as taps; the instruction set is there by the contract of this function.
        unsafe {
            let mut sums: [[L; POSITIONS]; T] = std::array::from_fn(|unit| {
                [bias.map_or(L::splat(0.0), |bias| L::load(at(bias, first + unit))); POSITIONS]
            });
            for (t, &tap) in taps.iter().enumerate() {
                let x = x.map(|x| L::load(x.add(tap)));
                for (sums, w) in sums.iter_mut().zip(w) {
                    let w = L::load(w.add(t * LANES));
                    for j in 0..POSITIONS {
                        sums[j] = sums[j].add_product(w, x[j]);
                    }
                }
            }
            sums
        }
    }
}

/// The largest of 2 x 2 values, the first of equals; whatever is compared with NaN, NaN stays.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn largest<L: Lanes>([a, b, c, d]: [L; POSITIONS]) -> (L, Choice) {
    // SAFETY: as for this function.
    unsafe {
        let (upper, lower) = (b.exceeds(a), d.exceeds(c));
        let (top, bottom) = (a.blend(b, upper), c.blend(d, lower));
        let row = bottom.exceeds(top);
        let column = upper & !row | lower & row;
        (top.blend(bottom, row), Choice { row, column })
    }
}
