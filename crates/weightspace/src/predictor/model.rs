//! A predictor as training sees it: its coefficients, and the network that makes rows of them.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef};
use serde::{Deserialize, Serialize};
use weightspace_core::Layout;
use weightspace_core::predictor::{
    CoordinateScale, Encoding, Features, Grid, Linear, Predictor, PredictorError,
};
use weightspace_core::random::{Key, Stream};
use weightspace_nn::linalg::multiply;
use weightspace_nn::net::{Net, NetBuilder, Shape};
use weightspace_nn::optim::ParameterGroups;
use weightspace_nn::train::Parameterization;

/// Size of a predictor, and what it sees of coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// What it sees of a coordinate.
    pub encoding: Encoding,
    /// Outputs of every layer but the last.
    pub hidden: usize,
    /// Linear layers, at least 2.
    pub layers: usize,
}

impl Default for ModelConfig {
    /// NeRN's with 140 hidden units.
    fn default() -> Self {
        ModelConfig { encoding: Encoding::NERN, hidden: 140, layers: 5 }
    }
}

/// A predictor without its coefficients.
///
/// Few distinct coordinates occur on each axis, and the first layer is linear: so its sums are those of
/// three tables, one per axis, of which every row takes one entry each. The *row network*
/// ([`net`](Self::net)) begins with these tables; it reads the indices of a row's coordinates. Its
/// weights are a linear function of the coefficients: this is their [`Parameterization`].
#[derive(Clone, Debug)]
pub struct Model {
    encoding: Encoding,
    scale: CoordinateScale,
    hidden: usize,
    /// Distinct coordinates of each axis.
    values: [Vec<f64>; 3],
    /// Their features, row by row, unless they are learned.
    features: [Vec<f32>; 3],
    /// Length of a feature vector.
    width: usize,
    coefficients: Layout,
    net: Net,
    /// Indices of the coordinates of every row.
    inputs: Vec<f32>,
}

impl Model {
    /// The predictor of the rows of a grid, with `head` outputs.
    ///
    /// # Errors
    /// Parameters of the encoding beyond their limits.
    ///
    /// # Panics
    /// If there are fewer than two layers, no hidden units or no outputs.
    pub fn new(grid: &Grid, head: usize, config: &ModelConfig) -> Result<Self, PredictorError> {
        let (hidden, layers) = (config.hidden, config.layers);
        assert!(layers >= 2 && hidden > 0 && head > 0, "layers of a predictor");
        let encoding = config.encoding;
        encoding.check(grid.scale())?;
        let values = [0, 1, 2].map(|axis| grid.values(axis).to_vec());
        let features = values.each_ref().map(|values| encoding.features(values));
        let width = encoding.width(hidden);
        let indices = (0..grid.row_count()).flat_map(|row| grid.indices(row));
        let counts = values.each_ref().map(Vec::len);
        Ok(Model {
            encoding,
            scale: grid.scale(),
            hidden,
            coefficients: coefficient_layout(encoding, counts, width, hidden, layers, head),
            net: row_network(counts, hidden, layers - 1, Some(head)),
            inputs: indices.map(|index| index as f32).collect(),
            width,
            values,
            features,
        })
    }

    /// What it sees of a coordinate.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How positions are coordinates.
    pub fn coordinate_scale(&self) -> CoordinateScale {
        self.scale
    }

    /// Outputs of the first layer.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The distinct coordinates of each axis: layer, filter, tile.
    pub fn values(&self) -> &[Vec<f64>; 3] {
        &self.values
    }

    /// Features of the distinct coordinates of an axis, row by row; none if they are learned.
    pub fn features(&self, axis: usize) -> &[f32] {
        &self.features[axis]
    }

    /// The coefficients' tensors, in the order of a file's inner tensors: tables, if they are learned,
    /// then weight and bias of every layer (of the first one only the bias, if tables are its sums).
    pub fn coefficients(&self) -> &Layout {
        &self.coefficients
    }

