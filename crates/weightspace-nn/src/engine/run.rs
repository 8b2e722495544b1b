//! Running one step of a plan on a chunk of images.

use super::plan::{Plan, StepKind};
use super::product::{Ending, Pass};
use super::single::{self, Context, Value};
use super::weights::StepWeights;
use crate::kernels::simd::InstructionSet;
use crate::kernels::{activation, batch_norm};
use crate::net::{Net, NodeId};

/// The values of one chunk of images.
pub struct Activations {
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    images: usize,
}

impl Activations {
    /// Zeroed buffers for up to `capacity` images.
    pub fn new(plan: &Plan, capacity: usize) -> Self {
        let slots = plan.slots.iter().map(|layout| vec![0.0; layout.len() * capacity]).collect();
        Activations { slots, scratch: vec![0.0; plan.scratch], images: 0 }
    }

    /// Number of images held.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Puts samples (all inputs of each, channel-major) into the inputs' buffers.
    ///
    /// # Panics
    /// If there are more images than the buffers were made for.
    pub fn load(&mut self, net: &Net, plan: &Plan, images: &[f32]) {
        let len = net.input_len();
        self.images = images.len() / len;
        let mut first = 0;
        for input in net.inputs() {
            let layout = plan.layouts[input.index()];
            let count = net.node(input).shape.element_count();
            if let Some(slot) = plan.slot_of[input.index()] {
                let blocked = self.slots[slot].chunks_exact_mut(layout.len());
                for (image, blocked) in images.chunks_exact(len).zip(blocked) {
                    layout.scatter(&image[first..first + count], blocked);
                }
            }
            first += count;
        }
    }

    /// Copies the last value (channel-major) out.
    pub fn read_output(&self, net: &Net, plan: &Plan, logits: &mut [f32]) {
        let last = plan.steps.last().map_or(0, |step| step.output.index());
        let classes = net.class_count();
        let Some(slot) = plan.slot_of[last] else { return };
        let values = self.slots[slot].chunks_exact(plan.layouts[last].len());
        for (blocked, logits) in values.zip(logits.chunks_exact_mut(classes)) {
            plan.layouts[last].gather(blocked, logits);
        }
    }

    /// The value of a node for one image; it must not have been overwritten yet.
    pub fn value(&self, plan: &Plan, node: NodeId, image: usize) -> Option<&[f32]> {
        let len = plan.layouts[node.index()].len();
        plan.slot_of[node.index()].map(|slot| &self.slots[slot][image * len..][..len])
    }
}

/// Runs one step, or the slice of it that `pass` computes, whose weights are given.
pub fn run_step(
    net: &Net,
    plan: &Plan,
    index: usize,
    pass: Option<&Pass>,
    weights: &StepWeights,
    set: InstructionSet,
    activations: &mut Activations,
) {
    let step = &plan.steps[index];
    let Some(slot) = plan.slot_of[step.output.index()] else { return };
    let mut output = std::mem::take(&mut activations.slots[slot]);
    let mut scratch = std::mem::take(&mut activations.scratch);
    let layout_of = |id: NodeId| &plan.layouts[id.index()];
    let layout = layout_of(step.output);
    if let (&StepKind::Product { residual, relu, .. }, Some(pass)) = (&step.kind, pass) {
        let all =
            |id: NodeId| plan.slot_of[id.index()].map(|slot| activations.slots[slot].as_slice());
        let residual = residual.and_then(|id| Some((layout_of(id), all(id)?)));
        let ending = Ending { bias: &weights.bias, residual, relu, accumulate: false };
        let input = all(step.inputs[0]).unwrap_or(&[]);
        let packed = &weights.weight;
        pass.run(set, activations.images, input, packed, ending, &mut output, &mut scratch);
    } else {
        for (image, output) in
            output.chunks_exact_mut(layout.len()).take(activations.images).enumerate()
        {
            let value = |which: usize| -> Value<'_> {
                let id = step.inputs[which.min(step.inputs.len() - 1)];
                (layout_of(id), activations.value(plan, id, image).unwrap_or(&[]))
            };
            if let StepKind::Normalise { residual, relu } = step.kind {
                let affine = (&weights.weight[..], &weights.bias[..]);
                let residual = residual.map(|_| value(1));
                batch_norm::normalise(set, affine, value(0), residual, relu, (layout, output));
            } else {
                let context = Context {
                    set,
                    weight: &weights.weight,
                    bias: &weights.bias,
                    mask: None,
                    scratch: &mut scratch,
                };
                let op = &net.node(step.node).op;
                single::forward(op, context, [value(0), value(1)], (layout, output));
                if step.kind == StepKind::MaxPool {
                    activation::clamp(output);
                }
            }
        }
    }
    activations.slots[slot] = output;
    activations.scratch = scratch;
}
