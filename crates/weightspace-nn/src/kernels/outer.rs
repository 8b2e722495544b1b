//! Weight gradients: sums over pixels of products of inputs and output gradients.
//!
//! `O` blocks of 16 output channels by `I` input channels are kept in registers while all pixels
//! are summed up.

use super::maps::{BLOCK, Strides};
use super::simd::{Kernel, Lanes};
use super::tile::{multiply_scattered, multiply_transposed};

/// dW `+=` sum over the pixels of some images (or the rows of a matrix) of dy(pixel) x(pixel + tap)^T.
pub struct Outer<'a> {
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
    /// Input, from the first value that the first output reads.
    pub input: &'a [f32],
    /// Strides of the input from one output pixel to the next.
    pub input_strides: Strides,
    /// Gradient of the output, from its first pixel.
    pub gradient: &'a [f32],
    /// Strides of the gradient.
    pub gradient_strides: Strides,
    /// Gradient of the weights, packed as the weights of [`Product`](super::product::Product).
    pub weights: &'a mut [f32],
}

impl Outer<'_> {
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
        assert!(last(&self.gradient_strides, self.out_blocks) + BLOCK <= self.gradient.len());
        let packed = self.out_blocks * self.in_channels * self.taps.len() * BLOCK;
        assert_eq!(self.weights.len(), packed);
    }
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        if self.samples * self.height * self.width == 0 {
            return;
        }
        self.check();
        let pairs = if L::WIDE { self.out_blocks / 2 } else { 0 };
        // SAFETY: the processor has the instruction set of L by the contract; `check` has shown
        // that every pixel and block of the loops below lies inside its slice.
        unsafe {
            for pair in 0..pairs {
                self.block::<L, 2>(2 * pair);
            }
            for block in 2 * pairs..self.out_blocks {
                self.block::<L, 1>(block);
            }
        }
    }
}

impl Outer<'_> {
    /// The weights of `O` output blocks.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `block + O` is at most the number of output blocks.
    #[inline(always)]
    unsafe fn block<L: Lanes, const O: usize>(&mut self, block: usize) {
        let packed_block = self.in_channels * self.taps.len() * BLOCK;
        let mut at = block * packed_block;
        if self.in_channels == 1 {
            // SAFETY: as the tiles below.
            return unsafe { self.taps::<L, O>(block, at) };
        }
        for first in (0..self.in_channels).step_by(BLOCK) {
            let channels = (self.in_channels - first).min(BLOCK);
            for &tap in self.taps {
                let plane = first / BLOCK * self.input_strides.block + tap;
                let mut channel = 0;
                // SAFETY: every tile ends within the channels.
                unsafe {
                    macro_rules! tiles {
                        ($($count:literal),*) => {
                            {$(while channels - channel >= $count {
                                let weights = at + channel * BLOCK;
                                self.tile::<L, O, $count>(block, plane + channel, weights);
                                channel += $count;
                            })*}
                        };
                    }
                    match (L::WIDE, O) {
                        (true, 1) => tiles!(16, 8, 4, 2, 1),
                        (true, _) => tiles!(8, 4, 2, 1),
                        (false, _) => tiles!(4, 2, 1),
                    }
                }
                at += channels * BLOCK;
            }
        }
    }

    /// The weights of one input channel: several kernel positions together, because one sum alone
    /// would wait for itself at every pixel.
    ///
    /// # Safety
    /// As [`block`](Self::block).
    #[inline(always)]
    unsafe fn taps<L: Lanes, const O: usize>(&mut self, block: usize, at: usize) {
        const ROWS: usize = 9;
        let packed_block = self.taps.len() * BLOCK;
        let (from, to) = (self.input_strides, self.gradient_strides);
        for (chunk, taps) in self.taps.chunks(ROWS).enumerate() {
            // Beyond the last tap its values are summed again, and not stored.
            let offsets: [usize; ROWS] = std::array::from_fn(|i| taps[i.min(taps.len() - 1)]);
            // SAFETY: `check` bounds every offset used here.
            unsafe {
                let mut sums = [[L::splat(0.0); ROWS]; O];
                for row in 0..self.samples * self.height {
                    let (sample, y) = (row / self.height, row % self.height);
                    let values = sample * from.sample + y * from.row;
                    let gradients = block * to.block + sample * to.sample + y * to.row;
                    multiply_scattered(
                        &mut sums,
                        (self.input.as_ptr().add(values), from.pixel, offsets),
                        (self.gradient.as_ptr().add(gradients), to.pixel, to.block),
                        self.width,
                    );
                }
                for (o, sums) in sums.iter().enumerate() {
                    for (i, &sum) in sums[..taps.len()].iter().enumerate() {
                        let row = at + o * packed_block + (chunk * ROWS + i) * BLOCK;
                        let weight = self.weights.as_mut_ptr().add(row);
                        sum.add(L::load(weight)).store(weight);
                    }
                }
            }
        }
    }

    /// Sums `I` input channels, from position `plane` of the input, over all pixels.
    ///
    /// # Safety
    /// As [`block`](Self::block); the channels lie inside the input, and the weights from `at`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const O: usize, const I: usize>(
        &mut self,
        block: usize,
        plane: usize,
        at: usize,
    ) {
        let packed_block = self.in_channels * self.taps.len() * BLOCK;
        let (from, to) = (self.input_strides, self.gradient_strides);
        // SAFETY: `check` bounds every offset used here.
        unsafe {
            let mut sums = [[L::splat(0.0); I]; O];
            for row in 0..self.samples * self.height {
                let (sample, y) = (row / self.height, row % self.height);
                let values = plane + sample * from.sample + y * from.row;
                let gradients = block * to.block + sample * to.sample + y * to.row;
                let values = self.input.as_ptr().add(values);
                let gradients = self.gradient.as_ptr().add(gradients);
                multiply_transposed(
                    &mut sums,
                    (values, from.pixel),
                    (gradients, to.pixel, to.block),
                    self.width,
                );
            }
            for (o, sums) in sums.iter().enumerate() {
                for (i, &sum) in sums.iter().enumerate() {
                    let weight = self.weights.as_mut_ptr().add(at + o * packed_block + i * BLOCK);
                    sum.add(L::load(weight)).store(weight);
                }
            }
        }
    }
}
