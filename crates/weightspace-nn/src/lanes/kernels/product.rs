//! The geometry of convolutions and linear layers.

use super::super::{LANES, Vector};
use crate::net::Window;

/// Positions that one product has outputs at, and where their values stand, in vectors.
#[derive(Clone, Copy, Debug)]
pub(in crate::lanes) struct Grid {
    pub rows: usize,
    pub columns: usize,
    /// Of the input, from one row and one column to the next.
    pub input: [usize; 2],
    /// Of the output, from one unit, one row and one column to the next.
    pub output: [usize; 3],
}

/// Which of the 2 x 2 values under a pooled one was the largest: bits of the lanes where it was in the
/// second row, and in the second column.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::lanes) struct Choice {
    pub row: u16,
    pub column: u16,
}

/// A convolution without padding or a linear layer: `weight [outputs, taps]`, optional `bias [outputs]`.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct Product {
    pub outputs: usize,
    /// Distances of the inputs of an output from its position, in numbers (vectors times lanes).
    pub taps: Vec<usize>,
    /// Where the weights begin in the flat vector.
    pub weight: usize,
    /// Where the bias begins.
    pub bias: Option<usize>,
    /// Positions of one sample.
    pub grid: Grid,
    /// Channels, rows and columns of the input.
    pub from: [usize; 3],
    /// Rows and columns of the kernel.
    pub size: usize,
    /// Rows and columns that are left where the maximum of 2 x 2 outputs is taken.
    pub pooled: Option<[usize; 2]>,
    /// A linear layer: all samples of a chunk are positions of one grid.
    pub is_linear: bool,
}

impl Product {
    pub fn convolution(
        from: [usize; 3],
        window: Window,
        [outputs, rows, columns]: [usize; 3],
        (weight, bias): (usize, Option<usize>),
    ) -> Self {
        let [channels, height, width] = from;
        let size = window.size;
        let tap = |i: usize| {
            let (channel, row, column) = (i / (size * size), i / size % size, i % size);
            ((channel * height + row) * width + column) * LANES
        };
        let taps = (0..channels * size * size).map(tap).collect();
        let input = [window.stride * width, window.stride];
        let grid = Grid { rows, columns, input, output: [rows * columns, columns, 1] };
        Product { outputs, taps, weight, bias, grid, from, size, pooled: None, is_linear: false }
    }

    pub fn linear(inputs: usize, outputs: usize, (weight, bias): (usize, Option<usize>)) -> Self {
        let taps = (0..inputs).map(|i| i * LANES).collect();
        let grid = Grid { rows: 1, columns: 1, input: [0, inputs], output: [1, 0, outputs] };
        let from = [inputs, 1, 1];
        Product { outputs, taps, weight, bias, grid, from, size: 1, pooled: None, is_linear: true }
    }

    /// The same with the maximum of 2 x 2 outputs.
    pub fn pooled(self, [_, rows, columns]: [usize; 3]) -> Self {
        Product { pooled: Some([rows, columns]), ..self }
    }

    /// The positions of so many samples, and how often they are to be gone through: once for all samples of
    /// a linear layer, else once for each.
    pub fn grid_of(&self, samples: usize) -> (Grid, usize) {
        match self.is_linear {
            true => (Grid { columns: samples, ..self.grid }, 1),
            false => (self.grid, samples),
        }
    }

    /// Vectors of the input and the output of one run.
    pub fn lengths(&self, samples: usize) -> [usize; 2] {
        let input: usize = self.from.iter().product();
        let positions = match self.pooled {
            Some([rows, columns]) => rows * columns,
            None => self.grid.rows * self.grid.columns,
        };
        let runs = if self.is_linear { samples } else { 1 };
        [input * runs, self.outputs * positions * runs]
    }

    /// Vectors of one sample's output before the maximum.
    pub fn unpooled_len(&self) -> usize {
        self.outputs * self.grid.rows * self.grid.columns
    }

    /// Whether the gradient behind a maximum goes back without being expanded.
    pub fn is_sparse(&self) -> bool {
        self.pooled.is_some() && self.grid.input[1] == 1 && matches!(self.size, 3 | 5)
    }

    /// Outputs computed at a time: a divisor if there is one, so that no tile is left with few.
    pub fn tile(&self, wide: bool) -> usize {
        match wide {
            false => 1,
            true => [6, 5, 4].into_iter().find(|n| self.outputs.is_multiple_of(*n)).unwrap_or(4),
        }
    }

    /// The weights in the flat vector.
    pub fn weights<'a>(&self, parameters: &'a [Vector]) -> &'a [Vector] {
        &parameters[self.weight..][..self.outputs * self.taps.len()]
    }

    /// The bias in the flat vector.
    pub fn biases<'a>(&self, parameters: &'a [Vector]) -> Option<&'a [Vector]> {
        self.bias.map(|bias| &parameters[bias..][..self.outputs])
    }
}

/// Writes the gradient of every output before the maximum: that of the maximum at the largest, else 0.
pub(in crate::lanes) fn expand(
    product: &Product,
    gradient: &[Vector],
    choices: &[Choice],
    target: &mut [Vector],
) {
    let Some([rows, columns]) = product.pooled else { return };
    let [plane, row, _] = product.grid.output;
    target.fill(Vector::ZERO);
    for (i, (gradient, choice)) in gradient.iter().zip(choices).enumerate() {
        let (unit, y, x) = (i / (rows * columns), i / columns % rows, i % columns);
        let corner = unit * plane + 2 * y * row + 2 * x;
        for lane in 0..LANES {
            let bit = |bits: u16| usize::from(bits >> lane & 1);
            let at = corner + bit(choice.row) * row + bit(choice.column);
            target[at].0[lane] = gradient.0[lane];
        }
    }
}
