//! Independent signs, one bit of the key stream each.

use super::Matrix;
use super::signs::stream;

/// Columns that one stream serves.
const STREAM_COLUMNS: usize = 128;

/// One entry: 1 where the bit is set, else -1.
pub fn entry(matrix: &Matrix, row: usize, column: usize) -> i32 {
    let mut words = stream(matrix, (column / STREAM_COLUMNS) as u64);
    words.seek((row / 4 * 16 + column / 8 % 16) as u64);
    let bit = 16 * (column / 4 % 2) + 4 * (row % 4) + column % 4;
    2 * (words.next_u32() >> bit & 1) as i32 - 1
}
