//! A random sign for every row.

use super::{Element, Matrix};
use crate::random::Stream;

/// A stream of the matrix; see docs/format.md, section 12.
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

/// Gives the elements of the rows from `first` on the rows' signs.
pub fn apply<T: Element>(matrix: &Matrix, first: usize, elements: &mut [T]) {
    let mut stream = stream(matrix, SIGNS);
    let mut words = [0; 256];
    let mut row = first;
    let mut rest = elements;
    while !rest.is_empty() {
        let skipped = row % 32;
        let count = rest.len().min(32 * words.len() - skipped);
        let words = &mut words[..(skipped + count).div_ceil(32)];
        stream.seek(row as u64 / 32);
        stream.fill_u32(words);
        let (now, behind) = rest.split_at_mut(count);
        let (head, whole) = now.split_at_mut(count.min((32 - skipped) % 32));
        for (i, element) in head.iter_mut().enumerate() {
            *element = element.negated_if(words[0] >> (skipped + i));
        }
        let words = &words[usize::from(skipped > 0)..];
        for (elements, &word) in whole.chunks_mut(32).zip(words) {
            for (i, element) in elements.iter_mut().enumerate() {
                *element = element.negated_if(word >> i);
            }
        }
        row += count;
        rest = behind;
    }
}
