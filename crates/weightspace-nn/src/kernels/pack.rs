//! Weights in the order in which the kernels read them.
//!
//! Packed: `[out_blocks][in_channels / 16][taps][in_channels % 16][16]`, where a block holds 16
//! output channels; outputs that do not exist are zero. Backward to the input the roles of inputs
//! and outputs change.

use super::maps::BLOCK;

/// Length of packed weights.
pub fn packed_len(out_channels: usize, in_channels: usize, taps: usize) -> usize {
    out_channels.div_ceil(BLOCK) * BLOCK * in_channels * taps
}

/// Calls `f(position in the packed weights, output, input, tap)` for every weight that exists.
#[inline(always)]
pub fn for_each_packed(
    (out_channels, in_channels, taps): (usize, usize, usize),
    mut f: impl FnMut(usize, usize, usize, usize),
) {
    let mut at = 0;
    for first_out in (0..out_channels).step_by(BLOCK) {
        let lanes = (out_channels - first_out).min(BLOCK);
        for first_in in (0..in_channels).step_by(BLOCK) {
            for tap in 0..taps {
                for input in first_in..in_channels.min(first_in + BLOCK) {
                    for lane in 0..lanes {
                        f(at + lane, first_out + lane, input, tap);
                    }
                    at += BLOCK;
                }
            }
        }
    }
}

/// Packs a matrix `[out, in]`: the weight of a linear layer on the way forward.
pub fn pack_rows(matrix: &[f32], (outputs, inputs): (usize, usize), packed: &mut [f32]) {
    let blocks = matrix.chunks(BLOCK * inputs).zip(packed.chunks_exact_mut(BLOCK * inputs));
    for (rows, block) in blocks {
        // 16 x 16 values at a time stay in the cache while they are turned.
        for first in (0..inputs).step_by(BLOCK) {
            let last = inputs.min(first + BLOCK);
            for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                for (i, &value) in row[first..last].iter().enumerate() {
                    block[(first + i) * BLOCK + lane] = value;
                }
            }
        }
    }
    debug_assert_eq!(packed.len(), packed_len(outputs, inputs, 1));
}

/// Adds what [`pack_rows`] packed to a matrix `[out, in]`.
pub fn unpack_rows(packed: &[f32], (_, inputs): (usize, usize), matrix: &mut [f32]) {
    let blocks = matrix.chunks_mut(BLOCK * inputs).zip(packed.chunks_exact(BLOCK * inputs));
    for (rows, block) in blocks {
        for first in (0..inputs).step_by(BLOCK) {
            let last = inputs.min(first + BLOCK);
            for (lane, row) in rows.chunks_exact_mut(inputs).enumerate() {
                for (i, value) in row[first..last].iter_mut().enumerate() {
                    *value += block[(first + i) * BLOCK + lane];
                }
            }
        }
    }
}

/// Packs the transpose of a matrix `[in, out]`: the weight of a linear layer on the way back.
pub fn pack_columns(matrix: &[f32], (outputs, inputs): (usize, usize), packed: &mut [f32]) {
    for (block, packed) in packed.chunks_exact_mut(BLOCK * inputs).enumerate() {
        let first = block * BLOCK;
        let lanes = BLOCK.min(outputs - first);
        for (row, target) in matrix.chunks_exact(outputs).zip(packed.chunks_exact_mut(BLOCK)) {
            target[..lanes].copy_from_slice(&row[first..first + lanes]);
        }
    }
}
