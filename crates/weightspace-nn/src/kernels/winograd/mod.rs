//! 3 x 3 convolution of stride 1 by Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray,
//! 2016): 16 products for every 2 x 2 outputs in place of 36.
//!
//! With tiles d of 4 x 4 inputs, filters g and outputs y of 2 x 2:
//! y = A^T [ (G g G^T) . (B^T d B) ] A, and for the weights dg = G^T [ (A dy A^T) . (B^T d B) ] G,
//! where . is a product over channels (outputs, tiles) for each of the 16 positions. The transforms
//! of values only add and subtract.

mod filter;

use std::ops::Range;

use super::maps::{BLOCK, Strides};
use super::simd::{Kernel, Lanes};
use super::tile::{multiply, multiply_transposed};

pub use filter::{for_each_filter, transform_filter, transform_filter_gradient};

/// Positions of a transformed tile.
pub const POSITIONS: usize = 16;

/// Transformed values of one strip that are kept at a time, in `f32`: they should stay in the
/// first-level cache together with the products.
const STRIP: usize = 1 << 13;

/// The same, where the second-level cache is good enough.
const LONGEST_STRIP: usize = 1 << 16;

/// Tiles of a strip that make reading the weights worth while.
const FEWEST_TILES: usize = 16;

/// From one position to the next of `count` transformed tiles. One block more than they need:
/// powers of two would put all positions of a tile into few lines of the cache.
#[inline(always)]
fn position_stride(count: usize, blocks: usize) -> usize {
    (count * blocks + 1) * BLOCK
}

/// How many tiles there are and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Images.
    pub samples: usize,
    /// Blocks of input channels (of whole 16 lanes).
    pub in_blocks: usize,
    /// Blocks of output channels.
    pub out_blocks: usize,
    /// Rows of 2 x 2 tiles of one image: half the rows of the output.
    pub rows: usize,
    /// Columns of tiles.
    pub columns: usize,
}

impl Tiles {
    /// Rows of tiles, of any images, that are done together.
    fn rows_per_strip(&self) -> usize {
        self.rows_of(STRIP)
    }

    /// The same backward to the weights: every strip reads and writes all sums, so that more
    /// channels want longer strips.
    fn rows_per_outer_strip(&self) -> usize {
        self.rows_of((STRIP * self.in_blocks * self.out_blocks).min(LONGEST_STRIP))
    }

    fn rows_of(&self, strip: usize) -> usize {
        let row = POSITIONS * self.columns * self.in_blocks.max(self.out_blocks) * BLOCK;
        (strip / row).max(FEWEST_TILES.div_ceil(self.columns))
    }

    /// Length of the scratch memory of one run of any number of images.
    pub fn scratch_len(&self) -> usize {
        let rows = self.rows_per_strip().max(self.rows_per_outer_strip());
        let count = rows * self.columns;
        POSITIONS
            * (position_stride(count, self.in_blocks) + position_stride(count, self.out_blocks))
    }

    /// Offset of a row of tiles, counted over all images.
    #[inline(always)]
    fn row(&self, row: usize, strides: &Strides) -> usize {
        row / self.rows * strides.sample + 2 * (row % self.rows) * strides.row
    }

    /// Length that an operand must have from its first tile.
    fn end(&self, strides: &Strides, blocks: usize, rows: usize, columns: usize) -> usize {
        (self.samples - 1) * strides.sample
            + (blocks - 1) * strides.block
            + (rows - 1) * strides.row
            + (columns - 1) * strides.pixel
            + BLOCK
    }

    /// Length of the transformed weights `[16][out_blocks][in_blocks * 16][16]`.
    pub fn weights_len(&self) -> usize {
        POSITIONS * self.out_blocks * self.in_blocks * BLOCK * BLOCK
    }
}

/// y = `[relu]` (W * x + bias `[+ residual]`) for one image.
pub struct Winograd<'a> {
    /// Geometry.
    pub tiles: Tiles,
    /// Input, from the first value of the first tile (in the border when padded).
    pub input: &'a [f32],
    /// Strides of the input.
    pub input_strides: Strides,
    /// Transformed weights `[16][out_blocks][in_blocks * 16][16]`.
    pub weights: &'a [f32],
    /// Bias padded to whole blocks; empty for none.
    pub bias: &'a [f32],
    /// Added to the output, from its first pixel.
    pub residual: Option<(&'a [f32], Strides)>,
    /// Clamp negative results to zero.
    pub relu: bool,
    /// Add to what the output holds.
    pub accumulate: bool,
    /// Output, from its first pixel inside the border.
    pub output: &'a mut [f32],
    /// Strides of the output.
    pub output_strides: Strides,
    /// At least [`Tiles::scratch_len`] values, of any content.
    pub scratch: &'a mut [f32],
}

