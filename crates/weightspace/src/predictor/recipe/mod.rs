//! All phases of a predictor's training as one recipe, from a network to a file.

mod phases;
mod size;

pub use phases::{Original, compress, follow};
use serde::{Deserialize, Serialize};
use weightspace_core::container::WspError;
use weightspace_core::predictor::{CoordinateScale, Encoding, PredictorError};
use weightspace_nn::data::Augmentation;
use weightspace_nn::engine::EngineError;
use weightspace_nn::optim::{AdamW, Muon, OptimizerConfig, Ranger};
use weightspace_nn::train::TrainError;

use super::{ModelConfig, Ordering, ReconstructionConfig, TargetConfig, TargetError, TuningError};
use crate::phases::{Interrupted, PhaseError};
use crate::subspace::EncodeError;
use crate::workplace::WorkplaceError;

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
    /// Predictors of a round of the first phase, each with a seed of its own; the best is kept: by accuracy on
    /// held-out images where there are images, else by its error.
    pub seeds: u32,
    /// Rounds of the first phase at most: the best reconstruction is the target of the next round for as long as
    /// it is better than the last. More than one needs images.
    pub rounds: u32,
    /// Epochs of distillation, where there are images.
    pub epochs: u32,
    /// The second phase's learning rate, of Adam.
    pub learning_rate: f64,
    /// Random changes of images.
    pub augmentation: Augmentation,
    /// Images that are held out from training [default: a tenth].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<usize>,
    /// Bits of the predictor's weights in the file, 2 to 16, where there is no target.
    pub bits: u8,
    /// Largest size of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// Smallest accuracy on held-out images, which the smallest file that has it meets; needs images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_accuracy: Option<f64>,
    /// With `target_bytes`, as many hidden units as that has place for, and not those of the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fit_width: bool,
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
            seeds: 1,
            rounds: 1,
            epochs: 20,
            learning_rate: 1e-4,
            augmentation: Augmentation::default(),
            held_out: None,
            bits: 8,
            target_bytes: None,
            target_accuracy: None,
            fit_width: false,
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

/// NeRN as its authors' program trains it, with the settings of Choi et al. That program normalises coordinates,
/// but embeds them as they are.
fn paper() -> Recipe {
    let coordinates = CoordinateScale::Raw;
    Recipe {
        target: TargetConfig { coordinates, ..Recipe::default().target },
        model: ModelConfig::default(),
        reconstruction: ReconstructionConfig { share: true, ..ReconstructionConfig::default() },
        optimizer: OptimizerConfig::Ranger(Ranger { centralize: false, ..Ranger::default() }),
        steps: 68_600,
        epochs: 100,
        bits: 16,
        ..Recipe::default()
    }
}

fn best() -> Recipe {
    let (ordering, coordinates) = (Ordering::CrossFilter, CoordinateScale::Raw);
    Recipe {
        target: TargetConfig { ordering, coordinates, ..TargetConfig::default() },
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
    /// No seed, or no round.
    #[error("{rounds} rounds of {seeds} seeds, expected at least 1 of 1")]
    Rounds {
        /// Rounds.
        rounds: u32,
        /// Seeds.
        seeds: u32,
    },
    /// Rounds, and nothing that tells which is best.
    #[error("progressive rounds need images, by which the best reconstruction is known")]
    NoImages,
    /// A target of accuracy, and nothing that tells how accurate a file is.
    #[error("a target of accuracy needs images, by which it is known")]
    NoAccuracy,
    /// The target cannot be met.
    #[error("{0}")]
    OutOfReach(String),
    /// The observer wanted training to stop.
    #[error(transparent)]
    Interrupted(Interrupted),
    /// The folder of the work cannot be used.
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
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
    Tuning(TuningError),
    /// The file cannot be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file would break a rule of its format.
    #[error(transparent)]
    Format(#[from] WspError),
}

impl From<PhaseError> for RecipeError {
    fn from(error: PhaseError) -> Self {
        match error {
            PhaseError::Interrupted(interrupted) => RecipeError::Interrupted(interrupted),
            PhaseError::Train(error) => RecipeError::Train(error),
        }
    }
}

impl From<TuningError> for RecipeError {
    fn from(error: TuningError) -> Self {
        match error {
            TuningError::OutOfReach { .. } => RecipeError::OutOfReach(error.to_string()),
            error => RecipeError::Tuning(error),
        }
    }
}

/// What came of a recipe.
#[derive(Clone, Debug)]
pub struct Product {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Hidden units of the predictor.
    pub hidden: usize,
    /// Number of coefficients of the predictor.
    pub coefficients: usize,
    /// Number of predicted weights.
    pub predicted: usize,
    /// Root mean square of what the first phase left, before rounding: of the round that was best.
    pub error: f64,
    /// The same as a share of the root mean square of the predicted weights: 1 is what nothing learnt leaves.
    pub relative_error: f64,
    /// Share of the held-out images that the file names rightly, where there are images.
    pub held_out_accuracy: Option<f64>,
    /// The best of every round of the first phase.
    pub rounds: Vec<RoundScore>,
}

/// How good the best reconstruction of a round is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundScore {
    /// Its accuracy on held-out images, from 0 on, where these decided; else its error with a minus.
    pub score: f64,
    /// The root mean square of its distance from the original.
    pub error: f64,
}
