//! Units of a network that may change places without changing its function, and how they move.
//!
//! Which units these are follows from the network; here they are lists of places in a state dict.
//! A permutation of a group says for every unit whose weights it gets: unit `u` becomes what unit
//! `permutation[u]` was.

use std::collections::BTreeMap;

use crate::{StateDict, Tensor};

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
    check_count(groups, permutations)?;
    let mut moved: BTreeMap<&str, Tensor> = BTreeMap::new();
    for (index, (group, permutation)) in groups.iter().zip(permutations).enumerate() {
        check_permutation(index, group, permutation)?;
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
    /// Refuses shapes that the places do not fit.
    pub(crate) fn check(&self, shape: &[usize]) -> Result<(), PermutationError> {
        let needed = self.places.iter().max().map_or(0, |&p| (p + 1) * self.block);
        match shape.get(self.axis).is_some_and(|&len| len >= needed) {
            true => Ok(()),
            false => {
                let (name, shape) = (self.tensor.clone(), shape.to_vec());
                Err(PermutationError::Shape { name, shape, axis: self.axis })
            }
        }
    }

    fn moved(&self, tensor: &Tensor, permutation: &[usize]) -> Result<Tensor, PermutationError> {
        let shape = tensor.shape();
        self.check(shape)?;
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

fn check_count(
    groups: &[PermutationGroup],
    permutations: &[Vec<usize>],
) -> Result<(), PermutationError> {
    match (groups.len(), permutations.len()) {
        (expected, found) if expected == found => Ok(()),
        (expected, found) => Err(PermutationError::Count { expected, found }),
    }
}

fn check_permutation(
    index: usize,
    group: &PermutationGroup,
    permutation: &[usize],
) -> Result<(), PermutationError> {
    match is_permutation(permutation, group.size) {
        true => Ok(()),
        false => Err(PermutationError::NotAPermutation { group: index, size: group.size }),
    }
}
