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

use std::ops::Range;

use crate::kernels::maps::{BLOCK, Blocked, Strides};
use crate::kernels::outer::Outer;
use crate::kernels::pack::{for_each_packed, pack_columns, pack_rows, packed_len, unpack_rows};
use crate::kernels::product::Product;
use crate::kernels::scatter::{LANES, scatter_row};
use crate::kernels::simd::{InstructionSet, dispatch};
use crate::kernels::winograd::{
    self, POSITIONS, Tiles, Winograd, WinogradOuter, transform_filter, transform_filter_gradient,
};
use crate::net::{Op, Window};

/// Fewer channels than this are faster with the direct algorithm.
const WINOGRAD_CHANNELS: usize = 12;

/// The weight tensor `[out_channels, in_channels / groups, k, k]` of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Filters, or output features.
    pub out_channels: usize,
    /// Channels, or input features.
    pub in_channels: usize,
    /// Groups.
    pub groups: usize,
    /// Kernel, stride and padding; 1 x 1 for a linear layer.
    pub window: Window,
}

impl Weight {
    /// The weight of a node's operation, if it is a convolution or a linear layer.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Conv2d { out_channels, in_channels, groups, window, .. } => {
                Some(Weight { out_channels, in_channels, groups, window })
            }
            Op::Linear { out_features, in_features, .. } => Some(Weight {
                out_channels: out_features,
                in_channels: in_features,
                groups: 1,
                window: Window { size: 1, stride: 1, padding: 0 },
            }),
            _ => None,
        }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.out_channels * self.in_channels / self.groups * self.taps()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn taps(&self) -> usize {
        self.window.size * self.window.size
    }

    /// Position in the tensor; `None` where the channels are of different groups or do not exist.
    #[inline(always)]
    fn position(&self, output: usize, input: usize, tap: usize) -> Option<usize> {
        if self.groups == 1 {
            return Some((output * self.in_channels + input) * self.taps() + tap);
        }
        let (outputs, inputs) = (self.out_channels / self.groups, self.in_channels / self.groups);
        let group = output / outputs;
        let inside = input / inputs == group && input < self.in_channels;
        inside.then(|| (output * inputs + input % inputs) * self.taps() + tap)
    }
}

