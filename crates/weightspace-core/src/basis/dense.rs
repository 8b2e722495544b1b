//! Random signs, summed four at a time.
//!
//! A word of the key stream makes a block of 16 x 16 signs: row r and column c have bit r + c. In a row
//! or a column of a block all signs are independent; two columns share bits at different rows only,
//! so that the products of their signs are uncorrelated from row to row, and columns are as nearly
//! orthogonal as those of independent signs (Toeplitz matrices as random projections: Hinrichs and
//! Vybiral 2011). It takes an eighth of the key stream, and rows and columns look alike:
//!
//! The sums of four coefficients under all 16 patterns of signs are a table in one register (the
//! method of the four Russians); four neighbouring bits look the sum up, for sixteen blocks of rows at once. In
//! the other direction the gradients of four rows take the place of four coefficients. So one instruction
//! treats more than twenty entries.

use std::ops::Range;

use super::chacha::Cipher;
use super::signs::stream;
use super::words::{Kernel, Words, dispatch, for_sixteen};
use super::{Element, Matrix};
use crate::{InstructionSet, parallel};

/// Rows, and columns, of the block of a word.
const BLOCK: usize = 16;

/// Columns that one stream serves: a block of the cipher has 16 words.
const STREAM_COLUMNS: usize = 16 * BLOCK;

/// Blocks of rows that are made at the same time.
const BATCH: usize = 16;

/// Rows that one call of a kernel expands: their sums stay in the first cache.
const TILE_ROWS: usize = 8192;

/// Columns that one call of a kernel pulls back to.
const TILE_COLUMNS: usize = 4 * STREAM_COLUMNS;

/// Batches whose tables of gradients stay in the first cache.
const TABLE_BATCHES: usize = 8;