    /// The network that makes rows: its inputs are the three indices of a row's coordinates.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The row network's inputs for every row, one after the other.
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.inputs.len() / 3
    }

    /// Coefficients to begin with: uniform within 1 / sqrt(fan-in), as PyTorch draws linear layers.
    /// Learned tables begin as what the reference's features, or polynomials, would be.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let key = Key::for_purpose(seed, "initialisation");
        let mut coefficients = vec![0.0; self.coefficients.len()];
        for (index, entry) in self.coefficients.entries().iter().enumerate() {
            let bound = (1.0 / entry.fan_in as f64).sqrt() as f32;
            let values = &mut coefficients[entry.range()];
            Stream::new(key, index as u64).fill_uniform(values);
            values.iter_mut().for_each(|value| *value = (2.0 * *value - 1.0) * bound);
        }
        match self.encoding {
            Encoding::Tables { width } => {
                for (axis, values) in self.values.iter().enumerate() {
                    let most = values.iter().fold(1f64, |a, &b| a.max(b));
                    let scaled: Vec<f64> = values.iter().map(|v| v / most).collect();
                    let table = self.coefficients.entries()[axis].range();
                    let features = Encoding::Chebyshev { degree: width }.features(&scaled);
                    coefficients[table].copy_from_slice(&features);
                }
            }
            Encoding::DirectTables => self.draw_tables(key, &mut coefficients),
            Encoding::Positional { .. } | Encoding::Chebyshev { .. } => {}
        }
        coefficients
    }

    /// Tables that are the sums of a drawn first layer on the reference's features.
    fn draw_tables(&self, key: Key, coefficients: &mut [f32]) {
        let width = Encoding::NERN.width(self.hidden);
        let bound = (1.0 / (3 * width) as f64).sqrt() as f32;
        for (axis, values) in self.values.iter().enumerate() {
            let features = Encoding::NERN.features(values);
            let mut weight = vec![0.0; self.hidden * width];
            Stream::new(key, (1 << 32) + axis as u64).fill_uniform(&mut weight);
            weight.iter_mut().for_each(|w| *w = (2.0 * *w - 1.0) * bound);
            let table = &mut coefficients[self.coefficients.entries()[axis].range()];
            let target = MatMut::from_row_major_slice_mut(table, values.len(), self.hidden);
            let weight = MatRef::from_row_major_slice(&weight, self.hidden, width);
            let features = MatRef::from_row_major_slice(&features, values.len(), width);
            multiply(target, Accum::Replace, 1.0, features, weight.transpose());
        }
    }

    /// Number of linear layers.
    pub fn layers(&self) -> usize {
        let biases = self.coefficients.entries().iter().filter(|e| e.name.ends_with(".bias"));
        biases.count()
    }

    /// The row network without the last layer.
    pub(super) fn hidden_network(&self) -> Net {
        let counts = self.values.each_ref().map(Vec::len);
        row_network(counts, self.hidden, self.layers() - 1, None)
    }

    /// The coefficients of a layer's tensor.
    pub(super) fn range(&self, name: &str) -> Range<usize> {
        self.coefficients.get(name).map_or(0..0, |entry| entry.range())
    }

    /// Where an axis' table stands among the row network's weights.
    pub(super) fn table(&self, axis: usize) -> Range<usize> {
        let counts = self.values.each_ref().map(|values| values.len() * self.hidden);
        let start = counts[..axis].iter().sum();
        start..start + counts[axis]
    }

    /// The predictor as a decoder has it, whose arithmetic is exact.
    ///
    /// # Errors
    /// Sizes beyond the limits of the format.
    ///
    /// # Panics
    /// If grid or coefficients are not this model's, or there is not one scale for each tensor.
    pub fn decoder(
        &self,
        grid: Grid,
        scales: Vec<f32>,
        coefficients: &[f32],
    ) -> Result<Predictor, PredictorError> {
        let of = |name: &str| coefficients[self.range(name)].to_vec();
        let layer = |i: usize| {
            let (weight, bias) =
                (of(&format!("layers.{i}.weight")), of(&format!("layers.{i}.bias")));
            Linear { inputs: weight.len() / bias.len(), weight, bias }
        };
        let table = |axis: usize| coefficients[self.coefficients.entries()[axis].range()].to_vec();
        let features = match self.encoding.is_stored() {
            true => Features::Stored(self.encoding, [0, 1, 2].map(table)),
            false => Features::Computed(self.encoding),
        };
        Predictor::new(grid, features, (0..self.layers()).map(layer).collect(), scales)
    }

    /// Features of an axis: computed ones, or those among the coefficients.
    fn features_of<'a>(&'a self, axis: usize, coefficients: &'a [f32]) -> MatRef<'a, f32> {
        let features = match self.encoding.is_stored() {
            true => &coefficients[self.coefficients.entries()[axis].range()],
            false => &self.features[axis][..],
        };
        MatRef::from_row_major_slice(features, self.values[axis].len(), self.width)
    }

    /// The first layer's weight for the features of one axis.
    fn first_weight<'a>(&self, axis: usize, coefficients: &'a [f32]) -> MatRef<'a, f32> {
        let weight = &coefficients[self.range("layers.0.weight")];
        let weight = MatRef::from_row_major_slice(weight, self.hidden, 3 * self.width);
        weight.subcols(axis * self.width, self.width)
    }

    /// Where the coefficients behind the first layer begin.
    pub(super) fn rest(&self) -> usize {
        self.range("layers.0.bias").end
    }

    /// Writes the row network's weights.
    ///
    /// # Panics
    /// If a slice has another length than it should.
    pub fn expand(&self, coefficients: &[f32], weights: &mut [f32]) {
        let bias = &coefficients[self.range("layers.0.bias")];
        for axis in 0..3 {
            let table = &mut weights[self.table(axis)];
            let count = self.values[axis].len();
            if self.encoding == Encoding::DirectTables {
                let own = self.coefficients.entries()[axis].range();
                table.copy_from_slice(&coefficients[own]);
            } else {
                let features = self.features_of(axis, coefficients);
                let weight = self.first_weight(axis, coefficients);
                let table = MatMut::from_row_major_slice_mut(table, count, self.hidden);
                multiply(table, Accum::Replace, 1.0, features, weight.transpose());
            }
            if axis == 0 {
                for row in table.chunks_exact_mut(self.hidden) {
                    row.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
                }
            }
        }
        weights[self.table(2).end..].copy_from_slice(&coefficients[self.rest()..]);
    }

    /// Writes the gradient of coefficients, given that of the row network's weights.
    ///
    /// # Panics
    /// If a slice has another length than it should.
    pub fn pullback(&self, coefficients: &[f32], weights: &[f32], gradient: &mut [f32]) {
        let of_bias = &mut gradient[self.range("layers.0.bias")];
        of_bias.fill(0.0);
        for row in weights[self.table(0)].chunks_exact(self.hidden) {
            of_bias.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        for axis in 0..3 {
            let table = &weights[self.table(axis)];
            let count = self.values[axis].len();
            let own = if self.encoding.is_stored() {
                self.coefficients.entries()[axis].range()
            } else {
                0..0
            };
            if self.encoding == Encoding::DirectTables {
                gradient[own].copy_from_slice(table);
                continue;
            }
            let table = MatRef::from_row_major_slice(table, count, self.hidden);
            if !own.is_empty() {
                let weight = self.first_weight(axis, coefficients);
                let target = &mut gradient[own];
                let target = MatMut::from_row_major_slice_mut(target, count, self.width);
                multiply(target, Accum::Replace, 1.0, table, weight);
            }
            let features = self.features_of(axis, coefficients);
            let target = &mut gradient[self.range("layers.0.weight")];
            let target = MatMut::from_row_major_slice_mut(target, self.hidden, 3 * self.width);
            let target = target.subcols_mut(axis * self.width, self.width);
            multiply(target, Accum::Replace, 1.0, table.transpose(), features);
        }
        gradient[self.rest()..].copy_from_slice(&weights[self.table(2).end..]);
    }
}

