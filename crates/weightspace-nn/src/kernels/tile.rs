//! The two register tiles that all products are made of.

use super::maps::BLOCK;
use super::simd::Lanes;

/// For every channel `sums[o][p] += values[p * step + channel] * weights[o][channel]`, 16 lanes each:
/// `O` blocks of outputs by `P` pixels.
///
/// # Safety
/// The processor has the instruction set of `L`; `values` is readable for `(P - 1) * step +
/// channels` values, `weights` for `(O - 1) * next_block + channels * 16`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
pub unsafe fn multiply<L: Lanes, const O: usize, const P: usize>(
    sums: &mut [[L; P]; O],
    values: *const f32,
    step: usize,
    weights: *const f32,
    next_block: usize,
    channels: usize,
) {
    for channel in 0..channels {
        // SAFETY: inside the ranges of the contract.
        unsafe {
            let mut filters = [L::splat(0.0); O];
            for (o, filter) in filters.iter_mut().enumerate() {
                *filter = L::load(weights.add(o * next_block + channel * BLOCK));
            }
            for p in 0..P {
                let value = L::splat(*values.add(p * step + channel));
                for o in 0..O {
                    sums[o][p] = sums[o][p].add_product(value, filters[o]);
                }
            }
        }
    }
}

/// For every tap `sums[o][p] += values[p * step + tap] * weights[o][number of the tap]`:
/// [`multiply`] for one channel at several kernel positions.
///
/// # Safety
/// As [`multiply`], with the largest tap plus one in place of the channels of `values`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
pub unsafe fn multiply_taps<L: Lanes, const O: usize, const P: usize>(
    sums: &mut [[L; P]; O],
    values: *const f32,
    step: usize,
    mut weights: *const f32,
    next_block: usize,
    taps: &[usize],
) {
    for &tap in taps {
        // SAFETY: inside the ranges of the contract.
        unsafe {
            let mut filters = [L::splat(0.0); O];
            for (o, filter) in filters.iter_mut().enumerate() {
                *filter = L::load(weights.add(o * next_block));
            }
            let values = values.add(tap);
            for p in 0..P {
                let value = L::splat(*values.add(p * step));
                for o in 0..O {
                    sums[o][p] = sums[o][p].add_product(value, filters[o]);
                }
            }
            weights = weights.add(BLOCK);
        }
    }
}

/// For every pixel `sums[o][i] += values[pixel * value_step + i] * gradients[o][pixel]`: `O` blocks
/// of outputs by `I` input channels.
///
/// # Safety
/// The processor has the instruction set of `L`; `values` is readable for `(pixels - 1) *
/// value_step + I` values, `gradients` for `(O - 1) * next_block + (pixels - 1) * gradient_step +
/// 16`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
pub unsafe fn multiply_transposed<L: Lanes, const O: usize, const I: usize>(
    sums: &mut [[L; I]; O],
    (values, value_step): (*const f32, usize),
    (gradients, gradient_step, next_block): (*const f32, usize, usize),
    pixels: usize,
) {
    for pixel in 0..pixels {
        // SAFETY: inside the ranges of the contract.
        unsafe {
            let mut outputs = [L::splat(0.0); O];
            for (o, output) in outputs.iter_mut().enumerate() {
                *output = L::load(gradients.add(o * next_block + pixel * gradient_step));
            }
            for i in 0..I {
                let value = L::splat(*values.add(pixel * value_step + i));
                for o in 0..O {
                    sums[o][i] = sums[o][i].add_product(value, outputs[o]);
                }
            }
        }
    }
}

/// For every pixel `sums[o][i] += values[pixel * value_step + offsets[i]] * gradients[o][pixel]`:
/// [`multiply_transposed`] for inputs that do not stand side by side.
///
/// # Safety
/// As [`multiply_transposed`], with the largest offset plus one in place of `I`.
#[inline(always)]
pub unsafe fn multiply_scattered<L: Lanes, const O: usize, const I: usize>(
    sums: &mut [[L; I]; O],
    (values, value_step, offsets): (*const f32, usize, [usize; I]),
    (gradients, gradient_step, next_block): (*const f32, usize, usize),
    pixels: usize,
) {
    for pixel in 0..pixels {
        // SAFETY: inside the ranges of the contract.
        unsafe {
            let mut outputs = [L::splat(0.0); O];
            for (o, output) in outputs.iter_mut().enumerate() {
                *output = L::load(gradients.add(o * next_block + pixel * gradient_step));
            }
            for i in 0..I {
                let value = L::splat(*values.add(pixel * value_step + offsets[i]));
                for o in 0..O {
                    sums[o][i] = sums[o][i].add_product(value, outputs[o]);
                }
            }
        }
    }
}
