//! From the graph to a list of steps: what is computed together.
//!
//! A sum and a ReLU behind a convolution, a linear layer or a batch normalisation become its last
//! store; for inference, a batch normalisation behind a convolution is folded into its weights.

use crate::net::{Activation, Net, NodeId, Op};

/// What a step computes.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Batch normalisation.
    Normalise {
        /// A value added to the result.
        residual: Option<NodeId>,
        /// Clamp at zero.
        relu: bool,
    },
    /// Maximum over windows and a ReLU: in either order the result and its gradient are the same,
    /// and behind the maximum fewer values are left.
    MaxPool,
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
    /// Values that it reads; the residual is the last.
    pub inputs: Vec<NodeId>,
    /// The value that it makes: the last node of the fusion.
    pub output: NodeId,
}

/// The steps of a network in order. Values for which `keep` is true are not fused away.
pub fn fuse(net: &Net, fold_batch_norm: bool, keep: impl Fn(NodeId) -> bool) -> Vec<Step> {
    let consumers = net.consumers();
    // The only reader of a value that nobody else wants to see.
    let next = |id: NodeId| match consumers[id.index()][..] {
        [one] if !keep(id) => Some(one),
        _ => None,
    };
    let is_relu = |n: &NodeId| net.node(*n).op == Op::Activation(Activation::Relu);
    let is_max_pool = |n: &NodeId| matches!(net.node(*n).op, Op::MaxPool(_));
    let mut done = vec![false; net.nodes().len()];
    let mut steps = Vec::new();
    for id in net.node_ids() {
        let node = net.node(id);
        if done[id.index()] || node.op == Op::Input {
            done[id.index()] = true;
            continue;
        }
        let product = matches!(node.op, Op::Conv2d { .. } | Op::Linear { .. });
        let normalise = matches!(node.op, Op::BatchNorm { .. });
        let mut step =
            Step { node: id, kind: StepKind::Single, inputs: node.inputs.clone(), output: id };
        done[id.index()] = true;
        if is_relu(&id)
            && let Some(pool) = next(id).filter(is_max_pool)
        {
            (step.node, step.output, step.kind) = (pool, pool, StepKind::MaxPool);
        }
        if product || normalise {
            let is_norm = |id: &NodeId| matches!(net.node(*id).op, Op::BatchNorm { .. });
            let batch_norm = next(id).filter(|n| product && fold_batch_norm && is_norm(n));
            step.output = batch_norm.unwrap_or(id);
            // Where the normalisation is not folded, it takes the sum and the ReLU.
            let ends = batch_norm.is_some() || !next(id).as_ref().is_some_and(is_norm);
            let sum = next(step.output).filter(|&n| ends && net.node(n).op == Op::Add);
            let residual = sum.and_then(|sum| {
                let other = *net.node(sum).inputs.iter().find(|&&i| i != step.output)?;
                done[other.index()].then_some((sum, other))
            });
            if let Some((sum, other)) = residual {
                step.inputs.push(other);
                done[step.output.index()] = true;
                step.output = sum;
            }
            let relu = next(step.output).filter(is_relu);
            // That of a maximum goes behind it.
            let pooled = |relu: &NodeId| next(*relu).filter(is_max_pool).is_some();
            let relu = relu.filter(|relu| step.inputs.len() > 1 || !pooled(relu));
            if let Some(relu) = relu {
                done[step.output.index()] = true;
                step.output = relu;
            }
            let (residual, relu) = (residual.map(|(_, other)| other), relu.is_some());
            step.kind = match product {
                true => StepKind::Product { batch_norm, residual, relu },
                false => StepKind::Normalise { residual, relu },
            };
        }
        if let StepKind::Product { batch_norm: Some(norm), .. } = step.kind {
            done[norm.index()] = true;
        }
        done[step.output.index()] = true;
        steps.push(step);
    }
    steps
}
