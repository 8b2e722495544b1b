//! What training begins with, and how its result becomes a file of the target's size.

use std::collections::BTreeMap;

use weightspace_core::StateDict;
use weightspace_core::container::Header;
use weightspace_nn::ModelState;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::net::Net;

use super::file::{Rounded, encode};
use super::{AwareConfig, QuantizationAware, equalise, smallest_price};
use crate::quantize::{self, Images, Options, Progress, QuantizeError, Target};

/// Part of the target that training aims for: it does not hit exactly.
pub(crate) const MARGIN: f64 = 0.99;

/// What training begins with.
#[derive(Clone, Debug)]
pub struct AwarePlan {
    /// The original with one scale for all channels of a layer.
    pub start: StateDict,
    /// Step of every tensor that is rounded.
    steps: BTreeMap<String, f32>,
    /// What their integers may cost in the file.
    target_bits: f64,
}

impl AwarePlan {
    /// Finds steps by quantising the original after training to the target.
    ///
    /// # Errors
    /// If the images do not fit the network, or the target cannot be reached.
    pub fn new(
        net: &Net,
        header: &Header,
        original: &StateDict,
        images: Images<'_>,
        config: &AwareConfig,
        seed: u64,
        progress: Progress<'_>,
    ) -> Result<Self, QuantizeError> {
        let target = Target::Bytes(config.target_bytes);
        let options = Options { target, fold: true, calibrate: config.calibrate, seed };
        let steps = quantize::steps(header, original, net, images, &options, progress)?;
        let scaled = |(name, step)| (name, step * config.step_factor as f32);
        let steps = steps.into_iter().map(scaled).collect();
        let start = equalise(net, original)?;
        let mut plan = AwarePlan { start, steps, target_bits: 1.0 };
        plan.target_bits = plan.bits_for(net, header, config)?;
        Ok(plan)
    }

    /// What integers may cost in the file so that it has the target's size: from the file in which all are 0.
    fn bits_for(
        &self,
        net: &Net,
        header: &Header,
        config: &AwareConfig,
    ) -> Result<f64, QuantizeError> {
        let state = ModelState::from_state_dict(net, &self.start);
        let state = state.map_err(|_| QuantizeError::Needs("the network's own tensors"))?;
        let method = self.parameterization(net, config, state.weights.clone());
        let mut rounded = self.rounded(&method, &state.weights, config.rounding_price);
        rounded.values_mut().for_each(|tensor| tensor.integers.fill(0));
        let rest = encode(net, header, &self.start, &rounded, config.vector_bits)?.len() as f64;
        let target = MARGIN * config.target_bytes as f64;
        if target <= rest {
            let text = format!("a file without weights has {rest} bytes already");
            return Err(QuantizeError::OutOfReach(text));
        }
        Ok(8.0 * (target - rest))
    }

    /// The parameterization of training.
    pub fn parameterization(
        &self,
        net: &Net,
        config: &AwareConfig,
        weights: Vec<f32>,
    ) -> QuantizationAware {
        QuantizationAware::new(net, config, &self.steps, self.target_bits, weights)
    }

    fn rounded(
        &self,
        method: &QuantizationAware,
        coefficients: &[f32],
        price: f64,
    ) -> BTreeMap<String, Rounded> {
        let integers = method.rounding().integers(coefficients, price);
        let tensors = integers.into_iter().map(|(name, integers)| {
            let step = self.steps[&name];
            (name, Rounded { step, integers })
        });
        tensors.collect()
    }

    /// The file of trained weights, at most as large as the target: if the price with which they were trained gives
    /// more, the price of rounding rises.
    ///
    /// # Errors
    /// If the target is out of reach.
    pub fn encode(
        &self,
        net: &Net,
        header: &Header,
        config: &AwareConfig,
        coefficients: &[f32],
        running: &RunningStatistics,
    ) -> Result<Vec<u8>, QuantizeError> {
        let method = self.parameterization(net, config, coefficients.to_vec());
        let state = ModelState { weights: coefficients.to_vec(), running: running.clone() };
        let tensors = state.to_state_dict(net);
        let target = config.target_bytes;
        let file = smallest_price(config.rounding_price, target, |price| {
            let rounded = self.rounded(&method, coefficients, price);
            encode(net, header, &tensors, &rounded, config.vector_bits)
        })?;
        let text = || format!("{target} bytes cannot be reached");
        file.ok_or_else(|| QuantizeError::OutOfReach(text()))
    }
}
