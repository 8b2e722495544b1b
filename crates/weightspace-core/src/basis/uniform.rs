//! Independent uniform numbers: odd integers from -255 to 255, one byte of the key stream each.

use super::Matrix;
use super::signs::stream;

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
