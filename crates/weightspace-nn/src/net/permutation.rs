//! Units that may be permuted without changing the network's function, derived from the graph.
//!
//! A *unit* is a channel of a feature map or an element of a vector. The weights that make a unit
//! and the weights that read it may be moved together to another unit's place: the network computes
//! the same. Which units move together, and which may change places, follows from the graph:
//!
//! - A convolution and a linear layer make new units (rows of the weight, elements of the bias) and
//!   read their input's (columns of the weight). A flattened channel is `height x width` columns.
//! - Batch normalisation, activations, pooling, dropout and flattening pass units on; so does group
//!   normalisation of one channel per group, or of all channels in one group.
//! - A sum ties the units of its terms: a residual stream is one set of units all along.
//! - The parameter-free shortcut of CIFAR ResNets ties every old channel to its place among the new
//!   ones. The tie is exact: the stream of 16 channels lives on as channels 8 to 24 of the next
//!   stream of 32; those 16 form one group over both streams, and the 16 channels that were zeros
//!   form another. That is why a [`Member`] lists the places of its units.
//! - A depthwise convolution passes units on; its filters move with them.
//! - The network's inputs and its logits stay in place, and so do channels under local response
//!   normalisation, other group normalisations and other grouped convolutions, which see
//!   neighbours, and the elements of tokens that attention reads or makes.
//!
//! Units may change places when they take part in exactly the same values of the graph.

use std::collections::{BTreeMap, HashMap};

use weightspace_core::{StateDict, Tensor};

use super::{Net, Node, NodeId, Op, Shape};

/// Units of which any may take any other's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermutationGroup {
    /// Number of units, at least 2.
    pub size: usize,
    /// Where the units stand in the state dict: in its order, and by axis within a tensor.
    pub members: Vec<Member>,
}

/// One axis of a tensor along which the units of a group stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the tensor in the state dict.
    pub tensor: String,
    /// Axis of the tensor.
    pub axis: usize,
    /// Number of consecutive positions of the axis that belong to one unit.
    pub block: usize,
    /// For each unit its place on the axis: unit `u` has the positions `places[u] * block` and the
    /// `block - 1` behind it. Often 0, 1, 2, ...; part of the axis where a stream is embedded in
    /// a wider one.
    pub places: Vec<usize>,
}

impl Member {
    /// True when the units fill the axis in their order.
    pub fn is_whole_axis(&self, axis_len: usize) -> bool {
        self.places.len() * self.block == axis_len
            && self.places.iter().enumerate().all(|(i, &p)| i == p)
    }
}

/// Why a permutation cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermutationError {
    /// Not one permutation for each group.
    #[error("{found} permutations for {expected} groups")]
    Count {
        /// Number of groups.
        expected: usize,
        /// Number of permutations.
        found: usize,
    },
    /// A list that does not hold every number below the size of the group once.
    #[error("permutation {group} does not hold each of 0 to {} once", size - 1)]
    NotAPermutation {
        /// Index of the group.
        group: usize,
        /// Its size.
        size: usize,
    },
    /// A tensor of the group is not in the state dict.
    #[error("tensor {name} is missing")]
    Missing {
        /// The tensor.
        name: String,
    },
    /// A tensor is too small for the places of the units.
    #[error("tensor {name} has shape {shape:?}, which axis {axis} of a permutation does not fit")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The axis.
        axis: usize,
    },
}

impl Net {
    /// The groups of units that may be permuted, in the order in which the network makes them.
    ///
    /// No two groups share a place on an axis, so that the groups can be permuted independently.
    pub fn permutation_groups(&self) -> Vec<PermutationGroup> {
        Units::of(self).groups()
    }
}

/// Moves the units of every group: unit `u` becomes what unit `permutations[group][u]` was.
///
/// # Errors
/// A list that is no permutation, or a state dict that lacks a tensor or has another shape; the
/// state dict is then unchanged.
pub fn apply(
    groups: &[PermutationGroup],
    permutations: &[Vec<usize>],
    state_dict: &mut StateDict,
) -> Result<(), PermutationError> {
    if groups.len() != permutations.len() {
        let (expected, found) = (groups.len(), permutations.len());
        return Err(PermutationError::Count { expected, found });
    }
    let mut moved: BTreeMap<&str, Tensor> = BTreeMap::new();
    for (index, (group, permutation)) in groups.iter().zip(permutations).enumerate() {
        if !is_permutation(permutation, group.size) {
            return Err(PermutationError::NotAPermutation { group: index, size: group.size });
        }
        for member in &group.members {
            let missing = || PermutationError::Missing { name: member.tensor.clone() };
            let old = moved.get(member.tensor.as_str()).or_else(|| state_dict.get(&member.tensor));
            let new = member.moved(old.ok_or_else(missing)?, permutation)?;
            moved.insert(&member.tensor, new);
        }
    }
    for (name, tensor) in moved {
        state_dict.insert(name, tensor);
    }
    Ok(())
}

