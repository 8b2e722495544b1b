//! The network that gives tiles, in arithmetic of a fixed order.

use std::ops::Range;
use std::sync::OnceLock;

use super::{AXES, Encoding, Grid, PredictorError, WIDTH};
use crate::{InstructionSet, exact_product, parallel};

/// Rows that are computed as one piece of work; fewer where layers are wide.
const BLOCK_ROWS: usize = 192;
/// Outputs of a layer for the rows of a block, at most.
const BLOCK_OUTPUTS: usize = 1 << 20;
/// Coordinates whose features are in memory at a time.
const BLOCK_VALUES: usize = 1 << 10;
/// Sums of the first layer for all distinct coordinates.
pub(crate) const FIRST_SUMS: usize = 1 << 26;
/// Layers of a predictor, at most.
pub(crate) const LAYERS: usize = 64;

/// A linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Number of inputs; 0 for the first layer of a predictor with [`Encoding::DirectTables`].
    pub inputs: usize,
    /// Outputs x inputs, row-major.
    pub weight: Vec<f32>,
    /// One for each output.
    pub bias: Vec<f32>,
}

/// What the features of the coordinates are, and how many.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Computed: an encoding that is not [stored](Encoding::is_stored).
    Computed(Encoding),
    /// [`Encoding::Tables`] or [`Encoding::DirectTables`] with a table for each axis: a row for each
    /// distinct coordinate of the [`Grid`], in its order.
    Stored(Encoding, [Vec<f32>; 3]),
}

/// A predictor network with the coordinates of everything that it predicts: linear layers with max(x, 0)
/// between them. It gives the same bits on every machine, whichever rows are asked for and with any number
/// of threads.
#[derive(Debug)]
pub struct Predictor {
    grid: Grid,
    features: Features,
    /// Inputs x outputs: transposed.
    layers: Vec<Linear>,
    /// One for each tensor.
    scales: Vec<f32>,
    /// Of each axis what each distinct coordinate adds to the outputs of the first layer.
    sums: OnceLock<[Vec<f32>; 3]>,
}

/// Refuses layers that do not follow each other, or do not fit the features and tiles. `shapes` are the
/// (inputs, outputs) of each layer, of the first of [`Encoding::DirectTables`] with 0 inputs.
pub(crate) fn check_layers(
    grid: &Grid,
    encoding: Encoding,
    shapes: &[(usize, usize)],
) -> Result<(), PredictorError> {
    let wrong = |layer| Err(PredictorError::Layer { layer });
    if !(2..=LAYERS).contains(&shapes.len()) {
        return wrong(shapes.len());
    }
    let hidden = shapes[0].1;
    let mut inputs = match encoding {
        Encoding::DirectTables => 0,
        _ => AXES.len() * encoding.width(hidden),
    };
    for (layer, &shape) in shapes.iter().enumerate() {
        if shape.0 != inputs || !(1..=WIDTH).contains(&shape.1) {
            return wrong(layer);
        }
        inputs = shape.1;
    }
    if let Some((tiling, _)) = grid.tensors().iter().find(|(tiling, _)| tiling.tile > inputs) {
        let (shape, tile) = (tiling.shape.clone(), tiling.tile);
        return Err(PredictorError::Tile { shape, tile, outputs: inputs });
    }
    let values: usize = (0..AXES.len()).map(|axis| grid.values(axis).len()).sum();
    match values.checked_mul(hidden) {
        Some(sums) if sums <= FIRST_SUMS => Ok(()),
        _ => Err(PredictorError::FirstSums { values, outputs: hidden }),
    }
}

impl Predictor {
    /// A predictor with a scale for each tensor of the grid; nothing is computed yet.
    ///
    /// # Errors
    /// `Encoding`, `Layer`, `Tile` or `FirstSums` if the parts do not fit together or are beyond the limits;
    /// `Table` if a table has not a row for each coordinate; `Scales`.
    pub fn new(
        grid: Grid,
        features: Features,
        layers: Vec<Linear>,
        scales: Vec<f32>,
    ) -> Result<Self, PredictorError> {
        let encoding = features.encoding();
        encoding.check(grid.scale())?;
        let shapes: Vec<_> = layers.iter().map(|layer| (layer.inputs, layer.bias.len())).collect();
        check_layers(&grid, encoding, &shapes)?;
        let lengths = |layer: &Linear| layer.weight.len() == layer.inputs * layer.bias.len();
        if let Some(layer) = layers.iter().position(|layer| !lengths(layer)) {
            return Err(PredictorError::Layer { layer });
        }
        let tables = match &features {
            Features::Computed(_) => None,
            Features::Stored(_, tables) => Some(tables),
        };
        if tables.is_some() != encoding.is_stored() {
            return Err(PredictorError::Table { axis: AXES[0] });
        }
        for (axis, table) in tables.into_iter().flatten().enumerate() {
            if table.len() != grid.values(axis).len() * encoding.width(shapes[0].1) {
                return Err(PredictorError::Table { axis: AXES[axis] });
            }
        }
        if scales.len() != grid.tensors().len() {
            return Err(PredictorError::Scales { scales: scales.len() });
        }
        let layers = layers.into_iter().map(Linear::transposed).collect();
        Ok(Predictor { grid, features, layers, scales, sums: OnceLock::new() })
    }

