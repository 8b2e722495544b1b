//! Populations of networks as data to learn from (SANE: "Towards Scalable and Versatile Weight Space Learning",
//! Schuerholt et al. 2024).
//!
//! A [`TokenLayout`] cuts the tensors of any network into tokens. [`Windows`] draws windows of consecutive tokens from
//! the mapped weights of a [`Population`](crate::zoo::Population): of a model nothing but the rows of the window is read, and units
//! are permuted by index arithmetic ([`Arrangement`]). An autoencoder ([`model`]) learns them ([`Pretraining`]);
//! a [`Study`] is all that is known of a zoo before that, a [`SaneModel`] what is left of it.

pub mod arrangement;
pub mod audit;
pub mod coder;
pub mod embedding;
mod error;
pub mod features;
mod file;
pub mod halo;
pub mod map;
pub mod model;
pub mod presets;
pub mod pretraining;
pub mod probe;
pub mod reconstruction;
pub mod ridge;
mod run;
pub mod sampling;
pub mod scale;
pub mod standardisation;
pub mod statistics;
pub mod table;
pub mod tokens;
pub mod windows;

pub use arrangement::{Arrangement, Arranger};
pub use coder::Coder;
pub use error::SaneError;
pub use file::SaneModel;
pub use halo::Halo;
pub use model::SaneConfig;
pub use pretraining::{Pretraining, PretrainingConfig};
pub use run::{PretrainConfig, Study};
pub use standardisation::Standardisation;
pub use tokens::{Position, TokenConfig, TokenLayer, TokenLayout};
pub use windows::Windows;
