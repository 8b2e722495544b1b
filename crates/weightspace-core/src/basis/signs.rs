//! A random sign for every row.

use super::Matrix;
use crate::random::Stream;

/// Number of a matrix' stream; see docs/format.md, section 12.
pub fn stream(matrix: &Matrix, index: u64) -> Stream {
    Stream::new(matrix.key, u64::from(matrix.segment) << 32 | index)
}

/// Stream of the signs.
const SIGNS: u64 = 0;

/// The sign of one row: 1 or -1.
pub fn sign(matrix: &Matrix, row: usize) -> i32 {
    let mut words = stream(matrix, SIGNS);
    words.seek(row as u64 / 32);
    1 - 2 * (words.next_u32() >> (row % 32) & 1) as i32
}
