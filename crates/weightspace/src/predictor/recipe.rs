//! All phases of a predictor's training as one recipe, from a network to a file.

use serde::{Deserialize, Serialize};
use weightspace_core::container::{Header, WspError};
use weightspace_core::predictor::{Encoding, PredictorError};
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::engine::EngineError;
use weightspace_nn::optim::{Adam, AdamW, Muon, OptimizerConfig, Ranger};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::{
    Classification, DistillationConfig, Ending, Observer, TrainConfig, TrainError, Trainer,
};
use weightspace_nn::{Engine, Net};

use super::{
    Model, ModelConfig, Ordering, Reconstruction, ReconstructionConfig, Target, TargetConfig,
    TargetError, TuningConfig, TuningError, TuningPlan, VECTOR_BITS, encode, inner_tensors,
};
use crate::quantize::Images;
use crate::subspace::EncodeError;

/// Bits with which rounding changes next to nothing.
const LOSSLESS_BITS: u8 = 16;

/// How a network becomes a file of the method predictor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What is predicted.
    pub target: TargetConfig,
    /// The predictor.
    pub model: ModelConfig,
    /// How rows are drawn in the first phase.
    pub reconstruction: ReconstructionConfig,
    /// The first phase's optimiser.
    pub optimizer: OptimizerConfig,
    /// The first phase's steps.
    pub steps: u64,
    /// Epochs of distillation, where there are images.
    pub epochs: u32,
    /// The second phase's learning rate, of Adam.
    pub learning_rate: f64,
    /// Bits of the predictor's weights in the file, 2 to 16.
    pub bits: u8,
}

/// A recipe by name: an entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// The recipe.
    pub recipe: fn() -> Recipe,
}

/// Every preset.
pub static PRESETS: [Preset; 3] = [
    Preset {
        name: "paper-h140",
        title: "The published predictor with its training, 16 bits",
        recipe: paper,
    },
    Preset {
        name: "small",
        title: "100 hidden units on polynomials, trained in minutes, 8 bits",
        recipe: Recipe::default,
    },
    Preset {
        name: "best",
        title: "140 hidden units on learned tables, one order of all kernels, 8 bits",
        recipe: best,
    },
];

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            target: TargetConfig { ordering: Ordering::InFilter, ..TargetConfig::default() },
            model: ModelConfig {
                encoding: Encoding::Chebyshev { degree: 8 },
                hidden: 100,
                layers: 5,
            },
            reconstruction: ReconstructionConfig::default(),
            optimizer: muon(),
            steps: 4000,
            epochs: 20,
            learning_rate: 1e-4,
            bits: 8,
        }
    }
}

impl Recipe {
    /// The recipe of that name.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|preset| preset.name == name).map(|preset| (preset.recipe)())
    }
}

/// Muon on matrices, Adam on biases, as measured to reach the same error in a fraction of the steps.
fn muon() -> OptimizerConfig {
    let adamw = AdamW { learning_rate: 5e-3, weight_decay: 0.0, ..AdamW::default() };
    OptimizerConfig::Muon(Muon { learning_rate: 0.03, weight_decay: 0.0, adamw, ..Muon::default() })
}

fn paper() -> Recipe {
    Recipe {
        model: ModelConfig::default(),
        optimizer: OptimizerConfig::Ranger(Ranger::default()),
        steps: 68_600,
        epochs: 100,
        bits: 16,
        ..Recipe::default()
    }
}

fn best() -> Recipe {
    Recipe {
        target: TargetConfig { ordering: Ordering::CrossFilter, ..TargetConfig::default() },
        model: ModelConfig { encoding: Encoding::DirectTables, hidden: 140, layers: 5 },
        steps: 20_000,
        epochs: 50,
        ..Recipe::default()
    }
}

