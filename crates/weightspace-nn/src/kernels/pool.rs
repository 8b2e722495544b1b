//! Pooling.

use super::conv::BLOCK;
use super::maps::Blocked;
use crate::net::Window;

/// Folds every window: `f(accumulated, pixel)` over the pixels inside the input, from `start`.
#[inline(always)]
fn fold_windows(
    window: Window,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
    start: f32,
    f: impl Fn(f32, f32) -> f32,
    scale: f32,
) {
    let (from, source) = input;
    let (to, target) = output;
    let range = |at: usize, len: usize| {
        let start = (at * window.stride).saturating_sub(window.padding);
        start..(at * window.stride + window.size - window.padding).min(len)
    };
    for block in 0..to.blocks() {
        for y in 0..to.height {
            for x in 0..to.width {
                let mut folded = [start; BLOCK];
                for row in range(y, from.height) {
                    for pixel in &from.row(source, block, row)[range(x, from.width)] {
                        for lane in 0..BLOCK {
                            folded[lane] = f(folded[lane], pixel[lane]);
                        }
                    }
                }
                let at = to.at(block, y, x);
                for (to, value) in target[at..at + BLOCK].iter_mut().zip(folded) {
                    *to = value * scale;
                }
            }
        }
    }
}

/// Maximum over windows; padding does not count.
pub fn max(window: Window, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    fold_windows(window, input, output, f32::NEG_INFINITY, f32::max, 1.0);
}

/// Mean over windows; padding counts as zeros, as in PyTorch.
pub fn mean(window: Window, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let scale = 1.0 / (window.size * window.size) as f32;
    fold_windows(window, input, output, 0.0, |a, b| a + b, scale);
}

/// Mean over all pixels: maps to a vector of channels.
pub fn global_mean(input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (from, source) = input;
    let scale = 1.0 / (from.height * from.width) as f32;
    for (block, target) in output.1.chunks_exact_mut(BLOCK).enumerate() {
        let mut sums = [0.0; BLOCK];
        for y in 0..from.height {
            for pixel in from.row(source, block, y) {
                for lane in 0..BLOCK {
                    sums[lane] += pixel[lane];
                }
            }
        }
        for (to, sum) in target.iter_mut().zip(sums) {
            *to = sum * scale;
        }
    }
}
