//! The coordinates of all tiles of a network.

use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Order, PredictorError, Tiling};
use crate::quoted;

/// How positions become coordinates. The discriminants are the codes in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoordinateScale {
    /// Within [0, 1) of every tensor: (t / T, f / filters of the tensor, i / tiles of a filter of it).
    #[default]
    Local = 0,
    /// Within [0, 1) of the network: (t / T, f / most filters, i / most tiles of a filter).
    Global = 1,
    /// As they are: (t, f, i).
    Raw = 2,
}

impl CoordinateScale {
    /// Every scale; the position of each is its code in files.
    pub const ALL: [CoordinateScale; 3] =
        [CoordinateScale::Local, CoordinateScale::Global, CoordinateScale::Raw];

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            CoordinateScale::Local => "local",
            CoordinateScale::Global => "global",
            CoordinateScale::Raw => "raw",
        }
    }
}

impl FromStr for CoordinateScale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scale| scale.name() == text);
        found.ok_or_else(|| {
            format!("{} is none of {}", quoted(text), Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// Names of the axes, in the order of their coordinates.
pub const AXES: [&str; 3] = ["layer", "filter", "tile"];

/// Distinct coordinates that an axis may have.
pub(crate) const AXIS_VALUES: usize = 1 << 20;

/// The tiles of all predicted tensors, rows end to end, with the coordinates of each: a position
/// (t, f, i) of tensor, filter and tile. Few distinct coordinates occur on each axis, so rows refer to
/// them by their index.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    tensors: Vec<(Tiling, Order)>,
    scale: CoordinateScale,
    /// Distinct coordinates of each axis, ascending.
    values: [Vec<f64>; 3],
    /// Number of the first row of every tensor, and of all rows.
    first_rows: Vec<usize>,
    most: (usize, usize),
}

impl Grid {
    /// The grid of these tensors.
    ///
    /// # Errors
    /// `Shape` if a tensor has no dimensions, no elements or empty tiles, `Permutation` if an order
    /// does not fit its tensor, `Values` if an axis has more than 2^20 distinct coordinates.
    pub fn new(
        tensors: Vec<(Tiling, Order)>,
        scale: CoordinateScale,
    ) -> Result<Self, PredictorError> {
        let mut first_rows = vec![0];
        let mut most = (1, 1);
        for (tiling, order) in &tensors {
            let Tiling { shape, tile } = tiling;
            if shape.is_empty() || shape.contains(&0) || *tile == 0 {
                return Err(PredictorError::Shape { shape: shape.clone(), tile: *tile });
            }
            order.check(tiling)?;
            most = (most.0.max(tiling.filters()), most.1.max(tiling.tiles_per_filter()));
            first_rows.push(first_rows[first_rows.len() - 1] + tiling.rows());
        }
        let mut grid = Grid { tensors, scale, values: Default::default(), first_rows, most };
        for axis in 0..3 {
            grid.values[axis] = grid.distinct(axis)?;
        }
        Ok(grid)
    }

    fn distinct(&self, axis: usize) -> Result<Vec<f64>, PredictorError> {
        let mut lengths: Vec<usize> = match (axis, self.scale) {
            (0, _) => vec![self.tensors.len()],
            (1, CoordinateScale::Local) => self.tensors.iter().map(|(t, _)| t.filters()).collect(),
            (_, CoordinateScale::Local) => {
                self.tensors.iter().map(|(t, _)| t.tiles_per_filter()).collect()
            }
            (1, _) => vec![self.most.0],
            (_, _) => vec![self.most.1],
        };
        lengths.sort_unstable();
        lengths.dedup();
        let mut values = Vec::new();
        let mut sorted = 0;
        for length in lengths {
            if length > AXIS_VALUES {
                return Err(PredictorError::Values { axis: AXES[axis] });
            }
            let divisor = if self.scale == CoordinateScale::Raw { 1 } else { length };
            values.extend((0..length).map(|position| position as f64 / divisor as f64));
            // Duplicates go as soon as they may be half, so that memory stays bounded.
            if values.len() > 2 * sorted {
                sort_distinct(&mut values);
                sorted = values.len();
                if sorted > AXIS_VALUES {
                    return Err(PredictorError::Values { axis: AXES[axis] });
                }
            }
        }
        sort_distinct(&mut values);
        match values.len() > AXIS_VALUES {
            true => Err(PredictorError::Values { axis: AXES[axis] }),
            false => Ok(values),
        }
    }

    /// The tensors.
    pub fn tensors(&self) -> &[(Tiling, Order)] {
        &self.tensors
    }

    /// How positions become coordinates.
    pub fn scale(&self) -> CoordinateScale {
        self.scale
    }

    /// The distinct coordinates of an axis, ascending: 0 the layers, 1 the filters, 2 the tiles.
    ///
    /// # Panics
    /// If there is no such axis.
    pub fn values(&self, axis: usize) -> &[f64] {
        &self.values[axis]
    }

    /// Number of rows of all tensors.
    pub fn row_count(&self) -> usize {
        self.first_rows[self.tensors.len()]
    }

    /// The rows of a tensor among all.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn rows(&self, tensor: usize) -> Range<usize> {
        self.first_rows[tensor]..self.first_rows[tensor + 1]
    }

    /// The tensor of a row, and which of its rows it is.
    pub fn tensor_of(&self, row: usize) -> (usize, usize) {
        let tensor = self.first_rows.partition_point(|&first| first <= row) - 1;
        (tensor, row - self.first_rows[tensor])
    }

    /// Of a row its coordinate on each axis, as index into [`values`](Self::values).
    ///
    /// # Panics
    /// If there is no such row.
    pub fn indices(&self, row: usize) -> [u32; 3] {
        let (tensor, row) = self.tensor_of(row);
        self.indices_within(tensor, row)
    }

    /// As [`indices`](Self::indices), of a row of one tensor.
    pub(crate) fn indices_within(&self, tensor: usize, row: usize) -> [u32; 3] {
        let (tiling, order) = &self.tensors[tensor];
        let (filter, tile) = order.position(tiling, row);
        if self.scale != CoordinateScale::Local {
            return [tensor as u32, filter as u32, tile as u32];
        }
        let index = |axis: usize, position: usize, length: usize| {
            let value = position as f64 / length as f64;
            self.values[axis].partition_point(|&v| v < value) as u32
        };
        let filter = index(1, filter, tiling.filters());
        [tensor as u32, filter, index(2, tile, tiling.tiles_per_filter())]
    }
}

fn sort_distinct(values: &mut Vec<f64>) {
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The convolutions of ResNet-20 with shortcuts without parameters.
    fn resnet20() -> Vec<(Tiling, Order)> {
        let mut widths = vec![(16, 3)];
        for (width, before) in [(16, 16), (32, 16), (64, 32)] {
            widths.push((width, before));
            widths.extend([(width, width); 5]);
        }
        let tiling = |(o, i)| (Tiling::of_kernels(vec![o, i, 3, 3]), Order::Identity);
        widths.into_iter().map(tiling).collect()
    }

    #[test]
    fn few_distinct_coordinates_occur() {
        let grid = Grid::new(resnet20(), CoordinateScale::Local).unwrap();
        assert_eq!((grid.row_count(), grid.tensors().len()), (29_744, 19));
        // Sixteenths and thirty-seconds are sixty-fourths; a third and two thirds are not.
        let counts: Vec<usize> = (0..3).map(|axis| grid.values(axis).len()).collect();
        assert_eq!(counts, [19, 64, 66]);
        let raw = Grid::new(resnet20(), CoordinateScale::Raw).unwrap();
        assert_eq!(raw.values(2).last(), Some(&63.0));
        assert_eq!(raw.indices(29_743), [18, 63, 63]);
    }

    #[test]
    fn rows_refer_to_their_coordinates() {
        let tensors = vec![
            (Tiling::of_kernels(vec![2, 3]), Order::Identity),
            (Tiling::of_kernels(vec![4, 2]), Order::CrossFilter((0..8).rev().collect())),
        ];
        for scale in CoordinateScale::ALL {
            let grid = Grid::new(tensors.clone(), scale).unwrap();
            for row in 0..grid.row_count() {
                let (tensor, own) = grid.tensor_of(row);
                let (tiling, order) = &grid.tensors()[tensor];
                let (f, i) = order.position(tiling, own);
                let divisors = match scale {
                    CoordinateScale::Local => [2, tiling.filters(), tiling.tiles_per_filter()],
                    CoordinateScale::Global => [2, 4, 3],
                    CoordinateScale::Raw => [1; 3],
                };
                let indices = grid.indices(row);
                for (axis, position) in [tensor, f, i].into_iter().enumerate() {
                    let value = grid.values(axis)[indices[axis] as usize];
                    assert_eq!(value, position as f64 / divisors[axis] as f64);
                }
            }
        }
    }

    #[test]
    fn bad_tensors_are_refused() {
        let of = |shape: &[usize], tile| {
            let tensors = vec![(Tiling { shape: shape.to_vec(), tile }, Order::Identity)];
            Grid::new(tensors, CoordinateScale::Local).map(|_| ())
        };
        assert_eq!(of(&[3, 4], 2), Ok(()));
        for (shape, tile) in [(&[][..], 1), (&[0, 2], 1), (&[2, 0], 1), (&[2, 2], 0)] {
            assert!(matches!(of(shape, tile), Err(PredictorError::Shape { .. })), "{shape:?}");
        }
        let large = of(&[1, AXIS_VALUES + 1], 1);
        assert_eq!(large, Err(PredictorError::Values { axis: "tile" }));
        let many =
            (0..2_500).map(|i| (Tiling { shape: vec![4_000 + i], tile: 1 }, Order::Identity));
        let many = Grid::new(many.collect(), CoordinateScale::Local).map(|_| ());
        assert_eq!(many, Err(PredictorError::Values { axis: "filter" }));
    }
}
