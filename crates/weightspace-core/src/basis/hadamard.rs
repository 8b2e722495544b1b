//! Columns of Hadamard matrices, the rows with random signs: exactly orthogonal (the subsampled randomised
//! Hadamard transform, Ailon and Chazelle 2006).
//!
//! The rows are cut into blocks of powers of two, largest first, as the bits of their number say; every
//! block has columns of its own, as many as its share of the rows.

use std::ops::Range;

use super::signs::{sign, stream};
use super::{Gain, Matrix};

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
