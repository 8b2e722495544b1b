//! Pooling that is not part of a convolution.

use std::ops::Range;

use super::super::{LANES, Vector};
use crate::kernels::pool::covered;
use crate::net::Window;

/// Maximum or mean over windows.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct Pool {
    pub window: Window,
    /// The mean, padding counting as zeros; else the maximum, padding not counting.
    pub mean: bool,
    /// Channels, rows and columns.
    pub from: [usize; 3],
    pub to: [usize; 3],
}

impl Pool {
    /// For every output in order, the runs of inputs that it covers.
    fn windows(&self) -> impl Iterator<Item = impl Iterator<Item = Range<usize>> + use<>> + use<> {
        let Pool { window, from: [_, height, width], to: [channels, rows, columns], .. } = *self;
        (0..channels * rows * columns).map(move |i| {
            let (plane, y, x) = (i / (rows * columns), i / columns % rows, i % columns);
            let of_row = covered(window, x, width);
            covered(window, y, height).map(move |row| {
                let start = (plane * height + row) * width;
                start + of_row.start..start + of_row.end
            })
        })
    }

    fn scale(&self) -> f32 {
        1.0 / (self.window.size * self.window.size) as f32
    }

    /// The output of one sample.
    pub fn forward(&self, input: &[Vector], output: &mut [Vector]) {
        for (output, window) in output.iter_mut().zip(self.windows()) {
            let values = window.flat_map(|run| &input[run]);
            *output = match self.mean {
                true => {
                    let mut sum = values.fold(Vector::ZERO, add);
                    sum.0.iter_mut().for_each(|sum| *sum *= self.scale());
                    sum
                }
                false => values.fold(Vector([f32::NEG_INFINITY; LANES]), larger),
            };
        }
    }

    /// target += the gradient of the input of one sample, of the maximum at the first of the largest.
    pub fn backward(
        &self,
        (input, output): (&[Vector], &[Vector]),
        gradient: &[Vector],
        target: &mut [Vector],
    ) {
        for (i, window) in self.windows().enumerate() {
            // What is left for the values that follow.
            let mut rest = gradient[i];
            for at in window.flatten() {
                for lane in 0..LANES {
                    if self.mean {
                        target[at].0[lane] += rest.0[lane] * self.scale();
                        continue;
                    }
                    let hit = input[at].0[lane] == output[i].0[lane];
                    let share = if hit { rest.0[lane] } else { 0.0 };
                    target[at].0[lane] += share;
                    rest.0[lane] -= share;
                }
            }
        }
    }
}

/// Whatever is compared with NaN, NaN stays.
fn larger(a: Vector, b: &Vector) -> Vector {
    let larger = |a: f32, b: f32| if a >= b || a.is_nan() { a } else { b };
    Vector(std::array::from_fn(|lane| larger(a.0[lane], b.0[lane])))
}

fn add(a: Vector, b: &Vector) -> Vector {
    Vector(std::array::from_fn(|lane| a.0[lane] + b.0[lane]))
}

/// Mean over all positions of every channel.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct Mean {
    pub positions: usize,
}

impl Mean {
    /// The output of one sample.
    pub fn forward(&self, input: &[Vector], output: &mut [Vector]) {
        let scale = 1.0 / self.positions as f32;
        for (output, values) in output.iter_mut().zip(input.chunks_exact(self.positions)) {
            let sum = values.iter().fold(Vector::ZERO, add);
            *output = Vector(sum.0.map(|sum| sum * scale));
        }
    }

    /// The gradient of the input of one sample.
    pub fn backward(&self, gradient: &[Vector], target: &mut [Vector]) {
        let scale = 1.0 / self.positions as f32;
        for (gradient, target) in gradient.iter().zip(target.chunks_exact_mut(self.positions)) {
            target.fill(Vector(gradient.0.map(|gradient| gradient * scale)));
        }
    }
}
