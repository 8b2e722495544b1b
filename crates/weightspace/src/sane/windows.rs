//! Windows of consecutive tokens, read where the weights are.

use std::ops::Range;

use super::{Arrangement, SaneError, Standardisation, TokenLayer, TokenLayout};
use crate::zoo::ModelWeights;

/// Reads windows of standardised tokens. Of a model nothing but the rows of a window is read.
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    layout: &'a TokenLayout,
    standardisation: &'a Standardisation,
    row: Vec<f32>,
}

impl<'a> Windows<'a> {
    /// A reader of models with these tokens.
    pub fn new(layout: &'a TokenLayout, standardisation: &'a Standardisation) -> Self {
        let longest = layout.layers().iter().map(|layer| layer.columns).max().unwrap_or(0);
        Windows { layout, standardisation, row: vec![0.0; longest] }
    }

    /// Writes tokens of a model, whose units are arranged.
    ///
    /// # Errors
    /// If the weights cannot be read.
    ///
    /// # Panics
    /// If there are no such tokens, the model has other tensors, or `out` has another length.
    pub fn read(
        &mut self,
        model: &ModelWeights<'_>,
        arrangement: &Arrangement,
        tokens: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), SaneError> {
        let size = self.layout.token_size();
        assert_eq!(out.len(), tokens.len() * size, "elements of the tokens");
        let mut rest = out;
        for index in self.layout.layers_of(&tokens) {
            let layer = &self.layout.layers()[index];
            let own = tokens.start.max(layer.first)..tokens.end.min(layer.tokens().end);
            let (here, behind) = rest.split_at_mut(own.len() * size);
            rest = behind;
            // Tokens of a row of the window lie side by side.
            let (mut at, mut here) = (own.start - layer.first, here);
            while !here.is_empty() {
                let (row, chunk) = (at / layer.chunks, at % layer.chunks);
                let count = (layer.chunks - chunk).min(here.len() / size);
                let (part, others) = here.split_at_mut(count * size);
                let columns = chunk * size..((chunk + count) * size).min(layer.width());
                self.read_row(model, arrangement, index, row, columns, part)?;
                (at, here) = (at + count, others);
            }
        }
        Ok(())
    }

    /// Columns of a row, the bias among them, filled up with zeros.
    fn read_row(
        &mut self,
        model: &ModelWeights<'_>,
        arrangement: &Arrangement,
        index: usize,
        row: usize,
        columns: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), SaneError> {
        let layer = &self.layout.layers()[index];
        let from = arrangement.row(index, row);
        let (filled, padding) = out.split_at_mut(columns.len());
        padding.fill(0.0);
        let weights = columns.start..columns.end.min(layer.columns);
        let (own, bias) = filled.split_at_mut(weights.len());
        match arrangement.columns(index) {
            None => {
                let start = from * layer.columns;
                model.read(layer.tensor, start + weights.start..start + weights.end, own)?;
            }
            Some(units) => {
                let whole = from * layer.columns..(from + 1) * layer.columns;
                let row = match model.mapped(layer.tensor, whole.clone()) {
                    Some(row) => row,
                    None => {
                        let row = &mut self.row[..layer.columns];
                        model.read(layer.tensor, whole, row)?;
                        row
                    }
                };
                gather(row, units, layer.inner, weights, own);
            }
        }
        if let (Some(tensor), [bias]) = (layer.bias, &mut *bias) {
            model.read(tensor, from..from + 1, std::slice::from_mut(bias))?;
        }
        self.standardisation.apply(index, filled);
        Ok(())
    }
}

/// Reads all elements of a layer, those of its bias last.
pub(super) fn read_layer(
    layout: &TokenLayout,
    layer: &TokenLayer,
    model: &ModelWeights<'_>,
    values: &mut Vec<f32>,
) -> Result<(), SaneError> {
    values.clear();
    for tensor in [Some(layer.tensor), layer.bias].into_iter().flatten() {
        let (start, len) = (values.len(), layout.tensors()[tensor].element_count());
        values.resize(start + len, 0.0);
        model.read(tensor, 0..len, &mut values[start..])?;
    }
    Ok(())
}

/// Columns of a row whose units of `inner` columns come from others.
fn gather(row: &[f32], units: &[u32], inner: usize, columns: Range<usize>, out: &mut [f32]) {
    match inner {
        1 => gather_whole::<1>(row, &units[columns], out),
        9 if columns.start.is_multiple_of(9) && columns.end.is_multiple_of(9) => {
            gather_whole::<9>(row, &units[columns.start / 9..columns.end / 9], out);
        }
        _ => gather_parts(row, units, inner, columns, out),
    }
}

/// Units of a size that is known: of linear layers, and of kernels of 3 x 3.
fn gather_whole<const INNER: usize>(row: &[f32], units: &[u32], out: &mut [f32]) {
    let (row, _) = row.as_chunks::<INNER>();
    let (out, _) = out.as_chunks_mut::<INNER>();
    out.iter_mut().zip(units).for_each(|(out, &unit)| *out = row[unit as usize]);
}

/// Units of any size, of which the first and the last may be cut.
fn gather_parts(row: &[f32], units: &[u32], inner: usize, columns: Range<usize>, out: &mut [f32]) {
    let (mut at, mut out) = (columns.start, out);
    while !out.is_empty() {
        let (unit, offset) = (at / inner, at % inner);
        let count = (inner - offset).min(out.len());
        let (own, others) = out.split_at_mut(count);
        let start = units[unit] as usize * inner + offset;
        own.copy_from_slice(&row[start..start + count]);
        (at, out) = (at + count, others);
    }
}
