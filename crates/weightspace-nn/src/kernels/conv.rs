//! Convolution on blocked feature maps, and the linear layer as its 1x1 case.
//!
//! One register-blocked microkernel: `O` blocks of 16 output channels by `P` output pixels are kept
//! in registers while all input channels and kernel positions are summed up, in the order input
//! block, kernel row, kernel column, channel.

use super::simd::{Kernel, Lanes};

/// Channels of one block.
pub const BLOCK: usize = 16;

/// Where the values of one operand stand, in `f32` elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    /// From one block of 16 channels to the next.
    pub block: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel to the next.
    pub pixel: usize,
}

/// Geometry of a convolution of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub in_channels: usize,
    /// Blocks of 16 output channels.
    pub out_blocks: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
}

impl ConvShape {
    /// Length of the packed weights of one block of output channels.
    pub fn packed_block(&self) -> usize {
        self.in_channels * self.kernel * self.kernel * BLOCK
    }
}

/// Packs `weight [out, in, k, k]` into `[out / 16][in / 16][ky][kx][in % 16][out % 16]`; missing
/// output channels are zero.
pub fn pack_weights(
    weight: &[f32],
    out_channels: usize,
    in_channels: usize,
    kernel: usize,
) -> Vec<f32> {
    let window = kernel * kernel;
    let mut packed =
        Vec::with_capacity(out_channels.div_ceil(BLOCK) * in_channels * window * BLOCK);
    for out_block in 0..out_channels.div_ceil(BLOCK) {
        for first_in in (0..in_channels).step_by(BLOCK) {
            for position in 0..window {
                for i in first_in..in_channels.min(first_in + BLOCK) {
                    packed.extend((0..BLOCK).map(|lane| {
                        let o = out_block * BLOCK + lane;
                        if o < out_channels {
                            weight[(o * in_channels + i) * window + position]
                        } else {
                            0.0
                        }
                    }));
                }
            }
        }
    }
    packed
}

/// One convolution of one image: `y = [relu] (W * x + bias [+ residual])`.
pub struct Conv<'a> {
    /// Geometry.
    pub shape: ConvShape,
    /// Input, from the first pixel that the first output reads (in the border when padded).
    pub input: &'a [f32],
    /// Strides of the input.
    pub input_strides: Strides,
    /// Packed weights.
    pub weights: &'a [f32],
    /// Bias, one per output channel, padded to whole blocks.
    pub bias: &'a [f32],
    /// Added to the output, from its first pixel.
    pub residual: Option<(&'a [f32], Strides)>,
    /// Clamp negative results to zero.
    pub relu: bool,
    /// Output, from its first pixel inside the border.
    pub output: &'a mut [f32],
    /// Strides of the output.
    pub output_strides: Strides,
}

impl Conv<'_> {
    /// Checks once that no pixel of the run leaves its slice.
    fn check(&self) {
        let s = &self.shape;
        let last = |strides: &Strides, blocks: usize, rows: usize, columns: usize| {
            (blocks - 1) * strides.block + (rows - 1) * strides.row + (columns - 1) * strides.pixel
        };
        let rows = (s.height - 1) * s.stride + s.kernel;
        let columns = (s.width - 1) * s.stride + s.kernel;
        let in_blocks = s.in_channels.div_ceil(BLOCK);
        let tail = s.in_channels - (in_blocks - 1) * BLOCK;
        assert!(last(&self.input_strides, in_blocks, rows, columns) + tail <= self.input.len());
        let output_end = |strides: &Strides| last(strides, s.out_blocks, s.height, s.width) + BLOCK;
        assert!(output_end(&self.output_strides) <= self.output.len());
        if let Some((residual, strides)) = &self.residual {
            assert!(output_end(strides) <= residual.len());
        }
        assert_eq!(self.weights.len(), s.out_blocks * s.packed_block());
        assert_eq!(self.bias.len(), s.out_blocks * BLOCK);
    }
}

