//! Which coordinates each kernel gets: orders in which neighbours are alike, which a smooth function of
//! the coordinates can follow (NeRN, section 3.3).

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use weightspace_core::StateDict;
use weightspace_core::predictor::{Order, Tiling};
use weightspace_nn::Net;
use weightspace_nn::net::permutation::{self, Member, PermutationGroup};

use super::tour::{Similarity, tour};

/// How kernels are ordered, by greedy tours from one to the most similar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// As they are.
    Identity,
    /// As they are, in a network whose hidden units have been permuted: costs no bytes.
    #[default]
    Free,
    /// One order of the filters and one of the channels for every tensor.
    Axes,
    /// The channels of each filter, then the filters.
    InFilter,
    /// All kernels of a tensor.
    CrossFilter,
}

impl Ordering {
    /// Every ordering, from the cheapest to store to the dearest.
    pub const ALL: [Ordering; 5] = [
        Ordering::Identity,
        Ordering::Free,
        Ordering::Axes,
        Ordering::InFilter,
        Ordering::CrossFilter,
    ];

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Ordering::Identity => "identity",
            Ordering::Free => "free",
            Ordering::Axes => "axes",
            Ordering::InFilter => "in-filter",
            Ordering::CrossFilter => "cross-filter",
        }
    }

    /// The order of a tensor's tiles.
    ///
    /// # Panics
    /// If there are not as many weights as the tiling has elements.
    pub fn order(self, tiling: &Tiling, weights: &[f32]) -> Order {
        match self {
            Ordering::Identity | Ordering::Free => Order::Identity,
            Ordering::Axes => axes(&Kernels::new(tiling, weights)),
            // Filters of one tile are all there is to order.
            Ordering::InFilter if tiling.tiles_per_filter() == 1 => {
                axes(&Kernels::new(tiling, weights))
            }
            Ordering::InFilter => in_filter(&Kernels::new(tiling, weights)),
            Ordering::CrossFilter => {
                let kernels = Kernels::new(tiling, weights);
                let visited = tour(&kernels.values, kernels.len, kernels.similarity);
                Order::CrossFilter(positions(&visited))
            }
        }
    }
}

impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Ordering {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Ordering::ALL.map(Ordering::name).join(", ");
        let found = Ordering::ALL.into_iter().find(|ordering| ordering.name() == text);
        found.ok_or_else(|| format!("'{text}' is none of {}", names()))
    }
}

/// The tiles of a tensor as rows of equal length, each of length 1 where directions are compared.
struct Kernels {
    filters: usize,
    /// Tiles of a filter.
    tiles: usize,
    /// Values of a tile.
    len: usize,
    values: Vec<f32>,
    similarity: Similarity,
}

impl Kernels {
    fn new(tiling: &Tiling, weights: &[f32]) -> Self {
        let (filters, tiles, len) = (tiling.filters(), tiling.tiles_per_filter(), tiling.tile);
        let similarity = Similarity::of_kernels(len);
        let mut values = vec![0.0; filters * tiles * len];
        for (row, kernel) in values.chunks_exact_mut(len).enumerate() {
            let own = &weights[tiling.elements(row)];
            kernel[..own.len()].copy_from_slice(own);
            if similarity == Similarity::Cosine {
                normalize(kernel);
            }
        }
        Kernels { filters, tiles, len, values, similarity }
    }

    fn filter(&self, filter: usize) -> &[f32] {
        let len = self.tiles * self.len;
        &self.values[filter * len..][..len]
    }
}

/// Divides by the norm; zeros stay.
fn normalize(values: &mut [f32]) {
    let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}

/// For each element its position, from the elements in the order of their positions.
fn positions(visited: &[u32]) -> Vec<u32> {
    let mut positions = vec![0; visited.len()];
    visited.iter().enumerate().for_each(|(p, &element)| positions[element as usize] = p as u32);
    positions
}

fn axes(kernels: &Kernels) -> Order {
    let Kernels { filters, tiles, len, similarity, .. } = *kernels;
    let by_filter = tour(&kernels.values, tiles * len, similarity);
    let mut transposed = Vec::with_capacity(kernels.values.len());
    for tile in 0..tiles {
        for filter in 0..filters {
            transposed.extend_from_slice(&kernels.filter(filter)[tile * len..][..len]);
        }
    }
    let by_tile = tour(&transposed, filters * len, similarity);
    Order::Axes { filters: positions(&by_filter), tiles: positions(&by_tile) }
}

