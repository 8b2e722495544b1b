//! Independent signs, one bit of the key stream each, summed four at a time.
//!
//! The sums of four columns under all 16 patterns of signs are a table in one register (the method of the
//! four Russians); four bits of the key stream look the sum up, for sixteen rows at once. In the other
//! direction four rows take the place of four columns, and bits are transposed on the way. So an entry
//! costs less than a tenth of an instruction, and most of that is the cipher.

use std::ops::Range;

use super::chacha::Cipher;
use super::signs::stream;
use super::words::{Kernel, Words, dispatch, for_sixteen};
use super::{Element, Matrix};
use crate::{InstructionSet, parallel};

/// Columns that one stream serves.
const STREAM_COLUMNS: usize = 128;

/// Rows that one block of the cipher serves.
const BLOCK_ROWS: usize = 4;

/// Blocks that are made at the same time.
const BATCH: usize = 16;

/// Rows that one call of a kernel expands: their sums stay in the first cache.
const TILE_ROWS: usize = 4096;

/// Columns that one call of a kernel pulls back to.
const TILE_COLUMNS: usize = 8 * STREAM_COLUMNS;

/// Batches whose tables of gradients stay in the first cache.
const TABLE_BATCHES: usize = 32;

/// One entry: 1 where the bit is set, else -1.
pub fn entry(matrix: &Matrix, row: usize, column: usize) -> i32 {
    let mut words = stream(matrix, (column / STREAM_COLUMNS) as u64);
    words.seek((row / BLOCK_ROWS * 16 + column / 8 % 16) as u64);
    let bit = 16 * (column / 4 % 2) + 4 * (row % 4) + column % 4;
    2 * (words.next_u32() >> bit & 1) as i32 - 1
}

/// See [`Matrix::expand`].
pub fn expand<T: Element>(
    matrix: &Matrix,
    set: InstructionSet,
    (columns, coefficients): (Range<usize>, &[T]),
    rows: Range<usize>,
    out: &mut [T],
) {
    parallel::for_each_chunk(out, TILE_ROWS, |position, out| {
        let first_row = rows.start + position;
        let columns = columns.clone();
        dispatch(set, Expand { matrix, columns, coefficients, first_row, out });
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
    parallel::for_each_chunk(out, TILE_COLUMNS, |position, out| {
        let first_column = columns.start + position;
        dispatch(set, Pullback { matrix, gradient, first_column, out });
    });
}

/// Sums of four elements under every pattern of signs: bit i set adds element i, else it is
/// subtracted.
#[inline(always)]
fn signed_sums<T: Element>(elements: [T; 4]) -> [u32; 16] {
    std::array::from_fn(|pattern| {
        let signed = |i: usize| match pattern >> i & 1 {
            1 => elements[i],
            _ => elements[i].negated(),
        };
        let mut pairs = [signed(0), signed(2)];
        pairs[0] += signed(1);
        pairs[1] += signed(3);
        pairs[0] += pairs[1];
        bytemuck::cast(pairs[0])
    })
}

/// The four elements from `first` on of those that stand at `range`; zeros elsewhere.
#[inline(always)]
fn four<T: Element>(elements: &[T], range: &Range<usize>, first: usize) -> [T; 4] {
    if range.start <= first && first + 4 <= range.end {
        let elements = &elements[first - range.start..];
        return [elements[0], elements[1], elements[2], elements[3]];
    }
    std::array::from_fn(|i| match range.contains(&(first + i)) {
        true => elements[first + i - range.start],
        false => T::default(),
    })
}

/// Adds to each of the sums what four bits of the words look up: those of the j-th sum begin at bit 4 j.
/// The tables are those of the lower and of the upper four sums.
#[inline(always)]
unsafe fn look_up_all<T: Element, W: Words>(words: W, tables: [W; 2], sums: &mut [W; 8]) {
    // SAFETY: the processor has the instruction set of W by the contract of the caller.
    unsafe {
        let nibbles = [
            words,
            words.shift_right::<4>(),
            words.shift_right::<8>(),
            words.shift_right::<12>(),
            words.shift_right::<16>(),
            words.shift_right::<20>(),
            words.shift_right::<24>(),
            words.shift_right::<28>(),
        ];
        for (j, nibble) in nibbles.into_iter().enumerate() {
            sums[j] = sums[j].add_elements::<T>(nibble.look_up(tables[j / 4]));
        }
    }
}

/// Sums of a tile of rows.
struct Expand<'a, T> {
    matrix: &'a Matrix,
    columns: Range<usize>,
    coefficients: &'a [T],
    first_row: usize,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Expand<'_, T> {
    #[inline(always)]
    unsafe fn run<W: Words>(self) {
        let Expand { matrix, columns, coefficients, first_row, out } = self;
        let first_block = first_row / BLOCK_ROWS;
        let blocks = (first_row + out.len()).div_ceil(BLOCK_ROWS) - first_block;
        // Sum r of a batch holds row r of each of its 16 blocks.
        let mut sums = [[[0u32; 16]; 4]; TILE_ROWS / (BATCH * BLOCK_ROWS) + 1];
        let sums = &mut sums[..blocks.div_ceil(BATCH)];
        let cipher = Cipher::new(matrix.key);
        for stream in columns.start / STREAM_COLUMNS..columns.end.div_ceil(STREAM_COLUMNS) {
            let tables: [[u32; 16]; 32] = std::array::from_fn(|group| {
                let first = stream * STREAM_COLUMNS + 4 * group;
                signed_sums(four(coefficients, &columns, first))
            });
            let number = u64::from(matrix.segment) << 32 | stream as u64;
            for (batch, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the processor has the instruction set of W by the contract of `run`.
                unsafe {
                    let zero = W::splat(0);
                    let mut halves = [zero; 8];
                    let words = cipher.blocks::<W>(number, (first_block + BATCH * batch) as u64);
                    for_sixteen!(I => {
                        let tables = [W::load(&tables[2 * I]), W::load(&tables[2 * I + 1])];
                        look_up_all::<T, W>(words[I], tables, &mut halves);
                    });
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let both = halves[r].add_elements::<T>(halves[r + 4]);
                        both.add_elements::<T>(W::load(sum)).store(sum);
                    }
                }
            }
        }
        for (i, out) in out.iter_mut().enumerate() {
            let row = first_row % BLOCK_ROWS + i;
            let (block, r) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
            *out = bytemuck::cast(sums[block / BATCH][r][block % BATCH]);
        }
    }
}

