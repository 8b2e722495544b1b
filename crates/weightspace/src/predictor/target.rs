//! What a predictor is to give: the tiles of some tensors of a network.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weightspace_core::predictor::{CoordinateScale, Grid, Order, PredictorError, Tiling};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::net::{Net, Op, ParameterKind};

use super::order::{Ordering, freely_ordered, neighbour_cosines};

/// Which tensors are predicted, and how they are seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetConfig {
    /// Order of the tiles.
    pub ordering: Ordering,
    /// How positions become coordinates.
    pub coordinates: CoordinateScale,
    /// Largest side of the convolutions' kernels that are predicted.
    pub largest_kernel: usize,
    /// Predict convolutions of 1 x 1, too.
    pub pointwise: bool,
    /// Predict linear layers, in tiles of so many weights of one output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_tile: Option<usize>,
    /// Divide every tensor by its root mean square, which the file then holds.
    pub scales: bool,
    /// Weights that are 0 stay so, by a mask in the file.
    pub mask: bool,
}

impl Default for TargetConfig {
    /// All convolutions of kernels up to 3 x 3, with free orders and local coordinates.
    fn default() -> Self {
        TargetConfig {
            ordering: Ordering::Free,
            coordinates: CoordinateScale::Local,
            largest_kernel: 3,
            pointwise: true,
            linear_tile: None,
            scales: false,
            mask: false,
        }
    }
}

/// Why a network has no such target.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A tensor of the network is missing or has another shape.
    #[error("tensor {name} has {found} elements, expected {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// Elements found.
        found: usize,
        /// Elements that the network says.
        expected: usize,
    },
    /// A tensor holds a value that is not finite.
    #[error("tensor {0} holds NaN or infinite values")]
    NotFinite(String),
    /// No tensor of the network is predicted.
    #[error(
        "{arch} has no tensor that these settings would predict: convolutions with kernels up to {largest} x {largest} \
         (largest-kernel), and linear layers with linear-tile"
    )]
    Nothing {
        /// Its architecture.
        arch: String,
        /// Largest side of the kernels that are predicted.
        largest: usize,
    },
    /// Coordinates or tiles out of their ranges.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
}

/// One predicted tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTensor {
    /// Its name in the state dict.
    pub name: String,
    /// Its elements among the network's weights (the order of [`Net::layout`]).
    pub weights: Range<usize>,
    /// What predictions are multiplied by.
    pub scale: f32,
    /// For each element 1 if it may differ from 0, else 0; `None` where all may.
    pub mask: Option<Vec<f32>>,
}

/// A predicted tensor, and which coordinates its tiles have.
#[derive(Clone)]
pub(super) struct Place {
    pub name: String,
    pub tiling: Tiling,
    pub order: Order,
    /// What predictions are multiplied by.
    pub scale: f32,
    /// As that of [`TargetTensor`].
    pub mask: Option<Vec<f32>>,
}

/// The tiles that a predictor is to give, and where they belong.
///
/// A row is the head's outputs for one tile: the tile's elements stand in the middle, from
/// `(head - tile) / 2` on.
#[derive(Clone, Debug)]
pub struct Target {
    grid: Grid,
    tensors: Vec<TargetTensor>,
    head: usize,
    /// The network's weights, in the order of its layout.
    weights: Vec<f32>,
    state: StateDict,
}

impl Target {
    /// The target of a network: its own weights, with its hidden units in another order where the
    /// configuration wants the free one.
    ///
    /// # Errors
    /// If weights are missing or not finite, or nothing is to be predicted.
    pub fn new(net: &Net, weights: &StateDict, config: &TargetConfig) -> Result<Self, TargetError> {
        let chosen = chosen(net, config);
        if chosen.is_empty() {
            let (arch, largest) = (net.arch().to_owned(), config.largest_kernel);
            return Err(TargetError::Nothing { arch, largest });
        }
        let mut all = flat(net, weights)?;
        let mut state = weights.clone();
        if config.ordering == Ordering::Free {
            let names: Vec<_> = chosen.iter().map(|(name, tiling)| (&name[..], tiling)).collect();
            state = freely_ordered(net, &names, weights);
            all = flat(net, &state)?;
        }
        let layout = net.layout();
        let places = chosen.into_iter().map(|(name, tiling)| {
            let range = layout.get(&name).map_or(0..0, |entry| entry.range());
            let values = &all[range];
            let order = config.ordering.order(&tiling, values);
            let scale = if config.scales { root_mean_square(values) } else { 1.0 };
            let zeros = config.mask && values.contains(&0.0);
            let mask = zeros.then(|| values.iter().map(|&v| f32::from(v != 0.0)).collect());
            Place { name, tiling, order, scale, mask }
        });
        let places = places.collect();
        Self::at(net, state, places, config.coordinates)
    }

