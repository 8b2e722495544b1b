//! Running the way back of one phase on one chunk.

use std::ops::Range;

use super::plan::Event;
use super::worker::{Shared, Worker};
use crate::engine::fusion::StepKind;
use crate::engine::product::Ending;
use crate::engine::single::{self, Context, ParameterGradients};
use crate::kernels::activation::mask_positive;
use crate::kernels::batch_norm;
use crate::kernels::maps;
use crate::loss::Loss;
use crate::net::NodeId;

impl Worker {
    /// Runs a phase backward on one chunk.
    pub fn backward(&mut self, shared: &Shared<'_>, phase: usize, chunk: &Range<usize>) {
        let plan = shared.plan;
        let at_once = plan.merged && phase + 1 == plan.phases.len();
        if !at_once {
            if phase == 0 {
                self.load(shared, chunk, Some(false));
            }
            for step in plan.recomputed(phase) {
                self.step(shared, step, chunk);
            }
        }
        for &event in &plan.events[phase] {
            match event {
                Event::Loss => {
                    if let Some(loss) = shared.loss {
                        self.loss(shared, loss, shared.net.output(), false, chunk);
                    }
                }
                Event::Tap { index, accumulate } => {
                    let tap = plan.taps[index];
                    match shared.taps.get(index) {
                        Some(&loss) => self.loss(shared, loss, tap, accumulate, chunk),
                        None if accumulate => {}
                        None => self.change_gradient(shared, tap, chunk, |_, g| g.fill(0.0)),
                    }
                }
                Event::NormInput { norm, accumulate } => {
                    self.norm_input(shared, norm, accumulate, chunk);
                }
                Event::Step { step, accumulate } => {
                    self.step_back(shared, step, accumulate, chunk);
                }
            }
        }
        if phase == 0 {
            self.keep_input_gradient(shared, chunk);
        }
    }

    /// Calls `f` with the gradient of a value for the samples of a chunk.
    fn change_gradient(
        &mut self,
        shared: &Shared<'_>,
        id: NodeId,
        chunk: &Range<usize>,
        f: impl FnOnce(&mut Self, &mut [f32]),
    ) {
        let Some(slot) = shared.plan.gradient_slots[id.index()] else { return };
        let mut buffer = std::mem::take(&mut self.buffers[slot]);
        f(self, &mut buffer[Self::range(shared.plan, slot, chunk)]);
        self.buffers[slot] = buffer;
    }

    /// Asks a loss for the gradient of a value.
    fn loss(
        &mut self,
        shared: &Shared<'_>,
        loss: &dyn Loss,
        id: NodeId,
        accumulate: bool,
        chunk: &Range<usize>,
    ) {
        let plan = shared.plan;
        let width = shared.net.node(id).shape.element_count();
        let (layout, of_gradient) = (&plan.layouts[id.index()], &plan.gradient_layouts[id.index()]);
        let [mut rows, mut gradients] = std::mem::take(&mut self.rows);
        let values = self.value(plan, id, chunk).chunks_exact(layout.len());
        for (values, row) in values.zip(rows.chunks_exact_mut(width)) {
            layout.gather(values, row);
        }
        let len = chunk.len() * width;
        let first = shared.first + self.first + chunk.start;
        self.loss += loss.evaluate(first, &rows[..len], &mut gradients[..len]);
        self.change_gradient(shared, id, chunk, |_, target| {
            let targets = target.chunks_exact_mut(of_gradient.len());
            for (target, row) in targets.zip(gradients[..len].chunks_exact(width)) {
                match accumulate {
                    true => of_gradient.add_scattered(row, target),
                    false => of_gradient.scatter(row, target),
                }
            }
        });
        self.rows = [rows, gradients];
    }

