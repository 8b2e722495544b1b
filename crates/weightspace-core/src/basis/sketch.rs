//! One entry in each row: every weight is one coefficient with a random sign (a count sketch), or without
//! (a HashedNet). Columns are exactly orthogonal, for no two have an entry in the same row.
//!
//! Every group of k consecutive rows uses each of the k columns once: row r of group g has its entry
//! in column a r + c mod k, with a and c random and a without a common divisor with k. The rows that
//! are left behind the last whole group use the first columns.

use std::ops::Range;

use super::signs::{sign, stream};
use super::{Gain, Matrix};

/// Stream of the words that choose columns.
const CHOICE: u64 = 1;

/// The columns of one group of rows.
#[derive(Clone, Copy, Debug)]
struct Group {
    factor: u64,
    offset: u64,
}

impl Group {
    fn new(matrix: &Matrix, index: usize) -> Self {
        let columns = matrix.columns as u64;
        if (index + 1) * matrix.columns > matrix.rows {
            return Group { factor: 1, offset: 0 };
        }
        let mut words = stream(matrix, CHOICE);
        words.seek(2 * index as u64);
        let mut below = || (u128::from(words.next_u32()) * u128::from(columns) >> 32) as u64;
        let (mut factor, offset) = (below() + 1, below());
        while greatest_common_divisor(factor, columns) != 1 {
            factor = factor % columns + 1;
        }
        Group { factor, offset }
    }

    fn column(self, matrix: &Matrix, row: usize) -> usize {
        let product = u128::from(self.factor) * row as u128 + u128::from(self.offset);
        (product % matrix.columns as u128) as usize
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The column that has an entry in a row.
fn column_of(matrix: &Matrix, row: usize) -> usize {
    Group::new(matrix, row / matrix.columns).column(matrix, row % matrix.columns)
}

/// One entry.
pub fn entry(matrix: &Matrix, row: usize, column: usize, signed: bool) -> i32 {
    match column_of(matrix, row) == column {
        true if signed => sign(matrix, row),
        there => i32::from(there),
    }
}

/// See [`Matrix::column_gain`].
pub fn column_gain(matrix: &Matrix, column: usize) -> Gain {
    let Matrix { rows, columns, .. } = *matrix;
    let entries = rows / columns + usize::from(column < rows % columns);
    Gain { numerator: rows as u64, denominator: entries as u64 }
}

/// See [`Matrix::row_gains`].
pub fn row_gains(matrix: &Matrix, rows: Range<usize>, mut visit: impl FnMut(Range<usize>, Gain)) {
    let gain = |row| column_gain(matrix, column_of(matrix, row));
    let mut start = rows.start;
    while start < rows.end {
        let first = gain(start);
        let end = (start + 1..rows.end).find(|&row| gain(row) != first).unwrap_or(rows.end);
        visit(start..end, first);
        start = end;
    }
}
