//! How to train, as configuration files hold it.

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::data::Augmentation;
use crate::optim::{OptimizerConfig, Sgd};
use crate::schedule::{Anneal, Schedule};

/// How to train. Together with network, data, number of threads and instruction set it decides every
/// bit of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training samples.
    pub epochs: u32,
    /// Samples of a batch.
    pub batch: usize,
    /// Leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// Seed of the order of samples, of augmentation and of dropout.
    pub seed: u64,
    /// Threads among which a batch is divided; another number gives other roundings.
    pub threads: usize,
    /// Weight decay also on vectors: biases and normalisations.
    pub decay_vectors: bool,
    /// Normalise by the running statistics of the initial model and leave them as they are, as when a model
    /// is fine-tuned whose normalisations are to stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freeze_statistics: bool,
    /// Random changes of training images.
    pub augmentation: Augmentation,
    /// Weight of the uniform distribution in the labels of cross-entropy, 0 to 1.
    pub label_smoothing: f32,
    /// Largest norm of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Decay of an exponential moving average of the coefficients, which is then the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Epochs between evaluations; there is always one at the end.
    pub evaluate_every: u32,
    /// Which weights are the result.
    pub select: Selection,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Its learning rate over time.
    pub schedule: Schedule,
    /// Learning from a teacher, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
}

/// Which weights are the result of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// Those after the last step.
    #[default]
    Last,
    /// Those of the evaluation with the most right held-out samples, the first of equals.
    Best,
}

/// How to learn from a teacher's logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillationConfig {
    /// Both networks' logits are divided by it.
    pub temperature: f32,
    /// Weight of the teacher; the labels have the rest of 1.
    pub alpha: f32,
    /// Weight of the distances of feature maps ([`feature_maps`](super::feature_maps)) from the teacher's.
    #[serde(skip_serializing_if = "is_zero")]
    pub features: f64,
    /// Show both networks mixtures of two images each ([`Mixtures`](crate::data::Mixtures)), which have no
    /// labels: alpha is 1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mixtures: bool,
    /// Draw augmentation and mixtures in so many ways only, one epoch each and then again from the first, and remember
    /// what the teacher said about each: 4 bytes x views x training samples x classes. 0: anew in every epoch.
    #[serde(skip_serializing_if = "is_none")]
    pub views: u32,
}

fn is_none(count: &u32) -> bool {
    *count == 0
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for DistillationConfig {
    /// Temperature 4, alpha 0.9.
    fn default() -> Self {
        DistillationConfig {
            temperature: 4.0,
            alpha: 0.9,
            features: 0.0,
            mixtures: false,
            views: 0,
        }
    }
}

impl Default for TrainConfig {
    /// Ten epochs of one-cycle up to 0.05 with Nesterov's momentum 0.9 and weight decay 5e-4, batches
    /// of 128, on all threads.
    fn default() -> Self {
        let sgd = Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: true, ..Sgd::default() };
        TrainConfig {
            epochs: 10,
            batch: 128,
            drop_last: false,
            seed: 0,
            threads: rayon::current_num_threads(),
            decay_vectors: true,
            freeze_statistics: false,
            augmentation: Augmentation::NONE,
            label_smoothing: 0.0,
            clip: None,
            ema: None,
            evaluate_every: 1,
            select: Selection::Last,
            optimizer: OptimizerConfig::Sgd(Sgd { weight_decay: 5e-4, ..sgd }),
            schedule: TrainConfig::one_cycle(),
            distillation: None,
        }
    }
}

impl TrainConfig {
    /// PyTorch's one-cycle with a constant momentum.
    pub fn one_cycle() -> Schedule {
        Schedule::OneCycle {
            rise: 0.3,
            divisor: 25.0,
            final_divisor: 1e4,
            anneal: Anneal::Cosine,
            momentum: None,
        }
    }

    /// Checks the settings but those of the optimiser, which does so itself.
    ///
    /// # Errors
    /// One that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        self.schedule.check()?;
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")?;
        require(self.batch > 0, "batch", self.batch, "at least 1")?;
        require(self.threads > 0, "threads", self.threads, "at least 1")?;
        require(self.evaluate_every > 0, "evaluate_every", self.evaluate_every, "at least 1")?;
        let smoothing = self.label_smoothing;
        require((0.0..=1.0).contains(&smoothing), "label_smoothing", smoothing, "from 0 to 1")?;
        if let Some(clip) = self.clip {
            require(clip.is_finite() && clip > 0.0, "clip", clip, "a finite number above 0")?;
        }
        let Some(distillation) = self.distillation else { return Ok(()) };
        let DistillationConfig { temperature, alpha, features, mixtures, views } = distillation;
        let positive = temperature.is_finite() && temperature > 0.0;
        require(positive, "temperature", temperature, "a finite number above 0")?;
        require((0.0..=1.0).contains(&alpha), "alpha", alpha, "from 0 to 1")?;
        require(!mixtures || alpha == 1.0, "alpha", alpha, "1 where images are mixed")?;
        let remembers = views == 0 || features == 0.0;
        require(remembers, "views", views, "0 where feature maps are compared")?;
        let weighs = features.is_finite() && features >= 0.0;
        require(weighs, "features", features, "a finite number from 0 on")?;
        require(smoothing == 0.0, "label_smoothing", smoothing, "0 where a teacher is learnt from")
    }
}

fn require(
    ok: bool,
    setting: &'static str,
    value: impl ToString,
    expected: &'static str,
) -> Result<(), TrainError> {
    match ok {
        true => Ok(()),
        false => Err(TrainError::Setting { setting, value: value.to_string(), expected }),
    }
}