    /// The target of a network with the weights of a state dict, where these tensors are predicted.
    ///
    /// # Errors
    /// If weights are missing or not finite, or a tensor is none of the network's.
    pub(super) fn at(
        net: &Net,
        state: StateDict,
        places: Vec<Place>,
        coordinates: CoordinateScale,
    ) -> Result<Self, TargetError> {
        let weights = flat(net, &state)?;
        let layout = net.layout();
        let (mut tensors, mut tilings) = (Vec::new(), Vec::new());
        for Place { name, tiling, order, scale, mask } in places {
            let entry = layout.get(&name).filter(|entry| entry.shape == tiling.shape);
            let Some(weights) = entry.map(|entry| entry.range()) else {
                let expected = layout.get(&name).map_or(0, |entry| entry.element_count());
                let found = tiling.shape.iter().product();
                return Err(TargetError::Tensor { name, found, expected });
            };
            tensors.push(TargetTensor { name, weights, scale, mask });
            tilings.push((tiling, order));
        }
        let grid = Grid::new(tilings, coordinates)?;
        let head = grid.tensors().iter().map(|(tiling, _)| tiling.tile).max().unwrap_or(1);
        Ok(Target { grid, tensors, head, weights, state })
    }

    /// The coordinates of all rows.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The predicted tensors, in the order of the grid.
    pub fn tensors(&self) -> &[TargetTensor] {
        &self.tensors
    }

    /// Values of a row: elements of the largest tile.
    pub fn head(&self) -> usize {
        self.head
    }

    /// The network's weights, predicted or not, in the order of its layout.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The network's state dict, in the order in which it is predicted.
    pub fn state_dict(&self) -> &StateDict {
        &self.state
    }

