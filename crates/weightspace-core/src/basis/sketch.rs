//! One entry in each row: every weight is one coefficient with a random sign (a count sketch), or without
//! (a HashedNet). Columns are exactly orthogonal, for no two have an entry in the same row.
//!
//! Every group of k consecutive rows uses each of the k columns once: row r of group g has its entry
//! in column a r + c mod k, with a and c random and a without a common divisor with k. The rows that
//! are left behind the last whole group use the first columns.

use std::ops::Range;

use super::signs::{self, sign, stream};
use super::{Element, Gain, Matrix};
use crate::parallel;
use crate::random::Stream;

/// Stream of the words that choose columns.
const CHOICE: u64 = 1;

/// The columns of one group of rows.
#[derive(Clone, Copy, Debug)]
struct Group {
    factor: u64,
    offset: u64,
    columns: u64,
}

impl Group {
    /// Group `index`, whose words come next in the stream.
    fn next(matrix: &Matrix, index: usize, words: &mut Stream) -> Self {
        let columns = matrix.columns as u64;
        if (index + 1) * matrix.columns > matrix.rows {
            return Group { factor: 1, offset: 0, columns };
        }
        let mut below = || ((u128::from(words.next_u32()) * u128::from(columns)) >> 32) as u64;
        let (mut factor, offset) = (below() + 1, below());
        while greatest_common_divisor(factor, columns) != 1 {
            factor = factor % columns + 1;
        }
        Group { factor: factor % columns, offset, columns }
    }

    /// The column of a row of the group.
    fn column(self, row: usize) -> usize {
        let product = u128::from(self.factor) * row as u128 + u128::from(self.offset);
        (product % u128::from(self.columns)) as usize
    }

    /// The group's row of a column, and by how much it grows (modulo the number of columns) from one
    /// column to the next.
    fn row(self, column: usize) -> (usize, usize) {
        let inverse = inverse(self.factor, self.columns);
        let distance = column as u128 + u128::from(self.columns - self.offset);
        let row = distance * u128::from(inverse) % u128::from(self.columns);
        (row as usize, inverse as usize)
    }
}

/// Groups from the `first` on.
fn groups(matrix: &Matrix, first: usize) -> impl Iterator<Item = (usize, Group)> {
    let mut words = stream(matrix, CHOICE);
    words.seek(2 * first as u64);
    (first..matrix.rows.div_ceil(matrix.columns))
        .map(move |index| (index, Group::next(matrix, index, &mut words)))
}

/// The number whose product with `factor` is 1 modulo `modulus`, with which it has no common divisor.
fn inverse(factor: u64, modulus: u64) -> u64 {
    let (mut a, mut b) = (i128::from(factor), i128::from(modulus));
    let (mut x, mut y) = (1i128, 0i128);
    while b != 0 {
        let quotient = a / b;
        (a, b) = (b, a - quotient * b);
        (x, y) = (y, x - quotient * y);
    }
    x.rem_euclid(i128::from(modulus)) as u64
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The column that has an entry in a row.
fn column_of(matrix: &Matrix, row: usize) -> usize {
    let (_, group) = groups(matrix, row / matrix.columns).next().expect("every row has a group");
    group.column(row % matrix.columns)
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
    let extra = matrix.rows % matrix.columns;
    let mut run: Option<(usize, bool)> = None;
    let mut end = |run: Option<(usize, bool)>, end| {
        if let Some((start, larger)) = run {
            visit(start..end, column_gain(matrix, if larger { 0 } else { extra }));
        }
    };
    for_each_row(matrix, rows.clone(), |row, column| {
        let larger = column < extra;
        if run.is_none_or(|run| run.1 != larger) {
            end(run, row);
            run = Some((row, larger));
        }
    });
    end(run, rows.end);
}

/// Calls `visit` with each row and its column.
#[inline(always)]
fn for_each_row(matrix: &Matrix, rows: Range<usize>, mut visit: impl FnMut(usize, usize)) {
    let columns = matrix.columns;
    for (index, group) in groups(matrix, rows.start / columns) {
        let first = index * columns;
        if first >= rows.end {
            break;
        }
        let own = rows.start.max(first)..rows.end.min(first + columns);
        let mut column = group.column(own.start - first);
        let factor = group.factor as usize;
        for row in own {
            visit(row, column);
            column += factor;
            column -= if column >= columns { columns } else { 0 };
        }
    }
}

/// Rows and columns that one thread has at a time.
const CHUNK: usize = 1 << 12;

/// See [`Matrix::expand`].
pub fn expand<T: Element>(
    matrix: &Matrix,
    signed: bool,
    (columns, coefficients): (Range<usize>, &[T]),
    rows: Range<usize>,
    out: &mut [T],
) {
    parallel::for_each_chunk(out, CHUNK, |position, out| {
        let first = rows.start + position;
        for_each_row(matrix, first..first + out.len(), |row, column| {
            let coefficient = coefficients.get(column.wrapping_sub(columns.start));
            out[row - first] = coefficient.copied().unwrap_or_default();
        });
        if signed {
            signs::apply(matrix, first, out);
        }
    });
}

/// See [`Matrix::pullback`].
pub fn pullback(
    matrix: &Matrix,
    signed: bool,
    columns: Range<usize>,
    gradient: &mut [f32],
    out: &mut [f32],
) {
    if signed {
        parallel::for_each_chunk(gradient, CHUNK, |row, part| signs::apply(matrix, row, part));
    }
    let gradient = &*gradient;
    parallel::for_each_chunk(out, CHUNK, |position, out| {
        out.fill(0.0);
        let first = columns.start + position;
        for (index, group) in groups(matrix, 0) {
            let gradient = &gradient[index * matrix.columns..];
            let (mut row, growth) = group.row(first);
            for out in out.iter_mut() {
                // The last group may be shorter.
                *out += gradient.get(row).copied().unwrap_or_default();
                row += growth;
                row -= if row >= matrix.columns { matrix.columns } else { 0 };
            }
        }
    });
}
