//! One thread's share of the batch: its values and gradients, and running steps forward.

use std::ops::Range;

use super::batch_norm::{NormMode, NormState};
use super::parameters::{StepGradients, StepParameters};
use super::plan::TrainingPlan;
use crate::engine::fusion::StepKind;
use crate::engine::product::Ending;
use crate::engine::single::{self, Context, Value};
use crate::kernels::activation;
use crate::kernels::batch_norm::{self, ChannelSums};
use crate::kernels::dropout::Mask;
use crate::kernels::maps::Blocked;
use crate::kernels::simd::InstructionSet;
use crate::loss::Loss;
use crate::net::{Net, NodeId, Op};

/// What all workers read during a step.
pub struct Shared<'a> {
    /// The network.
    pub net: &'a Net,
    /// Its plan.
    pub plan: &'a TrainingPlan,
    /// Instruction set of the kernels.
    pub set: InstructionSet,
    /// Packed parameters of every step.
    pub parameters: &'a [StepParameters],
    /// Batch normalisations.
    pub norms: &'a [NormState],
    /// How they treat the batch.
    pub mode: NormMode,
    /// Seed of the dropout masks of this step; `None` without dropout.
    pub dropout: Option<u64>,
    /// All samples that this rank has of the batch, one after the other.
    pub inputs: &'a [f32],
    /// Number of the first of these in the whole batch.
    pub first: usize,
    /// Losses on the output and on the tapped values.
    pub loss: Option<&'a dyn Loss>,
    /// See above.
    pub taps: &'a [&'a dyn Loss],
    /// Look for values that are not finite.
    pub check: bool,
}

/// One thread's share of the batch.
#[derive(Default)]
pub struct Worker {
    /// First of the rank's samples that is this worker's.
    pub first: usize,
    /// Number of its samples.
    pub samples: usize,
    /// Gradients of the parameters, summed over its samples.
    pub gradients: Vec<StepGradients>,
    /// Sums of every batch normalisation, of the input and of the gradient.
    pub sums: Vec<[ChannelSums; 2]>,
    /// Sum of the losses of its samples.
    pub loss: f64,
    /// First step with a value that is not finite, when looked for.
    pub failure: Option<usize>,
    /// Outputs `[samples, width]`, where they are asked for.
    pub outputs: Vec<f32>,
    /// Gradient of the inputs `[samples, values]`, where it is asked for.
    pub input_gradient: Vec<f32>,
    pub(super) buffers: Vec<Vec<f32>>,
    pub(super) scratch: Vec<f32>,
    pub(super) rows: [Vec<f32>; 2],
}

impl Worker {
    /// Buffers for up to `capacity` samples.
    pub fn new(
        net: &Net,
        plan: &TrainingPlan,
        capacity: usize,
        gradients: Vec<StepGradients>,
    ) -> Self {
        let largest_chunk = plan.chunks.iter().max().copied().unwrap_or(1).min(capacity.max(1));
        let buffer = |slot: &super::plan::Slot| {
            let samples = if slot.whole { capacity } else { largest_chunk };
            vec![0.0; slot.layout.len() * samples]
        };
        let widest = plan.taps.iter().copied().chain([net.output()]);
        let widest = widest.map(|id| net.node(id).shape.element_count()).max().unwrap_or(0);
        let rows = vec![0.0; widest * largest_chunk];
        Worker {
            gradients,
            sums: plan
                .norms
                .iter()
                .map(|norm| {
                    let sums = ChannelSums::new(&plan.layouts[norm.input.index()]);
                    [sums.clone(), sums]
                })
                .collect(),
            buffers: plan.slots.iter().map(buffer).collect(),
            scratch: vec![0.0; plan.scratch],
            rows: [rows.clone(), rows],
            ..Worker::default()
        }
    }

    /// Forgets the sums of the step before.
    pub fn clear(&mut self) {
        for gradient in &mut self.gradients {
            gradient.weight.fill(0.0);
            gradient.bias.fill(0.0);
        }
        for sums in self.sums.iter_mut().flatten() {
            sums.clear();
        }
        self.loss = 0.0;
        self.failure = None;
    }

