//! Columns of Hadamard matrices, the rows with random signs: exactly orthogonal (the subsampled randomised
//! Hadamard transform, Ailon and Chazelle 2006).
//!
//! The rows are cut into blocks of powers of two, largest first, as the bits of their number say; every
//! block has columns of its own, as many as its share of the rows.

use std::ops::Range;

use super::number::Number;
use super::signs::{self, sign, stream};
use super::walsh::Transform;
use super::words::dispatch;
use super::{Element, Gain, Matrix};
use crate::{InstructionSet, parallel};

/// Stream of the words that select columns.
const SELECTION: u64 = 1;

/// Rows of one Hadamard matrix, and the columns of it that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    selection: Selection,
}

/// Which columns of a Hadamard matrix are used: the first few values of a permutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Selection {
    bits: u32,
    words: [u64; 4],
}

impl Selection {
    /// The column of the Hadamard matrix for the `index`-th column that is used.
    fn column(&self, index: usize) -> usize {
        let mask = (1u64 << self.bits) - 1;
        let [offset, factors @ ..] = self.words;
        let mut x = (index as u64).wrapping_add(offset) & mask;
        for factor in factors {
            x = x.wrapping_mul(factor | 1) & mask;
            x ^= x >> self.bits.div_ceil(2).max(1);
        }
        x as usize
    }
}

/// The blocks of a matrix in order.
pub fn blocks(matrix: &Matrix) -> impl Iterator<Item = Block> + use<> {
    let Matrix { rows, columns, .. } = *matrix;
    let mut words = stream(matrix, SELECTION);
    let share = move |row: usize| (row as u128 * columns as u128 / rows as u128) as usize;
    let mut start = 0;
    std::iter::from_fn(move || {
        let bits = (rows - start).checked_ilog2()?;
        let end = start + (1 << bits);
        let words = [(); 4].map(|()| u64::from(words.next_u32()));
        let selection = Selection { bits, words };
        let block = Block { rows: start..end, columns: share(start)..share(end), selection };
        start = end;
        Some(block)
    })
}

/// One entry.
pub fn entry(matrix: &Matrix, row: usize, column: usize) -> i32 {
    let Some(block) = blocks(matrix).find(|block| block.rows.contains(&row)) else { return 0 };
    if !block.columns.contains(&column) {
        return 0;
    }
    let hadamard_column = block.selection.column(column - block.columns.start);
    let ones = ((row - block.rows.start) & hadamard_column).count_ones();
    sign(matrix, row) * (1 - 2 * (ones % 2) as i32)
}

/// See [`Matrix::column_gain`].
pub fn column_gain(matrix: &Matrix, column: usize) -> Gain {
    let block = blocks(matrix).find(|block| block.columns.contains(&column));
    gain(matrix, &block.expect("every column has a block"))
}

/// See [`Matrix::row_gains`].
pub fn row_gains(matrix: &Matrix, rows: Range<usize>, mut visit: impl FnMut(Range<usize>, Gain)) {
    for block in blocks(matrix) {
        let part = rows.start.max(block.rows.start)..rows.end.min(block.rows.end);
        if !part.is_empty() {
            visit(part, gain(matrix, &block));
        }
    }
}

fn gain(matrix: &Matrix, block: &Block) -> Gain {
    Gain { numerator: matrix.rows as u64, denominator: block.rows.len() as u64 }
}

/// A matrix of n rows is n / T times the same transform of T rows, of coefficients that have signs of
/// their own for each tile. This many rows: enough that the coefficients, which are visited once per
/// tile, cost less than the transforms.
fn tile_rows(rows: usize, columns: usize) -> usize {
    (2 * columns).next_power_of_two().clamp(1 << 10, 1 << 16).min(rows)
}

/// The column of the Hadamard matrix of a tile, and the bits of tiles in which its sign is turned.
#[derive(Clone, Copy, Debug)]
struct Selected {
    within: usize,
    tiles: usize,
}

impl Selected {
    /// 1 if the sign is turned in this tile, else 0.
    #[inline(always)]
    fn turned(self, tile: usize) -> u32 {
        let bits = (self.tiles & tile) as u64;
        let bits = (bits ^ bits >> 32) as u32;
        let bits = bits ^ bits >> 16;
        let bits = bits ^ bits >> 8;
        let bits = bits ^ bits >> 4;
        0x6996 >> (bits & 15) & 1
    }
}

