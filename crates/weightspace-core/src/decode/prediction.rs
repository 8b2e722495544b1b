//! Predicted tensors: a predictor from its inner tensors, weights from the predictor.

use std::ops::Range;

use crate::container::error::{Reason, refuse};
use crate::container::order::{Permutations, orders};
use crate::container::table::Storage;
use crate::container::{PredictorInfo, SectionKind, WspFile};
use crate::predictor::{Encoding, Features, Grid, Linear, Order, Predictor, Tiling};

/// The predictor of a file and which tensors it predicts.
pub(super) struct Prediction {
    predictor: Predictor,
    /// Positions in the table of the predicted tensors.
    indices: Vec<usize>,
    /// Of each the position in the table of its mask, if it has one.
    masks: Vec<Option<usize>>,
}

impl Prediction {
    /// From a file with a predictor; `inner` gives the elements of the tensor at a position in the table.
    pub(super) fn new(
        file: &WspFile,
        info: &PredictorInfo,
        inner: impl Fn(usize) -> Result<Vec<f32>, Reason>,
    ) -> Result<Self, Reason> {
        let entries = file.entries();
        let permutations = Permutations::new(info.tilings(entries));
        let exchanges = permutations.decode(|index| file.content(SectionKind::Order, index))?;
        let tensors = orders(info.tilings(entries), &exchanges);
        let Some(mut positions) = info.inner_tensors(entries.len()) else {
            return refuse!("too few inner tensors");
        };
        let features = match info.encoding.is_stored() {
            false => Features::Computed(info.encoding),
            true => {
                let mut table = || inner(positions.tables.next().unwrap_or_default());
                Features::Stored(info.encoding, [table()?, table()?, table()?])
            }
        };
        let mut layers = Vec::with_capacity(info.widths.len());
        for (&inputs, first) in info.widths.iter().zip(0..info.widths.len() - 1) {
            let stored = first > 0 || info.encoding != Encoding::DirectTables;
            let mut next = || inner(positions.layers.next().unwrap_or_default());
            let weight = if stored { next()? } else { Vec::new() };
            layers.push(Linear { inputs, weight, bias: next()? });
        }
        let scales = info.tensors.iter().map(|tensor| tensor.scale).collect();
        let grid = Grid::new(tensors, info.coordinates)?;
        let predictor = Predictor::new(grid, features, layers, scales)?;
        let predicted =
            (0..entries.len()).filter(|&index| entries[index].storage == Storage::Predicted);
        let masks = info.tensors.iter().map(|tensor| match tensor.masked {
            true => positions.masks.next(),
            false => None,
        });
        let masks = masks.collect();
        Ok(Prediction { predictor, indices: predicted.collect(), masks })
    }

    /// Positions in the table of the predicted tensors, with their tiles and orders.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (usize, &(Tiling, Order))> {
        self.indices.iter().copied().zip(self.predictor.grid().tensors())
    }

    /// Whole filters of the tensor at a position in the table, before its mask, and the position of that.
    pub(super) fn weights(
        &self,
        index: usize,
        elements: Range<usize>,
    ) -> Result<(Vec<f32>, Option<usize>), Reason> {
        let Ok(tensor) = self.indices.binary_search(&index) else {
            return refuse!("tensor {index} is not predicted");
        };
        let mut weights = vec![0.0; elements.len()];
        let rows = self.predictor.grid().tensors()[tensor].0.rows_of(elements);
        self.predictor.rows(tensor, rows, &mut weights);
        Ok((weights, self.masks[tensor]))
    }
}
