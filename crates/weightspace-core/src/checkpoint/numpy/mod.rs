//! Arrays of NumPy: `.npy` files, and `.npz` archives of them.

pub(super) mod npy;
pub(super) mod npz;
