//! Tensors that are products of two factors.

use crate::parallel;
use crate::tensor::Tensor;

/// Elements of the result that are computed as one piece of work.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// The product of two matrices, as a tensor of that shape.
pub(super) fn tensor(left: &Tensor, right: &Tensor, shape: Vec<usize>) -> Tensor {
    let (rank, columns) = (right.shape()[0], right.shape()[1]);
    let (left, right) = (left.to_f32(), right.to_f32());
    let mut out = vec![0.0; shape.iter().product()];
    let chunk = (CHUNK_ELEMENTS / columns).max(1) * columns;
    parallel::for_each_chunk(&mut out, chunk, |position, out| {
        let rows = &left[position / columns * rank..][..out.len() / columns * rank];
        exact_product(out, rows, &right, columns);
    });
    Tensor::from_f32(shape, &out)
}

/// Adds the product of `left` and `right`, which has that many columns, to `out`: to each element in
/// ascending order of the inner index, each product and each sum rounded.
fn exact_product(out: &mut [f32], left: &[f32], right: &[f32], columns: usize) {
    let rank = right.len() / columns;
    for (out, left) in out.chunks_exact_mut(columns).zip(left.chunks_exact(rank)) {
        for (&factor, right) in left.iter().zip(right.chunks_exact(columns)) {
            out.iter_mut().zip(right).for_each(|(sum, value)| *sum += factor * value);
        }
    }
}
