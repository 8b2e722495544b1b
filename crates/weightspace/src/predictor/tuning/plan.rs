//! The steps of a predictor that is trained on, and how its result becomes a file.

use std::collections::BTreeMap;

use weightspace_core::container::{Coding, Header};
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::{ModelState, Net};

use super::steps::{Choice, Steps};
use super::{RoundedPredictor, TuningConfig};
use crate::predictor::{PredictedWeights, StoredError, StoredPredictor, encode};
use crate::quantize::aware::{
    MARGIN, RatePrices, RoundedPart, Rounding, coder_bits, smallest_price,
};
use crate::subspace::EncodeError;

/// Smallest and largest step in units of the root mean square that is tried for a target.
const RELATIVE_STEPS: (f64, f64) = (1e-3, 4.0);

/// Times that the interval of steps is halved, by their logarithm.
const HALVINGS: usize = 14;

/// Times that the steps of what was trained may grow by a tenth so that the file meets its target.
const COARSER: usize = 40;

/// Why a predictor cannot be trained on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// The file holds no predictor of the network.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// A setting is out of its range.
    #[error("{setting} {value}, expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was found.
        value: f64,
        /// What may be.
        expected: &'static str,
    },
    /// The network's weights are not complete.
    #[error("{0}")]
    Weights(String),
    /// The file cannot be that small.
    #[error("{target} bytes cannot be reached: without the predictor's weights it is {rest}")]
    OutOfReach {
        /// Largest size of the file.
        target: u64,
        /// Bytes of all else.
        rest: u64,
    },
    /// The file cannot be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A predictor to be trained on, with the steps of its coefficients.
#[derive(Clone, Debug)]
pub struct TuningPlan {
    predictor: StoredPredictor,
    running: RunningStatistics,
    /// Of every tensor of the coefficients, in their order.
    steps: Vec<Steps>,
    /// Largest magnitudes of the integers of matrices.
    limit: f32,
    /// What the integers of matrices may cost, if there is a target.
    target_bits: Option<f64>,
}

impl TuningPlan {
    /// For the predictor of a file of the network with weights `original`.
    ///
    /// # Errors
    /// If file and network do not belong together, or settings are out of their ranges or the target out of reach.
    pub fn new(
        net: &Net,
        header: &Header,
        original: &StateDict,
        file: &WspFile,
        config: &TuningConfig,
    ) -> Result<Self, TuningError> {
        check(config)?;
        let predictor = StoredPredictor::read(file, net, original)?;
        let state = ModelState::from_state_dict(net, predictor.target.state_dict());
        let state = state.map_err(|error| TuningError::Weights(error.to_string()))?;
        let choice = Choice::Bits(config.bits);
        let steps = Vec::new();
        let (running, limit) = (state.running, choice.limit());
        let mut plan = TuningPlan { predictor, running, steps, limit, target_bits: None };
        match config.target_bytes {
            None => plan.choose(choice, config),
            Some(target) => plan.meet(net, header, config, target)?,
        }
        Ok(plan)
    }

    /// What training begins with, but for its rounding: the original in the file's order.
    pub fn start(&self) -> &StateDict {
        self.predictor.target.state_dict()
    }

    /// The running statistics of the original, in the file's order, which stay as they are.
    pub fn running(&self) -> &RunningStatistics {
        &self.running
    }

    /// The predictor, before it is trained on.
    pub fn predictor(&self) -> &StoredPredictor {
        &self.predictor
    }

