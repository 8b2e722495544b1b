//! Products of matrices, which `faer` multiplies.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use weightspace_core::instruction_set::leave_wide_registers;

/// `target` = or += `factor` times the product of two matrices, on this thread.
///
/// # Panics
/// If the shapes do not fit.
pub fn multiply(
    target: MatMut<'_, f32>,
    accum: Accum,
    factor: f32,
    left: MatRef<'_, f32>,
    right: MatRef<'_, f32>,
) {
    matmul(target, accum, left, right, factor, Par::Seq);
    leave_wide_registers();
}
