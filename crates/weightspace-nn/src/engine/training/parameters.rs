//! Between the flat vector of weights and what the kernels read and write.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::TrainingPlan;
use crate::engine::fusion::Step;
use crate::engine::product::Pass;
use crate::kernels::maps::BLOCK;
use crate::net::{Net, Op, ParameterKind};

/// From so many weights on, threads share the work of packing them.
const SHARED: usize = 1 << 17;

/// Where the parameters of each step stand in the flat vector.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// Weight, scale or table.
    pub weight: Range<usize>,
    /// Bias or shift; empty where there is none.
    pub bias: Range<usize>,
}

/// The parameters of one step as the kernels read them.
#[derive(Clone, Debug, Default)]
pub struct StepParameters {
    /// Of a product: packed for the way forward; else the tensor, padded to whole blocks.
    pub weight: Vec<f32>,
    /// Of a product: packed for the way back.
    pub transposed: Vec<f32>,
    /// Padded to whole blocks; zeros where the layer has none, empty for a product without.
    pub bias: Vec<f32>,
}

/// The gradients of one step's parameters, in the same order as [`StepParameters`].
#[derive(Clone, Debug, Default)]
pub struct StepGradients {
    /// Of the packed weight.
    pub weight: Vec<f32>,
    /// Of the bias.
    pub bias: Vec<f32>,
}

/// Finds the parameters of every step.
pub fn ranges(net: &Net, steps: &[Step]) -> Vec<Ranges> {
    let mut of_node = vec![Ranges::default(); net.nodes().len()];
    let mut offset = 0;
    for parameter in net.parameters().into_iter().filter(|p| p.kind.is_trainable()) {
        let range = offset..offset + parameter.element_count();
        offset = range.end;
        let ranges = &mut of_node[parameter.node.index()];
        match parameter.kind {
            ParameterKind::Weight | ParameterKind::NormWeight => ranges.weight = range,
            _ => ranges.bias = range,
        }
    }
    steps.iter().map(|step| of_node[step.node.index()].clone()).collect()
}

fn is_batch_norm(net: &Net, step: &Step) -> bool {
    matches!(net.node(step.node).op, Op::BatchNorm { .. })
}

/// Lengths of a step's weight and bias as the kernels read them.
fn lengths(net: &Net, step: &Step, pass: Option<&Pass>, ranges: &Ranges) -> (usize, usize) {
    let padded = |range: &Range<usize>| range.len().next_multiple_of(BLOCK);
    match pass {
        Some(pass) => (pass.packed_len(), padded(&ranges.bias)),
        // A batch normalisation's are handled by its statistics.
        None if is_batch_norm(net, step) => (0, 0),
        // A layer without shift reads zeros.
        None => (padded(&ranges.weight), padded(&ranges.weight)),
    }
}

/// Zeroed parameters of every step.
pub fn allocate(net: &Net, plan: &TrainingPlan, ranges: &[Ranges]) -> Vec<StepParameters> {
    let steps = plan.steps.iter().zip(&plan.passes).zip(ranges);
    steps
        .map(|((step, passes), ranges)| {
            let (weight, bias) = lengths(net, step, passes.as_ref().map(|p| &p[0]), ranges);
            let transposed = passes.as_ref().map_or(0, |p| p[1].packed_len());
            StepParameters {
                weight: vec![0.0; weight],
                transposed: vec![0.0; transposed],
                bias: vec![0.0; bias],
            }
        })
        .collect()
}

/// Zeroed gradients of every step.
pub fn allocate_gradients(net: &Net, plan: &TrainingPlan, ranges: &[Ranges]) -> Vec<StepGradients> {
    let steps = plan.steps.iter().zip(&plan.passes).zip(ranges);
    steps
        .map(|((step, passes), ranges)| {
            let (weight, bias) = lengths(net, step, passes.as_ref().map(|p| &p[0]), ranges);
            StepGradients { weight: vec![0.0; weight], bias: vec![0.0; bias] }
        })
        .collect()
}

/// Steps that one thread does at least: waking another one costs more than few weights.
fn fewest_steps(weights: usize) -> usize {
    if weights < SHARED { usize::MAX } else { 1 }
}

/// Packs the flat weights for all steps.
pub fn pack(
    plan: &TrainingPlan,
    ranges: &[Ranges],
    weights: &[f32],
    backward: bool,
    parameters: &mut [StepParameters],
) {
    let steps = parameters.par_iter_mut().with_min_len(fewest_steps(weights.len()));
    steps.zip(&plan.passes).zip(ranges).for_each(|((parameters, passes), ranges)| {
        let weight = &weights[ranges.weight.clone()];
        let bias = &weights[ranges.bias.clone()];
        if let Some([forward, transposed]) = passes {
            forward.pack(weight, &mut parameters.weight);
            if backward {
                transposed.pack(weight, &mut parameters.transposed);
            }
        } else if !parameters.weight.is_empty() {
            parameters.weight[..weight.len()].copy_from_slice(weight);
        }
        if !parameters.bias.is_empty() {
            parameters.bias[..bias.len()].copy_from_slice(bias);
        }
    });
}

/// Sums the gradients of all workers, in their order, into the flat gradient. The sums are left in
/// the first worker's.
pub fn reduce(
    plan: &TrainingPlan,
    ranges: &[Ranges],
    workers: &mut [&mut Vec<StepGradients>],
    gradient: &mut [f32],
) {
    let Some((first, others)) = workers.split_first_mut() else { return };
    let count = gradient.len();
    // Disjoint pieces of the flat gradient, step by step.
    let mut pieces: Vec<[&mut [f32]; 2]> = Vec::new();
    pieces.resize_with(ranges.len(), Default::default);
    let mut order: Vec<(Range<usize>, usize, usize)> = Vec::new();
    for (step, ranges) in ranges.iter().enumerate() {
        order.push((ranges.weight.clone(), step, 0));
        order.push((ranges.bias.clone(), step, 1));
    }
    order.retain(|(range, _, _)| !range.is_empty());
    order.sort_by_key(|(range, _, _)| range.start);
    let (mut rest, mut at) = (gradient, 0);
    for (range, step, which) in order {
        let (_, behind) = rest.split_at_mut(range.start - at);
        let (piece, behind) = behind.split_at_mut(range.len());
        pieces[step][which] = piece;
        (rest, at) = (behind, range.end);
    }
    let others: Vec<&Vec<StepGradients>> = others.iter().map(|worker| &**worker).collect();
    let steps = first.par_iter_mut().with_min_len(fewest_steps(count));
    steps.zip(&plan.passes).zip(pieces).enumerate().for_each(
        |(step, ((sum, passes), [weight, bias]))| {
            let add = |sum: &mut [f32], other: &[f32]| {
                sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
            };
            for other in &others {
                add(&mut sum.weight, &other[step].weight);
                add(&mut sum.bias, &other[step].bias);
            }
            match passes {
                Some([forward, _]) => {
                    weight.fill(0.0);
                    forward.unpack(&sum.weight, weight);
                }
                None if sum.weight.is_empty() => {}
                None => weight.copy_from_slice(&sum.weight[..weight.len()]),
            }
            if !sum.bias.is_empty() {
                bias.copy_from_slice(&sum.bias[..bias.len()]);
            }
        },
    );
}
