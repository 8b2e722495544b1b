//! How a convolution or a linear layer runs: forward, backward to its input, and backward to its
//! weights, each as passes of the product kernels.
//!
//! - A linear layer is the product of a matrix of rows: the samples, or the tokens of all samples.
//! - Backward to the input of a convolution of stride `s` falls apart into `s` x `s` classes of
//!   input pixels; in each class, every pixel is read through the same kernel positions.
//! - In a grouped convolution a block of output channels reads only the blocks of input channels
//!   that its groups touch; weights between channels of different groups are zeros.
//! - Backward to an input of few channels the products of all kernel positions are made side by
//!   side and added to the pixels that they belong to.
//! - 3 x 3 kernels of stride 1 on enough channels use Winograd's algorithm.
//! - A slice of a forward pass computes some blocks of its output channels, from their weights alone.

mod pack;
mod run;
mod weight;

use std::ops::Range;

use crate::kernels::maps::{BLOCK, Blocked, Strides};
use crate::kernels::scatter::LANES;
use crate::kernels::winograd::Tiles;
use crate::net::Window;

pub use weight::{Weight, gradient_border};

/// Fewer channels than this are faster with the direct algorithm.
const WINOGRAD_CHANNELS: usize = 12;

/// Which blocks of outputs read which inputs.
#[derive(Clone, Copy, Debug)]
struct Run {
    out_block: usize,
    out_blocks: usize,
    in_block: usize,
    in_channels: usize,
}

fn runs(out_channels: usize, in_channels: usize, groups: usize) -> Vec<Run> {
    let (out_blocks, in_blocks) = (out_channels.div_ceil(BLOCK), in_channels.div_ceil(BLOCK));
    if groups == 1 {
        return vec![Run { out_block: 0, out_blocks, in_block: 0, in_channels }];
    }
    let (outputs, inputs) = (out_channels / groups, in_channels / groups);
    let of_block = |out_block: usize| {
        let last = (out_block * BLOCK + BLOCK - 1).min(out_channels - 1);
        let first_input = out_block * BLOCK / outputs * inputs;
        let end_input = (last / outputs + 1) * inputs;
        let (in_block, end) = (first_input / BLOCK, end_input.div_ceil(BLOCK).min(in_blocks));
        Run { out_block, out_blocks: 1, in_block, in_channels: (end - in_block) * BLOCK }
    };
    (0..out_blocks).map(of_block).collect()
}

/// Pixels of the output that read their input through the same kernel positions.
#[derive(Clone, Debug)]
struct Class {
    height: usize,
    width: usize,
    /// Offsets of the input, from the first one.
    taps: Vec<usize>,
    /// Offsets of all channels of all taps, where the channels are fewer than a block: to the
    /// kernels these are so many taps of one channel.
    flat: Vec<usize>,
    /// Kernel position of each tap.
    positions: Vec<usize>,
    input_first: usize,
    input_strides: Strides,
    output_first: usize,
    output_strides: Strides,
}

fn flat_taps(taps: &[usize], from: &Blocked) -> Vec<usize> {
    let channels = if from.channels < BLOCK { from.channels } else { 0 };
    taps.iter().flat_map(|tap| (0..channels).map(move |c| tap + c)).collect()
}

impl Class {
    /// Channels and taps as the kernels see them.
    fn channels_and_taps(&self, in_channels: usize) -> (usize, &[usize]) {
        match in_channels < BLOCK {
            true => (1, &self.flat),
            false => (in_channels, &self.taps),
        }
    }
}

#[derive(Clone, Debug)]
enum Algorithm {
    /// A matrix of rows: so many per sample.
    Rows(usize),
    Direct(Vec<Class>),
    /// Backward to an input of few channels: all positions of an output pixel at once, so many
    /// blocks of them, which are then added to the input.
    Scatter(usize),
    Winograd {
        tiles: Tiles,
        /// Whether the filters are turned by 180 degrees.
        turned: bool,
        input_first: usize,
        input_strides: Strides,
        output_first: usize,
        output_strides: Strides,
    },
}

/// One product with a layer's weights: forward, or backward to the input.
#[derive(Clone, Debug)]
pub struct Pass {
    weight: Weight,
    /// Backward: the weights' inputs are this pass' outputs.
    transposed: bool,
    runs: Vec<Run>,
    from: Blocked,
    to: Blocked,
    /// Blocks of the output that it computes: all, unless it is a slice.
    blocks: Range<usize>,
    algorithm: Algorithm,
}

/// What a pass adds to the products, and what it does with the results.
#[derive(Clone, Copy, Default)]
pub struct Ending<'a> {
    /// Bias padded to whole blocks; empty for none.
    pub bias: &'a [f32],
    /// Values of the samples that are added, and their layout.
    pub residual: Option<(&'a Blocked, &'a [f32])>,
    /// Clamp at zero.
    pub relu: bool,
    /// Add to what the output holds.
    pub accumulate: bool,
}

impl Pass {
    /// y = W * x, from and to values of the given layouts.
    pub fn forward(weight: Weight, from: Blocked, to: Blocked) -> Self {
        let Window { size, stride, padding } = weight.window;
        let runs = runs(weight.out_channels, weight.in_channels, weight.groups);
        let algorithm = if from.token_major {
            Algorithm::Rows(from.width)
        } else if let Some(winograd) = Self::winograd(&weight, false, padding, &from, &to) {
            winograd
        } else {
            let s = from.strides();
            let taps = (0..size * size).map(|t| t / size * s.row + t % size * s.pixel);
            let taps: Vec<usize> = taps.collect();
            Algorithm::Direct(vec![Class {
                height: to.height,
                width: to.width,
                flat: flat_taps(&taps, &from),
                taps,
                positions: (0..size * size).collect(),
                input_first: (from.border - padding) * (s.row + s.pixel),
                input_strides: Strides { row: stride * s.row, pixel: stride * s.pixel, ..s },
                output_first: to.origin(),
                output_strides: to.strides(),
            }])
        };
        Pass { weight, transposed: false, runs, from, to, blocks: 0..to.blocks(), algorithm }
    }

