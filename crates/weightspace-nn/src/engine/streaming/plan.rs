//! Planning streaming inference: which weights are in memory together, and how many images.

use super::StreamingOptions;
use crate::engine::Plan;
use crate::engine::product::{Pass, Weight};
use crate::kernels::maps::{BLOCK, Blocked};
use crate::net::{Net, Op};

/// A step, or some output channels of one, and what its weights take.
#[derive(Debug)]
pub(super) struct Slice {
    /// Index of the step.
    pub(super) step: usize,
    /// How its product runs; `None` where it is none.
    pub(super) pass: Option<Pass>,
    /// Weights as they are read before they are packed; 0 where they are read in place.
    unpacked: usize,
    packed: usize,
    bias: usize,
}

impl Slice {
    fn of_pass(step: usize, weight: &Weight, pass: Pass) -> Self {
        let unpacked = pass.outputs().len() * (weight.len() / weight.out_channels);
        let bias = pass.blocks().len() * BLOCK;
        Slice { step, unpacked, packed: pass.packed_len(), bias, pass: Some(pass) }
    }

    fn of_single(step: usize, op: &Op) -> Self {
        let (packed, bias) = match *op {
            Op::BatchNorm { channels: n, .. }
            | Op::GroupNorm { channels: n, .. }
            | Op::LayerNorm { width: n, .. } => {
                (n.next_multiple_of(BLOCK), n.next_multiple_of(BLOCK))
            }
            Op::Embedding { count, width } => (count * width, 0),
            _ => (0, 0),
        };
        Slice { step, pass: None, unpacked: 0, packed, bias }
    }

    /// Memory of the weights.
    pub(super) fn bytes(&self) -> usize {
        (self.unpacked + self.packed + self.bias) * size_of::<f32>()
    }
}

/// The slices of all steps in order, each of at most `most_bytes` where that holds 16 output
/// channels.
pub(super) fn plan_slices(net: &Net, plan: &Plan, most_bytes: usize) -> Vec<Slice> {
    let of_step = |index: usize| {
        let op = &net.node(plan.steps[index].node).op;
        let (Some(weight), Some(pass)) = (Weight::of(op), &plan.passes[index]) else {
            return vec![Slice::of_single(index, op)];
        };
        let blocks = pass.blocks().len();
        let of_block = Slice::of_pass(index, &weight, pass.slice(0..1)).bytes();
        let most = (most_bytes / of_block).clamp(1, blocks);
        // Slices of equal size.
        let each = blocks.div_ceil(blocks.div_ceil(most));
        let slice = |first: usize| pass.slice(first..blocks.min(first + each));
        (0..blocks).step_by(each).map(|b| Slice::of_pass(index, &weight, slice(b))).collect()
    };
    (0..plan.steps.len()).flat_map(of_step).collect()
}

/// The largest number of unpacked weights, packed weights and biases of any slice.
pub(super) fn largest(slices: &[Slice]) -> [usize; 3] {
    let of_slice = |s: &Slice| [s.unpacked, s.packed, s.bias];
    slices.iter().map(of_slice).fold([0; 3], |a, b| std::array::from_fn(|i| a[i].max(b[i])))
}

/// The images of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Parts, which threads run side by side.
    pub(super) parts: usize,
    /// Most images of one part.
    pub(super) images: usize,
    /// Images of all parts.
    pub(super) batch: usize,
}

impl Sizes {
    /// Memory of the activations.
    pub(super) fn bytes(&self, plan: &Plan) -> usize {
        self.parts * (self.images * image_bytes(plan) + scratch_bytes(plan))
    }
}

fn image_bytes(plan: &Plan) -> usize {
    plan.slots.iter().map(Blocked::len).sum::<usize>() * size_of::<f32>()
}

fn scratch_bytes(plan: &Plan) -> usize {
    plan.scratch * size_of::<f32>()
}

/// One part for every thread, as large as the engine's chunks where memory allows, or as many as it
/// takes for the batch that is asked for.
pub(super) fn plan_batch(plan: &Plan, options: &StreamingOptions, threads: usize) -> Sizes {
    let share = |images: usize| plan.chunk().min(images / threads).max(1);
    if let Some(batch) = options.batch {
        let images = share(batch);
        return Sizes { parts: batch.div_ceil(images).max(1), images, batch: batch.max(1) };
    }
    let (image, scratch) = (image_bytes(plan).max(1), scratch_bytes(plan));
    let images = share(options.activation_bytes.saturating_sub(threads * scratch) / image);
    let parts = (options.activation_bytes / (images * image + scratch)).clamp(1, threads);
    Sizes { parts, images, batch: parts * images }
}
