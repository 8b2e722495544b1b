//! The autoencoder learns windows of a population (SANE, section 3.3).

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use weightspace_core::align::Aligner;
use weightspace_core::random::{Key, Stream};
use weightspace_core::{StateDict, TensorInfo};
use weightspace_nn::comm::Part;
use weightspace_nn::loss::{Linear, Loss, MaskedMeanSquaredError, NtXent, Weighted};
use weightspace_nn::optim::{AdamW, OptimizerConfig};
use weightspace_nn::train::{Prepared, Score, Task, TrainConfig, TrainError};
use weightspace_nn::{Engine, Net, NodeId};

use super::model::{Autoencoder, TrainingNet};
use super::{Arrangement, Arranger, SaneError, Standardisation, TokenLayout, Windows};
use crate::zoo::{EpochMetrics, ModelWeights, Params, Population};

/// Windows that are reconstructed at a time for evaluation.
const EVALUATED: usize = 64;

/// How windows are drawn, and what is made small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainingConfig {
    /// Share of the contrast in the loss; reconstruction has the rest.
    pub contrast: f64,
    /// Temperature of the contrast.
    pub temperature: f32,
    /// Every element is multiplied by 1 + so much N(0, 1).
    pub noise: f32,
    /// Which of the two views of a window are permuted; the others are aligned.
    pub permuted: [bool; 2],
    /// What tokens are filled up with does not count.
    pub masked: bool,
}

impl Default for PretrainingConfig {
    /// The published settings: one view aligned, one permuted.
    fn default() -> Self {
        PretrainingConfig {
            contrast: 0.05,
            temperature: 0.1,
            noise: 0.1,
            permuted: [false, true],
            masked: true,
        }
    }
}

impl PretrainingConfig {
    /// The published optimisation: AdamW with a highest rate of 1e-4 on one cycle, batches of 32.
    pub fn train_config() -> TrainConfig {
        let adamw = AdamW { learning_rate: 1e-4, weight_decay: 3e-9, ..AdamW::default() };
        TrainConfig {
            epochs: 50,
            batch: 32,
            drop_last: true,
            decay_vectors: false,
            optimizer: OptimizerConfig::AdamW(adamw),
            schedule: TrainConfig::one_cycle(),
            ..TrainConfig::default()
        }
    }

    fn check(&self) -> Result<(), SaneError> {
        let fail = |setting, value: f64, expected: &str| {
            let (value, expected) = (value.to_string(), expected.to_owned());
            Err(SaneError::Setting { setting, value, expected })
        };
        if !(0.0..1.0).contains(&self.contrast) {
            return fail("contrast", self.contrast, "from 0 to below 1");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return fail("temperature", self.temperature.into(), "a finite number above 0");
        }
        match self.noise.is_finite() && self.noise >= 0.0 {
            true => Ok(()),
            false => fail("noise", self.noise.into(), "a finite number from 0 on"),
        }
    }
}

/// Models of a population, at some of their epochs, with how each is aligned.
#[derive(Clone, Debug)]
pub struct Samples {
    population: Population,
    /// Model and epoch.
    samples: Vec<(usize, u32)>,
    /// Of every model a permutation of every group; empty if nothing is aligned.
    alignment: Vec<Vec<Vec<usize>>>,
}

impl Samples {
    /// All models at those of their epochs that `wanted` says.
    ///
    /// # Errors
    /// If a model's files are damaged.
    pub fn new(population: Population, wanted: impl Fn(u32) -> bool) -> Result<Self, SaneError> {
        let mut samples = Vec::new();
        for model in 0..population.len() {
            let epochs = population.model(model)?.epochs;
            samples.extend(epochs.into_iter().filter(|&epoch| wanted(epoch)).map(|e| (model, e)));
        }
        Ok(Samples { population, samples, alignment: Vec::new() })
    }