    /// Second half of a batch normalisation: to the gradient of its input.
    fn norm_input(
        &mut self,
        shared: &Shared<'_>,
        norm: usize,
        accumulate: bool,
        chunk: &Range<usize>,
    ) {
        let plan = shared.plan;
        let state = &shared.norms[norm];
        let [a, b, c] = &state.coefficients;
        let norm = &plan.norms[norm];
        let from = &plan.gradient_layouts[norm.output.index()];
        let to = &plan.gradient_layouts[norm.input.index()];
        let input = &plan.layouts[norm.input.index()];
        self.change_gradient(shared, norm.input, chunk, |worker, target| {
            let gradient = worker.gradient(plan, norm.output, chunk).chunks_exact(from.len());
            let x = worker.value(plan, norm.input, chunk).chunks_exact(input.len());
            for ((target, g), x) in target.chunks_exact_mut(to.len()).zip(gradient).zip(x) {
                batch_norm::backward_input(
                    shared.set,
                    [a, b, c, &state.mean],
                    (from, g),
                    (input, x),
                    (to, target),
                    accumulate,
                );
            }
        });
    }

    fn step_back(
        &mut self,
        shared: &Shared<'_>,
        index: usize,
        accumulate: [Option<bool>; 2],
        chunk: &Range<usize>,
    ) {
        let (plan, set) = (shared.plan, shared.set);
        let step = &plan.steps[index];
        let layout = &plan.gradient_layouts[step.output.index()];
        match step.kind {
            StepKind::Product { residual, relu, .. } => {
                if relu {
                    self.mask_gradient(shared, step.output, chunk);
                }
                if residual.is_some() {
                    self.pass_on(shared, step.output, step.inputs[1], accumulate[1], chunk);
                }
                self.product_back(shared, index, accumulate[0], chunk);
            }
            StepKind::Normalise { relu, .. } => {
                let Some(norm) = plan.norm_of_step[index] else {
                    return;
                };
                let mut sums = std::mem::take(&mut self.sums[norm][1]);
                self.change_gradient(shared, step.output, chunk, |worker, gradient| {
                    for (sample, g) in gradient.chunks_exact_mut(layout.len()).enumerate() {
                        let input = worker.sample(plan, step.inputs[0], (chunk, sample));
                        let output =
                            relu.then(|| worker.sample(plan, step.output, (chunk, sample)));
                        let mean = &shared.norms[norm].mean;
                        batch_norm::backward_sums(set, mean, input, output, (layout, g), &mut sums);
                    }
                });
                self.sums[norm][1] = sums;
                if let Some(&residual) = step.inputs.get(1) {
                    self.pass_on(shared, step.output, residual, accumulate[1], chunk);
                }
            }
            StepKind::MaxPool => {
                self.mask_gradient(shared, step.output, chunk);
                self.single_back(shared, index, accumulate, chunk);
            }
            StepKind::Single => self.single_back(shared, index, accumulate, chunk),
        }
    }

    /// Zeros the gradient of the output of a ReLU where it is not positive.
    fn mask_gradient(&mut self, shared: &Shared<'_>, id: NodeId, chunk: &Range<usize>) {
        let plan = shared.plan;
        let layout = &plan.gradient_layouts[id.index()];
        self.change_gradient(shared, id, chunk, |worker, gradient| {
            for (sample, gradient) in gradient.chunks_exact_mut(layout.len()).enumerate() {
                let output = worker.sample(plan, id, (chunk, sample));
                mask_positive(shared.set, output, (layout, gradient));
            }
        });
    }

    /// The gradient of a sum's term is that of the sum.
    fn pass_on(
        &mut self,
        shared: &Shared<'_>,
        from: NodeId,
        to: NodeId,
        accumulate: Option<bool>,
        chunk: &Range<usize>,
    ) {
        let Some(accumulate) = accumulate else { return };
        let plan = shared.plan;
        let layout = &plan.gradient_layouts[from.index()];
        let target_layout = &plan.gradient_layouts[to.index()];
        self.change_gradient(shared, to, chunk, |worker, target| {
            let gradient = worker.gradient(plan, from, chunk).chunks_exact(layout.len());
            for (target, g) in target.chunks_exact_mut(target_layout.len()).zip(gradient) {
                maps::copy((layout, g), (target_layout, target), accumulate);
            }
        });
    }

