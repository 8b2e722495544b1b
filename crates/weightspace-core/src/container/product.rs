//! Tensors that are the product of two inner ones.

use super::error::{Reason, refuse};
use super::table::{Entry, Storage};
use crate::tensor::{DType, TensorInfo};
use crate::text::quoted;

/// What the names of the factors add to that of their product.
pub(super) const SUFFIXES: [&str; 2] = [".u", ".v"];

/// Makes the two entries behind each product inner; fewer if the table ends before.
pub(super) fn mark_factors(entries: &mut [Entry]) {
    for index in 0..entries.len() {
        if entries[index].storage == Storage::Product {
            entries[index + 1..].iter_mut().take(2).for_each(|factor| factor.inner = true);
        }
    }
}

/// Refuses a product, the first of `entries`, whose factors, the next two, do not fit.
pub(super) fn check(entries: &[Entry]) -> Result<(), Reason> {
    let [Entry { info, inner, .. }, left, right, ..] = entries else {
        return refuse!("{}: a product without two factors", quoted(&entries[0].info.name));
    };
    let name = quoted(&info.name);
    if *inner || info.dtype != DType::F32 || info.shape.len() < 2 {
        let TensorInfo { dtype, shape, .. } = info;
        return refuse!(
            "{name}: a product that is a factor, or {dtype} {shape:?}, not an f32 matrix"
        );
    }
    for Entry { info, storage, .. } in [left, right] {
        let stored =
            matches!(storage, Storage::Raw | Storage::Constant { .. } | Storage::Quantized { .. });
        if !stored || !matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return refuse!("{}: not a factor of type f32, f16 or bf16", quoted(&info.name));
        }
    }
    let (rows, columns) = (info.shape[0], info.shape[1..].iter().product::<usize>());
    let (left, right) = (&left.info.shape, &right.info.shape);
    let rank = right.first().copied().unwrap_or(0);
    if *left != [rows, rank] || *right != [rank, columns] || rank == 0 || rank > rows.min(columns) {
        let shape = &info.shape;
        return refuse!(
            "{name}: {left:?} x {right:?} is no product of low rank of shape {shape:?}"
        );
    }
    Ok(())
}
