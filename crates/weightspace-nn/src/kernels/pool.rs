//! Pooling.

use super::maps::BLOCK;
use super::maps::Blocked;
use crate::net::Window;

/// The rows (columns) of the input that output row (column) `at` covers.
fn covered(window: Window, at: usize, len: usize) -> std::ops::Range<usize> {
    let start = (at * window.stride).saturating_sub(window.padding);
    start..(at * window.stride + window.size).saturating_sub(window.padding).clamp(start, len.max(start))
}

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
    let range = |at: usize, len: usize| covered(window, at, len);
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

/// dx += dy at the first of the largest pixels of every window; `output` are the maxima.
pub fn max_backward(
    window: Window,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &[f32]),
    gradient: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    let (from, x) = input;
    let (layout, dx) = target;
    let channels = from.channels;
    for block in 0..from.blocks() {
        let lanes = (channels - block * BLOCK).min(BLOCK);
        for y in 0..output.0.height {
            for column in 0..output.0.width {
                let largest = &output.1[output.0.at(block, y, column)..][..BLOCK];
                let dy = &gradient.1[gradient.0.at(block, y, column)..][..BLOCK];
                let mut open = [false; BLOCK];
                open[..lanes].fill(true);
                for row in covered(window, y, from.height) {
                    for column in covered(window, column, from.width) {
                        let x = &x[from.at(block, row, column)..][..BLOCK];
                        let dx = &mut dx[layout.at(block, row, column)..][..BLOCK];
                        for lane in 0..BLOCK {
                            let hit = open[lane] && x[lane] == largest[lane];
                            dx[lane] += if hit { dy[lane] } else { 0.0 };
                            open[lane] &= !hit;
                        }
                    }
                }
            }
        }
    }
}

/// dx += dy / k^2 at every pixel of every window.
pub fn mean_backward(
    window: Window,
    gradient: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    let (to, dy) = gradient;
    let (from, dx) = target;
    let scale = 1.0 / (window.size * window.size) as f32;
    for block in 0..to.blocks() {
        for y in 0..to.height {
            for x in 0..to.width {
                let dy = &dy[to.at(block, y, x)..][..BLOCK];
                for row in covered(window, y, from.height) {
                    let row = from.row_mut(dx, block, row);
                    for pixel in &mut row[covered(window, x, from.width)] {
                        for lane in 0..BLOCK {
                            pixel[lane] += scale * dy[lane];
                        }
                    }
                }
            }
        }
    }
}

/// Rows (columns) of window `at` of `size` that cover `len`.
fn adaptive(at: usize, size: usize, len: usize) -> std::ops::Range<usize> {
    at * len / size..((at + 1) * len).div_ceil(size)
}

/// Means over `size` x `size` windows that cover the maps; the output may be a vector of channels.
pub fn adaptive_mean(size: usize, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (from, source) = input;
    let (to, target) = output;
    for block in 0..from.blocks() {
        for y in 0..size {
            for x in 0..size {
                let (rows, columns) = (adaptive(y, size, from.height), adaptive(x, size, from.width));
                let scale = 1.0 / (rows.len() * columns.len()) as f32;
                let mut sums = [0.0; BLOCK];
                for row in rows {
                    for pixel in &from.row(source, block, row)[columns.clone()] {
                        for lane in 0..BLOCK {
                            sums[lane] += pixel[lane];
                        }
                    }
                }
                let at = to.at(block, y, x);
                for (to, sum) in target[at..at + BLOCK].iter_mut().zip(sums) {
                    *to = sum * scale;
                }
            }
        }
    }
}

/// dx += the gradient of [`adaptive_mean`].
pub fn adaptive_mean_backward(
    size: usize,
    gradient: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    let (to, dy) = gradient;
    let (from, dx) = target;
    for block in 0..from.blocks() {
        for y in 0..size {
            for x in 0..size {
                let (rows, columns) = (adaptive(y, size, from.height), adaptive(x, size, from.width));
                let scale = 1.0 / (rows.len() * columns.len()) as f32;
                let dy = &dy[to.at(block, y, x)..][..BLOCK];
                for row in rows {
                    for pixel in &mut from.row_mut(dx, block, row)[columns.clone()] {
                        for lane in 0..BLOCK {
                            pixel[lane] += scale * dy[lane];
                        }
                    }
                }
            }
        }
    }
}