    /// The gradients of weight, bias and input of a product.
    fn product_back(
        &mut self,
        shared: &Shared<'_>,
        index: usize,
        accumulate: Option<bool>,
        chunk: &Range<usize>,
    ) {
        let (plan, set) = (shared.plan, shared.set);
        let step = &plan.steps[index];
        let Some([forward, backward]) = &plan.passes[index] else { return };
        let layout = &plan.gradient_layouts[step.output.index()];
        let mut gradients = std::mem::take(&mut self.gradients[index]);
        let mut scratch = std::mem::take(&mut self.scratch);
        let gradient = self.gradient(plan, step.output, chunk);
        if !gradients.bias.is_empty() {
            for gradient in gradient.chunks_exact(layout.len()) {
                batch_norm::sum_pixels(set, (layout, gradient), &mut gradients.bias);
            }
        }
        let input = self.value(plan, step.inputs[0], chunk);
        let samples = chunk.len();
        let weight = &mut gradients.weight;
        forward.run_outer(set, samples, input, layout, gradient, weight, &mut scratch);
        if let Some(accumulate) = accumulate {
            let ending = Ending { accumulate, ..Ending::default() };
            let weight = &shared.parameters[index].transposed;
            let scratch = &mut scratch;
            self.change_gradient(shared, step.inputs[0], chunk, |worker, target| {
                let gradient = worker.gradient(plan, step.output, chunk);
                backward.run(set, samples, gradient, weight, ending, target, scratch);
            });
        }
        self.gradients[index] = gradients;
        self.scratch = scratch;
    }

    fn single_back(
        &mut self,
        shared: &Shared<'_>,
        index: usize,
        accumulate: [Option<bool>; 2],
        chunk: &Range<usize>,
    ) {
        let plan = shared.plan;
        let step = &plan.steps[index];
        let op = &shared.net.node(step.node).op;
        let from = &plan.gradient_layouts[step.output.index()];
        let mut gradients = std::mem::take(&mut self.gradients[index]);
        let mut scratch = std::mem::take(&mut self.scratch);
        for (which, &input) in step.inputs.iter().enumerate().rev() {
            // An embedding has no gradient of its input, but one of its table.
            let table = step.inputs.len() == 1 && accumulate[0].is_none();
            if accumulate[which].is_none() && !table {
                continue;
            }
            let to = &plan.gradient_layouts[input.index()];
            let mut back = |worker: &Self, sample: usize, target: &mut [f32]| {
                let at = (chunk, sample);
                let parameters = &shared.parameters[index];
                let context = Context {
                    set: shared.set,
                    weight: &parameters.weight,
                    bias: &parameters.bias,
                    mask: worker.mask(shared, step.node, at),
                    scratch: &mut scratch,
                };
                let values =
                    (worker.operands(plan, index, at), worker.sample(plan, step.output, at));
                let gradient =
                    &worker.gradient(plan, step.output, chunk)[sample * from.len()..][..from.len()];
                let parameters =
                    ParameterGradients { weight: &mut gradients.weight, bias: &mut gradients.bias };
                let gradient = (from, gradient);
                single::backward(op, context, values, gradient, parameters, which, (to, target));
            };
            if plan.gradient_slots[input.index()].is_none() || accumulate[which].is_none() {
                (0..chunk.len()).for_each(|sample| back(self, sample, &mut []));
                continue;
            }
            self.change_gradient(shared, input, chunk, |worker, target| {
                if accumulate[which] == Some(false) {
                    target.fill(0.0);
                }
                for (sample, target) in target.chunks_exact_mut(to.len()).enumerate() {
                    back(worker, sample, target);
                }
            });
        }
        self.gradients[index] = gradients;
        self.scratch = scratch;
    }

    fn keep_input_gradient(&mut self, shared: &Shared<'_>, chunk: &Range<usize>) {
        let (net, plan) = (shared.net, shared.plan);
        let len = net.input_len();
        let mut all = std::mem::take(&mut self.input_gradient);
        let mut first = 0;
        for input in net.inputs() {
            let layout = &plan.gradient_layouts[input.index()];
            let count = net.node(input).shape.element_count();
            if plan.gradient_slots[input.index()].is_some() {
                all.resize(self.samples * len, 0.0);
                let values = self.gradient(plan, input, chunk).chunks_exact(layout.len());
                let targets = all[chunk.start * len..].chunks_exact_mut(len);
                for (values, target) in values.zip(targets) {
                    layout.gather(values, &mut target[first..first + count]);
                }
            }
            first += count;
        }
        self.input_gradient = all;
    }
}