fn coefficient_layout(
    encoding: Encoding,
    counts: [usize; 3],
    width: usize,
    hidden: usize,
    layers: usize,
    head: usize,
) -> Layout {
    let mut layout = Layout::new();
    if encoding.is_stored() {
        for (axis, count) in weightspace_core::predictor::AXES.iter().zip(counts) {
            layout.push(format!("tables.{axis}"), vec![count, width], 3);
        }
    }
    for layer in 0..layers {
        let inputs = if layer == 0 { 3 * width } else { hidden };
        let outputs = if layer + 1 == layers { head } else { hidden };
        if layer > 0 || encoding != Encoding::DirectTables {
            layout.push(format!("layers.{layer}.weight"), vec![outputs, inputs], inputs);
        }
        layout.push(format!("layers.{layer}.bias"), vec![outputs], inputs);
    }
    layout
}

/// Three tables, of whose entries the sum goes through so many layers of `hidden` outputs in all, and one
/// of `head` outputs.
fn row_network(counts: [usize; 3], hidden: usize, layers: usize, head: Option<usize>) -> Net {
    let index = Shape::Tokens { count: 1, width: 1 };
    let (mut net, layer) = NetBuilder::tokens(1, 1);
    let (filter, tile) = (net.input(index), net.input(index));
    let inputs = [("layer", layer), ("filter", filter), ("tile", tile)];
    let mut table = |(name, input), count| net.embedding(name, input, count, hidden);
    let [layer, filter, tile] = [0, 1, 2].map(|axis| table(inputs[axis], counts[axis]));
    let sum = net.add(layer, filter);
    let sum = net.add(sum, tile);
    let mut x = net.relu(sum);
    for layer in 1..layers {
        x = net.linear(format!("layers.{layer}"), x, hidden);
        x = net.relu(x);
    }
    if let Some(head) = head {
        x = net.linear(format!("layers.{layers}"), x, head);
    }
    net.flatten(x);
    net.finish("predictor")
}

/// The coefficients of a predictor that is trained on rows.
#[derive(Clone, Debug)]
pub struct Coefficients<'a> {
    model: &'a Model,
    initial: Vec<f32>,
}

impl<'a> Coefficients<'a> {
    /// Those to begin with.
    ///
    /// # Panics
    /// If there are more or fewer than the model has.
    pub fn new(model: &'a Model, initial: Vec<f32>) -> Self {
        assert_eq!(initial.len(), model.coefficients.len(), "coefficients of the predictor");
        Coefficients { model, initial }
    }
}

impl Parameterization for Coefficients<'_> {
    fn initial(&self) -> Vec<f32> {
        self.initial.clone()
    }

    fn groups(&self) -> ParameterGroups {
        ParameterGroups::from_layout(&self.model.coefficients)
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        self.model.expand(coefficients, weights);
    }

    fn pullback(&mut self, coefficients: &[f32], gradient: &[f32], target: &mut [f32]) {
        self.model.pullback(coefficients, gradient, target);
    }
}
