//! Independent uniform numbers: odd integers from -255 to 255, one byte of the key stream each.

use std::ops::Range;

use super::signs::stream;
use super::words::{Kernel, Words, dispatch};
use super::{Element, Matrix};
use crate::{InstructionSet, parallel};

/// Columns that one stream serves.
const STREAM_COLUMNS: usize = 16;

/// Mean of the squares of all odd integers from -255 to 255.
pub const MEAN_SQUARE: u64 = 21_845;

/// One entry.
pub fn entry(matrix: &Matrix, row: usize, column: usize) -> i32 {
    let mut words = stream(matrix, (column / STREAM_COLUMNS) as u64);
    words.seek((row * 4 + column % STREAM_COLUMNS / 4) as u64);
    let byte = words.next_u32() >> (8 * (column % 4)) & 0xff;
    2 * byte as i32 - 255
}

/// Rows whose bytes are made at the same time.
const TILE_ROWS: usize = 256;

/// See [`Matrix::expand`].
pub fn expand<T: Element>(
    matrix: &Matrix,
    set: InstructionSet,
    (columns, coefficients): (Range<usize>, &[T]),
    rows: Range<usize>,
    out: &mut [T],
) {
    parallel::for_each_chunk(out, TILE_ROWS, |position, out| {
        out.fill(T::default());
        let first_row = rows.start + position;
        for number in streams(&columns) {
            let coefficients = group(&columns, coefficients, number);
            dispatch(set, Expand { matrix, number, coefficients, first_row, out });
        }
    });
}

/// See [`Matrix::pullback`].
pub fn pullback(
    matrix: &Matrix,
    set: InstructionSet,
    columns: Range<usize>,
    gradient: &[f32],
    out: &mut [f32],
) {
    parallel::for_each_chunk(out, STREAM_COLUMNS, |position, out| {
        let first = columns.start + position;
        let columns = first..first + out.len();
        for number in streams(&columns) {
            let mut sums = [0.0; STREAM_COLUMNS];
            dispatch(set, Pullback { matrix, number, gradient, sums: &mut sums });
            let own = number * STREAM_COLUMNS..(number + 1) * STREAM_COLUMNS;
            for column in own.start.max(columns.start)..own.end.min(columns.end) {
                out[column - first] = sums[column - own.start];
            }
        }
    });
}

fn streams(columns: &Range<usize>) -> Range<usize> {
    columns.start / STREAM_COLUMNS..columns.end.div_ceil(STREAM_COLUMNS)
}

/// The coefficients of a stream's columns; zeros where there are none.
fn group<T: Element>(
    columns: &Range<usize>,
    coefficients: &[T],
    number: usize,
) -> [T; STREAM_COLUMNS] {
    std::array::from_fn(|i| {
        let column = number * STREAM_COLUMNS + i;
        let there = columns.contains(&column);
        if there { coefficients[column - columns.start] } else { T::default() }
    })
}

/// Entries of consecutive rows and of the columns of one stream.
fn with_entries(
    matrix: &Matrix,
    number: usize,
    rows: Range<usize>,
    mut visit: impl FnMut(usize, &[u8; STREAM_COLUMNS]),
) {
    let mut stream = stream(matrix, number as u64);
    stream.seek(4 * rows.start as u64);
    let mut words = [0u32; 4 * TILE_ROWS];
    for first in rows.clone().step_by(TILE_ROWS) {
        let count = TILE_ROWS.min(rows.end - first);
        let words = &mut words[..4 * count];
        stream.fill_u32(words);
        words.iter_mut().for_each(|word| *word = word.to_le());
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let (rows, _) = bytes.as_chunks::<STREAM_COLUMNS>();
        rows.iter().enumerate().for_each(|(i, bytes)| visit(first + i, bytes));
    }
}

struct Expand<'a, T> {
    matrix: &'a Matrix,
    number: usize,
    coefficients: [T; STREAM_COLUMNS],
    first_row: usize,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Expand<'_, T> {
    #[inline(always)]
    unsafe fn run<W: Words>(self) {
        let Expand { matrix, number, coefficients, first_row, out } = self;
        let rows = first_row..first_row + out.len();
        with_entries(matrix, number, rows, |row, bytes| {
            let mut products = [T::default(); STREAM_COLUMNS];
            for ((product, coefficient), &byte) in products.iter_mut().zip(coefficients).zip(bytes)
            {
                *product = coefficient.times(2 * i32::from(byte) - 255);
            }
            let (half, other) = products.split_at_mut(8);
            half.iter_mut().zip(other).for_each(|(a, b)| *a += *b);
            let (quarter, other) = half.split_at_mut(4);
            quarter.iter_mut().zip(other).for_each(|(a, b)| *a += *b);
            let [a, b, c, d] = [quarter[0], quarter[1], quarter[2], quarter[3]];
            let mut pairs = [a, b];
            pairs[0] += c;
            pairs[1] += d;
            out[row - first_row] += pairs[0];
            out[row - first_row] += pairs[1];
        });
    }
}

struct Pullback<'a> {
    matrix: &'a Matrix,
    number: usize,
    gradient: &'a [f32],
    sums: &'a mut [f32; STREAM_COLUMNS],
}

impl Kernel for Pullback<'_> {
    #[inline(always)]
    unsafe fn run<W: Words>(self) {
        let Pullback { matrix, number, gradient, sums } = self;
        with_entries(matrix, number, 0..gradient.len(), |row, bytes| {
            let g = gradient[row];
            for (sum, &byte) in sums.iter_mut().zip(bytes) {
                *sum += g * (2 * i32::from(byte) - 255) as f32;
            }
        });
    }
}