impl Kernel for Winograd<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let t = self.tiles;
        if t.samples == 0 {
            return;
        }
        let (height, width) = (2 * t.rows, 2 * t.columns);
        assert!(
            t.end(&self.input_strides, t.in_blocks, height + 2, width + 2) <= self.input.len()
                && t.end(&self.output_strides, t.out_blocks, height, width) <= self.output.len()
                && t.scratch_len() <= self.scratch.len()
        );
        assert_eq!(self.weights.len(), t.weights_len());
        assert!(self.bias.is_empty() || self.bias.len() == t.out_blocks * BLOCK);
        if let Some((residual, strides)) = &self.residual {
            assert!(t.end(strides, t.out_blocks, height, width) <= residual.len());
        }
        let strip_rows = t.rows_per_strip();
        let most = strip_rows * t.columns;
        let (values, products) =
            self.scratch.split_at_mut(POSITIONS * position_stride(most, t.in_blocks));
        let (values, products) = (values.as_mut_ptr(), products.as_mut_ptr());
        let all_rows = t.samples * t.rows;
        for first_row in (0..all_rows).step_by(strip_rows) {
            let rows = first_row..all_rows.min(first_row + strip_rows);
            let count = rows.len() * t.columns;
            // SAFETY: the instruction set by the contract; the asserts above bound every tile.
            unsafe {
                let input = self.input.as_ptr();
                transform_input::<L>(&t, rows.clone(), input, self.input_strides, values);
                for position in 0..POSITIONS {
                    let weights = self.weights.as_ptr();
                    multiply_position::<L>(
                        &t,
                        count,
                        values.add(position * position_stride(count, t.in_blocks)),
                        weights.add(position * t.out_blocks * t.in_blocks * BLOCK * BLOCK),
                        products.add(position * position_stride(count, t.out_blocks)),
                    );
                }
                for block in 0..t.out_blocks {
                    self.finish::<L>(block, rows.clone(), products);
                }
            }
        }
    }
}

impl Winograd<'_> {
    /// From products to the outputs of one block of channels, in some rows of tiles.
    ///
    /// # Safety
    /// The instruction set; all products there, and all outputs inside their slice.
    #[inline(always)]
    unsafe fn finish<L: Lanes>(&mut self, block: usize, rows: Range<usize>, products: *const f32) {
        let t = self.tiles;
        let count = rows.len() * t.columns;
        let next = position_stride(count, t.out_blocks);
        let (to, accumulate) = (self.output_strides, self.accumulate);
        // SAFETY: by the contract.
        unsafe {
            let bias = match self.bias {
                [] => L::splat(0.0),
                bias => L::load(bias.as_ptr().add(block * BLOCK)),
            };
            let floor = L::splat(if self.relu { 0.0 } else { f32::NEG_INFINITY });
            for (index, row) in rows.enumerate() {
                let mut product = products.add((block * count + index * t.columns) * BLOCK);
                let mut output = self.output.as_mut_ptr().add(block * to.block + t.row(row, &to));
                let of_residual = |(values, s): (&[f32], Strides)| {
                    (values.as_ptr().add(block * s.block + t.row(row, &s)), s)
                };
                let mut residual = self.residual.map(of_residual);
                for _ in 0..t.columns {
                    let y = inverse::<L>(product, next);
                    for (i, value) in y.into_iter().enumerate() {
                        let target = output.add(i / 2 * to.row + i % 2 * to.pixel);
                        let mut value = value.add(bias);
                        if accumulate {
                            value = value.add(L::load(target));
                        }
                        if let Some((residual, s)) = residual {
                            let at = residual.add(i / 2 * s.row + i % 2 * s.pixel);
                            value = value.add(L::load(at));
                        }
                        floor.max(value).store(target);
                    }
                    product = product.add(BLOCK);
                    output = output.add(2 * to.pixel);
                    residual = residual.map(|(r, s)| (r.add(2 * s.pixel), s));
                }
            }
        }
    }
}

/// A^T m A of one tile: 16 products, `next` apart, to 2 x 2 outputs.
///
/// # Safety
/// The instruction set, and 16 readable blocks.
#[inline(always)]
unsafe fn inverse<L: Lanes>(product: *const f32, next: usize) -> [L; 4] {
    // SAFETY: by the contract.
    unsafe {
        let m = |r: usize, c: usize| L::load(product.add((4 * r + c) * next));
        let mut top = [L::splat(0.0); 4];
        let mut bottom = [L::splat(0.0); 4];
        for (c, (top, bottom)) in top.iter_mut().zip(&mut bottom).enumerate() {
            let (m0, m1, m2, m3) = (m(0, c), m(1, c), m(2, c), m(3, c));
            *top = m0.add(m1).add(m2);
            *bottom = m1.sub(m2).sub(m3);
        }
        let fold = |v: [L; 4]| [v[0].add(v[1]).add(v[2]), v[1].sub(v[2]).sub(v[3])];
        let ([a, b], [c, d]) = (fold(top), fold(bottom));
        [a, b, c, d]
    }
}

