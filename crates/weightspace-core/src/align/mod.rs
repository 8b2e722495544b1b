//! Alignment: the order of a network's units in which its weights are most like another's.
//!
//! The units of a [`PermutationGroup`] may change places without changing the function, so two
//! networks that compute the same may have weights that are far apart. *Weight matching* (git
//! re-basin, Ainsworth et al. 2022) looks for the permutations P that minimise |A - P(B)|^2, one
//! group at a time: with all other groups in place the best permutation of one is a linear assignment
//! of the matrix of inner products between units of A and units of B, summed over all tensors and
//! axes on which they stand. Groups are visited in random order until none can be improved, so the
//! distance never grows.
//!
//! What this finds depends on where it starts. From the identity ([`Start::Identity`]) a group that is visited
//! early is matched by weights whose other axes are still in disorder, and a search can end where
//! some residual streams are wrong for good. [`Start::Propagated`] begins where places are known (inputs,
//! logits, vectors) and matches group after group by those weights alone whose other axes are
//! matched already; of a permuted copy every such match is exact, unless units are equal. In noise of twice
//! the weights' size the identity lost one of four copies of ResNet-56 nearly whole, which this start
//! recovered.
//! [`Start::Best`], the default, tries both and keeps the smaller distance.
//!
//! Weights and the products of a tensor's units are `f32`, their sums over tensors and distances `f64`: rounding stays
//! at 1e-7 of what is summed, and less than 1e-8 of a sum does not count as an improvement: of one sum, for which both
//! are read from the same products. The product of a tensor is kept until a permutation of another of its axes
//! changes, and a group of which no product changed is not matched again, which makes
//! late sweeps nearly free. Where each unit of A is nearest to another unit of B, that is the assignment; only
//! others are solved.
//!
//! ```
//! use weightspace_core::align::{AlignOptions, Aligner};
//! use weightspace_core::permutation::{Member, PermutationGroup, apply};
//! use weightspace_core::{StateDict, Tensor};
//!
//! let rows = Tensor::from_f32(vec![3, 2], &[1.0, 0.0, 0.0, 2.0, 3.0, 3.0]);
//! let reference: StateDict = [("w".to_owned(), rows)].into_iter().collect();
//! let places = vec![0, 1, 2];
//! let member = Member { tensor: "w".into(), axis: 0, block: 1, places };
//! let groups = [PermutationGroup { size: 3, members: vec![member] }];
//! let mut other = reference.clone();
//! apply(&groups, &[vec![2, 0, 1]], &mut other)?;
//!
//! let found = Aligner::new(&groups, &reference, AlignOptions::default())?.align(&other)?;
//! apply(&groups, &found.permutations, &mut other)?;
//! assert_eq!(other, reference);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assignment;
mod matching;
mod units;

use std::borrow::Cow;
use std::fmt;

use crate::permutation::PermutationGroup;
use crate::random::{Key, Stream};
use crate::{DType, StateDict, Tensor, quoted};

use matching::{Matching, Products};
use units::Units;

/// Share of a sum of products below which a difference counts as rounding.
const TOLERANCE: f64 = 1e-8;

/// The same for distances.
const DISTANCE_TOLERANCE: f64 = 1e-12;

/// How an alignment is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlignOptions {
    /// Where it starts.
    pub start: Start,
    /// Most sweeps over all groups.
    pub max_sweeps: usize,
    /// Random orders of the groups that are tried from each start; the smallest distance is kept.
    pub orders: usize,
    /// Seed of the orders.
    pub seed: u64,
}

impl Default for AlignOptions {
    fn default() -> Self {
        AlignOptions { start: Start::Best, max_sweeps: 100, orders: 1, seed: 0 }
    }
}

/// The permutations that a search starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// All units where they are.
    Identity,
    /// Groups matched one after the other, each by the weights whose other axes are matched.
    Propagated,
    /// Each of the others.
    Best,
}

impl Start {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Start::Identity => "identity",
            Start::Propagated => "propagated",
            Start::Best => "best",
        }
    }
}

/// Squared distance of two networks: the sum of squared differences of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Over all elements of tensors on which units of a group stand.
    pub touched: f64,
    /// Over all floating-point tensors.
    pub total: f64,
}

/// What an alignment found.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// A permutation for each group, as [`apply`](crate::permutation::apply) takes them to bring the other
    /// network's units into the order of the reference.
    pub permutations: Vec<Vec<usize>>,
    /// Distance of the other network as it was.
    pub before: Distance,
    /// Distance when it is aligned; at most that before.
    pub after: Distance,
    /// Sweeps of the search whose result this is, the last of which changed nothing if `converged`.
    pub sweeps: usize,
    /// False if the search ended for the number of sweeps.
    pub converged: bool,
    /// Where that search started.
    pub start: Start,
}

impl Alignment {
    /// Number of units of all groups.
    pub fn units(&self) -> usize {
        self.permutations.iter().map(Vec::len).sum()
    }

    /// Units that change their places.
    pub fn moved(&self) -> usize {
        let moved = |p: &Vec<usize>| p.iter().enumerate().filter(|(to, from)| to != *from).count();
        self.permutations.iter().map(moved).sum()
    }
}

/// Which of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that the other is aligned to.
    Reference,
    /// The one whose units are permuted.
    Other,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whose::Reference => "the reference",
            Whose::Other => "the other model",
        })
    }
}