    /// Chunks of this worker's samples, counted from its first.
    pub fn chunks(
        &self,
        plan: &TrainingPlan,
        phase: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let (samples, chunk) = (self.samples, plan.chunks[phase]);
        (0..samples).step_by(chunk).map(move |start| start..samples.min(start + chunk))
    }

    /// The samples of a chunk within a buffer.
    pub(super) fn range(plan: &TrainingPlan, slot: usize, chunk: &Range<usize>) -> Range<usize> {
        let slot = &plan.slots[slot];
        let start = if slot.whole { chunk.start } else { 0 };
        start * slot.layout.len()..(start + chunk.len()) * slot.layout.len()
    }

    fn in_slot(&self, plan: &TrainingPlan, slot: Option<usize>, chunk: &Range<usize>) -> &[f32] {
        slot.map_or(&[], |slot| &self.buffers[slot][Self::range(plan, slot, chunk)])
    }

    /// The value of a node for the samples of a chunk.
    pub(super) fn value(&self, plan: &TrainingPlan, id: NodeId, chunk: &Range<usize>) -> &[f32] {
        self.in_slot(plan, plan.value_slots[id.index()], chunk)
    }

    /// The gradient of a node's value for the samples of a chunk.
    pub(super) fn gradient(&self, plan: &TrainingPlan, id: NodeId, chunk: &Range<usize>) -> &[f32] {
        self.in_slot(plan, plan.gradient_slots[id.index()], chunk)
    }

    /// Puts the samples of a chunk into the input nodes whose values live as `whole` says.
    pub fn load(&mut self, shared: &Shared<'_>, chunk: &Range<usize>, whole: Option<bool>) {
        let (net, plan) = (shared.net, shared.plan);
        let len = net.input_len();
        let samples = &shared.inputs[(self.first + chunk.start) * len..][..chunk.len() * len];
        let mut first = 0;
        for input in net.inputs() {
            let layout = plan.layouts[input.index()];
            let count = net.node(input).shape.element_count();
            let slot = plan.value_slots[input.index()];
            let slot = slot.filter(|&slot| whole.is_none_or(|w| plan.slots[slot].whole == w));
            if let Some(slot) = slot {
                let target = &mut self.buffers[slot][Self::range(plan, slot, chunk)];
                let target = target.chunks_exact_mut(layout.len());
                for (sample, target) in samples.chunks_exact(len).zip(target) {
                    layout.scatter(&sample[first..first + count], target);
                }
            }
            first += count;
        }
    }

    /// Runs all steps of a phase forward on one chunk.
    pub fn forward(&mut self, shared: &Shared<'_>, phase: usize, chunk: &Range<usize>) {
        if phase == 0 {
            self.load(shared, chunk, None);
            for input in shared.net.inputs() {
                self.add_statistics(shared, input, chunk);
            }
        }
        for step in shared.plan.phases[phase].clone() {
            self.step(shared, step, chunk);
            self.add_statistics(shared, shared.plan.steps[step].output, chunk);
        }
    }

    /// Sums for the batch normalisations that read a value which was just made.
    fn add_statistics(&mut self, shared: &Shared<'_>, id: NodeId, chunk: &Range<usize>) {
        let plan = shared.plan;
        for &norm in &plan.statistics_of[id.index()] {
            if shared.mode == NormMode::Running {
                continue;
            }
            let mut sums = std::mem::take(&mut self.sums[norm][0]);
            let layout = &plan.layouts[id.index()];
            for values in self.value(plan, id, chunk).chunks_exact(layout.len()) {
                batch_norm::statistics(shared.set, layout, values, &mut sums);
            }
            self.sums[norm][0] = sums;
        }
    }

