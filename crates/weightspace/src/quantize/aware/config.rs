//! What quantisation-aware training aims for, as configuration files hold it.

use serde::{Deserialize, Serialize};

/// What quantisation-aware training aims for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwareConfig {
    /// Largest size of the file.
    pub target_bytes: u64,
    /// Price of a bit, in squared steps, when a weight is rounded.
    pub rounding_price: f64,
    /// Price in the loss of one bit for every weight, where the file has its target size.
    pub rate_price: f64,
    /// Unlabelled training images with which weights are rounded before training.
    pub calibrate: usize,
}

impl Default for AwareConfig {
    fn default() -> Self {
        AwareConfig { target_bytes: 50_000, rounding_price: 0.1, rate_price: 0.25, calibrate: 512 }
    }
}
