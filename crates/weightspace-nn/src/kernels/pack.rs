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
