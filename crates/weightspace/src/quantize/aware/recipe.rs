//! A network's way onto the grid of a file, from beginning to end.

use serde::Serialize;
use weightspace_core::StateDict;
use weightspace_core::container::Header;
use weightspace_nn::data::Augmentation;
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::{Classification, DistillationConfig, TrainConfig, TrainError, Trainer};
use weightspace_nn::{Engine, ModelState, Net};

use super::{AwareConfig, AwarePlan};
use crate::phases::{PhaseError, PhaseObserver, PhasePlace, Reporting, run_phase};
use crate::quantize::{Images, Progress, QuantizeError};

/// How a trained network is trained on the grid of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AwareRecipe {
    /// What the file is to be.
    pub grid: AwareConfig,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images of a batch.
    pub batch: usize,
    /// The highest learning rate, of Adam; `None` for that of the network's size ([`learning_rate`]).
    pub learning_rate: Option<f64>,
    /// Random changes of images.
    pub augmentation: Augmentation,
    /// How the teacher's logits and the labels count.
    pub distillation: DistillationConfig,
    /// Images that are held out from training.
    pub held_out: usize,
    /// Seed of calibration and training.
    pub seed: u64,
}

impl Default for AwareRecipe {
    fn default() -> Self {
        AwareRecipe {
            grid: AwareConfig::default(),
            epochs: 10,
            batch: 128,
            learning_rate: None,
            augmentation: Augmentation::default(),
            distillation: DistillationConfig::default(),
            held_out: 0,
            seed: 0,
        }
    }
}

/// Who learns from whom, and what.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// What the file will say about the network.
    pub header: &'a Header,
    /// What it computes.
    pub net: &'a Net,
    /// Its weights.
    pub weights: &'a StateDict,
    /// The images.
    pub images: Images<'a>,
    /// Whose logits it learns.
    pub teacher: &'a Engine,
}

/// Why training on a grid has no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwareError {
    /// Steps cannot be found, or the target is out of reach.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Training was interrupted, or diverged.
    #[error(transparent)]
    Phase(#[from] PhaseError),
    /// Network, images and teacher do not fit together.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Trains a network on the grid of a file of the recipe's size, and returns the file. In `place` it
/// goes on if it is interrupted.
///
/// # Errors
/// If settings, network and images do not fit together, the target is out of reach, or training is interrupted or
/// diverges.
pub fn train(
    lesson: Lesson<'_>,
    recipe: &AwareRecipe,
    place: PhasePlace<'_>,
    progress: Progress<'_>,
    should_stop: &dyn Fn() -> bool,
) -> Result<Vec<u8>, AwareError> {
    let Lesson { header, net, weights, images, teacher } = lesson;
    let AwareRecipe { grid, seed, .. } = recipe;
    let plan = AwarePlan::new(net, header, weights, images, grid, *seed, progress)?;
    let start = ModelState::from_state_dict(net, &plan.start);
    let start = start.map_err(|_| QuantizeError::Needs("the network's own tensors"))?;
    let mut config = recipe.train_config();
    let rate = recipe.learning_rate.unwrap_or_else(|| learning_rate(net));
    set_training(&mut config, rate, recipe.distillation);
    let Images { train, preprocessing } = images;
    let task = Classification::new(net, train, preprocessing, recipe.held_out, &config)?
        .with_teacher(teacher, recipe.distillation)?;
    let method = plan.parameterization(net, grid, start.weights);
    let mut trainer = Trainer::new(Box::new(task), Box::new(method), start.running, config)?;
    let observer: &mut dyn PhaseObserver = &mut Reporting::new(progress, should_stop);
    run_phase(place, "training", &mut trainer, observer)?;
    let running = trainer.result().running;
    let trained = (trainer.result_coefficients(), &trainer.memory()[..]);
    Ok(plan.encode(net, header, grid, trained, &running)?)
}

impl AwareRecipe {
    fn train_config(&self) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch: self.batch,
            seed: self.seed,
            augmentation: self.augmentation,
            ..TrainConfig::default()
        }
    }
}

/// The learning rate at which a step of Adam moves all weights together, by the root of the sum of squares, about as far as one
/// step of the grid.
pub fn learning_rate(net: &Net) -> f64 {
    1.0 / (net.parameter_count().max(1) as f64).sqrt()
}

/// Sets what training on a grid needs: Adam, whose rate falls to 0 from this one, and normalisations as they are.
pub fn set_training(training: &mut TrainConfig, rate: f64, distillation: DistillationConfig) {
    training.optimizer = OptimizerConfig::Adam(Adam { learning_rate: rate, ..Adam::default() });
    training.schedule = Schedule::Cosine { minimum: 0.0, warmup: None };
    training.distillation = Some(distillation);
    training.freeze_statistics = true;
}