    /// The parameterization of training.
    pub fn parameterization(
        &self,
        net: &Net,
        config: &TuningConfig,
        threads: usize,
    ) -> RoundedPredictor<'_> {
        let (rounding, loss) = (config.rounding_price, config.rate_price);
        let prices = self.target_bits.map_or(RatePrices::NONE, |target_bits| RatePrices {
            rounding,
            loss,
            target_bits,
            allowed_bits: [MARGIN * target_bits, target_bits],
        });
        let [matrices, vectors] = self.parts(config);
        let predicted =
            self.predicted(net, config, threads).with_reconstruction(config.reconstruction);
        RoundedPredictor::new(
            Rounding::new(matrices, prices),
            Rounding::new(vectors, RatePrices::NONE),
            predicted,
        )
    }

    fn predicted(&self, net: &Net, config: &TuningConfig, threads: usize) -> PredictedWeights<'_> {
        let StoredPredictor { target, model, coefficients } = &self.predictor;
        PredictedWeights::new(net, model, target, coefficients, config.others, threads)
    }

    /// The file of what was trained; with a target at most as large as this: rounded as in the last steps of training,
    /// of which the method's `memory` tells; if that gives more, the price of rounding rises, and where that is not
    /// enough, the steps grow.
    ///
    /// # Errors
    /// If the target is out of reach.
    pub fn encode(
        &self,
        net: &Net,
        header: &Header,
        config: &TuningConfig,
        (trained, memory): (&[f32], &[f64]),
    ) -> Result<Vec<u8>, TuningError> {
        let StoredPredictor { target, model, .. } = &self.predictor;
        let mut weights = target.weights().to_vec();
        self.predicted(net, config, 1).write_others(trained, &mut weights);
        let state = ModelState { weights, running: self.running.clone() }.to_state_dict(net);
        let coefficients = &trained[..model.coefficients().len()];
        let mut plan = self.clone();
        let price = Rounding::price_of(memory, config.rounding_price);
        for _ in 0..COARSER {
            let file = |price: f64| {
                let integers = plan.integers(config, coefficients, price);
                plan.file(net, header, config, integers, &state)
            };
            let Some(most) = config.target_bytes else { return Ok(file(0.0)?) };
            if let Some(file) = smallest_price(price, most, file)? {
                return Ok(file);
            }
            plan.steps.iter_mut().for_each(|steps| *steps = steps.scaled(1.1));
        }
        let (target, rest) =
            (config.target_bytes.unwrap_or(0), self.empty_file(net, header, config, &state)?);
        Err(TuningError::OutOfReach { target, rest })
    }

    /// Chooses steps for the coefficients as they were read.
    fn choose(&mut self, choice: Choice, config: &TuningConfig) {
        let StoredPredictor { model, coefficients, .. } = &self.predictor;
        let entries = model.coefficients().entries().iter();
        let steps = entries.map(|entry| {
            let values = &coefficients[entry.range()];
            match entry.shape.len() {
                1 => Steps::new(values, None, Choice::Bits(config.vector_bits)),
                _ => Steps::new(values, Some(entry.shape[0]).filter(|_| config.row_steps), choice),
            }
        });
        self.steps = steps.collect();
        self.limit = choice.limit();
    }

    /// Chooses steps and bits for a target of the file's size.
    fn meet(
        &mut self,
        net: &Net,
        header: &Header,
        config: &TuningConfig,
        target: u64,
    ) -> Result<(), TuningError> {
        let state = self.start().clone();
        let coefficients = self.predictor.coefficients.clone();
        let wanted = MARGIN * target as f64;
        let (mut low, mut high) = RELATIVE_STEPS;
        for _ in 0..HALVINGS {
            let middle = (low * high).sqrt();
            self.choose(Choice::Relative(middle), config);
            let integers = self.integers(config, &coefficients, config.rounding_price);
            let file = self.file(net, header, config, integers, &state)?;
            match file.len() as f64 > wanted {
                true => low = middle,
                false => high = middle,
            }
        }
        self.choose(Choice::Relative(high * config.step_factor), config);
        let rest = self.empty_file(net, header, config, &state)?;
        if wanted <= rest as f64 {
            return Err(TuningError::OutOfReach { target, rest });
        }
        let integers = self.integers(config, &coefficients, config.rounding_price);
        let whole = self.file(net, header, config, integers.clone(), &state)?.len() as f64;
        let [matrices, _] = self.parts(config);
        self.target_bits = Some(coder_bits(&matrices, integers) + 8.0 * (wanted - whole));
        Ok(())
    }

    /// Matrices and vectors among the coefficients.
    fn parts(&self, config: &TuningConfig) -> [Vec<RoundedPart>; 2] {
        let entries = self.predictor.model.coefficients().entries().iter().zip(&self.steps);
        let of_vectors = Choice::Bits(config.vector_bits).limit();
        let part = |(entry, steps): (&weightspace_core::LayoutEntry, &Steps)| RoundedPart {
            name: entry.name.clone(),
            range: entry.range(),
            shape: entry.shape.clone(),
            steps: steps.values(),
            limit: if entry.shape.len() > 1 { self.limit } else { of_vectors },
        };
        let (matrices, vectors): (Vec<_>, Vec<_>) =
            entries.partition(|(entry, _)| entry.shape.len() > 1);
        [matrices, vectors].map(|entries| entries.into_iter().map(part).collect())
    }

    /// All integers by the names of their tensors, at a price of the bits of matrices.
    fn integers(
        &self,
        config: &TuningConfig,
        coefficients: &[f32],
        price: f64,
    ) -> BTreeMap<String, Vec<i32>> {
        let [matrices, vectors] = self.parts(config).map(|parts| {
            let rounding = Rounding::new(parts, RatePrices::NONE);
            move |price| rounding.integers(coefficients, price)
        });
        let mut integers = matrices(price);
        integers.extend(vectors(0.0));
        integers
    }

    fn file(
        &self,
        net: &Net,
        header: &Header,
        config: &TuningConfig,
        mut integers: BTreeMap<String, Vec<i32>>,
        state: &StateDict,
    ) -> Result<Vec<u8>, EncodeError> {
        let StoredPredictor { target, model, .. } = &self.predictor;
        let entries = model.coefficients().entries().iter().zip(&self.steps);
        let inner = entries.map(|(entry, steps)| {
            let values = integers.remove(&entry.name).unwrap_or_default();
            let quantized = steps.quantized(entry.shape.clone(), values);
            (format!("predictor.{}", entry.name), Coding::Quantized(quantized))
        });
        let inner = inner.collect();
        encode(header, net, target, model, inner, state, config.vector_bits)
    }

    /// Bytes of a file whose integers are all 0.
    fn empty_file(
        &self,
        net: &Net,
        header: &Header,
        config: &TuningConfig,
        state: &StateDict,
    ) -> Result<u64, EncodeError> {
        let entries = self.predictor.model.coefficients().entries().iter();
        let zeros = entries.map(|entry| (entry.name.clone(), vec![0; entry.element_count()]));
        Ok(self.file(net, header, config, zeros.collect(), state)?.len() as u64)
    }
}

fn check(config: &TuningConfig) -> Result<(), TuningError> {
    for (setting, value) in [("bits", config.bits), ("vector_bits", config.vector_bits)] {
        if !(2..=16).contains(&value) {
            let (value, expected) = (value.into(), "2 to 16");
            return Err(TuningError::Setting { setting, value, expected });
        }
    }
    let numbers = [
        ("rounding_price", config.rounding_price),
        ("rate_price", config.rate_price),
        ("reconstruction", config.reconstruction),
    ];
    let wrong = numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0));
    let factor = config.step_factor;
    let wrong = wrong.map(|(setting, value)| (setting, value, "a finite number from 0 on"));
    let positive = factor.is_finite() && factor > 0.0;
    match wrong.or((!positive).then_some(("step_factor", factor, "a finite number above 0"))) {
        Some((setting, value, expected)) => Err(TuningError::Setting { setting, value, expected }),
        None => Ok(()),
    }
}
