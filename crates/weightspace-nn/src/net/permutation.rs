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

pub use weightspace_core::permutation::{
    Member, PermutationError, PermutationGroup, apply, inverse,
};

use super::{Net, Node, NodeId, Op, Shape};

impl Net {
    /// The groups of units that may be permuted, in the order in which the network makes them.
    ///
    /// No two groups share a place on an axis, so that the groups can be permuted independently.
    pub fn permutation_groups(&self) -> Vec<PermutationGroup> {
        Units::of(self).groups()
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
