//! How the predictor of a file is trained on, as configuration files hold it.

use serde::{Deserialize, Serialize};

use crate::predictor::Others;

/// How the predictor of a file is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuningConfig {
    /// Bits of the predictor's weights, 2 to 16, where there is no target.
    pub bits: u8,
    /// Largest size of the file: weights have steps in proportion to what they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// With a target, steps in units of those with which the predictor meets it without training.
    pub step_factor: f64,
    /// With a target, price of a bit, in squared steps, when a weight is rounded.
    pub rounding_price: f64,
    /// With a target, price in the loss of one bit for every weight, where the file has its target size.
    pub rate_price: f64,
    /// Every row of a matrix has its own step, not every matrix.
    pub row_steps: bool,
    /// Bits of the elements of biases and normalisations in the file, 2 to 16.
    pub vector_bits: u8,
    /// What becomes of the tensors that are not predicted.
    pub others: Others,
    /// What the root mean square of the weights' errors counts in the loss.
    pub reconstruction: f64,
}

impl Default for TuningConfig {
    fn default() -> Self {
        TuningConfig {
            bits: 8,
            target_bytes: None,
            step_factor: 1.0,
            rounding_price: 0.1,
            rate_price: 0.25,
            row_steps: true,
            vector_bits: 10,
            others: Others::Fixed,
            reconstruction: 0.0,
        }
    }
}
