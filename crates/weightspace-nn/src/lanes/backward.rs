//! The way back of a chunk of samples.

use super::Vector;
use super::forward::multiply;
use super::kernels::{
    Choice, InputGradient, PooledInputGradient, PooledWeightGradient, Product, WeightGradient,
    cross_entropy, expand,
};
use super::plan::{Pass, Plan};
use super::tally::Tally;
use super::workspace::Workspace;
use crate::kernels::simd::{InstructionSet, dispatch};

impl Plan {
    /// Counts the first `samples` samples, and adds the gradient of the sum of their losses times `weight` to
    /// `gradient`.
    pub fn backward(
        &self,
        (set, parameters): (InstructionSet, &[Vector]),
        workspace: &mut Workspace,
        (samples, weight): (usize, f32),
        tally: &mut Tally,
        gradient: &mut [Vector],
    ) {
        self.losses(set, workspace, (samples, weight), tally);
        for (i, pass) in self.passes.iter().enumerate().rev() {
            let [from, to] = [self.lengths[i], self.lengths[i + 1]];
            let Workspace { values, gradients, slots, choices, factors, expanded, .. } = workspace;
            let (input, output) = (&values[i][..samples * from], &values[i + 1][..samples * to]);
            if pass.is_elementwise() {
                let gradient = part(&mut gradients[slots[i + 1]], samples * to);
                match pass {
                    Pass::Activation(pass) => pass.backward(set, (input, output), gradient),
                    _ => multiply(gradient, &factors[i][..samples * to]),
                }
                continue;
            }
            let (before, after) = gradients.split_at_mut(slots[i + 1]);
            let dy = &after[0][..samples * to];
            let dx = part(&mut before[slots[i]], samples * from);
            let is_first = dx.is_empty();
            let each = || dy.chunks_exact(to);
            match pass {
                Pass::Product(product) => {
                    dx.fill(Vector::ZERO);
                    let way = Way { set, product, samples, parameters, expanded };
                    way.back(input, (dy, &choices[i]), dx, gradient);
                }
                _ if is_first => {}
                Pass::Pool(pool) => {
                    dx.fill(Vector::ZERO);
                    let values = input.chunks_exact(from).zip(output.chunks_exact(to));
                    for ((values, dy), dx) in values.zip(each()).zip(dx.chunks_exact_mut(from)) {
                        pool.backward(values, dy, dx);
                    }
                }
                Pass::Mean(mean) => {
                    let pairs = each().zip(dx.chunks_exact_mut(from));
                    pairs.for_each(|(dy, dx)| mean.backward(dy, dx));
                }
                Pass::Pad(pad) => {
                    let pairs = each().zip(dx.chunks_exact_mut(from));
                    pairs.for_each(|(dy, dx)| pad.backward(dy, dx));
                }
                Pass::Activation(_) | Pass::Dropout(_) => {}
            }
        }
    }

    /// Counts samples, and begins the way back with the gradient of the logits.
    fn losses(
        &self,
        set: InstructionSet,
        workspace: &mut Workspace,
        (samples, weight): (usize, f32),
        tally: &mut Tally,
    ) {
        let (last, classes) = (self.passes.len(), self.class_count());
        let logits = workspace.values[last].chunks_exact(classes);
        let gradients = workspace.gradients[workspace.slots[last]].chunks_exact_mut(classes);
        let rows = logits.zip(gradients).zip(&workspace.labels);
        for ((logits, gradient), labels) in rows.take(samples) {
            let of_sample = cross_entropy(set, logits, labels, weight, gradient);
            tally.count(of_sample, logits, labels);
        }
    }
}

/// The first `len` vectors of a gradient, or none of one that nobody wants, as that of the image.
fn part(gradient: &mut [Vector], len: usize) -> &mut [Vector] {
    let len = len.min(gradient.len());
    &mut gradient[..len]
}

/// The way back through one product.
struct Way<'a> {
    set: InstructionSet,
    product: &'a Product,
    samples: usize,
    parameters: &'a [Vector],
    expanded: &'a mut [Vector],
}

impl Way<'_> {
    /// Adds the gradients of the parameters to `gradient` and that of the input, if there is room for it, to
    /// `dx`.
    fn back(
        self,
        input: &[Vector],
        (dy, choices): (&[Vector], &[Choice]),
        dx: &mut [Vector],
        gradient: &mut [Vector],
    ) {
        let Way { set, product, samples, parameters, expanded } = self;
        let (grid, runs) = product.grid_of(samples);
        let [from, to] = product.lengths(samples);
        let has_input_gradient = !dx.is_empty();
        for run in 0..runs {
            let input = &input[run * from..][..from];
            let dy = &dy[run * to..][..to];
            let dx = if has_input_gradient { &mut dx[run * from..][..from] } else { &mut [] };
            let choices = choices.get(run * to..(run + 1) * to).unwrap_or(&[]);
            if product.is_sparse() {
                let target = &mut *gradient;
                dispatch(
                    set,
                    PooledWeightGradient { product, input, gradient: dy, choices, target },
                );
                if has_input_gradient {
                    let kernel = PooledInputGradient {
                        product,
                        parameters,
                        gradient: dy,
                        choices,
                        target: dx,
                    };
                    dispatch(set, kernel);
                }
                continue;
            }
            let dy = match product.pooled {
                Some(_) => {
                    let expanded = &mut expanded[..product.unpooled_len()];
                    expand(product, dy, choices, expanded);
                    expanded
                }
                None => dy,
            };
            let target = &mut *gradient;
            dispatch(set, WeightGradient { product, grid, input, gradient: dy, target });
            if has_input_gradient {
                dispatch(
                    set,
                    InputGradient { product, grid, parameters, gradient: dy, target: dx },
                );
            }
        }
    }
}
