//! Orthogonalisation of a matrix by products alone.

use faer::{Accum, MatMut, MatRef};

use super::clip::global_norm;
use crate::linalg::multiply;

/// Coefficients of X, (X X^T) X and (X X^T)^2 X, chosen by the method's author to lift small singular values
/// as fast as possible.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Iterations, after which most singular values lie roughly between 0.7 and 1.2.
const ITERATIONS: usize = 5;

/// Elements below this share of the norm count as 0. Those of a unit that no longer learns fall by the momentum in every
/// step until they are subnormal, and many processors are far slower with such numbers; what is left out would
/// not be seen beside the rest in `f32`, even after all iterations.
const SMALLEST_ELEMENT: f32 = 1e-9;

/// Norms below this count as this.
const SMALLEST_NORM: f64 = 1e-7;

/// Room for Newton-Schulz iterations on matrices up to a size.
///
/// Products are `faer`'s: cubic work is worth a tuned one (130 GFLOP/s were measured on
/// 64 x 576 with AVX-512), and its interface needs no `unsafe`. They run on one thread, so that results do not depend on their number.
#[derive(Default)]
pub(super) struct NewtonSchulz {
    matrix: Vec<f32>,
    gram: Vec<f32>,
    polynomial: Vec<f32>,
}

impl NewtonSchulz {
    /// Makes room for matrices of `rows` x `columns`.
    pub fn reserve(&mut self, rows: usize, columns: usize) {
        let grow = |v: &mut Vec<f32>, len: usize| v.resize(v.len().max(len), 0.0);
        let short = rows.min(columns);
        grow(&mut self.matrix, rows * columns);
        grow(&mut self.gram, short * short);
        grow(&mut self.polynomial, short * short);
    }

    /// Moves the singular values of `matrix` (row-major, `rows` x `columns`) close to 1, keeping its
    /// singular vectors.
    pub fn orthogonalize(&mut self, matrix: &mut [f32], rows: usize, columns: usize) {
        let [a, b, c] = COEFFICIENTS;
        let short = rows.min(columns);
        let next = &mut self.matrix[..rows * columns];
        let gram = &mut self.gram[..short * short];
        let polynomial = &mut self.polynomial[..short * short];

        let factor = (1.0 / global_norm(matrix).max(SMALLEST_NORM)) as f32;
        for value in matrix.iter_mut() {
            let scaled = *value * factor;
            *value = if scaled.abs() < SMALLEST_ELEMENT { 0.0 } else { scaled };
        }
        for _ in 0..ITERATIONS {
            let x = wide(MatRef::from_row_major_slice(matrix, rows, columns));
            let target = MatMut::from_row_major_slice_mut(gram, short, short);
            multiply(target, Accum::Replace, 1.0, x, x.transpose());
            polynomial.iter_mut().zip(&*gram).for_each(|(p, g)| *p = b * g);
            let gram = MatRef::from_row_major_slice(gram, short, short);
            let target = MatMut::from_row_major_slice_mut(polynomial, short, short);
            multiply(target, Accum::Add, c, gram, gram);
            next.iter_mut().zip(&*matrix).for_each(|(n, x)| *n = a * x);
            let polynomial = MatRef::from_row_major_slice(polynomial, short, short);
            let target = MatMut::from_row_major_slice_mut(next, rows, columns);
            let target = if rows > columns { target.transpose_mut() } else { target };
            multiply(target, Accum::Add, 1.0, polynomial, x);
            matrix.copy_from_slice(next);
        }
    }
}

/// The matrix or its transpose, whichever has no more rows than columns.
fn wide(matrix: MatRef<'_, f32>) -> MatRef<'_, f32> {
    if matrix.nrows() > matrix.ncols() { matrix.transpose() } else { matrix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_no_longer_learn_count_as_zero() {
        let (rows, columns) = (12, 20);
        let matrix = |dead: f32| -> Vec<f32> {
            let value = |i: usize| match i / columns {
                3 | 7 => dead,
                _ => ((i * i * 7919 + i * 523) % 1009) as f32 / 504.0 - 1.0,
            };
            (0..rows * columns).map(value).collect()
        };
        let orthogonal = |mut matrix: Vec<f32>| {
            let mut newton_schulz = NewtonSchulz::default();
            newton_schulz.reserve(rows, columns);
            newton_schulz.orthogonalize(&mut matrix, rows, columns);
            matrix
        };
        assert_eq!(orthogonal(matrix(1e-40)), orthogonal(matrix(0.0)));
        let squares: f32 = orthogonal(matrix(1e-40)).iter().map(|v| v * v).sum();
        assert!((squares - 10.0).abs() < 3.0, "ten units of about length 1: {squares}");
    }
}
