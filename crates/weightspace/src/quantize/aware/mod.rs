//! Quantisation-aware training: weights that are trained on the grid that they are stored on.
//!
//! Forward, a weight is an integer times its layer's step, chosen for the least of squared error and price of
//! its bits (entropy-constrained quantisation, Chou et al. 1989); backward, its gradient is that of the rounded
//! weight (Bengio et al. 2013) and of the bits of the file, whose price rises and falls with the distance to the target.
//!
//! Training begins with what second-order rounding makes of the network for a file of the same size: its steps, its
//! biases, and weights that are as near to the original's as they can be to be rounded to the same integers. Batch
//! normalisations are folded, so that what is trained is exactly what the file holds.

mod coder;
mod config;
mod parameterization;
mod plan;
mod rate;
mod recipe;
mod rounding;

pub(crate) use coder::bits as coder_bits;
pub use config::AwareConfig;
pub use parameterization::QuantizationAware;
pub use plan::AwarePlan;
pub(crate) use plan::MARGIN;
pub use recipe::{AwareError, AwareRecipe, Lesson, learning_rate, set_training, train};
pub use rounding::{RatePrices, RoundedPart, Rounding, smallest_price};
