//! Hot loops on values `[.., lane]`.
//!
//! Convolutions and linear layers are one thing here: products of weights with the values at a list of
//! offsets ("taps") from every position of a [`Grid`].

mod activation;
mod dropout;
mod forward;
mod images;
mod input_gradient;
mod loss;
mod pad;
mod pool;
mod pooled_input_gradient;
mod pooled_weight_gradient;
mod product;
mod weight_gradient;

pub(super) use activation::ActivationPass;
pub(super) use dropout::DropoutPass;
pub(super) use forward::Forward;
pub(super) use images::transpose;
pub(super) use input_gradient::InputGradient;
pub(super) use loss::{cross_entropy, largest};
pub(super) use pad::Pad;
pub(super) use pool::{Mean, Pool};
pub(super) use pooled_input_gradient::PooledInputGradient;
pub(super) use pooled_weight_gradient::PooledWeightGradient;
pub(super) use product::{Choice, Product, expand};
pub(super) use weight_gradient::WeightGradient;

use super::{LANES, Vector};

/// All numbers one after the other.
fn flat(values: &[Vector]) -> &[f32] {
    // SAFETY: a vector is LANES numbers and nothing else.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() * LANES) }
}

/// All numbers one after the other.
fn flat_mut(values: &mut [Vector]) -> &mut [f32] {
    // SAFETY: a vector is LANES numbers and nothing else.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len() * LANES) }
}

/// The first number of a vector.
#[inline(always)]
fn at(values: &[Vector], index: usize) -> *const f32 {
    debug_assert!(index < values.len());
    values.as_ptr().wrapping_add(index).cast()
}

/// The first number of a vector.
#[inline(always)]
fn at_mut(values: &mut [Vector], index: usize) -> *mut f32 {
    debug_assert!(index < values.len());
    values.as_mut_ptr().wrapping_add(index).cast()
}
