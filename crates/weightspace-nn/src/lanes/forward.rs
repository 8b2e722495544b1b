//! The way forward of a chunk of samples.

use super::kernels::Forward;
use super::plan::{Pass, Plan};
use super::workspace::Workspace;
use super::{LANES, Vector};
use crate::kernels::simd::{InstructionSet, dispatch};

/// What the dropouts of a step are computed from.
#[derive(Clone, Copy)]
pub(super) struct DropoutSeeds<'a> {
    pub seeds: &'a [u64; LANES],
    /// Number of the chunk's first sample in the batch.
    pub first: usize,
}

impl Plan {
    /// Computes all values of the first `samples` samples from their images, with dropout if it is given.
    pub fn forward(
        &self,
        set: InstructionSet,
        parameters: &[Vector],
        workspace: &mut Workspace,
        samples: usize,
        dropout: Option<DropoutSeeds<'_>>,
    ) {
        for (i, pass) in self.passes.iter().enumerate() {
            let lengths = [self.lengths[i], self.lengths[i + 1]];
            let (before, after) = workspace.values.split_at_mut(i + 1);
            let input = &before[i][..samples * lengths[0]];
            let output = &mut after[0][..samples * lengths[1]];
            let pairs = || input.chunks_exact(lengths[0]);
            match pass {
                Pass::Product(product) => {
                    let (grid, runs) = product.grid_of(samples);
                    let [from, to] = product.lengths(samples);
                    let choices = &mut workspace.choices[i];
                    for run in 0..runs {
                        let input = &input[run * from..][..from];
                        let output = &mut output[run * to..][..to];
                        let choices = match product.pooled {
                            Some(_) => &mut choices[run * to..][..to],
                            None => &mut [],
                        };
                        dispatch(
                            set,
                            Forward { product, grid, parameters, input, output, choices },
                        );
                    }
                }
                Pass::Pool(pool) => {
                    let outputs = output.chunks_exact_mut(lengths[1]);
                    pairs().zip(outputs).for_each(|(input, output)| pool.forward(input, output));
                }
                Pass::Mean(mean) => {
                    let outputs = output.chunks_exact_mut(lengths[1]);
                    pairs().zip(outputs).for_each(|(input, output)| mean.forward(input, output));
                }
                Pass::Pad(pad) => {
                    let outputs = output.chunks_exact_mut(lengths[1]);
                    pairs().zip(outputs).for_each(|(input, output)| pad.forward(input, output));
                }
                Pass::Activation(activation) => activation.forward(set, input, output),
                Pass::Dropout(pass) => {
                    let Some(DropoutSeeds { seeds, first }) = dropout else {
                        output.copy_from_slice(input);
                        continue;
                    };
                    let factors = &mut workspace.factors[i][..samples * lengths[1]];
                    for (sample, factors) in factors.chunks_exact_mut(lengths[1]).enumerate() {
                        pass.factors(set, &pass.masks(seeds, first + sample), factors);
                    }
                    output.copy_from_slice(input);
                    multiply(output, factors);
                }
            }
        }
    }
}

/// target *= factors.
pub(super) fn multiply(target: &mut [Vector], factors: &[Vector]) {
    for (target, factors) in target.iter_mut().zip(factors) {
        for lane in 0..LANES {
            target.0[lane] *= factors.0[lane];
        }
    }
}
