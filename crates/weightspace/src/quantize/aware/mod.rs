//! Quantisation-aware training: weights that are trained on the grid that they are stored on.
//!
//! Forward, a weight is an integer times its layer's step, chosen for the least of squared error and price of
//! its bits (entropy-constrained quantisation, Chou et al. 1989); backward, its gradient is that of the rounded
//! weight (Bengio et al. 2013) and of the bits of the file, whose price rises and falls with the distance to the target.
//!
//! Steps come from post-training quantisation to the same number of bytes, scaled so that training begins at that
//! size. The start is the original's weights as they are when batch normalisations are folded, so that one step
//! suits all channels of a layer. The normalisations themselves go on living: see [`equalise`].

mod coder;
mod config;
mod equalise;
mod file;
mod parameterization;
mod plan;
mod rate;
mod recipe;
mod rounding;

pub(crate) use coder::bits as coder_bits;
pub use config::AwareConfig;
pub use equalise::equalise;
pub use file::{Rounded, encode};
pub use parameterization::QuantizationAware;
pub use plan::AwarePlan;
pub(crate) use plan::MARGIN;
pub use recipe::{AwareError, AwareRecipe, Lesson, train};
pub use rounding::{RatePrices, RoundedPart, Rounding, smallest_price};
