//! Networks as a key and a few coefficients of a pseudo-random basis (PRANC, Nooralinejad et al. 2023):
//! theta = start + basis alpha.
//!
//! The bases and the arithmetic of decoding are in [`weightspace_core::basis`]. Here is what chooses
//! coefficients: [`Subspace`] trains them, as a [`Parameterization`] of the one training loop.
//!
//! All weights and biases of convolutions and linear layers are projected; scales and shifts of
//! normalisations stay dense.
//!
//! [`Parameterization`]: weightspace_nn::train::Parameterization

mod config;
mod file;
mod map;
mod parameterization;
mod quantizer;
mod regress;
mod tensors;

pub use config::{Norms, Split, SubspaceConfig};
pub(crate) use file::dense_coding;
pub use file::{EncodeError, FileOptions, encode};
pub use map::Map;
pub use parameterization::Subspace;
pub use quantizer::Quantizer;
pub use regress::{Regression, regress};
pub use tensors::{SubspaceError, is_projected, projection};