    /// Aligned, every model by its weights after one epoch, `by`, whose permutations hold for all its epochs. The
    /// layout is that of the aligner's reference.
    ///
    /// # Errors
    /// If a model cannot be read or has other tensors than the reference.
    pub fn aligned_by(
        self,
        aligner: &Aligner,
        layout: &TokenLayout,
        by: impl Fn(&Self, usize) -> Result<Option<u32>, SaneError> + Sync,
    ) -> Result<Self, SaneError> {
        let of = |model: usize| {
            let Some(epoch) = by(&self, model)? else { return Ok(Vec::new()) };
            let weights = layout.renamed(self.population.weights(model, epoch)?);
            Ok(aligner.align(&weights)?.permutations)
        };
        let alignment = (0..self.population.len()).into_par_iter().map(of);
        let alignment = alignment.collect::<Result<_, SaneError>>()?;
        Ok(Samples { alignment, ..self })
    }

    /// The last of a model's epochs that is a sample; `None` if there is no such model or epoch.
    pub fn last_epoch_of(&self, model: usize) -> Option<u32> {
        // Samples stand in the order of models, and of epochs within these.
        let end = self.samples.partition_point(|(of, _)| *of <= model);
        let last = self.samples[..end].last().filter(|(of, _)| *of == model);
        last.map(|(_, epoch)| *epoch)
    }

    /// What a sample was made with, and how well it does.
    ///
    /// # Errors
    /// If its files are damaged.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn known(&self, sample: usize) -> Result<(Params, EpochMetrics), SaneError> {
        let (model, epoch) = self.samples[sample];
        let known = self.population.model(model)?;
        let metrics = known.metrics.iter().find(|metrics| metrics.epoch == epoch).copied();
        Ok((known.params, metrics.unwrap_or_else(|| EpochMetrics::unknown(epoch))))
    }

    /// Name of the model of a sample, and its epoch.
    pub fn name(&self, sample: usize) -> (&str, u32) {
        let (model, epoch) = self.samples[sample];
        (self.population.name(model), epoch)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The population.
    pub fn population(&self) -> &Population {
        &self.population
    }

    /// The weights of a sample, with its tensors in the order of the layout's.
    ///
    /// # Errors
    /// If they cannot be read, or are those of another network.
    pub fn open(&self, layout: &TokenLayout, sample: usize) -> Result<ModelWeights<'_>, SaneError> {
        let (model, epoch) = self.samples[sample];
        let weights = self.population.open_weights(model, epoch)?;
        weights.in_order_of(layout.tensors()).ok_or_else(|| SaneError::Model {
            model: weightspace_core::quoted(self.population.name(model)),
            reason: "its tensors are not those of the first model".to_owned(),
        })
    }

    /// Names, types and shapes of a sample's tensors.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn tensors(&self, sample: usize) -> Result<Vec<TensorInfo>, SaneError> {
        let (model, epoch) = self.samples[sample];
        Ok(self.population.tensors(model, epoch)?)
    }

    /// Of a sample's model the permutation of every group, if it is aligned.
    pub fn aligned(&self, sample: usize) -> Option<&[Vec<usize>]> {
        self.alignment.get(self.samples[sample].0).map(Vec::as_slice)
    }
}

/// Windows to be learned, as the training loop's task: a sample is a model at an epoch, of which every pass draws one
/// window in two views.
pub struct Pretraining<'a> {
    model: &'a Autoencoder,
    training: TrainingNet,
    reconstructor: Net,
    layout: &'a TokenLayout,
    standardisation: &'a Standardisation,
    arranger: Arranger,
    config: PretrainingConfig,
    train: Samples,
    validation: Samples,
    key: Key,
    windows: Windows<'a>,
    inputs: Vec<f32>,
    targets: Vec<f32>,
    masks: Vec<f32>,
    zeros: Vec<f32>,
}

