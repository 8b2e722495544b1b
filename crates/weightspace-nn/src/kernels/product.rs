//! Sums of products over channels and kernel positions: convolution forward and backward to its
//! input, and the linear layer as the case of one position.
//!
//! `O` blocks of 16 output channels by `P` output pixels are kept in registers while all input
//! channels and kernel positions are summed up, in the order input block, position, channel.

use super::maps::{BLOCK, Strides};
use super::simd::{Kernel, Lanes};
use super::tile::{multiply, multiply_taps};

/// y = `[relu]` (W * x + bias `[+ residual]`) for some images, or for a matrix of rows.
pub struct Product<'a> {
    /// Images.
    pub samples: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Blocks of 16 output channels.
    pub out_blocks: usize,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
    /// For each kernel position the offset of the value that it reads from the output's pixel.
    pub taps: &'a [usize],
    /// Input, from the first value that the first output reads (in the border when padded).
    pub input: &'a [f32],
    /// Strides of the input from one output pixel to the next.
    pub input_strides: Strides,
    /// Weights `[out_blocks][in_channels / 16][taps][in_channels % 16][16]`; see
    /// [`pack`](super::pack).
    pub weights: &'a [f32],
    /// Bias, one per output channel, padded to whole blocks; empty for none.
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
}

impl Product<'_> {
    /// Length of the weights of one block of output channels.
    fn packed_block(&self) -> usize {
        self.in_channels * self.taps.len() * BLOCK
    }

    /// Checks once that no pixel of the run leaves its slice.
    fn check(&self) {
        let last = |strides: &Strides, blocks: usize| {
            (self.samples - 1) * strides.sample
                + (blocks - 1) * strides.block
                + (self.height - 1) * strides.row
                + (self.width - 1) * strides.pixel
        };
        let in_blocks = self.in_channels.div_ceil(BLOCK);
        let tail = self.in_channels - (in_blocks - 1) * BLOCK;
        let furthest = self.taps.iter().max().copied().unwrap_or(0);
        assert!(last(&self.input_strides, in_blocks) + furthest + tail <= self.input.len());
        assert!(last(&self.output_strides, self.out_blocks) + BLOCK <= self.output.len());
        if let Some((residual, strides)) = &self.residual {
            assert!(last(strides, self.out_blocks) + BLOCK <= residual.len());
        }
        assert_eq!(self.weights.len(), self.out_blocks * self.packed_block());
        assert!(self.bias.is_empty() || self.bias.len() == self.out_blocks * BLOCK);
    }
}

impl Kernel for Product<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        if self.samples * self.height * self.width == 0 {
            return;
        }
        self.check();
        // Two blocks at a time reuse each broadcast; narrow registers have no room for them.
        let pairs = if L::WIDE { self.out_blocks / 2 } else { 0 };
        // SAFETY: the processor has the instruction set of L by the contract; `check` has shown
        // that every pixel and block of the loops below lies inside its slice.
        unsafe {
            // A step between pixels that the compiler knows needs no registers.
            if self.input_strides.pixel == BLOCK {
                self.blocks::<L, BLOCK>(pairs);
            } else {
                self.blocks::<L, 0>(pairs);
            }
        }
    }
}

impl Product<'_> {
    /// All output blocks, the first ones in pairs. `STEP` is the step from one input pixel to the
    /// next; 0 where it is not known.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn blocks<L: Lanes, const STEP: usize>(&mut self, pairs: usize) {
        // SAFETY: by the contract.
        unsafe {
            for pair in 0..pairs {
                self.rows::<L, 2, STEP>(2 * pair);
            }
            for block in 2 * pairs..self.out_blocks {
                self.rows::<L, 1, STEP>(block);
            }
        }
    }

    /// All pixels of `O` output blocks.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `block + O` is at most the number of output blocks.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const O: usize, const STEP: usize>(&mut self, block: usize) {
        for row in 0..self.samples * self.height {
            let (sample, y) = (row / self.height, row % self.height);
            let mut x = 0;
            // SAFETY: every tile ends within the row.
            unsafe {
                macro_rules! tiles {
                    ($($pixels:literal),*) => {
                        {$(while self.width - x >= $pixels {
                            self.tile::<L, O, $pixels, STEP>(block, sample, y, x);
                            x += $pixels;
                        })*}
                    };
                }
                match (L::WIDE, O, STEP) {
                    (true, 1, BLOCK) => tiles!(16, 14, 12, 8, 7, 4, 1),
                    (true, 1, _) => tiles!(16, 8, 4, 1),
                    (true, _, BLOCK) => tiles!(8, 7, 4, 2, 1),
                    (true, _, _) => tiles!(8, 4, 1),
                    (false, _, _) => tiles!(6, 4, 2, 1),
                }
            }
        }
    }

    /// `P` pixels of `O` output blocks of one sample, from row `y`, column `x`.
    ///
    /// # Safety
    /// As [`rows`](Self::rows); `x + P` is at most the width.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const O: usize, const P: usize, const STEP: usize>(
        &mut self,
        block: usize,
        sample: usize,
        y: usize,
        x: usize,
    ) {
        let packed_block = self.packed_block();
        let strides = self.input_strides;
        let step = if STEP == 0 { strides.pixel } else { STEP };
        // SAFETY: `check` bounds every offset used here.
        unsafe {
            let mut sums = [[L::splat(0.0); P]; O];
            if !self.bias.is_empty() {
                for (o, sum) in sums.iter_mut().enumerate() {
                    *sum = [L::load(self.bias.as_ptr().add((block + o) * BLOCK)); P];
                }
            }
            let mut weights = self.weights.as_ptr().add(block * packed_block);
            let first = sample * strides.sample + y * strides.row + x * strides.pixel;
            let mut plane = self.input.as_ptr().add(first);
            if self.in_channels == 1 {
                multiply_taps(&mut sums, plane, step, weights, packed_block, self.taps);
            }
            let mut channels_left = if self.in_channels == 1 { 0 } else { self.in_channels };
            while channels_left > 0 {
                let channels = channels_left.min(BLOCK);
                for &tap in self.taps {
                    let pixel = plane.add(tap);
                    multiply(&mut sums, pixel, step, weights, packed_block, channels);
                    weights = weights.add(channels * BLOCK);
                }
                channels_left -= channels;
                plane = plane.wrapping_add(strides.block);
            }
            for (o, sums) in sums.iter().enumerate() {
                self.finish::<L, P>(sums, block + o, sample, y, x);
            }
        }
    }

    /// Adds the residual, clamps and stores `P` pixels of one block.
    ///
    /// # Safety
    /// As [`tile`](Self::tile).
    #[inline(always)]
    unsafe fn finish<L: Lanes, const P: usize>(
        &mut self,
        sums: &[L; P],
        block: usize,
        sample: usize,
        y: usize,
        x: usize,
    ) {
        let offset = |s: &Strides| sample * s.sample + block * s.block + y * s.row + x * s.pixel;
        // SAFETY: `check` bounds every offset used here.
        unsafe {
            let output = self.output.as_mut_ptr().add(offset(&self.output_strides));
            for (p, &sum) in sums.iter().enumerate() {
                let output = output.add(p * self.output_strides.pixel);
                let mut value = sum;
                if self.accumulate {
                    value = value.add(L::load(output));
                }
                if let Some((residual, strides)) = &self.residual {
                    let at = residual.as_ptr().add(offset(strides) + p * strides.pixel);
                    value = value.add(L::load(at));
                }
                if self.relu {
                    // NaN stays NaN: the second operand wins.
                    value = L::splat(0.0).max(value);
                }
                value.store(output);
            }
        }
    }
}