/// Why networks cannot be aligned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlignError {
    /// A tensor is not there.
    #[error("{whose} lacks tensor {}", quoted(name))]
    Missing {
        /// Which network.
        whose: Whose,
        /// The tensor.
        name: String,
    },
    /// A tensor differs in shape.
    #[error("{whose} has tensor {} of shape {found:?}, expected {expected:?}", quoted(name))]
    Shape {
        /// Which network.
        whose: Whose,
        /// The tensor.
        name: String,
        /// What is there.
        found: Vec<usize>,
        /// What the reference has.
        expected: Vec<usize>,
    },
    /// A tensor of a group has no real numbers.
    #[error("{whose} has tensor {} of type {found}, expected real numbers", quoted(name))]
    Type {
        /// Which network.
        whose: Whose,
        /// The tensor.
        name: String,
        /// Its type.
        found: DType,
    },
    /// A weight is infinite or not a number.
    #[error("{whose} has values in tensor {} that are not finite", quoted(name))]
    NotFinite {
        /// Which network.
        whose: Whose,
        /// The tensor.
        name: String,
    },
    /// The places of a group do not fit the reference.
    #[error(transparent)]
    Permutation(#[from] crate::permutation::PermutationError),
}

/// A reference that any number of networks can be aligned to.
///
/// It keeps the reference's weights as rows of units: 4 bytes per weight and axis of it that can
/// be permuted.
pub struct Aligner<'a> {
    reference: &'a StateDict,
    options: AlignOptions,
    units: Units<'a>,
}

impl<'a> Aligner<'a> {
    /// Prepares a reference.
    ///
    /// # Errors
    /// If the groups do not fit it, or its weights are not finite real numbers.
    pub fn new(
        groups: &'a [PermutationGroup],
        reference: &'a StateDict,
        options: AlignOptions,
    ) -> Result<Self, AlignError> {
        for (name, tensor) in reference.iter() {
            check_finite(Whose::Reference, name, tensor)?;
        }
        Ok(Aligner { reference, options, units: Units::new(groups, reference)? })
    }

    /// The groups whose permutations are looked for.
    pub fn groups(&self) -> &'a [PermutationGroup] {
        self.units.groups
    }

    /// Finds the permutations that make a network like the reference.
    ///
    /// # Errors
    /// If it lacks a floating-point tensor of the reference or has it in another shape, or its weights are
    /// not finite real numbers.
    pub fn align(&self, other: &StateDict) -> Result<Alignment, AlignError> {
        let fixed = self.fixed_distance(other)?;
        let values = self.units.tensors.iter().map(|touched| {
            let tensor = other.get(touched.name);
            tensor.expect("all tensors of the reference, as was checked").to_f32()
        });
        let values: Vec<Cow<'_, [f32]>> = values.collect();
        let products = Products::new(&self.units, &values);
        let distance = |touched| Distance { touched, total: touched + fixed };
        let before = products.distance();
        let mut best = Alignment {
            permutations: Matching::new(&products).permutations().to_vec(),
            before: distance(before),
            after: distance(before),
            sweeps: 0,
            converged: false,
            start: Start::Identity,
        };
        for (number, start) in (0..).zip(self.searches()) {
            let mut matching = Matching::new(&products);
            if start == Start::Propagated {
                matching.propagate();
            }
            let mut random = Stream::new(Key::for_purpose(self.options.seed, "align"), number);
            let (sweeps, converged) = matching.sweep(self.options.max_sweeps, &mut random);
            let after = matching.distance();
            if best.sweeps == 0 && after <= before
                || after < best.after.touched - DISTANCE_TOLERANCE * before
            {
                let permutations = matching.permutations().to_vec();
                best = Alignment {
                    permutations,
                    after: distance(after),
                    sweeps,
                    converged,
                    start,
                    ..best
                };
            }
        }
        Ok(best)
    }

    /// Where each search starts, those from the identity first.
    fn searches(&self) -> impl Iterator<Item = Start> {
        let starts = match self.options.start {
            Start::Best => vec![Start::Identity, Start::Propagated],
            start => vec![start],
        };
        let orders = self.options.orders.max(1);
        starts.into_iter().flat_map(move |start| std::iter::repeat_n(start, orders))
    }

    /// Checks all floating-point tensors of the other network; the squared distance over those that no group touches.
    fn fixed_distance(&self, other: &StateDict) -> Result<f64, AlignError> {
        let mut sum = 0.0;
        for (name, tensor) in self.reference.iter().filter(|(_, t)| t.dtype().is_float()) {
            let found = checked(name, tensor.shape(), other)?;
            if !self.units.tensors.iter().any(|touched| touched.name == name) {
                let pairs = tensor.iter_f64().zip(found.iter_f64());
                sum += pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            }
        }
        Ok(sum)
    }
}

/// The other network's tensor, if it can be compared with the reference's.
fn checked<'o>(
    name: &str,
    expected: &[usize],
    other: &'o StateDict,
) -> Result<&'o Tensor, AlignError> {
    let whose = Whose::Other;
    let tensor = other.get(name);
    let tensor = tensor.ok_or_else(|| AlignError::Missing { whose, name: name.to_owned() })?;
    if tensor.shape() != expected {
        let (found, expected) = (tensor.shape().to_vec(), expected.to_vec());
        return Err(AlignError::Shape { whose, name: name.to_owned(), found, expected });
    }
    if !tensor.dtype().is_float() {
        let found = tensor.dtype();
        return Err(AlignError::Type { whose, name: name.to_owned(), found });
    }
    check_finite(whose, name, tensor)?;
    Ok(tensor)
}

/// Refuses what is not finite as `f32`.
fn check_finite(whose: Whose, name: &str, tensor: &Tensor) -> Result<(), AlignError> {
    match !tensor.dtype().is_float() || tensor.is_finite_as_f32() {
        true => Ok(()),
        false => Err(AlignError::NotFinite { whose, name: name.to_owned() }),
    }
}
