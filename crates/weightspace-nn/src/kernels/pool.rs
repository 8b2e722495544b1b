//! Pooling.

use super::maps::{BLOCK, Blocked};
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::net::Window;

/// The rows (columns) of the input that output row (column) `at` covers.
pub(crate) fn covered(window: Window, at: usize, len: usize) -> std::ops::Range<usize> {
    let start = (at * window.stride).saturating_sub(window.padding);
    start
        ..(at * window.stride + window.size)
            .saturating_sub(window.padding)
            .clamp(start, len.max(start))
}

/// Folds every window: `f(accumulated, pixel)` over the pixels inside the input, from `start`.
struct Fold<'a, F> {
    window: Window,
    input: (&'a Blocked, &'a [f32]),
    output: (&'a Blocked, &'a mut [f32]),
    start: f32,
    f: F,
    scale: f32,
}

impl<F: Fn(f32, f32) -> f32> Kernel for Fold<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Fold { window, start, f, scale, .. } = self;
        let (from, source) = self.input;
        let (to, target) = self.output;
        for block in 0..to.blocks() {
            for y in 0..to.height {
                for x in 0..to.width {
                    let mut folded = [start; BLOCK];
                    for row in covered(window, y, from.height) {
                        let columns = covered(window, x, from.width);
                        for pixel in &from.row(source, block, row)[columns] {
                            for lane in 0..BLOCK {
                                folded[lane] = f(folded[lane], pixel[lane]);
                            }
                        }
                    }
                    let at = to.at(block, y, x);
                    let pixel: &mut [f32; BLOCK] = target[at..].first_chunk_mut().expect("a pixel");
                    for lane in 0..BLOCK {
                        pixel[lane] = folded[lane] * scale;
                    }
                }
            }
        }
    }
}

/// Maximum over windows; padding does not count.
pub fn max(
    set: InstructionSet,
    window: Window,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    // Whatever is compared with NaN, NaN stays.
    let f = |a: f32, b: f32| if a >= b || a.is_nan() { a } else { b };
    dispatch(set, Fold { window, input, output, start: f32::NEG_INFINITY, f, scale: 1.0 });
}

/// Mean over windows; padding counts as zeros, as in PyTorch.
pub fn mean(
    set: InstructionSet,
    window: Window,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let scale = 1.0 / (window.size * window.size) as f32;
    dispatch(set, Fold { window, input, output, start: 0.0, f: |a, b| a + b, scale });
}

struct MaxBackward<'a> {
    window: Window,
    input: (&'a Blocked, &'a [f32]),
    output: (&'a Blocked, &'a [f32]),
    gradient: (&'a Blocked, &'a [f32]),
    target: (&'a Blocked, &'a mut [f32]),
}

impl Kernel for MaxBackward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (from, x) = self.input;
        let (layout, dx) = self.target;
        for block in 0..from.blocks() {
            for y in 0..self.output.0.height {
                let outputs = self.output.0.row(self.output.1, block, y);
                let gradients = self.gradient.0.row(self.gradient.1, block, y);
                for (column, (largest, dy)) in outputs.iter().zip(gradients).enumerate() {
                    let columns = covered(self.window, column, from.width);
                    // What is left for the pixels that follow.
                    let mut dy = *dy;
                    for row in covered(self.window, y, from.height) {
                        let x = &from.row(x, block, row)[columns.clone()];
                        let dx = &mut layout.row_mut(dx, block, row)[columns.clone()];
                        for (dx, x) in dx.iter_mut().zip(x) {
                            // Summed in registers: a store of some lanes only would make the next
                            // load wait.
                            let mut sum = *dx;
                            for lane in 0..BLOCK {
                                let hit = if x[lane] == largest[lane] { dy[lane] } else { 0.0 };
                                sum[lane] += hit;
                                dy[lane] -= hit;
                            }
                            *dx = sum;
                        }
                    }
                }
            }
        }
    }
}

/// dx += dy at the first of the largest pixels of every window; `output` are the maxima.
pub fn max_backward(
    set: InstructionSet,
    window: Window,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &[f32]),
    gradient: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    dispatch(set, MaxBackward { window, input, output, gradient, target });
}

/// dx += dy / k^2 at every pixel of every window.
pub fn mean_backward(window: Window, gradient: (&Blocked, &[f32]), target: (&Blocked, &mut [f32])) {
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
                let (rows, columns) =
                    (adaptive(y, size, from.height), adaptive(x, size, from.width));
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
                let (rows, columns) =
                    (adaptive(y, size, from.height), adaptive(x, size, from.width));
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