/// The permutation that undoes another: `inverse(p)[p[u]] == u`.
///
/// # Panics
/// If an element of the permutation is not below its length.
pub fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    for (unit, &from) in permutation.iter().enumerate() {
        inverse[from] = unit;
    }
    inverse
}

fn is_permutation(permutation: &[usize], size: usize) -> bool {
    let mut seen = vec![false; size];
    permutation.len() == size
        && permutation.iter().all(|&p| p < size && !std::mem::replace(&mut seen[p], true))
}

impl Member {
    fn moved(&self, tensor: &Tensor, permutation: &[usize]) -> Result<Tensor, PermutationError> {
        let shape = tensor.shape();
        let needed = self.places.iter().max().map_or(0, |&p| (p + 1) * self.block);
        if shape.get(self.axis).is_none_or(|&len| len < needed) {
            let (name, shape) = (self.tensor.clone(), shape.to_vec());
            return Err(PermutationError::Shape { name, shape, axis: self.axis });
        }
        // Bytes of one position of the axis, of one unit, and of the whole axis.
        let position = shape[self.axis + 1..].iter().product::<usize>() * tensor.dtype().size();
        let (unit, axis) = (self.block * position, shape[self.axis] * position);
        let old = tensor.bytes();
        let mut new = old.to_vec();
        for start in (0..old.len()).step_by(axis.max(1)) {
            for (&to, &from) in self.places.iter().zip(permutation) {
                let (to, from) = (start + to * unit, start + self.places[from] * unit);
                new[to..to + unit].copy_from_slice(&old[from..from + unit]);
            }
        }
        Ok(Tensor::from_bytes(tensor.dtype(), shape.to_vec(), new))
    }
}

/// The units of every value of a network, tied by union-find.
struct Units<'a> {
    net: &'a Net,
    /// For each node the number of its first unit; units of one node are consecutive.
    first: Vec<usize>,
    /// For each node the number of consecutive elements of its value that are one unit.
    block: Vec<usize>,
    /// Union-find: the parent of each unit, itself for a root.
    parent: Vec<usize>,
    /// For each unit, whether it must stay where it is; what counts is the root's.
    pinned: Vec<bool>,
}

impl<'a> Units<'a> {
    fn of(net: &'a Net) -> Self {
        let (first, block) = (Vec::new(), Vec::new());
        let mut units = Units { net, first, block, parent: Vec::new(), pinned: Vec::new() };
        for node in net.nodes() {
            units.add(node);
        }
        net.inputs().for_each(|input| units.pin(input.index()));
        units.pin(net.output().index());
        units
    }

    /// Makes a node's units and ties them to those of its inputs.
    fn add(&mut self, node: &Node) {
        let inputs: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
        let block = match (&node.op, inputs.first()) {
            (Op::Linear { .. } | Op::Input | Op::Embedding { .. } | Op::Concat, _)
            | (Op::Conv2d { .. } | Op::Attention { .. }, _)
            | (_, None) => 1,
            (Op::Flatten, Some(&input)) => match self.net.nodes()[input].shape {
                Shape::Maps { height, width, .. } => height * width,
                Shape::Tokens { .. } => 1,
                Shape::Vector(_) => self.block[input],
            },
            (_, Some(&input)) => self.block[input],
        };
        let id = self.first.len();
        let (start, count) = (self.parent.len(), node.shape.channels() / block);
        self.first.push(start);
        self.block.push(block);
        self.parent.extend(start..start + count);
        self.pinned.resize(start + count, false);
        match node.op {
            Op::Conv2d { in_channels, out_channels, groups, .. }
                if groups == in_channels && groups == out_channels && groups > 1 =>
            {
                self.tie(inputs[0], id, 0)
            }
            Op::Input | Op::Conv2d { .. } | Op::Linear { .. } | Op::Embedding { .. } => {}
            Op::Concat | Op::Attention { .. } => {}
            Op::Flatten if matches!(self.net.nodes()[inputs[0]].shape, Shape::Tokens { .. }) => {}
            Op::PadShortcut { out_channels, .. } => {
                let old = self.range(inputs[0]).len();
                self.tie(inputs[0], id, (out_channels - old) / 2);
            }
            Op::BatchNorm { .. }
            | Op::GroupNorm { .. }
            | Op::LayerNorm { .. }
            | Op::LocalResponseNorm { .. }
            | Op::Activation(_)
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::GlobalAvgPool
            | Op::AdaptiveAvgPool { .. }
            | Op::Dropout { .. }
            | Op::Add
            | Op::Flatten => inputs.iter().for_each(|&input| self.tie(input, id, 0)),
        }
        let sees_neighbours = match node.op {
            Op::LocalResponseNorm { .. } => true,
            Op::GroupNorm { channels, groups, .. } => groups != 1 && groups != channels,
            Op::Conv2d { in_channels, out_channels, groups, .. } => {
                groups > 1 && (groups != in_channels || groups != out_channels)
            }
            Op::Attention { .. } | Op::Concat => true,
            Op::Flatten => matches!(self.net.nodes()[inputs[0]].shape, Shape::Tokens { .. }),
            _ => false,
        };
        // The terms of a sum may be cut into units in different ways: then nothing can move.
        if sees_neighbours
            || inputs.iter().any(|&input| self.block[input] != block && node.op == Op::Add)
        {
            self.pin(id);
            inputs.iter().for_each(|&input| self.pin(input));
        }
    }