    /// The part of a forward pass that computes some blocks of 16 output channels. It reads and
    /// writes whole values, but its weights and bias are those of its [`outputs`](Self::outputs)
    /// alone. Every result is the same, to the bit, as that of the whole pass.
    ///
    /// # Panics
    /// If this is a pass backward, or has no such blocks.
    pub fn slice(&self, blocks: Range<usize>) -> Self {
        assert!(!self.transposed && blocks.start < blocks.end && blocks.end <= self.blocks.end);
        let of_run = |run: &Run| {
            let first = run.out_block.max(blocks.start);
            let end = (run.out_block + run.out_blocks).min(blocks.end);
            (first < end).then(|| Run { out_block: first, out_blocks: end - first, ..*run })
        };
        let mut slice = self.clone();
        slice.runs = self.runs.iter().filter_map(of_run).collect();
        if let Algorithm::Winograd { tiles, .. } = &mut slice.algorithm {
            tiles.out_blocks = blocks.len();
        }
        slice.blocks = blocks;
        slice
    }

    /// Blocks of 16 output channels that the pass computes.
    pub fn blocks(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// Output channels that the pass computes.
    pub fn outputs(&self) -> Range<usize> {
        self.blocks.start * BLOCK..(self.blocks.end * BLOCK).min(self.to.channels)
    }

    /// A residual from the first block that the pass computes.
    fn residual<'a>(
        &self,
        (layout, values): (&Blocked, &'a [f32]),
        strides: Strides,
    ) -> (&'a [f32], Strides) {
        (&values[layout.origin() + self.blocks.start * strides.block..], strides)
    }

    /// dx = W^T * dy, from the gradient of the output to that of the input.
    pub fn backward(weight: Weight, from: Blocked, to: Blocked) -> Self {
        let Window { size, stride, padding } = weight.window;
        let runs = runs(weight.in_channels, weight.out_channels, weight.groups);
        let turned_padding = (size - 1).checked_sub(padding);
        let algorithm = if from.token_major {
            Algorithm::Rows(from.width)
        } else if let Some(winograd) =
            turned_padding.and_then(|p| Self::winograd(&weight, true, p, &from, &to))
        {
            winograd
        } else if weight.groups == 1 && to.channels <= LANES && size > 1 {
            Algorithm::Scatter((size * size * LANES).div_ceil(BLOCK))
        } else {
            let classes = (0..stride * stride)
                .map(|class| Self::backward_class(weight.window, class, &from, &to));
            Algorithm::Direct(classes.collect())
        };
        Pass { weight, transposed: true, runs, from, to, blocks: 0..to.blocks(), algorithm }
    }

    fn winograd(
        weight: &Weight,
        turned: bool,
        padding: usize,
        from: &Blocked,
        to: &Blocked,
    ) -> Option<Algorithm> {
        let channels = weight.in_channels.min(weight.out_channels);
        let fits = weight.window.size == 3
            && weight.window.stride == 1
            && weight.groups == 1
            && channels >= WINOGRAD_CHANNELS
            && to.height.is_multiple_of(2)
            && to.width.is_multiple_of(2);
        let s = from.strides();
        let first = from.border.checked_sub(padding)?;
        fits.then(|| Algorithm::Winograd {
            tiles: Tiles {
                samples: 0,
                in_blocks: from.blocks(),
                out_blocks: to.blocks(),
                rows: to.height / 2,
                columns: to.width / 2,
            },
            turned,
            input_first: first * (s.row + s.pixel),
            input_strides: s,
            output_first: to.origin(),
            output_strides: to.strides(),
        })
    }

    /// Input pixel i is read by output o through kernel position i + padding - stride o; the pixels
    /// i = stride m + remainder are one class.
    fn backward_class(window: Window, class: usize, from: &Blocked, to: &Blocked) -> Class {
        let Window { size, stride, padding } = window;
        // (kernel position, output - m) of one direction.
        let positions = |remainder: usize| {
            (0..size)
                .filter(|k| (remainder + padding + stride * size - k).is_multiple_of(stride))
                .map(|k| (k, (remainder + padding) as isize - k as isize))
                .map(|(k, distance)| (k, distance / stride as isize))
                .collect::<Vec<_>>()
        };
        let (top, left) = (class / stride, class % stride);
        let (rows, columns) = (positions(top), positions(left));
        let first = |list: &[(usize, isize)]| list.iter().map(|p| p.1).min().unwrap_or(0);
        let (first_row, first_column) = (first(&rows), first(&columns));
        let (s, t) = (from.strides(), to.strides());
        let mut taps = Vec::new();
        let mut kernel = Vec::new();
        for &(ky, y) in &rows {
            for &(kx, x) in &columns {
                let (y, x) = ((y - first_row) as usize, (x - first_column) as usize);
                taps.push(y * s.row + x * s.pixel);
                kernel.push(ky * size + kx);
            }
        }
        let border = from.border as isize;
        let (row, column) = ((border + first_row) as usize, (border + first_column) as usize);
        Class {
            height: to.height.saturating_sub(top).div_ceil(stride),
            width: to.width.saturating_sub(left).div_ceil(stride),
            flat: flat_taps(&taps, from),
            taps,
            positions: kernel,
            input_first: row * s.row + column * s.pixel,
            input_strides: s,
            output_first: to.origin() + top * t.row + left * t.pixel,
            output_strides: Strides { row: stride * t.row, pixel: stride * t.pixel, ..t },
        }
    }
}