/// B^T d B of every tile: `values [16][in_blocks][tiles][16]`.
///
/// # Safety
/// The instruction set; every tile readable; `values` writable for all of them.
#[inline(always)]
unsafe fn transform_input<L: Lanes>(
    t: &Tiles,
    rows: Range<usize>,
    input: *const f32,
    strides: Strides,
    values: *mut f32,
) {
    let count = rows.len() * t.columns;
    let next = position_stride(count, t.in_blocks);
    for block in 0..t.in_blocks {
        for (index, row) in rows.clone().enumerate() {
            let start = block * strides.block + t.row(row, &strides);
            for column in 0..t.columns {
                // SAFETY: by the contract.
                unsafe {
                    let tile = input.add(start + 2 * column * strides.pixel);
                    let target = values.add((block * count + index * t.columns + column) * BLOCK);
                    let d =
                        |r: usize, c: usize| L::load(tile.add(r * strides.row + c * strides.pixel));
                    let mut half = [[L::splat(0.0); 4]; 4];
                    #[expect(clippy::needless_range_loop, reason = "a column of four rows")]
                    for c in 0..4 {
                        let (d0, d1, d2, d3) = (d(0, c), d(1, c), d(2, c), d(3, c));
                        half[0][c] = d0.sub(d2);
                        half[1][c] = d1.add(d2);
                        half[2][c] = d2.sub(d1);
                        half[3][c] = d1.sub(d3);
                    }
                    for (r, h) in half.iter().enumerate() {
                        let out = [h[0].sub(h[2]), h[1].add(h[2]), h[2].sub(h[1]), h[1].sub(h[3])];
                        for (c, value) in out.into_iter().enumerate() {
                            value.store(target.add((4 * r + c) * next));
                        }
                    }
                }
            }
        }
    }
}

/// products `[out_blocks][tiles][16]` = values `[in_blocks][tiles][16]` times weights
/// `[out_blocks][in_blocks * 16][16]`.
///
/// # Safety
/// The instruction set, and memory of those lengths.
#[inline(always)]
unsafe fn multiply_position<L: Lanes>(
    t: &Tiles,
    count: usize,
    values: *const f32,
    weights: *const f32,
    products: *mut f32,
) {
    let packed_block = t.in_blocks * BLOCK * BLOCK;
    macro_rules! tiles {
        ($block:expr, $outputs:literal: $($pixels:literal),*) => {{
            let mut tile = 0;
            $(while count - tile >= $pixels {
                let mut sums = [[L::splat(0.0); $pixels]; $outputs];
                for in_block in 0..t.in_blocks {
                    multiply(
                        &mut sums,
                        values.add((in_block * count + tile) * BLOCK),
                        BLOCK,
                        weights.add($block * packed_block + in_block * BLOCK * BLOCK),
                        packed_block,
                        BLOCK,
                    );
                }
                for (o, sums) in sums.iter().enumerate() {
                    for (p, &sum) in sums.iter().enumerate() {
                        sum.store(products.add((($block + o) * count + tile + p) * BLOCK));
                    }
                }
                tile += $pixels;
            })*
        }};
    }
    let pairs = if L::WIDE { t.out_blocks / 2 } else { 0 };
    // SAFETY: by the contract.
    unsafe {
        for pair in 0..pairs {
            tiles!(2 * pair, 2: 8, 4, 1);
        }
        for block in 2 * pairs..t.out_blocks {
            if L::WIDE { tiles!(block, 1: 16, 8, 4, 1) } else { tiles!(block, 1: 6, 4, 2, 1) }
        }
    }
}

/// dU `+=` the gradient of the transformed weights from one image.
pub struct WinogradOuter<'a> {
    /// Geometry.
    pub tiles: Tiles,
    /// Input, from the first value of the first tile.
    pub input: &'a [f32],
    /// Strides of the input.
    pub input_strides: Strides,
    /// Gradient of the output, from its first pixel.
    pub gradient: &'a [f32],
    /// Strides of the gradient.
    pub gradient_strides: Strides,
    /// Gradient of the transformed weights `[16][out_blocks][in_blocks * 16][16]`.
    pub weights: &'a mut [f32],
    /// At least [`Tiles::scratch_len`] values, of any content.
    pub scratch: &'a mut [f32],
}

