//! Layer normalisation of tokens.

use super::maps::BLOCK;
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Rows of `width` values, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Values of a row.
    pub width: usize,
    /// From one row to the next.
    pub stride: usize,
}

/// Sum of 16 lanes at a time, the lanes added at the end.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0; BLOCK];
    let (chunks, rest) = values.as_chunks::<BLOCK>();
    for (i, chunk) in chunks.iter().enumerate() {
        for lane in 0..BLOCK {
            lanes[lane] += f(i * BLOCK + lane, chunk[lane]);
        }
    }
    let first = chunks.len() * BLOCK;
    for (i, &value) in rest.iter().enumerate() {
        lanes[i] += f(first + i, value);
    }
    lanes.iter().sum()
}

/// Mean and 1 / sqrt(variance + eps).
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum(row, |_, x| x) / count;
    let variance = sum(row, |_, x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

struct Forward<'a> {
    rows: Rows,
    eps: f32,
    scale: &'a [f32],
    shift: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Rows { width, stride } = self.rows;
        let (scale, shift) = (&self.scale[..width], &self.shift[..width]);
        for (x, y) in self.x.chunks_exact(stride).zip(self.y.chunks_exact_mut(stride)) {
            let (x, y) = (&x[..width], &mut y[..width]);
            let (mean, inverse) = statistics(x, self.eps);
            for i in 0..width {
                y[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
            }
        }
    }
}

/// y = (x - mean) / sqrt(variance + eps) * scale + shift for every row.
pub fn forward(
    set: InstructionSet,
    rows: Rows,
    eps: f32,
    (scale, shift): (&[f32], &[f32]),
    x: &[f32],
    y: &mut [f32],
) {
    dispatch(set, Forward { rows, eps, scale, shift, x, y });
}

struct Backward<'a> {
    rows: Rows,
    eps: f32,
    scale: &'a [f32],
    x: &'a [f32],
    dy: &'a [f32],
    scale_gradient: &'a mut [f32],
    shift_gradient: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Rows { width, stride } = self.rows;
        let scale = &self.scale[..width];
        let (dscale, dshift) =
            (&mut self.scale_gradient[..width], &mut self.shift_gradient[..width]);
        let rows = self.x.chunks_exact(stride).zip(self.dy.chunks_exact(stride));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(stride)) {
            let (x, dy, dx) = (&x[..width], &dy[..width], &mut dx[..width]);
            let (mean, inverse) = statistics(x, self.eps);
            let a = sum(dy, |i, dy| dy * scale[i]) / width as f32;
            let b = sum(dy, |i, dy| dy * scale[i] * (x[i] - mean)) * inverse / width as f32;
            for i in 0..width {
                let x_hat = (x[i] - mean) * inverse;
                dscale[i] += dy[i] * x_hat;
                dshift[i] += dy[i];
                dx[i] += inverse * (dy[i] * scale[i] - a - x_hat * b);
            }
        }
    }
}

/// dx += the gradient of [`forward`], and those of scale and shift.
#[expect(clippy::too_many_arguments, reason = "operands of one derivative")]
pub fn backward(
    set: InstructionSet,
    rows: Rows,
    eps: f32,
    scale: &[f32],
    x: &[f32],
    dy: &[f32],
    (scale_gradient, shift_gradient): (&mut [f32], &mut [f32]),
    dx: &mut [f32],
) {
    dispatch(set, Backward { rows, eps, scale, x, dy, scale_gradient, shift_gradient, dx });
}