impl<'a> Pretraining<'a> {
    /// Training on some models, with others to look at.
    ///
    /// # Errors
    /// Settings out of their ranges, or networks of fewer tokens than a window.
    pub fn new(
        model: &'a Autoencoder,
        (layout, standardisation): (&'a TokenLayout, &'a Standardisation),
        arranger: Arranger,
        (train, validation): (Samples, Samples),
        config: PretrainingConfig,
        seed: u64,
    ) -> Result<Self, SaneError> {
        config.check()?;
        model.check(layout)?;
        let window = model.config().window;
        if window > layout.token_count() {
            return Err(SaneError::Setting {
                setting: "window",
                value: window.to_string(),
                expected: format!("at most the {} tokens of the network", layout.token_count()),
            });
        }
        Ok(Pretraining {
            training: model.training_net(),
            reconstructor: model.reconstructor(window),
            windows: Windows::new(layout, standardisation),
            key: Key::for_purpose(seed, "windows"),
            inputs: Vec::new(),
            targets: Vec::new(),
            masks: Vec::new(),
            zeros: Vec::new(),
            model,
            layout,
            standardisation,
            arranger,
            config,
            train,
            validation,
        })
    }

    /// How the units of a view stand.
    fn arrangement(
        &self,
        sample: usize,
        layers: Range<usize>,
        permuted: bool,
        key: Key,
    ) -> Arrangement {
        let aligned = self.train.aligned(sample);
        match permuted {
            true => self.arranger.shuffled(self.layout, layers, key, aligned),
            false => self.arranger.aligned(self.layout, layers, aligned),
        }
    }

    /// Appends both views of the window of a sample.
    fn draw(&mut self, epoch: u32, sample: usize) -> Result<(), SaneError> {
        let number = u64::from(epoch) << 32 | sample as u64;
        let (tokens, mut stream) = drawn_window(self.layout, self.model, self.key, number);
        let layers = self.layout.layers_of(&tokens);
        let seed = u64::from(stream.next_u32()) << 32 | u64::from(stream.next_u32());
        let key = Key::for_purpose(seed, "permutations");
        let model = self.train.open(self.layout, sample)?;
        let len = tokens.len() * self.layout.token_size();
        for permuted in self.config.permuted {
            let arrangement = self.arrangement(sample, layers.clone(), permuted, key);
            let at = self.inputs.len();
            self.inputs.resize(at + len + self.model.position_len(tokens.len()), 0.0);
            let (values, positions) = self.inputs[at..].split_at_mut(len);
            self.windows.read(&model, &arrangement, tokens.clone(), values)?;
            if self.config.noise > 0.0 {
                let noise = self.config.noise;
                values.iter_mut().for_each(|value| *value *= 1.0 + noise * stream.normal());
            }
            self.model.write_positions(self.layout, tokens.clone(), positions);
            self.targets.extend_from_slice(values);
        }
        Ok(())
    }

    /// Squared errors of the windows of some validation samples.
    fn errors(&self, engine: &Engine, samples: Range<usize>) -> Result<Errors, SaneError> {
        let window = self.model.config().window;
        let len = window * self.layout.token_size();
        let mut windows = Windows::new(self.layout, self.standardisation);
        let mut inputs = vec![0.0; engine.input_len() * samples.len()];
        let mut masks = vec![0.0; len * samples.len()];
        let rows = inputs.chunks_exact_mut(engine.input_len()).zip(masks.chunks_exact_mut(len));
        for (sample, (input, mask)) in samples.clone().zip(rows) {
            let key = Key::for_purpose(0, "validation windows");
            let (tokens, _) = drawn_window(self.layout, self.model, key, sample as u64);
            let layers = self.layout.layers_of(&tokens);
            let aligned = self.validation.aligned(sample);
            let arrangement = self.arranger.aligned(self.layout, layers, aligned);
            let (values, positions) = input.split_at_mut(len);
            let model = self.validation.open(self.layout, sample)?;
            windows.read(&model, &arrangement, tokens.clone(), values)?;
            self.model.write_positions(self.layout, tokens.clone(), positions);
            self.layout.mask(tokens, mask);
        }
        let mut found = vec![0.0; len * samples.len()];
        engine.forward(&inputs, &mut found).map_err(TrainError::from)?;
        let mut sums = Errors::default();
        for (i, (&found, &mask)) in found.iter().zip(&masks).enumerate() {
            let target = inputs[i / len * engine.input_len() + i % len];
            let square = (f64::from(found) - f64::from(target)).powi(2);
            sums.masked += f64::from(mask) * square;
            sums.unmasked += square;
            sums.elements += f64::from(mask);
            sums.places += 1.0;
        }
        Ok(sums)
    }
}