impl Kernel for WinogradOuter<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let t = self.tiles;
        if t.samples == 0 {
            return;
        }
        let (height, width) = (2 * t.rows, 2 * t.columns);
        assert!(
            t.end(&self.input_strides, t.in_blocks, height + 2, width + 2) <= self.input.len()
                && t.end(&self.gradient_strides, t.out_blocks, height, width)
                    <= self.gradient.len()
                && t.scratch_len() <= self.scratch.len()
        );
        assert_eq!(self.weights.len(), t.weights_len());
        let strip_rows = t.rows_per_outer_strip();
        let most = strip_rows * t.columns;
        let (values, lifted) =
            self.scratch.split_at_mut(POSITIONS * position_stride(most, t.in_blocks));
        let (values, lifted) = (values.as_mut_ptr(), lifted.as_mut_ptr());
        let all_rows = t.samples * t.rows;
        for first_row in (0..all_rows).step_by(strip_rows) {
            let rows = first_row..all_rows.min(first_row + strip_rows);
            let count = rows.len() * t.columns;
            // SAFETY: the instruction set by the contract; the asserts above bound every tile.
            unsafe {
                let (input, gradient) = (self.input.as_ptr(), self.gradient.as_ptr());
                transform_input::<L>(&t, rows.clone(), input, self.input_strides, values);
                transform_gradient::<L>(&t, rows, gradient, self.gradient_strides, lifted);
                for position in 0..POSITIONS {
                    outer_position::<L>(
                        &t,
                        count,
                        values.add(position * position_stride(count, t.in_blocks)),
                        lifted.add(position * position_stride(count, t.out_blocks)),
                        self.weights
                            .as_mut_ptr()
                            .add(position * t.out_blocks * t.in_blocks * BLOCK * BLOCK),
                    );
                }
            }
        }
    }
}

/// A dy A^T of every tile: `lifted [16][out_blocks][tiles][16]`.
///
/// # Safety
/// As [`transform_input`].
#[inline(always)]
unsafe fn transform_gradient<L: Lanes>(
    t: &Tiles,
    rows: Range<usize>,
    gradient: *const f32,
    strides: Strides,
    lifted: *mut f32,
) {
    let count = rows.len() * t.columns;
    let next = position_stride(count, t.out_blocks);
    for block in 0..t.out_blocks {
        for (index, row) in rows.clone().enumerate() {
            let start = block * strides.block + t.row(row, &strides);
            for column in 0..t.columns {
                // SAFETY: by the contract.
                unsafe {
                    let tile = gradient.add(start + 2 * column * strides.pixel);
                    let target = lifted.add((block * count + index * t.columns + column) * BLOCK);
                    let y =
                        |r: usize, c: usize| L::load(tile.add(r * strides.row + c * strides.pixel));
                    let (a, b, c, d) = (y(0, 0), y(0, 1), y(1, 0), y(1, 1));
                    let zero = L::splat(0.0);
                    let left = [a, a.add(c), a.sub(c), zero.sub(c)];
                    let right = [b, b.add(d), b.sub(d), zero.sub(d)];
                    for r in 0..4 {
                        let (p, q) = (left[r], right[r]);
                        let out = [p, p.add(q), p.sub(q), zero.sub(q)];
                        for (c, value) in out.into_iter().enumerate() {
                            value.store(target.add((4 * r + c) * next));
                        }
                    }
                }
            }
        }
    }
}

/// weights `[out_blocks][in_blocks * 16][16]` `+=` lifted^T values, summed over tiles.
///
/// # Safety
/// As [`multiply_position`].
#[inline(always)]
unsafe fn outer_position<L: Lanes>(
    t: &Tiles,
    count: usize,
    values: *const f32,
    lifted: *const f32,
    weights: *mut f32,
) {
    let packed_block = t.in_blocks * BLOCK * BLOCK;
    macro_rules! tiles {
        ($block:expr, $outputs:literal, $inputs:literal) => {
            for in_block in 0..t.in_blocks {
                for channel in (0..BLOCK).step_by($inputs) {
                    let mut sums = [[L::splat(0.0); $inputs]; $outputs];
                    multiply_transposed(
                        &mut sums,
                        (values.add(in_block * count * BLOCK + channel), BLOCK),
                        (lifted.add($block * count * BLOCK), BLOCK, count * BLOCK),
                        count,
                    );
                    for (o, sums) in sums.iter().enumerate() {
                        for (i, &sum) in sums.iter().enumerate() {
                            let at = ($block + o) * packed_block
                                + (in_block * BLOCK + channel + i) * BLOCK;
                            let weight = weights.add(at);
                            sum.add(L::load(weight)).store(weight);
                        }
                    }
                }
            }
        };
    }
    let pairs = if L::WIDE { t.out_blocks / 2 } else { 0 };
    // SAFETY: by the contract.
    unsafe {
        for pair in 0..pairs {
            tiles!(2 * pair, 2, 8);
        }
        for block in 2 * pairs..t.out_blocks {
            if L::WIDE { tiles!(block, 1, 16) } else { tiles!(block, 1, 4) }
        }
    }
}