/// Why a network becomes no predictor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Too few bits, or too many.
    #[error("{0} bits of a predictor's weight, expected 2 to 16")]
    Bits(u8),
    /// Fewer than two layers, or no hidden units.
    #[error("{layers} layers of {hidden} hidden units, expected at least 2 of 1")]
    Size {
        /// Layers.
        layers: usize,
        /// Hidden units.
        hidden: usize,
    },
    /// The observer wanted training to stop.
    #[error("interrupted")]
    Interrupted,
    /// The network has no such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Sizes beyond the limits of the format.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
    /// Training diverged, or network and images do not fit together.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network cannot teach.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The reconstruction cannot be trained on.
    #[error(transparent)]
    Tuning(#[from] TuningError),
    /// The file cannot be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file would break a rule of its format.
    #[error(transparent)]
    Format(#[from] WspError),
}

/// What came of a recipe.
#[derive(Clone, Debug)]
pub struct Product {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Number of coefficients of the predictor.
    pub coefficients: usize,
    /// Number of predicted weights.
    pub predicted: usize,
    /// Root mean square of what the first phase left, before rounding.
    pub error: f64,
}

/// Follows a recipe: reconstruction, then, where there are images, distillation from the network itself;
/// then the file. `observer` sees both trainings.
///
/// # Errors
/// If the settings, the network and the images do not fit together, or training diverges or is interrupted.
pub fn compress(
    header: &Header,
    net: &Net,
    weights: &StateDict,
    images: Option<Images<'_>>,
    recipe: &Recipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Product, RecipeError> {
    let ModelConfig { hidden, layers, .. } = recipe.model;
    if hidden == 0 || layers < 2 {
        return Err(RecipeError::Size { layers, hidden });
    }
    if !(2..=16).contains(&recipe.bits) {
        return Err(RecipeError::Bits(recipe.bits));
    }
    let target = Target::new(net, weights, &recipe.target)?;
    let model = Model::new(target.grid(), target.head(), &recipe.model)?;
    let (coefficients, error) = reconstruct(&model, &target, recipe, seed, observer)?;
    let images = images.filter(|_| recipe.epochs > 0);
    let bits = if images.is_some() { LOSSLESS_BITS } else { recipe.bits };
    let inner = inner_tensors(&model, &coefficients, bits);
    let mut bytes = encode(header, net, &target, &model, inner, target.state_dict(), VECTOR_BITS)?;
    if let Some(images) = images {
        let file = WspFile::from_bytes("the reconstruction", bytes)?;
        let (bits, vector_bits) = (recipe.bits, VECTOR_BITS);
        let tuning = TuningConfig { bits, vector_bits, ..TuningConfig::default() };
        let plan = TuningPlan::new(net, header, weights, &file, &tuning)?;
        let teacher = Engine::new(net, weights)?;
        let trained = distil(&teacher, (&plan, &tuning), images, recipe, seed, observer)?;
        bytes = plan.encode(net, header, &tuning, &trained)?;
    }
    let (coefficients, predicted) = (coefficients.len(), target.element_count());
    Ok(Product { bytes, coefficients, predicted, error })
}

fn reconstruct(
    model: &Model,
    target: &Target,
    recipe: &Recipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<(Vec<f32>, f64), RecipeError> {
    let task = Reconstruction::new(model, target, &recipe.reconstruction, None, seed);
    let config =
        TrainConfig { optimizer: recipe.optimizer, ..task.train_config(recipe.steps, seed) };
    let mut trainer = task.trainer(model.initial(seed), config)?;
    if trainer.run(observer)? == Ending::Interrupted {
        return Err(RecipeError::Interrupted);
    }
    let error = trainer.evaluate()?.loss.unwrap_or(f64::NAN);
    Ok((trainer.result_coefficients().to_vec(), error))
}

/// Trains a predictor, rounded as it is to be in the end.
fn distil(
    teacher: &Engine,
    (plan, tuning): (&TuningPlan, &TuningConfig),
    images: Images<'_>,
    recipe: &Recipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<f32>, RecipeError> {
    let net = teacher.net();
    let distillation = DistillationConfig { temperature: 1.0, alpha: 1.0, features: 0.0 };
    let adam = Adam { learning_rate: recipe.learning_rate, ..Adam::default() };
    let config = TrainConfig {
        epochs: recipe.epochs,
        seed,
        freeze_statistics: true,
        optimizer: OptimizerConfig::Adam(adam),
        schedule: Schedule::Cosine { minimum: 0.0, warmup: None },
        distillation: Some(distillation),
        ..TrainConfig::default()
    };
    let held_out = images.train.len() / 10;
    let task = Classification::new(net, images.train, images.preprocessing, held_out, &config)?;
    let task = task.with_teacher(teacher, distillation)?;
    let method = plan.parameterization(net, tuning, config.threads);
    let running = plan.running().clone();
    let mut trainer = Trainer::new(Box::new(task), Box::new(method), running, config)?;
    if trainer.run(observer)? == Ending::Interrupted {
        return Err(RecipeError::Interrupted);
    }
    Ok(trainer.result_coefficients().to_vec())
}