    /// Runs one step forward on one chunk.
    pub fn step(&mut self, shared: &Shared<'_>, index: usize, chunk: &Range<usize>) {
        let plan = shared.plan;
        let step = &plan.steps[index];
        let Some(slot) = plan.value_slots[step.output.index()] else { return };
        let mut buffer = std::mem::take(&mut self.buffers[slot]);
        let mut scratch = std::mem::take(&mut self.scratch);
        let output = &mut buffer[Self::range(plan, slot, chunk)];
        let layout_of = |id: NodeId| &plan.layouts[id.index()];
        let parameters = &shared.parameters[index];
        match (step.kind, &plan.passes[index]) {
            (StepKind::Product { residual, relu, .. }, Some([pass, _])) => {
                let residual = residual.map(|id| (layout_of(id), self.value(plan, id, chunk)));
                let bias = &parameters.bias;
                let ending = Ending { bias, residual, relu, accumulate: false };
                let input = self.value(plan, step.inputs[0], chunk);
                let weight = &parameters.weight;
                pass.run(shared.set, chunk.len(), input, weight, ending, output, &mut scratch);
            }
            _ => {
                let layout = layout_of(step.output);
                for (sample, output) in output.chunks_exact_mut(layout.len()).enumerate() {
                    let scratch = &mut scratch;
                    self.single(shared, index, (chunk, sample), scratch, (layout, output));
                }
            }
        }
        if shared.check && self.failure.is_none() && output.iter().any(|v| !v.is_finite()) {
            self.failure = Some(index);
        }
        self.buffers[slot] = buffer;
        self.scratch = scratch;
    }

    /// The value of one sample of a chunk.
    pub(super) fn sample<'a>(
        &'a self,
        plan: &'a TrainingPlan,
        id: NodeId,
        (chunk, sample): (&Range<usize>, usize),
    ) -> Value<'a> {
        let layout = &plan.layouts[id.index()];
        (layout, &self.value(plan, id, chunk)[sample * layout.len()..][..layout.len()])
    }

    /// Both operands of a step for one sample; the first twice where there is only one.
    pub(super) fn operands<'a>(
        &'a self,
        plan: &'a TrainingPlan,
        step: usize,
        at: (&Range<usize>, usize),
    ) -> [Value<'a>; 2] {
        let inputs = &plan.steps[step].inputs;
        [0, 1].map(|i| self.sample(plan, inputs[i.min(inputs.len() - 1)], at))
    }

    fn single(
        &self,
        shared: &Shared<'_>,
        index: usize,
        at: (&Range<usize>, usize),
        scratch: &mut [f32],
        output: (&Blocked, &mut [f32]),
    ) {
        let (plan, set) = (shared.plan, shared.set);
        let step = &plan.steps[index];
        let operands = self.operands(plan, index, at);
        if let StepKind::Normalise { residual, relu } = step.kind {
            let Some(norm) = plan.norm_of_step[index] else { return };
            let norm = &shared.norms[norm];
            let residual = residual.map(|_| operands[1]);
            let affine = (&norm.scale[..], &norm.shift[..]);
            batch_norm::normalise(set, affine, operands[0], residual, relu, output);
        } else {
            let parameters = &shared.parameters[index];
            let context = Context {
                set,
                weight: &parameters.weight,
                bias: &parameters.bias,
                mask: self.mask(shared, step.node, at),
                scratch,
            };
            let (layout, values) = output;
            let op = &shared.net.node(step.node).op;
            single::forward(op, context, operands, (layout, &mut *values));
            if step.kind == StepKind::MaxPool {
                activation::clamp(values);
            }
        }
    }

    /// The dropout mask of one sample, where the node is a dropout in training.
    pub(super) fn mask(
        &self,
        shared: &Shared<'_>,
        node: NodeId,
        (chunk, sample): (&Range<usize>, usize),
    ) -> Option<Mask> {
        let Op::Dropout { probability } = shared.net.node(node).op else { return None };
        let number = shared.first + self.first + chunk.start + sample;
        shared.dropout.map(|seed| Mask::new(probability, seed, node.index(), number))
    }

    /// Copies the outputs of a chunk to this worker's `outputs`.
    pub fn keep_outputs(&mut self, shared: &Shared<'_>, chunk: &Range<usize>) {
        let id = shared.net.output();
        let width = shared.net.node(id).shape.element_count();
        let layout = &shared.plan.layouts[id.index()];
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.resize(self.samples * width, 0.0);
        let values = self.value(shared.plan, id, chunk).chunks_exact(layout.len());
        let targets = outputs[chunk.start * width..].chunks_exact_mut(width);
        for (values, target) in values.zip(targets) {
            layout.gather(values, target);
        }
        self.outputs = outputs;
    }
}
