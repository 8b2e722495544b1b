//! Multi-layer perceptron: linear layers with a non-linearity between them.

use std::collections::HashMap;

use weightspace_core::TensorInfo;

use super::spec::is_module_name;
use super::{Arch, Argument, Defaults, Settings};
use crate::net::NetBuilder;

/// The family.
pub(super) const ARCHS: &[Arch] = &[Arch {
    name: "mlp",
    title: "Multi-layer perceptron: mlp:784-128-10; names=fc1+fc2 for other names than 0, 2, 4, ...",
    reference: "torch.nn.Sequential of Linear and ReLU",
    arguments: &[Argument::Widths, Argument::Activation, Argument::Names],
    defaults: Defaults::MNIST,
    variants: &[],
    preprocessing: &[],
    build: mlp,
}];

fn mlp(settings: &Settings) -> NetBuilder {
    let names = settings.module_names();
    let (mut net, mut x) = NetBuilder::vector(settings.widths[0]);
    for (i, &width) in settings.widths[1..].iter().enumerate() {
        x = if i > 0 { net.activation(x, settings.activation) } else { x };
        let name = names.as_ref().map_or_else(|| (2 * i).to_string(), |n| n[i].to_string());
        x = net.linear(name, x, width);
    }
    net
}

/// A state dict of linear layers with bias, and nothing else, seen as an MLP.
#[derive(Debug, PartialEq)]
pub(super) enum Chain {
    /// The specification of the only order, or of the order that the names tell.
    Spec(String),
    /// More than one order fits the shapes, and the names do not tell which: the specification of one.
    Ambiguous(String),
    /// Some tensor is no part of a linear layer with bias, or the layers make no chain.
    None,
}

struct Layer<'a> {
    name: &'a str,
    inputs: usize,
    outputs: usize,
}

/// The MLP that a state dict holds, whatever its modules are called.
pub(super) fn chain(tensors: &[TensorInfo]) -> Chain {
    let Some(mut layers) = linear_layers(tensors) else { return Chain::None };
    layers.sort_by_cached_key(|layer| numbers(layer.name));
    // Names that differ in their numbers only are in the order of the numbers.
    if layers.iter().all(|l| skeleton(l.name) == skeleton(layers[0].name)) && fits(&layers) {
        return Chain::Spec(specification(&layers));
    }
    match follow(layers) {
        Some((order, true)) => Chain::Spec(specification(&order)),
        Some((order, false)) => Chain::Ambiguous(specification(&order)),
        None => Chain::None,
    }
}

/// The layers, when every tensor is the weight or the bias of one and each has both.
fn linear_layers(tensors: &[TensorInfo]) -> Option<Vec<Layer<'_>>> {
    let weights =
        tensors.iter().filter_map(|t| match (t.name.strip_suffix(".weight"), &t.shape[..]) {
            (Some(name), &[outputs, inputs]) => Some(Layer { name, inputs, outputs }),
            _ => None,
        });
    let layers: Vec<Layer> = weights.collect();
    let outputs: HashMap<&str, usize> = layers.iter().map(|l| (l.name, l.outputs)).collect();
    let is_bias = |t: &&TensorInfo| {
        let layer = t.name.strip_suffix(".bias").and_then(|name| outputs.get(name));
        layer.is_some_and(|&n| t.shape == [n])
    };
    let biases = tensors.iter().filter(is_bias).count();
    let complete = biases == layers.len() && biases + layers.len() == tensors.len();
    let nameable = layers.iter().all(|l| is_module_name(l.name));
    (complete && nameable && (1..=1000).contains(&layers.len())).then_some(layers)
}

/// The numbers in a name, by which `fc10` comes behind `fc9`.
fn numbers(name: &str) -> Vec<u64> {
    let runs = name.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.parse().unwrap_or(u64::MAX)).collect()
}

/// A name without its numbers.
fn skeleton(name: &str) -> String {
    name.replace(|c: char| c.is_ascii_digit(), "")
}

fn fits(order: &[Layer]) -> bool {
    order.windows(2).all(|pair| pair[0].outputs == pair[1].inputs)
}

/// An order in which every output is the next input, and whether shapes and numbers in the names
/// leave no other.
fn follow(mut unused: Vec<Layer>) -> Option<(Vec<Layer>, bool)> {
    // The first layer reads what no layer gives; where there is none such, any may be the first.
    let is_first = |l: &Layer| unused.iter().all(|other| other.outputs != l.inputs);
    let start = unused.iter().position(is_first);
    let mut unique = start.is_some() || unused.len() == 1;
    let mut length = unused[start.unwrap_or(0)].inputs;
    let mut order = Vec::with_capacity(unused.len());
    while !unused.is_empty() {
        // Layers that keep the length come before the one that leaves it.
        let keeps = unused.iter().position(|l| l.inputs == length && l.outputs == length);
        let next = keeps.or_else(|| unused.iter().position(|l| l.inputs == length))?;
        let layer = unused.remove(next);
        let is_rival = |l: &&Layer| {
            let elsewhere = keeps.is_none() && l.outputs != layer.outputs;
            let alike = l.outputs == layer.outputs && skeleton(l.name) != skeleton(layer.name);
            l.inputs == length && (elsewhere || alike)
        };
        unique &= !unused.iter().any(|l| is_rival(&l));
        length = layer.outputs;
        order.push(layer);
    }
    Some((order, unique))
}

fn specification(order: &[Layer]) -> String {
    let widths = order.iter().map(|l| l.inputs).chain(order.last().map(|l| l.outputs));
    let widths: Vec<String> = widths.map(|n| n.to_string()).collect();
    let names: Vec<&str> = order.iter().map(|l| l.name).collect();
    format!("mlp:{},names={}", widths.join("-"), names.join("+"))
}
