//! What quantisation-aware training aims for, as configuration files hold it.

use serde::{Deserialize, Serialize};

/// What quantisation-aware training aims for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwareConfig {
    /// Largest size of the file.
    pub target_bytes: u64,
    /// Steps in units of those with which the file has its target size before training. Below 1 more weights
    /// become zero for the same bytes.
    pub step_factor: f64,
    /// Price of a bit, in squared steps, when a weight is rounded.
    pub rounding_price: f64,
    /// Price in the loss of one bit for every weight, where the file has its target size.
    pub rate_price: f64,
    /// Unlabelled training images with which steps are found.
    pub calibrate: usize,
    /// Bits of the numbers of normalisations and biases in the file, 2 to 16.
    pub vector_bits: u8,
}

impl Default for AwareConfig {
    fn default() -> Self {
        AwareConfig {
            target_bytes: 50_000,
            step_factor: 1.0,
            rounding_price: 0.1,
            rate_price: 0.25,
            calibrate: 512,
            vector_bits: 8,
        }
    }
}
