//! What training begins with, and how its result becomes a file of the target's size.

use std::collections::BTreeMap;

use weightspace_core::StateDict;
use weightspace_core::container::Header;
use weightspace_nn::ModelState;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::net::Net;

use super::file::{Rounded, encode};
use super::{AwareConfig, QuantizationAware, Rounding, equalise, smallest_price};
use crate::quantize::{self, Images, Options, Progress, QuantizeError, Target};

/// Part of the target that training aims for: it does not hit exactly.
pub(crate) const MARGIN: f64 = 0.99;

/// Smallest and largest scale of steps that is tried for a target, and times that this interval is halved, by its
/// logarithm.
const SCALES: (f64, f64) = (0.1, 2.0);
const HALVINGS: usize = 10;

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
        let start = equalise(net, original)?;
        let mut plan = AwarePlan { start, steps, target_bits: 1.0 };
        plan.meet(net, header, config)?;
        Ok(plan)
    }

    /// Scales steps so that the start, rounded as in training, has the target's size, and finds what integers may
    /// cost in the file: from the one in which all are 0.
    fn meet(
        &mut self,
        net: &Net,
        header: &Header,
        config: &AwareConfig,
    ) -> Result<(), QuantizeError> {
        let state = ModelState::from_state_dict(net, &self.start);
        let state = state.map_err(|_| QuantizeError::Needs("the network's own tensors"))?;
        let of_scale = |scale: f64, weights: bool| -> Result<(Self, f64), QuantizeError> {
            let scaled = |(name, step): (&String, &f32)| (name.clone(), step * scale as f32);
            let plan = AwarePlan { steps: self.steps.iter().map(scaled).collect(), ..self.clone() };
            let method = plan.parameterization(net, config, state.weights.clone());
            let mut rounded = plan.rounded(&method, &state.weights, config.rounding_price);
            if !weights {
                rounded.values_mut().for_each(|tensor| tensor.integers.fill(0));
            }
            let file = encode(net, header, &plan.start, &rounded, config.vector_bits)?;
            Ok((plan, file.len() as f64))
        };
        let target = MARGIN * config.target_bytes as f64;
        let (_, rest) = of_scale(1.0, false)?;
        if target <= rest {
            let text = format!("a file without weights has {rest} bytes already");
            return Err(QuantizeError::OutOfReach(text));
        }
        let (mut low, mut high) = SCALES;
        for _ in 0..HALVINGS {
            let middle = f64::sqrt(low * high);
            match of_scale(middle, true)?.1 > target {
                true => low = middle,
                false => high = middle,
            }
        }
        (*self, _) = of_scale(high * config.step_factor, true)?;
        self.target_bits = 8.0 * (target - rest);
        Ok(())
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

    /// The file of trained weights, at most as large as the target: rounded as in the last steps of training, of which
    /// the method's `memory` tells; if that gives more, the price of rounding rises.
    ///
    /// # Errors
    /// If the target is out of reach.
    pub fn encode(
        &self,
        net: &Net,
        header: &Header,
        config: &AwareConfig,
        (coefficients, memory): (&[f32], &[f64]),
        running: &RunningStatistics,
    ) -> Result<Vec<u8>, QuantizeError> {
        let method = self.parameterization(net, config, coefficients.to_vec());
        let state = ModelState { weights: coefficients.to_vec(), running: running.clone() };
        let tensors = state.to_state_dict(net);
        let target = config.target_bytes;
        let price = Rounding::price_of(memory, config.rounding_price);
        let file = smallest_price(price, target, |price| {
            let rounded = self.rounded(&method, coefficients, price);
            encode(net, header, &tensors, &rounded, config.vector_bits)
        })?;
        let text = || format!("{target} bytes cannot be reached");
        file.ok_or_else(|| QuantizeError::OutOfReach(text()))
    }
}
