//! Planning: from the graph to a list of steps on preallocated buffers.
//!
//! Batch normalisations are folded into the convolution before them, a sum and a ReLU behind a
//! convolution become its last store. Values whose layouts are equal share buffers when their
//! lives do not overlap; a buffer never changes its layout, so borders stay zero for ever.

use crate::kernels::maps::Blocked;
use crate::net::{Activation, Net, NodeId, Op};

/// What a step computes.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// Convolution or linear layer with everything that is fused into it.
    Product {
        /// A batch normalisation folded into weights and bias.
        batch_norm: Option<NodeId>,
        /// A value added to the result.
        residual: Option<NodeId>,
        /// Clamp at zero.
        relu: bool,
    },
    /// Sum of two values.
    Add {
        /// Clamp at zero.
        relu: bool,
    },
    /// The node's operation alone.
    Single,
}

/// One step: computes `output` from `inputs`.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node whose operation it is.
    pub node: NodeId,
    /// What is fused.
    pub kind: StepKind,
    /// Values that it reads.
    pub inputs: Vec<NodeId>,
    /// The value that it makes: the last node of the fusion.
    pub output: NodeId,
}

/// The steps of a network and where their values live.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Steps in order of execution.
    pub steps: Vec<Step>,
    /// Layout of each node's value; values inside a fusion have one too, which nobody uses.
    pub layouts: Vec<Blocked>,
    /// Buffer of each node's value.
    pub slot_of: Vec<Option<usize>>,
    /// Layout of each buffer.
    pub slots: Vec<Blocked>,
}

impl Plan {
    /// Plans inference.
    pub fn new(net: &Net) -> Plan {
        let steps = fuse(net);
        let layouts = layouts(net);
        let (slot_of, slots) = assign_slots(net, &steps, &layouts);
        Plan { steps, layouts, slot_of, slots }
    }
}

/// The only reader of a value, if there is just one.
fn only_consumer(consumers: &[Vec<NodeId>], id: NodeId) -> Option<NodeId> {
    match consumers[id.index()][..] {
        [one] => Some(one),
        _ => None,
    }
}

fn fuse(net: &Net) -> Vec<Step> {
    let consumers = net.consumers();
    let relu_behind = |id: NodeId| {
        only_consumer(&consumers, id)
            .filter(|&next| net.node(next).op == Op::Activation(Activation::Relu))
    };
    let mut done = vec![false; net.nodes().len()];
    let mut steps = Vec::new();
    for id in net.node_ids() {
        let node = net.node(id);
        if done[id.index()] {
            continue;
        }
        let mut inputs = node.inputs.clone();
        let mut output = id;
        let kind = match node.op {
            Op::Input => {
                done[id.index()] = true;
                continue;
            }
            Op::Conv2d { .. } | Op::Linear { .. } => {
                let batch_norm = only_consumer(&consumers, id)
                    .filter(|&next| matches!(net.node(next).op, Op::BatchNorm { .. }));
                output = batch_norm.unwrap_or(id);
                let sum = only_consumer(&consumers, output)
                    .filter(|_| matches!(node.op, Op::Conv2d { .. }));
                let residual = sum.filter(|&next| net.node(next).op == Op::Add).and_then(|sum| {
                    let other = *net.node(sum).inputs.iter().find(|&&i| i != output)?;
                    done[other.index()].then_some((sum, other))
                });
                if let Some((sum, other)) = residual {
                    inputs.push(other);
                    done[output.index()] = true;
                    output = sum;
                }
                let relu = relu_behind(output);
                if let Some(relu) = relu {
                    done[output.index()] = true;
                    output = relu;
                }
                done[batch_norm.unwrap_or(id).index()] = true;
                let residual = residual.map(|(_, other)| other);
                StepKind::Product { batch_norm, residual, relu: relu.is_some() }
            }
            Op::Add => {
                let relu = relu_behind(id);
                output = relu.unwrap_or(id);
                StepKind::Add { relu: relu.is_some() }
            }
            _ => StepKind::Single,
        };
        done[id.index()] = true;
        done[output.index()] = true;
        steps.push(Step { node: id, kind, inputs, output });
    }
    steps
}

/// Every value gets the border that its widest convolution asks for.
fn layouts(net: &Net) -> Vec<Blocked> {
    let mut borders = vec![0; net.nodes().len()];
    for node in net.nodes() {
        if let Op::Conv2d { window, .. } = node.op {
            let border = &mut borders[node.inputs[0].index()];
            *border = window.padding.max(*border);
        }
    }
    net.nodes().iter().zip(borders).map(|(n, border)| Blocked::new(n.shape, border)).collect()
}

fn assign_slots(
    net: &Net,
    steps: &[Step],
    layouts: &[Blocked],
) -> (Vec<Option<usize>>, Vec<Blocked>) {
    let mut last_use = vec![0; net.nodes().len()];
    for (i, step) in steps.iter().enumerate() {
        for input in &step.inputs {
            last_use[input.index()] = i;
        }
    }
    let mut slot_of = vec![None; net.nodes().len()];
    let mut slots: Vec<Blocked> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut claim = |layout: Blocked, free: &mut Vec<usize>| {
        if let Some(position) = free.iter().position(|&slot| slots[slot] == layout) {
            return free.swap_remove(position);
        }
        slots.push(layout);
        slots.len() - 1
    };
    slot_of[0] = Some(claim(layouts[0], &mut free));
    for (i, step) in steps.iter().enumerate() {
        slot_of[step.output.index()] = Some(claim(layouts[step.output.index()], &mut free));
        let mut ended = step.inputs.clone();
        ended.sort();
        ended.dedup();
        free.extend(
            ended
                .iter()
                .filter(|id| last_use[id.index()] == i)
                .filter_map(|id| slot_of[id.index()]),
        );
    }
    (slot_of, slots)
}

impl Plan {
    /// Images that one thread takes through the network at a time: enough to reuse the weights,
    /// few enough to keep the activations in the cache.
    pub fn chunk(&self) -> usize {
        let widest = self.slots.iter().map(Blocked::len).max().unwrap_or(1);
        ((1 << 17) / widest).clamp(8, 128)
    }
}
