//! Units of a network in another order, as arithmetic on rows and columns.

use std::ops::Range;

use weightspace_core::random::{Key, Stream};
use weightspace_nn::net::permutation::{Member, PermutationGroup};

use super::TokenLayout;

/// Which units of a network may be permuted, seen from the layers of its tokens.
#[derive(Clone, Debug)]
pub struct Arranger {
    groups: Vec<PermutationGroup>,
    /// Of every layer the group and member of each of its axes that moves.
    of_layer: Vec<Vec<(usize, usize)>>,
}

/// Where rows and columns of some layers come from.
#[derive(Clone, Debug)]
pub struct Arrangement {
    layers: Range<usize>,
    axes: Vec<[Option<Vec<u32>>; 2]>,
}

impl Arrangement {
    /// Nothing moves.
    pub fn identity() -> Self {
        Arrangement { layers: 0..0, axes: Vec::new() }
    }

    fn axis(&self, layer: usize, axis: usize) -> Option<&[u32]> {
        let index = layer.checked_sub(self.layers.start)?;
        self.axes.get(index)?[axis].as_deref()
    }

    /// Row of the network that is a row of this arrangement.
    pub fn row(&self, layer: usize, row: usize) -> usize {
        self.axis(layer, 0).map_or(row, |rows| rows[row] as usize)
    }

    /// For each element of a tensor's second axis which one it comes from; `None` if all stay.
    pub fn columns(&self, layer: usize) -> Option<&[u32]> {
        self.axis(layer, 1)
    }
}

impl Arranger {
    /// The groups of a network with these tokens.
    pub fn new(layout: &TokenLayout, groups: Vec<PermutationGroup>) -> Self {
        let of_layer = layout.layers().iter().map(|layer| {
            let members = groups.iter().enumerate().flat_map(|(group, units)| {
                let own = units.members.iter().enumerate();
                let own = own.filter(|(_, member)| member.tensor == layer.name && member.axis < 2);
                own.map(move |(member, _)| (group, member))
            });
            members.collect()
        });
        Arranger { of_layer: of_layer.collect(), groups }
    }

    /// The groups.
    pub fn groups(&self) -> &[PermutationGroup] {
        &self.groups
    }

    /// The arrangement of some layers in which unit `u` of a group is what unit `permutation(group)[u]` was.
    pub fn arrange<'a>(
        &self,
        layout: &TokenLayout,
        layers: Range<usize>,
        permutation: impl Fn(usize) -> &'a [usize],
    ) -> Arrangement {
        let axes = layers.clone().map(|index| {
            let layer = &layout.layers()[index];
            let mut axes = [None, None];
            for &(group, member) in &self.of_layer[index] {
                let member = &self.groups[group].members[member];
                let len = [layer.rows, layer.columns / layer.inner][member.axis];
                let identity = || (0..len as u32).collect::<Vec<u32>>();
                let map = axes[member.axis].get_or_insert_with(identity);
                move_units(member, permutation(group), map);
            }
            axes
        });
        Arrangement { axes: axes.collect(), layers }
    }

    /// The arrangement of some layers in the order of `aligned`, if it is given.
    pub fn aligned(
        &self,
        layout: &TokenLayout,
        layers: Range<usize>,
        aligned: Option<&[Vec<usize>]>,
    ) -> Arrangement {
        match aligned {
            Some(aligned) => self.arrange(layout, layers, |group| aligned[group].as_slice()),
            None => Arrangement::identity(),
        }
    }

    /// A permutation of every group that has a part in these layers, drawn from a stream of its own; of an aligned
    /// network if `aligned` says how it is aligned.
    pub fn shuffled(
        &self,
        layout: &TokenLayout,
        layers: Range<usize>,
        key: Key,
        aligned: Option<&[Vec<usize>]>,
    ) -> Arrangement {
        let mut drawn: Vec<Vec<usize>> = vec![Vec::new(); self.groups.len()];
        for &(group, _) in self.of_layer[layers.clone()].iter().flatten() {
            if drawn[group].is_empty() {
                let mut order: Vec<usize> = (0..self.groups[group].size).collect();
                Stream::new(key, group as u64).shuffle(&mut order);
                if let Some(aligned) = aligned {
                    order.iter_mut().for_each(|unit| *unit = aligned[group][*unit]);
                }
                drawn[group] = order;
            }
        }
        self.arrange(layout, layers, |group| drawn[group].as_slice())
    }
}

fn move_units(member: &Member, permutation: &[usize], map: &mut [u32]) {
    for (&to, &from) in member.places.iter().zip(permutation) {
        let from = member.places[from];
        for offset in 0..member.block {
            map[to * member.block + offset] = (from * member.block + offset) as u32;
        }
    }
}