/// Border of zeros that the gradient of a convolution's output needs.
pub fn gradient_border(window: Window, input: usize, output: usize) -> usize {
    let Window { size, stride, padding } = window;
    let before = (size - 1).saturating_sub(padding).div_ceil(stride);
    // The last input pixel reads output (input - 1 + padding) / stride at most.
    let after = ((input - 1 + padding) / stride).saturating_sub(output - 1);
    before.max(after)
}

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

    /// Length of the packed weights.
    pub fn packed_len(&self) -> usize {
        let of_run =
            |run: &Run, taps: usize| packed_len(run.out_blocks * BLOCK, run.in_channels, taps);
        match &self.algorithm {
            Algorithm::Rows(_) => self.runs.iter().map(|run| of_run(run, 1)).sum(),
            Algorithm::Direct(classes) => classes
                .iter()
                .flat_map(|class| self.runs.iter().map(|run| of_run(run, class.taps.len())))
                .sum(),
            Algorithm::Scatter(blocks) => packed_len(blocks * BLOCK, self.from.channels, 1),
            Algorithm::Winograd { tiles, .. } => tiles.weights_len(),
        }
    }

    /// Length of the scratch memory of a run.
    pub fn scratch_len(&self) -> usize {
        match &self.algorithm {
            Algorithm::Winograd { tiles, .. } => tiles.scratch_len(),
            Algorithm::Scatter(blocks) => self.from.width * blocks * BLOCK,
            _ => 0,
        }
    }

    /// Calls `f(position in the packed weights, position in the weight tensor)` for every weight;
    /// not for Winograd's.
    fn for_each_weight(&self, mut f: impl FnMut(usize, usize)) {
        const ONE: &[usize] = &[0];
        let mut base = 0;
        let mut of_class = |positions: &[usize]| {
            for run in &self.runs {
                let (out, input) = (run.out_block * BLOCK, run.in_block * BLOCK);
                let outputs = (run.out_blocks * BLOCK).min(self.to.channels - out);
                for_each_packed((outputs, run.in_channels, positions.len()), |at, o, i, tap| {
                    let (o, i) = (out + o, input + i);
                    let (o, i) = if self.transposed { (i, o) } else { (o, i) };
                    if o < self.weight.out_channels
                        && let Some(position) = self.weight.position(o, i, positions[tap])
                    {
                        f(base + at, position);
                    }
                });
                base += packed_len(run.out_blocks * BLOCK, run.in_channels, positions.len());
            }
        };
        match &self.algorithm {
            Algorithm::Rows(_) => of_class(ONE),
            Algorithm::Direct(classes) => classes.iter().for_each(|c| of_class(&c.positions)),
            &Algorithm::Scatter(blocks) => {
                let sizes = (blocks * BLOCK, self.from.channels, 1);
                for_each_packed(sizes, |at, lane, o, _| {
                    let (tap, i) = (lane / LANES, lane % LANES);
                    if tap < self.weight.taps()
                        && i < self.to.channels
                        && let Some(position) = self.weight.position(o, i, tap)
                    {
                        f(at, position);
                    }
                });
            }
            Algorithm::Winograd { .. } => {}
        }
    }

    fn for_each_filter(&self, mut f: impl FnMut(usize, usize)) {
        winograd::for_each_filter(self.outputs().len(), self.from.channels, |at, o, i| {
            let (o, i) = if self.transposed { (i, o) } else { (o, i) };
            f(at, (o * self.weight.in_channels + i) * 9);
        });
    }

    /// Packs a weight tensor, or a slice's rows of it; what `packed` holds for weights that do not
    /// exist must be zero.
    pub fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        if let Algorithm::Rows(_) = self.algorithm {
            let sizes = (self.outputs().len(), self.from.channels);
            return match self.transposed {
                false => pack_rows(weight, sizes, packed),
                true => pack_columns(weight, sizes, packed),
            };
        }
        let Algorithm::Winograd { tiles, turned, .. } = self.algorithm else {
            let first = self.blocks.start * BLOCK * self.weight.len() / self.weight.out_channels;
            return self.for_each_weight(|at, position| packed[at] = weight[position - first]);
        };
        let next = tiles.weights_len() / POSITIONS;
        self.for_each_filter(|at, position| {
            let filter: [f32; 9] =
                std::array::from_fn(|t| weight[position + if turned { 8 - t } else { t }]);
            for (p, value) in transform_filter(filter).into_iter().enumerate() {
                packed[at + p * next] = value;
            }
        });
    }

    /// Adds a packed gradient of the weights to that of the tensor.
    pub fn unpack(&self, packed: &[f32], gradient: &mut [f32]) {
        if let (Algorithm::Rows(_), false) = (&self.algorithm, self.transposed) {
            return unpack_rows(packed, (self.to.channels, self.from.channels), gradient);
        }
        let Algorithm::Winograd { tiles, .. } = self.algorithm else {
            return self.for_each_weight(|at, position| gradient[position] += packed[at]);
        };
        let next = tiles.weights_len() / POSITIONS;
        self.for_each_filter(|at, position| {
            let transformed = std::array::from_fn(|p| packed[at + p * next]);
            for (t, value) in transform_filter_gradient(transformed).into_iter().enumerate() {
                gradient[position + t] += value;
            }
        });
    }

    /// Runs the pass on `samples` samples.
    #[expect(clippy::too_many_arguments, reason = "operands of one product")]
    pub fn run(
        &self,
        set: InstructionSet,
        samples: usize,
        input: &[f32],
        packed: &[f32],
        ending: Ending<'_>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        match &self.algorithm {
            Algorithm::Rows(per_sample) => {
                let output_strides = self.to.row_strides();
                dispatch(
                    set,
                    Product {
                        samples: 1,
                        in_channels: self.from.channels,
                        out_blocks: self.blocks.len(),
                        height: 1,
                        width: samples * per_sample,
                        taps: &[0],
                        input,
                        input_strides: self.from.row_strides(),
                        weights: packed,
                        bias: ending.bias,
                        residual: ending.residual.map(|r| self.residual(r, r.0.row_strides())),
                        relu: ending.relu,
                        accumulate: ending.accumulate,
                        output: &mut output[self.blocks.start * output_strides.block..],
                        output_strides,
                    },
                );
            }
            Algorithm::Direct(classes) => {
                self.run_direct(set, samples, classes, input, packed, ending, output);
            }
            &Algorithm::Scatter(blocks) => {
                let samples = input
                    .chunks_exact(self.from.len())
                    .zip(output.chunks_exact_mut(self.to.len()))
                    .take(samples);
                for (input, output) in samples {
                    self.run_scatter(set, blocks, input, packed, ending, output, scratch);
                }
            }
            &Algorithm::Winograd {
                tiles,
                input_first,
                input_strides,
                output_first,
                output_strides,
                ..
            } => dispatch(
                set,
                Winograd {
                    tiles: Tiles { samples, ..tiles },
                    input: &input[input_first..],
                    input_strides,
                    weights: packed,
                    bias: ending.bias,
                    residual: ending.residual.map(|r| self.residual(r, r.0.strides())),
                    relu: ending.relu,
                    accumulate: ending.accumulate,
                    output: &mut output[output_first + self.blocks.start * output_strides.block..],
                    output_strides,
                    scratch,
                },
            ),
        }
    }

    /// One sample, row by row of the gradient.
    #[expect(clippy::too_many_arguments, reason = "operands of one product")]
    fn run_scatter(
        &self,
        set: InstructionSet,
        blocks: usize,
        input: &[f32],
        packed: &[f32],
        ending: Ending<'_>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        if !ending.accumulate {
            output.fill(0.0);
        }
        let pixel = blocks * BLOCK;
        let products = &mut scratch[..self.from.width * pixel];
        for y in 0..self.from.height {
            dispatch(
                set,
                Product {
                    samples: 1,
                    in_channels: self.from.channels,
                    out_blocks: blocks,
                    height: 1,
                    width: self.from.width,
                    taps: &[0],
                    input: &input[self.from.at(0, y, 0)..],
                    input_strides: self.from.strides(),
                    weights: packed,
                    bias: &[],
                    residual: None,
                    relu: false,
                    accumulate: false,
                    output: products,
                    output_strides: Strides { block: BLOCK, pixel, ..Strides::default() },
                },
            );
            let products = (&*products, pixel);
            scatter_row(set, self.weight.window, y, products, (&self.to, output));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "operands of one product")]
    fn run_direct(
        &self,
        set: InstructionSet,
        samples: usize,
        classes: &[Class],
        input: &[f32],
        packed: &[f32],
        ending: Ending<'_>,
        output: &mut [f32],
    ) {
        let mut at = 0;
        for class in classes {
            for run in &self.runs {
                let len = packed_len(run.out_blocks * BLOCK, run.in_channels, class.taps.len());
                let first_block = |s: &Strides| run.out_block * s.block;
                let bias = match ending.bias {
                    [] => ending.bias,
                    bias => {
                        let first = (run.out_block - self.blocks.start) * BLOCK;
                        &bias[first..][..run.out_blocks * BLOCK]
                    }
                };
                let residual = ending.residual.map(|(layout, values)| {
                    let s = layout.strides();
                    (&values[layout.origin() + first_block(&s)..], s)
                });
                let empty = samples * class.height * class.width == 0;
                if !(empty || class.taps.is_empty() && ending.accumulate) {
                    let first_input = class.input_first + run.in_block * class.input_strides.block;
                    let first_output = class.output_first + first_block(&class.output_strides);
                    let (in_channels, taps) = class.channels_and_taps(run.in_channels);
                    dispatch(
                        set,
                        Product {
                            samples,
                            in_channels,
                            out_blocks: run.out_blocks,
                            height: class.height,
                            width: class.width,
                            taps,
                            input: &input[first_input..],
                            input_strides: class.input_strides,
                            weights: &packed[at..at + len],
                            bias,
                            residual,
                            relu: ending.relu,
                            accumulate: ending.accumulate,
                            output: &mut output[first_output..],
                            output_strides: class.output_strides,
                        },
                    );
                }
                at += len;
            }
        }
    }

    /// Adds the gradient of the weights from `samples` samples to `packed`; for a forward pass.
    /// `gradient` has the layout `of_gradient`.
    #[expect(clippy::too_many_arguments, reason = "operands of one product")]
    pub fn run_outer(
        &self,
        set: InstructionSet,
        samples: usize,
        input: &[f32],
        of_gradient: &Blocked,
        gradient: &[f32],
        packed: &mut [f32],
        scratch: &mut [f32],
    ) {
        match &self.algorithm {
            Algorithm::Rows(per_sample) => {
                dispatch(
                    set,
                    Outer {
                        samples: 1,
                        in_channels: self.from.channels,
                        out_blocks: self.to.blocks(),
                        height: 1,
                        width: samples * per_sample,
                        taps: &[0],
                        input,
                        input_strides: self.from.row_strides(),
                        gradient,
                        gradient_strides: of_gradient.row_strides(),
                        weights: packed,
                    },
                );
            }
            Algorithm::Direct(classes) => {
                let strides = of_gradient.strides();
                let mut at = 0;
                for class in classes {
                    for run in &self.runs {
                        let taps = class.taps.len();
                        let len = packed_len(run.out_blocks * BLOCK, run.in_channels, taps);
                        let first_input =
                            class.input_first + run.in_block * class.input_strides.block;
                        let first = of_gradient.origin() + run.out_block * strides.block;
                        let (in_channels, taps) = class.channels_and_taps(run.in_channels);
                        dispatch(
                            set,
                            Outer {
                                samples,
                                in_channels,
                                out_blocks: run.out_blocks,
                                height: class.height,
                                width: class.width,
                                taps,
                                input: &input[first_input..],
                                input_strides: class.input_strides,
                                gradient: &gradient[first..],
                                gradient_strides: strides,
                                weights: &mut packed[at..at + len],
                            },
                        );
                        at += len;
                    }
                }
            }
            // Never forward.
            Algorithm::Scatter(_) => {}
            &Algorithm::Winograd { tiles, input_first, input_strides, .. } => dispatch(
                set,
                WinogradOuter {
                    tiles: Tiles { samples, ..tiles },
                    input: &input[input_first..],
                    input_strides,
                    gradient: &gradient[of_gradient.origin()..],
                    gradient_strides: of_gradient.strides(),
                    weights: packed,
                    scratch,
                },
            ),
        }
    }
}
