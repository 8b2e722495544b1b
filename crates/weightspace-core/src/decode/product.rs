//! Tensors that are products of two factors.

use crate::tensor::Tensor;
use crate::{exact_product, parallel};

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
        exact_product::accumulate(out, rows, &right, rank, columns);
    });
    Tensor::from_f32(shape, &out)
}