impl Kernel for Conv<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        self.check();
        // Two blocks at a time reuse each broadcast; narrow registers have no room for them.
        let pairs = if L::WIDE { self.shape.out_blocks / 2 } else { 0 };
        // SAFETY: the processor has the instruction set of L by the contract; `check` has shown
        // that every pixel and block of the loops below lies inside its slice.
        unsafe {
            for pair in 0..pairs {
                self.rows::<L, 2>(2 * pair);
            }
            for block in 2 * pairs..self.shape.out_blocks {
                self.rows::<L, 1>(block);
            }
        }
    }
}

impl Conv<'_> {
    /// All pixels of `O` output blocks.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `block + O` is at most the number of output blocks.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const O: usize>(&mut self, block: usize) {
        let (height, width) = (self.shape.height, self.shape.width);
        for y in 0..height {
            let mut x = 0;
            // SAFETY: every tile ends within the row.
            unsafe {
                macro_rules! tiles {
                    ($($pixels:literal),*) => {
                        {$(while width - x >= $pixels {
                            self.tile::<L, O, $pixels>(block, y, x);
                            x += $pixels;
                        })*}
                    };
                }
                match (L::WIDE, O) {
                    (true, 1) => tiles!(16, 14, 8, 7, 4, 2, 1),
                    (true, _) => tiles!(8, 7, 4, 2, 1),
                    (false, _) => tiles!(6, 4, 2, 1),
                }
            }
        }
    }

    /// `P` pixels of `O` output blocks, from row `y`, column `x`.
    ///
    /// # Safety
    /// As [`rows`](Self::rows); `x + P` is at most the width.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
    unsafe fn tile<L: Lanes, const O: usize, const P: usize>(
        &mut self,
        block: usize,
        y: usize,
        x: usize,
    ) {
        let s = self.shape;
        let step = s.stride * self.input_strides.pixel;
        let packed_block = s.packed_block();
        // SAFETY: `Conv::check` bounds every offset used here.
        unsafe {
            let mut sums = [[L::splat(0.0); P]; O];
            for (o, sum) in sums.iter_mut().enumerate() {
                *sum = [L::load(self.bias.as_ptr().add((block + o) * BLOCK)); P];
            }
            let mut weights = self.weights.as_ptr().add(block * packed_block);
            let origin = self.input.as_ptr().add(y * s.stride * self.input_strides.row + x * step);
            let mut channels_left = s.in_channels;
            let mut plane = origin;
            while channels_left > 0 {
                let channels = channels_left.min(BLOCK);
                for ky in 0..s.kernel {
                    for kx in 0..s.kernel {
                        let pixel =
                            plane.add(ky * self.input_strides.row + kx * self.input_strides.pixel);
                        for channel in 0..channels {
                            let mut filters = [L::splat(0.0); O];
                            for (o, filter) in filters.iter_mut().enumerate() {
                                *filter = L::load(weights.add(o * packed_block));
                            }
                            for p in 0..P {
                                let value = L::splat(*pixel.add(p * step + channel));
                                for o in 0..O {
                                    sums[o][p] = sums[o][p].add_product(value, filters[o]);
                                }
                            }
                            weights = weights.add(BLOCK);
                        }
                    }
                }
                channels_left -= channels;
                plane = plane.wrapping_add(self.input_strides.block);
            }
            for (o, sums) in sums.iter().enumerate() {
                self.finish::<L, P>(sums, block + o, y, x);
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
        y: usize,
        x: usize,
    ) {
        let offset = |s: &Strides| block * s.block + y * s.row + x * s.pixel;
        // SAFETY: `Conv::check` bounds every offset used here.
        unsafe {
            let output = self.output.as_mut_ptr().add(offset(&self.output_strides));
            for (p, &sum) in sums.iter().enumerate() {
                let mut value = sum;
                if let Some((residual, strides)) = &self.residual {
                    let at = residual.as_ptr().add(offset(strides) + p * strides.pixel);
                    value = value.add(L::load(at));
                }
                if self.relu {
                    value = value.max(L::splat(0.0));
                }
                value.store(output.add(p * self.output_strides.pixel));
            }
        }
    }
}
