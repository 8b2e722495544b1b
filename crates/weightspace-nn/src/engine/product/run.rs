//! Passes at work: every algorithm as calls of the product kernels.

use super::{Algorithm, Class, Ending, Pass};
use crate::kernels::maps::{BLOCK, Blocked, Strides};
use crate::kernels::outer::Outer;
use crate::kernels::pack::packed_len;
use crate::kernels::product::Product;
use crate::kernels::scatter::scatter_row;
use crate::kernels::simd::{InstructionSet, dispatch};
use crate::kernels::winograd::{Tiles, Winograd, WinogradOuter};

impl Pass {
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
