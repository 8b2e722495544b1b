//! Methods that represent the weights of neural networks, on files that decode everywhere.
//!
//! Files are in [`weightspace_core`], networks and data sets in [`weightspace_nn`]; the program of
//! the same name puts everything together.

pub mod align;
pub mod analyze;
pub mod auto;
mod columns;
pub mod comm;
pub mod curve;
pub mod low_rank;
pub mod method;
pub mod phases;
pub mod predictor;
pub mod quantize;
pub mod report;
pub mod sane;
pub mod subspace;
mod vectors;
pub mod workplace;
pub mod zoo;
