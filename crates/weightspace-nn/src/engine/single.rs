//! The operations that are no products and no batch normalisation, forward and backward, one
//! sample at a time.

use crate::kernels::attention::{self, Heads};
use crate::kernels::layer_norm::{self, Rows};
use crate::kernels::maps::Blocked;
use crate::kernels::norm::LocalResponse;
use crate::kernels::simd::InstructionSet;
use crate::kernels::{activation, dropout::Mask, maps, norm, pool};
use crate::net::Op;

/// A value of one sample.
pub type Value<'a> = (&'a Blocked, &'a [f32]);

/// What an operation needs besides its operands.
pub struct Context<'a> {
    /// Instruction set of the kernels.
    pub set: InstructionSet,
    /// Scale or table.
    pub weight: &'a [f32],
    /// Shift; zeros where the layer has none.
    pub bias: &'a [f32],
    /// Mask of a dropout layer; `None` at inference.
    pub mask: Option<Mask>,
    /// Scratch memory of [`scratch_len`].
    pub scratch: &'a mut [f32],
}

fn heads_of(heads: usize, input: &Blocked, output: &Blocked) -> Heads {
    Heads {
        tokens: input.width,
        heads,
        width: output.channels / heads,
        input_stride: input.strides().pixel,
        output_stride: output.strides().pixel,
    }
}

fn rows_of(layout: &Blocked) -> Rows {
    Rows { width: layout.channels, stride: layout.strides().pixel }
}

/// Length of the scratch memory of an operation.
pub fn scratch_len(op: &Op, input: &Blocked, output: &Blocked) -> usize {
    match *op {
        Op::Attention { heads } => heads_of(heads, input, output).scratch_len(),
        _ => 0,
    }
}

/// Computes the output of one sample from its inputs.
pub fn forward(
    op: &Op,
    context: Context<'_>,
    inputs: [Value<'_>; 2],
    output: (&Blocked, &mut [f32]),
) {
    let set = context.set;
    let (weight, bias) = (context.weight, context.bias);
    let [input, second] = inputs;
    match *op {
        Op::GroupNorm { groups, eps, .. } => {
            norm::group(groups, eps, (weight, bias), input, output)
        }
        Op::LayerNorm { eps, .. } => {
            layer_norm::forward(set, rows_of(input.0), eps, (weight, bias), input.1, output.1);
        }
        Op::LocalResponseNorm { size, alpha, beta, k } => {
            norm::local_response(LocalResponse { size, alpha, beta, k }, input, output);
        }
        Op::Activation(activation) => activation::forward(set, activation, input, output),
        Op::MaxPool(window) => pool::max(set, window, input, output),
        Op::AvgPool(window) => pool::mean(set, window, input, output),
        Op::GlobalAvgPool => pool::adaptive_mean(1, input, output),
        Op::AdaptiveAvgPool { size } => pool::adaptive_mean(size, input, output),
        Op::Dropout { .. } => match context.mask {
            Some(mask) => mask.apply(input, output, false),
            None => maps::copy(input, output, false),
        },
        Op::Add => maps::add(input, second, output, false),
        Op::Concat => maps::concat(input, second, output),
        Op::PadShortcut { stride, .. } => maps::pad_shortcut(stride, input, output),
        Op::Flatten => {
            let len = output.0.channels;
            input.0.gather(input.1, &mut output.1[..len]);
        }
        Op::Embedding { count, width } => {
            for (token, target) in output.1.chunks_exact_mut(output.0.strides().pixel).enumerate() {
                let row = embedding_row(input, token, count);
                target[..width].copy_from_slice(&weight[row * width..][..width]);
            }
        }
        Op::Attention { heads } => {
            let heads = heads_of(heads, input.0, output.0);
            attention::forward(set, heads, input.1, output.1, context.scratch);
        }
        Op::Input | Op::Conv2d { .. } | Op::Linear { .. } | Op::BatchNorm { .. } => {}
    }
}

fn embedding_row(indices: Value<'_>, token: usize, count: usize) -> usize {
    let row = indices.1[token * indices.0.strides().pixel] as usize;
    assert!(row < count, "row {row} of an embedding of {count}");
    row
}

/// Gradients of an operation's parameters.
pub struct ParameterGradients<'a> {
    /// Of the scale or table.
    pub weight: &'a mut [f32],
    /// Of the shift.
    pub bias: &'a mut [f32],
}

/// Adds the gradient of input `which` of one sample, and those of the parameters.
pub fn backward(
    op: &Op,
    context: Context<'_>,
    (inputs, output): ([Value<'_>; 2], Value<'_>),
    gradient: Value<'_>,
    parameters: ParameterGradients<'_>,
    which: usize,
    target: (&Blocked, &mut [f32]),
) {
    let set = context.set;
    let input = inputs[0];
    let of_parameters = (parameters.weight, parameters.bias);
    match *op {
        Op::GroupNorm { groups, eps, .. } => {
            let scale = context.weight;
            norm::group_backward(groups, eps, scale, input, gradient, of_parameters, target);
        }
        Op::LayerNorm { eps, .. } => {
            let (rows, scale) = (rows_of(input.0), context.weight);
            let (x, dy) = (input.1, gradient.1);
            layer_norm::backward(set, rows, eps, scale, x, dy, of_parameters, target.1);
        }
        Op::LocalResponseNorm { size, alpha, beta, k } => {
            let response = LocalResponse { size, alpha, beta, k };
            norm::local_response_backward(response, input, gradient, target);
        }
        Op::Activation(activation) => {
            activation::backward(set, activation, (input, output), gradient, target);
        }
        Op::MaxPool(window) => pool::max_backward(set, window, input, output, gradient, target),
        Op::AvgPool(window) => pool::mean_backward(window, gradient, target),
        Op::GlobalAvgPool => pool::adaptive_mean_backward(1, gradient, target),
        Op::AdaptiveAvgPool { size } => pool::adaptive_mean_backward(size, gradient, target),
        Op::Dropout { .. } => match context.mask {
            Some(mask) => mask.apply(gradient, target, true),
            None => maps::copy(gradient, target, true),
        },
        Op::Add => maps::copy(gradient, target, true),
        Op::Concat => {
            let first = if which == 0 { 0 } else { inputs[0].0.channels };
            maps::concat_backward(first, gradient, target);
        }
        Op::PadShortcut { stride, .. } => maps::pad_shortcut_backward(stride, gradient, target),
        Op::Flatten => target.0.add_scattered(gradient.1, target.1),
        Op::Embedding { count, width } => {
            for (token, dy) in gradient.1.chunks_exact(gradient.0.strides().pixel).enumerate() {
                let row = embedding_row(input, token, count);
                let table = &mut of_parameters.0[row * width..][..width];
                table.iter_mut().zip(dy).for_each(|(table, dy)| *table += dy);
            }
        }
        Op::Attention { heads } => {
            let heads = heads_of(heads, input.0, output.0);
            attention::backward(set, heads, input.1, gradient.1, target.1, context.scratch);
        }
        Op::Input | Op::Conv2d { .. } | Op::Linear { .. } | Op::BatchNorm { .. } => {}
    }
}