    /// Number of predicted weights.
    pub fn element_count(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.weights.len()).sum()
    }

    /// The same rows of other weights of the network, as the next target of a progressive training.
    ///
    /// # Panics
    /// If there are more or fewer weights.
    pub fn with_weights(&self, weights: Vec<f32>) -> Self {
        assert_eq!(weights.len(), self.weights.len(), "weights of the network");
        let mut state = self.state.clone();
        for tensor in &self.tensors {
            let shape = state.get(&tensor.name).map_or(Vec::new(), |t| t.shape().to_vec());
            let values = Tensor::from_f32(shape, &weights[tensor.weights.clone()]);
            state.insert(tensor.name.clone(), values);
        }
        Target { weights, state, ..self.clone() }
    }

    /// What the head should give for every row, row by row: weights divided by the scale of their tensor,
    /// and 0 where a tile has no element.
    pub fn rows(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.grid.row_count() * self.head];
        self.for_each_tile(|tensor, elements, values| {
            let weights = &self.weights[tensor.weights.clone()][elements];
            rows[values].iter_mut().zip(weights).for_each(|(row, weight)| {
                *row = weight / tensor.scale;
            });
        });
        rows
    }

    /// What the square of an error in each of these values counts: the square of the scale times the
    /// importance of the weight (1 where none is given), and 0 where there is no weight or it is masked.
    ///
    /// # Panics
    /// If importances are not as many as weights of the network.
    pub fn row_importances(&self, importance: Option<&[f32]>) -> Vec<f32> {
        let mut rows = vec![0.0; self.grid.row_count() * self.head];
        self.for_each_tile(|tensor, elements, values| {
            let first = tensor.weights.start;
            for (row, element) in rows[values].iter_mut().zip(elements) {
                let own = importance.map_or(1.0, |all| all[first + element]);
                let mask = tensor.mask.as_ref().map_or(1.0, |mask| mask[element]);
                *row = tensor.scale * tensor.scale * own * mask;
            }
        });
        rows
    }

    /// Writes the weights that predicted rows stand for into those of the network.
    ///
    /// # Panics
    /// If rows or weights are not as many as they should be.
    pub fn write_weights(&self, rows: &[f32], weights: &mut [f32]) {
        assert_eq!(rows.len(), self.grid.row_count() * self.head, "values of every row");
        self.for_each_tile(|tensor, elements, values| {
            let mask = tensor.mask.as_ref().map(|mask| &mask[elements.clone()]);
            let start = tensor.weights.start;
            let weights = &mut weights[start + elements.start..start + elements.end];
            for (i, (weight, row)) in weights.iter_mut().zip(&rows[values]).enumerate() {
                *weight = row * tensor.scale * mask.map_or(1.0, |mask| mask[i]);
            }
        });
    }

    /// Writes the gradient of rows, given that of the network's weights.
    ///
    /// # Panics
    /// If rows or weights are not as many as they should be.
    pub fn write_row_gradient(&self, weights: &[f32], rows: &mut [f32]) {
        rows.fill(0.0);
        self.for_each_tile(|tensor, elements, values| {
            let mask = tensor.mask.as_ref().map(|mask| &mask[elements.clone()]);
            let start = tensor.weights.start;
            let gradient = &weights[start + elements.start..start + elements.end];
            for (i, (row, gradient)) in rows[values].iter_mut().zip(gradient).enumerate() {
                *row = gradient * tensor.scale * mask.map_or(1.0, |mask| mask[i]);
            }
        });
    }

    /// Root mean square of the difference of predicted weights and the target's.
    pub fn rmse(&self, weights: &[f32]) -> f64 {
        let squares = self.tensors.iter().map(|tensor| {
            let pairs = weights[tensor.weights.clone()].iter();
            let pairs = pairs.zip(&self.weights[tensor.weights.clone()]);
            pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>()
        });
        (squares.sum::<f64>() / self.element_count() as f64).sqrt()
    }

    /// Mean cosine of kernels at neighbouring positions of one filter, over all tensors.
    pub fn mean_neighbour_cosine(&self) -> f64 {
        let all = self.tensors.iter().zip(self.grid.tensors()).map(|(tensor, (tiling, order))| {
            neighbour_cosines(tiling, order, &self.weights[tensor.weights.clone()])
        });
        let (sum, count) = all.fold((0.0, 0), |(sum, count), (s, c)| (sum + s, count + c));
        sum / count.max(1) as f64
    }

    /// Calls `f` with every tile: its tensor, its elements there, and its place among the values of
    /// all rows.
    fn for_each_tile(&self, mut f: impl FnMut(&TargetTensor, Range<usize>, Range<usize>)) {
        let mut row = 0;
        for (tensor, (tiling, _)) in self.tensors.iter().zip(self.grid.tensors()) {
            let before = (self.head - tiling.tile) / 2;
            for own in 0..tiling.rows() {
                let elements = tiling.elements(own);
                let start = row * self.head + before;
                let values = start..start + elements.len();
                f(tensor, elements, values);
                row += 1;
            }
        }
    }

    /// The order of every tensor's rows.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.grid.tensors().iter().map(|(_, order)| order)
    }
}

/// The tensors that a configuration chooses, in the order of the state dict.
fn chosen(net: &Net, config: &TargetConfig) -> Vec<(String, Tiling)> {
    let mut chosen = Vec::new();
    for spec in net.parameters().into_iter().filter(|s| s.kind == ParameterKind::Weight) {
        let tile = match net.node(spec.node).op {
            Op::Conv2d { window, .. } if window.size == 1 => config.pointwise.then_some(1),
            Op::Conv2d { window, .. } if window.size <= config.largest_kernel => {
                Some(window.size * window.size)
            }
            Op::Linear { in_features, .. } => {
                config.linear_tile.map(|tile| tile.clamp(1, in_features))
            }
            _ => None,
        };
        chosen.extend(tile.map(|tile| (spec.name, Tiling { shape: spec.shape, tile })));
    }
    chosen
}

/// The trainable weights end to end.
fn flat(net: &Net, weights: &StateDict) -> Result<Vec<f32>, TargetError> {
    let layout = net.layout();
    let mut all = Vec::with_capacity(layout.len());
    for entry in layout.entries() {
        let values = weights.get(&entry.name).map(|tensor| tensor.to_f32());
        let values = values.as_deref().unwrap_or(&[]);
        if values.len() != entry.element_count() {
            let (found, expected) = (values.len(), entry.element_count());
            return Err(TargetError::Tensor { name: entry.name.clone(), found, expected });
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(TargetError::NotFinite(entry.name.clone()));
        }
        all.extend_from_slice(values);
    }
    Ok(all)
}

/// 1 for zeros.
fn root_mean_square(values: &[f32]) -> f32 {
    let mean = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
    if mean > 0.0 { mean.sqrt() as f32 } else { 1.0 }
}
