//! Running one step of a plan on a chunk of images.

use super::plan::{Plan, Step, StepKind};
use super::weights::StepWeights;
use crate::kernels::conv::{BLOCK, Conv, ConvShape, Strides};
use crate::kernels::maps::{self, Blocked};
use crate::kernels::norm::{self, LocalResponse};
use crate::kernels::pool;
use crate::kernels::simd::{InstructionSet, dispatch};
use crate::net::{Net, NodeId, Op};

/// The values of one chunk of images.
pub struct Activations {
    slots: Vec<Vec<f32>>,
    images: usize,
}

impl Activations {
    /// Zeroed buffers for up to `capacity` images.
    pub fn new(plan: &Plan, capacity: usize) -> Self {
        let slots = plan.slots.iter().map(|layout| vec![0.0; layout.len() * capacity]).collect();
        Activations { slots, images: 0 }
    }

    /// Number of images held.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Puts images (channel-major) into the input's buffer.
    ///
    /// # Panics
    /// If there are more images than the buffers were made for.
    pub fn load(&mut self, net: &Net, plan: &Plan, images: &[f32]) {
        let len = net.input_shape().element_count();
        let layout = plan.layouts[0];
        self.images = images.len() / len;
        let Some(slot) = plan.slot_of[0] else { return };
        let blocked = self.slots[slot].chunks_exact_mut(layout.len());
        for (image, blocked) in images.chunks_exact(len).zip(blocked) {
            layout.scatter(image, blocked);
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

/// Runs one step.
pub fn run_step(
    net: &Net,
    plan: &Plan,
    step: &Step,
    weights: &StepWeights,
    set: InstructionSet,
    activations: &mut Activations,
) {
    let Some(slot) = plan.slot_of[step.output.index()] else { return };
    let mut output = std::mem::take(&mut activations.slots[slot]);
    match (&step.kind, &net.node(step.node).op) {
        (&StepKind::Product { residual, relu, .. }, Op::Conv2d { .. }) => {
            convolve(net, plan, step, weights, (residual, relu), set, activations, &mut output)
        }
        (&StepKind::Product { relu, .. }, &Op::Linear { in_features, .. }) => {
            linear(plan, step, weights, relu, in_features, set, activations, &mut output)
        }
        _ => {
            let layout = plan.layouts[step.output.index()];
            for (image, output) in
                output.chunks_exact_mut(layout.len()).take(activations.images).enumerate()
            {
                simple(net, plan, step, weights, activations, image, (&layout, output));
            }
        }
    }
    activations.slots[slot] = output;
}

fn input_of<'a>(
    plan: &Plan,
    step: &Step,
    which: usize,
    activations: &'a Activations,
    image: usize,
) -> &'a [f32] {
    activations.value(plan, step.inputs[which], image).unwrap_or(&[])
}

#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
fn convolve(
    net: &Net,
    plan: &Plan,
    step: &Step,
    weights: &StepWeights,
    (residual, relu): (Option<NodeId>, bool),
    set: InstructionSet,
    activations: &Activations,
    output: &mut [f32],
) {
    let Op::Conv2d { out_channels, in_channels, window, .. } = net.node(step.node).op else {
        return;
    };
    let from = plan.layouts[step.inputs[0].index()];
    let to = plan.layouts[step.output.index()];
    let shape = ConvShape {
        in_channels,
        out_blocks: out_channels.div_ceil(BLOCK),
        kernel: window.size,
        stride: window.stride,
        height: to.height,
        width: to.width,
    };
    let strides = from.strides();
    let first = (from.border - window.padding) * (strides.row + strides.pixel);
    for (image, output) in output.chunks_exact_mut(to.len()).take(activations.images).enumerate() {
        let residual = residual.and_then(|id| {
            let layout = plan.layouts[id.index()];
            let values = activations.value(plan, id, image)?;
            Some((&values[layout.origin()..], layout.strides()))
        });
        let conv = Conv {
            shape,
            input: &input_of(plan, step, 0, activations, image)[first..],
            input_strides: strides,
            weights: &weights.weight,
            bias: &weights.bias,
            residual,
            relu,
            output: &mut output[to.origin()..],
            output_strides: to.strides(),
        };
        dispatch(set, conv);
    }
}

/// A linear layer is a 1x1 convolution whose pixels are the images of the chunk.
#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
fn linear(
    plan: &Plan,
    step: &Step,
    weights: &StepWeights,
    relu: bool,
    in_features: usize,
    set: InstructionSet,
    activations: &Activations,
    output: &mut [f32],
) {
    let from = plan.layouts[step.inputs[0].index()].len();
    let to = plan.layouts[step.output.index()].len();
    let images = activations.images;
    let Some(slot) = plan.slot_of[step.inputs[0].index()] else { return };
    if images == 0 {
        return;
    }
    let conv = Conv {
        shape: ConvShape {
            in_channels: in_features,
            out_blocks: to / BLOCK,
            kernel: 1,
            stride: 1,
            height: 1,
            width: images,
        },
        input: &activations.slots[slot],
        input_strides: Strides { block: BLOCK, row: 0, pixel: from },
        weights: &weights.weight,
        bias: &weights.bias,
        residual: None,
        relu,
        output,
        output_strides: Strides { block: BLOCK, row: 0, pixel: to },
    };
    dispatch(set, conv);
}

/// Every operation that is no product, on one image.
fn simple(
    net: &Net,
    plan: &Plan,
    step: &Step,
    weights: &StepWeights,
    activations: &Activations,
    image: usize,
    output: (&Blocked, &mut [f32]),
) {
    let layout = |which: usize| &plan.layouts[step.inputs[which].index()];
    let values = |which: usize| input_of(plan, step, which, activations, image);
    let input = (layout(0), values(0));
    match net.node(step.node).op {
        Op::Add => {
            let relu = matches!(step.kind, StepKind::Add { relu: true });
            maps::add(input, (layout(1), values(1)), output, relu)
        }
        Op::BatchNorm { .. } => norm::affine(&weights.weight, &weights.bias, input, output),
        Op::GroupNorm { groups, eps, .. } => {
            norm::group(groups, eps, &weights.weight, &weights.bias, input, output)
        }
        Op::LocalResponseNorm { size, alpha, beta, k } => {
            norm::local_response(LocalResponse { size, alpha, beta, k }, input, output)
        }
        Op::Activation(activation) => maps::activate(activation, input, output),
        Op::MaxPool(window) => pool::max(window, input, output),
        Op::AvgPool(window) => pool::mean(window, input, output),
        Op::GlobalAvgPool => pool::global_mean(input, output),
        Op::Dropout { .. } => {
            maps::for_each_row(input, output, |_, from, to| to.copy_from_slice(from))
        }
        Op::PadShortcut { stride, .. } => maps::pad_shortcut(stride, input, output),
        Op::Flatten => {
            let channels = output.0.channels;
            input.0.gather(input.1, &mut output.1[..channels]);
        }
        Op::Input | Op::Conv2d { .. } | Op::Linear { .. } => {}
    }
}