fn selected(block: &Block, columns: &Range<usize>, tile_rows: usize) -> Vec<Selected> {
    let used = columns.clone().map(|column| {
        let column = block.selection.column(column - block.columns.start);
        Selected { within: column & (tile_rows - 1), tiles: column / tile_rows }
    });
    used.collect()
}

fn intersection(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

/// See [`Matrix::expand`].
pub fn expand<T: Element>(
    matrix: &Matrix,
    set: InstructionSet,
    (columns, coefficients): (Range<usize>, &[T]),
    rows: Range<usize>,
    out: &mut [T],
) {
    for block in blocks(matrix) {
        let own_rows = intersection(&rows, &block.rows);
        let own_columns = intersection(&columns, &block.columns);
        if own_rows.is_empty() {
            continue;
        }
        let out = &mut out[own_rows.start - rows.start..own_rows.end - rows.start];
        if own_columns.is_empty() {
            out.fill(T::default());
            continue;
        }
        let tile_rows = tile_rows(block.rows.len(), own_columns.len());
        let selected = selected(&block, &own_columns, tile_rows);
        let range = own_columns.start - columns.start..own_columns.end - columns.start;
        let terms =
            Terms { set, tile_rows, selected: &selected, coefficients: &coefficients[range] };
        let first = own_rows.start - block.rows.start;
        // The part of a tile with which the rows may begin, then whole ones.
        let head = (tile_rows - first % tile_rows) % tile_rows;
        let (head, whole) = out.split_at_mut(head.min(out.len()));
        terms.write(first, head);
        let behind = first + head.len();
        parallel::for_each_chunk(whole, tile_rows, |position, out| {
            terms.write(behind + position, out);
        });
        signs::apply(matrix, own_rows.start, out);
    }
}

/// The coefficients of a block.
struct Terms<'a, T> {
    set: InstructionSet,
    tile_rows: usize,
    selected: &'a [Selected],
    coefficients: &'a [T],
}

impl<T: Element> Terms<'_, T> {
    /// Rows of one tile from the block's `first` on, without the rows' signs.
    fn write(&self, first: usize, out: &mut [T]) {
        let within = first % self.tile_rows;
        if out.len() == self.tile_rows {
            self.write_tile(first / self.tile_rows, out);
        } else if !out.is_empty() {
            let mut tile = vec![T::default(); self.tile_rows];
            self.write_tile(first / self.tile_rows, &mut tile);
            out.copy_from_slice(&tile[within..within + out.len()]);
        }
    }

    fn write_tile(&self, tile: usize, out: &mut [T]) {
        out.fill(T::default());
        for (selected, coefficient) in self.selected.iter().zip(self.coefficients) {
            out[selected.within] += coefficient.negated_if(selected.turned(tile));
        }
        dispatch(self.set, Transform { elements: out });
    }
}

/// Columns that one thread sums up at a time.
const PULLBACK_COLUMNS: usize = 512;

/// See [`Matrix::pullback`].
pub fn pullback(
    matrix: &Matrix,
    set: InstructionSet,
    columns: Range<usize>,
    gradient: &mut [f32],
    out: &mut [f32],
) {
    out.fill(0.0);
    for block in blocks(matrix) {
        let own_columns = intersection(&columns, &block.columns);
        if own_columns.is_empty() {
            continue;
        }
        let tile_rows = tile_rows(block.rows.len(), own_columns.len());
        let gradient = &mut gradient[block.rows.clone()];
        parallel::for_each_chunk(gradient, tile_rows, |position, tile| {
            signs::apply(matrix, block.rows.start + position, tile);
            dispatch(set, Transform { elements: tile });
        });
        let gradient = &*gradient;
        let out = &mut out[own_columns.start - columns.start..own_columns.end - columns.start];
        parallel::for_each_chunk(out, PULLBACK_COLUMNS, |position, out| {
            let first = own_columns.start + position;
            let selected = selected(&block, &(first..first + out.len()), tile_rows);
            for (tile, gradient) in gradient.chunks_exact(tile_rows).enumerate() {
                for (out, selected) in out.iter_mut().zip(&selected) {
                    *out += gradient[selected.within].negated_if(selected.turned(tile));
                }
            }
        });
    }
}