/// Sums of a tile of columns.
struct Pullback<'a> {
    matrix: &'a Matrix,
    gradient: &'a [f32],
    first_column: usize,
    out: &'a mut [f32],
}

impl Kernel for Pullback<'_> {
    #[inline(always)]
    unsafe fn run<W: Words>(self) {
        let Pullback { matrix, gradient, first_column, out } = self;
        let columns = first_column..first_column + out.len();
        let first_stream = first_column / STREAM_COLUMNS;
        // Sum 4 h + c of a stream holds columns 8 l + 4 h + c, l = 0 to 15.
        let mut sums = [[[0f32; 16]; 8]; TILE_COLUMNS / STREAM_COLUMNS + 1];
        let sums = &mut sums[..columns.end.div_ceil(STREAM_COLUMNS) - first_stream];
        let cipher = Cipher::new(matrix.key);
        let mut tables = [[0u32; 16]; BATCH * TABLE_BATCHES];
        let rows = 0..gradient.len();
        let blocks = gradient.len().div_ceil(BLOCK_ROWS);
        for first_block in (0..blocks).step_by(tables.len()) {
            for (block, table) in tables.iter_mut().enumerate() {
                *table = signed_sums(four(gradient, &rows, BLOCK_ROWS * (first_block + block)));
            }
            let batches = (blocks - first_block).div_ceil(BATCH).min(TABLE_BATCHES);
            for (stream, sums) in sums.iter_mut().enumerate() {
                let number = u64::from(matrix.segment) << 32 | (first_stream + stream) as u64;
                // SAFETY: the processor has the instruction set of W by the contract of `run`.
                unsafe {
                    let mut tile = [W::splat(0); 8];
                    for batch in 0..batches {
                        let block = first_block + BATCH * batch;
                        let words = W::transpose(cipher.blocks::<W>(number, block as u64));
                        for_sixteen!(I => {
                            let table = W::load(&tables[BATCH * batch + I]);
                            let words = transpose_bits(words[I]);
                            look_up_all::<f32, W>(words, [table; 2], &mut tile);
                        });
                    }
                    for (sum, tile) in sums.iter_mut().zip(tile) {
                        let sum: &mut [u32; 16] = bytemuck::cast_mut(sum);
                        W::load(sum).add_elements::<f32>(tile).store(sum);
                    }
                }
            }
        }
        for (column, out) in columns.zip(out) {
            let (stream, within) = (column / STREAM_COLUMNS, column % STREAM_COLUMNS);
            *out = sums[stream - first_stream][within % 8][within / 8];
        }
    }
}

/// Bit 4 r + c of each half becomes bit 4 c + r.
#[inline(always)]
unsafe fn transpose_bits<W: Words>(words: W) -> W {
    // SAFETY: the processor has the instruction set of W by the contract of the caller.
    unsafe {
        let moved = words.xor(words.shift_right::<3>()).and(W::splat(0x0a0a_0a0a));
        let words = words.xor(moved.xor(moved.shift_left::<3>()));
        let moved = words.xor(words.shift_right::<6>()).and(W::splat(0x00cc_00cc));
        words.xor(moved.xor(moved.shift_left::<6>()))
    }
}