/// Sums of squared errors.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    /// Of elements of the networks.
    masked: f64,
    /// Also of zeros with which tokens are filled up, as the published program counts them.
    unmasked: f64,
    elements: f64,
    places: f64,
}

impl Errors {
    fn add(&mut self, other: &Errors) {
        self.masked += other.masked;
        self.unmasked += other.unmasked;
        self.elements += other.elements;
        self.places += other.places;
    }
}

impl Task for Pretraining<'_> {
    fn net(&self) -> &Net {
        &self.training.net
    }

    fn taps(&self) -> Vec<NodeId> {
        vec![self.training.reconstruction]
    }

    fn inputs_per_sample(&self) -> usize {
        2
    }

    fn compares_samples(&self) -> bool {
        self.config.contrast > 0.0
    }

    fn sample_count(&self) -> usize {
        self.train.len()
    }

    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError> {
        let head = self.model.config().head;
        let len = self.model.config().window * self.layout.token_size();
        let total = 2 * samples.len();
        self.inputs.clear();
        self.targets.clear();
        // Losses count the windows of the whole batch, of which only the share's are looked at.
        self.targets.resize(2 * share.start * len, 0.0);
        for &sample in &samples[share] {
            self.draw(epoch, sample).map_err(|error| TrainError::Data(error.to_string()))?;
        }
        self.targets.resize(total * len, 0.0);
        self.masks.clear();
        self.masks.resize(total * len, 1.0);
        if self.config.masked {
            let pairs = self.masks.chunks_exact_mut(2 * len).zip(samples);
            for (pair, &sample) in pairs {
                let number = u64::from(epoch) << 32 | sample as u64;
                let (tokens, _) = drawn_window(self.layout, self.model, self.key, number);
                pair.chunks_exact_mut(len).for_each(|mask| self.layout.mask(tokens.clone(), mask));
            }
        }
        let contrast = self.config.contrast;
        let loss = MaskedMeanSquaredError::new(&self.targets, len).with_mask(&self.masks);
        let taps: Vec<Box<dyn Loss>> = vec![Box::new(Weighted(loss, 1.0 - contrast))];
        self.zeros.resize(total * head, 0.0);
        let loss: Box<dyn Loss> = match contrast > 0.0 {
            true => Box::new(Weighted(NtXent::new(total, head, self.config.temperature), contrast)),
            false => Box::new(Linear::new(&self.zeros, head)),
        };
        Ok(Prepared { inputs: &self.inputs, loss, taps })
    }

    /// The mean squared error of validation windows, one per model and epoch, without and with what is filled up.
    fn evaluate(&self, weights: &StateDict, part: Part) -> Result<Option<Score>, TrainError> {
        let samples = part.range(self.validation.len());
        if self.validation.is_empty() {
            return Ok(None);
        }
        let engine = Engine::new(&self.reconstructor, weights)?;
        let mut sums = Errors::default();
        for start in samples.clone().step_by(EVALUATED) {
            let chunk = start..(start + EVALUATED).min(samples.end);
            let errors = self.errors(&engine, chunk);
            sums.add(&errors.map_err(|error| TrainError::Data(error.to_string()))?);
        }
        Ok(Some(Score {
            total: samples.len(),
            loss: sums.masked / f64::max(sums.elements, 1.0),
            unmasked_loss: Some(sums.unmasked / f64::max(sums.places, 1.0)),
            ..Score::default()
        }))
    }
}

/// A window of a network's tokens, and the stream that drew it.
fn drawn_window(
    layout: &TokenLayout,
    model: &Autoencoder,
    key: Key,
    number: u64,
) -> (Range<usize>, Stream) {
    let mut stream = Stream::new(key, number);
    let len = model.config().window;
    let start = stream.below((layout.token_count() - len + 1) as u32) as usize;
    (start..start + len, stream)
}