    /// The units of a node.
    fn range(&self, node: usize) -> std::ops::Range<usize> {
        let end = self.first.get(node + 1).copied().unwrap_or(self.parent.len());
        self.first[node]..end
    }

    /// Ties unit `i` of one node to unit `i + offset` of another.
    fn tie(&mut self, from: usize, to: usize, offset: usize) {
        let to = self.range(to).skip(offset);
        for (a, b) in self.range(from).zip(to) {
            let (a, b) = (self.root(a), self.root(b));
            // The older unit stays the root: groups come in the order of the graph.
            let (root, child) = (a.min(b), a.max(b));
            self.parent[child] = root;
            self.pinned[root] |= self.pinned[child];
        }
    }

    fn pin(&mut self, node: usize) {
        for unit in self.range(node) {
            let root = self.root(unit);
            self.pinned[root] = true;
        }
    }

    fn root(&mut self, mut unit: usize) -> usize {
        while self.parent[unit] != unit {
            self.parent[unit] = self.parent[self.parent[unit]];
            unit = self.parent[unit];
        }
        unit
    }

    /// Sorts the tied units by the values that they take part in.
    fn groups(mut self) -> Vec<PermutationGroup> {
        // For each root its places: (node, index of the unit in the node), nodes ascending.
        let mut places: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for node in 0..self.first.len() {
            for (index, unit) in self.range(node).enumerate() {
                let root = self.root(unit);
                if !self.pinned[root] {
                    places.entry(root).or_default().push((node, index));
                }
            }
        }
        let mut order: Vec<Vec<usize>> = Vec::new();
        let mut groups: HashMap<Vec<usize>, Vec<Vec<usize>>> = HashMap::new();
        for unit in places.into_values() {
            let (nodes, indices): (Vec<_>, Vec<_>) = unit.into_iter().unzip();
            // A unit with two places in one value could not change with one that has others.
            if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
                continue;
            }
            let units = groups.entry(nodes.clone()).or_default();
            if units.is_empty() {
                order.push(nodes);
            }
            units.push(indices);
        }
        let groups = order.iter().map(|nodes| self.group(nodes, &groups[nodes]));
        groups.filter(|g| g.size > 1 && !g.members.is_empty()).collect()
    }

    /// The group of units that take part in `nodes`; `units[u][i]` is the place of unit `u` in
    /// `nodes[i]`.
    fn group(&self, nodes: &[usize], units: &[Vec<usize>]) -> PermutationGroup {
        let places = |i: usize| units.iter().map(|unit| unit[i]).collect::<Vec<_>>();
        let in_value = |value: usize| nodes.binary_search(&value).ok().map(places);
        let mut members = Vec::new();
        for parameter in self.net.parameters() {
            let NodeId(id) = parameter.node;
            let node = self.net.node(parameter.node);
            let mut add = |axis: usize, value: usize| {
                if let Some(places) = in_value(value) {
                    let (tensor, block) = (parameter.name.clone(), self.block[value]);
                    members.push(Member { tensor, axis, block, places });
                }
            };
            match node.op {
                _ if parameter.shape.is_empty() => {}
                Op::Embedding { .. } => add(1, id),
                _ => add(0, id),
            }
            // A depthwise filter has one input channel, which is its own unit.
            let reads_units = match node.op {
                Op::Conv2d { groups, .. } => groups == 1,
                Op::Linear { .. } => true,
                _ => false,
            };
            if parameter.shape.len() > 1 && reads_units {
                add(1, node.inputs[0].index());
            }
        }
        PermutationGroup { size: units.len(), members }
    }
}