    /// The coordinates of all rows.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// All elements of a tensor.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn tensor(&self, tensor: usize) -> Vec<f32> {
        let tiling = &self.grid.tensors()[tensor].0;
        let mut out = vec![0.0; tiling.shape.iter().product()];
        self.rows(tensor, 0..tiling.rows(), &mut out);
        out
    }

    /// The elements of some rows of a tensor, end to end.
    ///
    /// # Panics
    /// If there is no such tensor or row, or `out` has not the length of the rows.
    pub fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut [f32]) {
        self.rows_with(InstructionSet::best(), tensor, rows, out);
    }

    /// As [`rows`](Self::rows), with the kernels of one instruction set.
    ///
    /// # Panics
    /// As [`rows`](Self::rows), or if this machine does not have the instruction set.
    pub fn rows_with(
        &self,
        set: InstructionSet,
        tensor: usize,
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        let tiling = &self.grid.tensors()[tensor].0;
        if rows.is_empty() {
            return;
        }
        let origin = tiling.elements(rows.start).start;
        let end = tiling.elements(rows.end - 1).end;
        assert_eq!(out.len(), end - origin, "elements of rows {rows:?}");
        let sums = self.sums.get_or_init(|| self.first_sums(set));
        let widest = self.layers.iter().map(|layer| layer.bias.len()).max().unwrap_or(1);
        let block = (BLOCK_OUTPUTS / widest).clamp(1, BLOCK_ROWS);
        let mut rest = out;
        let mut blocks = Vec::with_capacity(rows.len().div_ceil(block));
        for first in rows.clone().step_by(block) {
            let own = first..rows.end.min(first + block);
            let length = tiling.elements(own.end - 1).end - tiling.elements(first).start;
            let (elements, behind) = rest.split_at_mut(length);
            blocks.push((own, elements));
            rest = behind;
        }
        parallel::for_each_chunk(&mut blocks, 1, |_, blocks| {
            for (rows, out) in blocks {
                self.block(set, sums, tensor, rows.clone(), out);
            }
        });
    }

    /// The elements of a few rows.
    fn block(
        &self,
        set: InstructionSet,
        sums: &[Vec<f32>; 3],
        tensor: usize,
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        let mut values = self.first_layer(sums, tensor, rows.clone());
        for layer in &self.layers[1..] {
            // Not f32::max, which may take a zero of either sign.
            values.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { 0.0 });
            let mut outputs = layer.bias.repeat(rows.len());
            let columns = layer.bias.len();
            let inner = layer.inputs;
            exact_product::accumulate_with(
                set,
                &mut outputs,
                &values,
                &layer.weight,
                inner,
                columns,
            );
            values = outputs;
        }
        let (tiling, scale) = (&self.grid.tensors()[tensor].0, self.scales[tensor]);
        let width = values.len() / rows.len();
        let first = (width - tiling.tile) / 2;
        let mut rest = out;
        for (row, values) in rows.zip(values.chunks_exact(width)) {
            let (own, behind) = rest.split_at_mut(tiling.elements(row).len());
            rest = behind;
            own.iter_mut().zip(&values[first..]).for_each(|(out, value)| *out = value * scale);
        }
    }

    /// Outputs of the first layer, rows x outputs.
    fn first_layer(&self, sums: &[Vec<f32>; 3], tensor: usize, rows: Range<usize>) -> Vec<f32> {
        let bias = &self.layers[0].bias;
        let width = bias.len();
        let mut outputs = vec![0.0; rows.len() * width];
        for (row, outputs) in rows.zip(outputs.chunks_exact_mut(width)) {
            let indices = self.grid.indices_within(tensor, row).map(|index| index as usize);
            let [layer, filter, tile] =
                std::array::from_fn(|axis| &sums[axis][indices[axis] * width..][..width]);
            for (j, output) in outputs.iter_mut().enumerate() {
                *output = ((bias[j] + layer[j]) + filter[j]) + tile[j];
            }
        }
        outputs
    }

    /// Of each axis the exact sums over its features alone, coordinates x outputs.
    fn first_sums(&self, set: InstructionSet) -> [Vec<f32>; 3] {
        let encoding = self.features.encoding();
        let layer = &self.layers[0];
        let columns = layer.bias.len();
        let width = encoding.width(columns);
        std::array::from_fn(|axis| {
            if let Features::Stored(Encoding::DirectTables, tables) = &self.features {
                return tables[axis].clone();
            }
            let weight = &layer.weight[axis * width * columns..][..width * columns];
            let values = self.grid.values(axis);
            let mut sums = vec![0.0; values.len() * columns];
            parallel::for_each_chunk(&mut sums, BLOCK_VALUES * columns, |position, sums| {
                let own = position / columns..(position + sums.len()) / columns;
                let computed;
                let features = match &self.features {
                    Features::Stored(_, tables) => {
                        &tables[axis][own.start * width..own.end * width]
                    }
                    Features::Computed(_) => {
                        computed = encoding.features(&values[own]);
                        &computed
                    }
                };
                exact_product::accumulate_with(set, sums, features, weight, width, columns);
            });
            sums
        })
    }
}

impl Features {
    /// The encoding.
    pub fn encoding(&self) -> Encoding {
        match self {
            Features::Computed(encoding) | Features::Stored(encoding, _) => *encoding,
        }
    }
}

impl Linear {
    /// With the weight as inputs x outputs.
    fn transposed(self) -> Self {
        let outputs = self.bias.len();
        let mut weight = vec![0.0; self.weight.len()];
        for (output, row) in self.weight.chunks_exact(self.inputs.max(1)).enumerate() {
            for (input, value) in row.iter().enumerate() {
                weight[input * outputs + output] = *value;
            }
        }
        Linear { weight, ..self }
    }
}