fn in_filter(kernels: &Kernels) -> Order {
    let Kernels { filters, tiles, len, similarity, .. } = *kernels;
    let tours: Vec<Vec<u32>> = (0..filters)
        .into_par_iter()
        .map(|filter| tour(kernels.filter(filter), len, similarity))
        .collect();
    let mut ordered = Vec::with_capacity(kernels.values.len());
    for (filter, visited) in tours.iter().enumerate() {
        for &tile in visited {
            ordered.extend_from_slice(&kernels.filter(filter)[tile as usize * len..][..len]);
        }
    }
    // The product of two such rows is the sum of the cosines of their kernels.
    let by_filter = tour(&ordered, tiles * len, similarity);
    let tiles = tours.iter().flat_map(|visited| positions(visited)).collect();
    Order::InFilter { filters: positions(&by_filter), tiles }
}

/// Orders of the units of a network's permutation groups in which neighbours have similar kernels in
/// the tensors named: arguments of [`apply`](permutation::apply).
///
/// # Panics
/// If one of the tensors is not in the state dict.
pub fn free_permutations(
    groups: &[PermutationGroup],
    tensors: &[(&str, &Tiling)],
    weights: &StateDict,
) -> Vec<Vec<usize>> {
    let prepared: Vec<Kernels> = tensors
        .iter()
        .map(|(name, tiling)| {
            let weights = weights.get(name).expect("a tensor of the network").to_f32();
            let mut kernels = Kernels::new(tiling, &weights);
            if kernels.similarity == Similarity::Distance {
                // So that units compare by both at once, values of the size of parts of a direction.
                let energy: f64 = kernels.values.iter().map(|&v| f64::from(v).powi(2)).sum();
                let scale = (energy / kernels.values.len() as f64).sqrt().max(f64::MIN_POSITIVE);
                kernels.values.iter_mut().for_each(|v| *v = (f64::from(*v) / scale) as f32);
            }
            kernels
        })
        .collect();
    let order = |group: &PermutationGroup| {
        let mut units = vec![Vec::new(); group.size];
        for member in &group.members {
            let found = tensors.iter().position(|(name, _)| *name == member.tensor);
            if let Some(index) = found {
                add_unit_values(&prepared[index], tensors[index].1, member, &mut units);
            }
        }
        let width = units[0].len();
        match width {
            0 => (0..group.size).collect(),
            _ => {
                let visited = tour(&units.concat(), width, Similarity::Cosine);
                visited.into_iter().map(|unit| unit as usize).collect()
            }
        }
    };
    groups.par_iter().map(order).collect()
}

/// Appends to each unit's values those that a member gives it.
fn add_unit_values(kernels: &Kernels, tiling: &Tiling, member: &Member, units: &mut [Vec<f32>]) {
    if member.axis > 1 || member.axis == 1 && kernels.len * tiling.shape[1] != tiling.columns() {
        // Tiles that are cut across units say nothing of them.
        return;
    }
    for (unit, &place) in units.iter_mut().zip(&member.places) {
        for position in place * member.block..(place + 1) * member.block {
            match member.axis {
                0 => unit.extend_from_slice(kernels.filter(position)),
                _ => (0..kernels.filters).for_each(|filter| {
                    let values = &kernels.filter(filter)[position * kernels.len..];
                    unit.extend_from_slice(&values[..kernels.len]);
                }),
            }
        }
    }
}

/// The network with its hidden units in the order of [`free_permutations`]; it computes the same.
///
/// # Panics
/// If the state dict is not that of the network.
pub fn freely_ordered(net: &Net, tensors: &[(&str, &Tiling)], weights: &StateDict) -> StateDict {
    let groups = net.permutation_groups();
    let permutations = free_permutations(&groups, tensors, weights);
    let mut ordered = weights.clone();
    permutation::apply(&groups, &permutations, &mut ordered).expect("groups of the network");
    ordered
}

/// Mean cosine of tiles at neighbouring positions of one filter; `None` where there are no such.
///
/// # Panics
/// If order or weights do not fit the tiling.
pub fn mean_neighbour_cosine(tiling: &Tiling, order: &Order, weights: &[f32]) -> Option<f64> {
    let (sum, count) = neighbour_cosines(tiling, order, weights);
    (count > 0).then(|| sum / count as f64)
}

/// Sum of these cosines, and their number.
pub(super) fn neighbour_cosines(tiling: &Tiling, order: &Order, weights: &[f32]) -> (f64, usize) {
    let kernel = |row: usize| {
        let mut kernel = weights[tiling.elements(row)].to_vec();
        normalize(&mut kernel);
        kernel
    };
    let tiles = tiling.tiles_per_filter();
    let mut at = vec![Vec::new(); tiling.rows()];
    for row in 0..tiling.rows() {
        let (filter, tile) = order.position(tiling, row);
        at[filter * tiles + tile] = kernel(row);
    }
    let pairs = at.chunks_exact(tiles).flat_map(|filter| filter.windows(2));
    pairs.fold((0.0, 0), |(sum, count), pair| {
        let products = pair[0].iter().zip(&pair[1]).map(|(a, b)| f64::from(*a) * f64::from(*b));
        (sum + products.sum::<f64>(), count + 1)
    })
}