/// One entry: 1 where the bit is set, else -1.
pub fn entry(matrix: &Matrix, row: usize, column: usize) -> i32 {
    let mut words = stream(matrix, (column / STREAM_COLUMNS) as u64);
    words.seek((row / BLOCK * 16 + column / BLOCK % 16) as u64);
    let bit = row % BLOCK + column % BLOCK;
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

/// The words of which exclusive or (and, of integers, subtracting) turns the sign of element i in the
/// patterns whose bit i is not set.
const fn turned(i: usize, word: u32) -> [u32; 16] {
    let mut words = [0; 16];
    let mut pattern = 0;
    while pattern < 16 {
        words[pattern] = if pattern >> i & 1 == 1 { 0 } else { word };
        pattern += 1;
    }
    words
}

const TURNED_FLOATS: [[u32; 16]; 4] =
    [turned(0, 1 << 31), turned(1, 1 << 31), turned(2, 1 << 31), turned(3, 1 << 31)];
const TURNED_INTEGERS: [[u32; 16]; 4] =
    [turned(0, u32::MAX), turned(1, u32::MAX), turned(2, u32::MAX), turned(3, u32::MAX)];

/// Sums of four elements under every pattern of signs: bit i set adds element i, else it is
/// subtracted.
#[inline(always)]
unsafe fn signed_sums<T: Element, W: Words>(elements: [T; 4]) -> W {
    // SAFETY: the processor has the instruction set of W by the contract of the caller.
    unsafe {
        let signed = |i: usize| {
            let all = W::splat(bytemuck::cast(elements[i]));
            if T::IS_FLOAT {
                return all.xor(W::load(&TURNED_FLOATS[i]));
            }
            let mask = W::load(&TURNED_INTEGERS[i]);
            all.xor(mask).sub_elements::<T>(mask)
        };
        let (first, second) = (signed(0), signed(2));
        let first = first.add_elements::<T>(signed(1));
        first.add_elements::<T>(second.add_elements::<T>(signed(3)))
    }
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

/// Adds to sum i what the 16 bits of the words from bit i on look up, four in each table.
#[inline(always)]
unsafe fn look_up_all<T: Element, W: Words>(words: W, tables: [W; 4], sums: &mut [W; 16]) {
    // SAFETY: the processor has the instruction set of W by the contract of the caller.
    unsafe {
        for_sixteen!(BIT => {
            let low = words.shift_right::<{ BIT as u32 }>();
            let high = words.shift_right::<{ BIT as u32 + 16 }>();
            for (j, table) in tables.into_iter().enumerate() {
                // Table j of sum i is looked up by the bits from i + 4 j on.
                let i = (BIT + 16 - 4 * j) % 16;
                let bits = if i + 4 * j < 16 { low } else { high };
                sums[i] = sums[i].add_elements::<T>(bits.look_up(table));
            }
        });
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
        let first_block = first_row / BLOCK;
        let blocks = (first_row + out.len()).div_ceil(BLOCK) - first_block;
        // Sum r of a batch holds row r of each of its 16 blocks.
        let mut sums = [[[0u32; 16]; BLOCK]; TILE_ROWS / (BATCH * BLOCK) + 1];
        let sums = &mut sums[..blocks.div_ceil(BATCH)];
        let cipher = Cipher::new(matrix.key);
        let mut tables = [[0u32; 16]; STREAM_COLUMNS / 4];
        for stream in columns.start / STREAM_COLUMNS..columns.end.div_ceil(STREAM_COLUMNS) {
            for (group, table) in tables.iter_mut().enumerate() {
                let own = four(coefficients, &columns, stream * STREAM_COLUMNS + 4 * group);
                // SAFETY: the processor has the instruction set of W by the contract of `run`.
                unsafe { signed_sums::<T, W>(own).store(table) }
            }
            let number = u64::from(matrix.segment) << 32 | stream as u64;
            for (batch, sums) in sums.iter_mut().enumerate() {
                let block = (first_block + BATCH * batch) as u64;
                // SAFETY: as above.
                unsafe {
                    let mut own: [W; BLOCK] = std::array::from_fn(|r| W::load(&sums[r]));
                    let words = cipher.blocks::<W>(number, block).map(|word| {
                        let mut words = [0; 16];
                        word.store(&mut words);
                        words
                    });
                    for (words, tables) in words.iter().zip(tables.as_chunks::<4>().0) {
                        let tables = tables.map(|table| W::load(&table));
                        look_up_all::<T, W>(W::load(words), tables, &mut own);
                    }
                    for (sum, own) in sums.iter_mut().zip(own) {
                        own.store(sum);
                    }
                }
            }
        }
        for (i, out) in out.iter_mut().enumerate() {
            let row = first_row % BLOCK + i;
            let (block, r) = (row / BLOCK, row % BLOCK);
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
        // Sum c of a stream holds column c of each of its 16 blocks.
        let mut sums = [[[0f32; 16]; BLOCK]; TILE_COLUMNS / STREAM_COLUMNS + 1];
        let sums = &mut sums[..columns.end.div_ceil(STREAM_COLUMNS) - first_stream];
        let cipher = Cipher::new(matrix.key);
        let mut tables = [[[0u32; 16]; 4]; BATCH * TABLE_BATCHES];
        let rows = 0..gradient.len();
        let blocks = gradient.len().div_ceil(BLOCK);
        for first_block in (0..blocks).step_by(tables.len()) {
            for (block, tables) in tables.iter_mut().enumerate() {
                for (group, table) in tables.iter_mut().enumerate() {
                    let own = four(gradient, &rows, BLOCK * (first_block + block) + 4 * group);
                    // SAFETY: the processor has the instruction set of W by the contract of `run`.
                    unsafe { signed_sums::<f32, W>(own).store(table) }
                }
            }
            let batches = (blocks - first_block).div_ceil(BATCH).min(TABLE_BATCHES);
            for (stream, sums) in sums.iter_mut().enumerate() {
                let number = u64::from(matrix.segment) << 32 | (first_stream + stream) as u64;
                // SAFETY: as above.
                unsafe {
                    let mut tile = [W::splat(0); BLOCK];
                    for (batch, tables) in tables.chunks_exact(BATCH).take(batches).enumerate() {
                        let block = (first_block + BATCH * batch) as u64;
                        let words = W::transpose(cipher.blocks::<W>(number, block)).map(|word| {
                            let mut words = [0; 16];
                            word.store(&mut words);
                            words
                        });
                        for (words, tables) in words.iter().zip(tables) {
                            let tables = tables.map(|table| W::load(&table));
                            look_up_all::<f32, W>(W::load(words), tables, &mut tile);
                        }
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
            *out = sums[stream - first_stream][within % BLOCK][within / BLOCK];
        }
    }
}
