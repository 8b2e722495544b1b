//! A small network that gives the weights of another one, kernel by kernel, from their coordinates
//! (NeRN, Ashkenazi et al. 2022), and its training in phases (Choi et al., "Decoupled training").
//!
//! What a predictor is and how it is decoded is in [`weightspace_core::predictor`]; here is what makes
//! one. A [`Target`] says what is predicted, a [`Model`] what predicts.

mod file;
mod fold;
mod last_layer;
mod model;
mod nearest;
mod noise;
mod order;
mod predicted;
mod recipe;
mod reconstruction;
mod rounds;
mod stored;
mod target;
mod tour;
mod tuning;

pub use file::{VECTOR_BITS, encode, inner_tensors};
pub use fold::Folded;
pub use model::{Coefficients, Model, ModelConfig};
pub use noise::NoiseInputs;
pub use order::{Ordering, free_permutations, freely_ordered, mean_neighbour_cosine};
pub use predicted::{Others, PredictedWeights};
pub use recipe::{
    Original, PRESETS, Preset, Product, Recipe, RecipeError, RoundScore, compress, follow,
};
pub use reconstruction::{Objective, Reconstruction, ReconstructionConfig};
pub use rounds::{Reconstructed, Round, progressive};
pub use stored::{StoredError, StoredPredictor};
pub use target::{Target, TargetConfig, TargetError, TargetTensor};
pub use tour::{Similarity, tour};
pub use tuning::{RoundedPredictor, TuningConfig, TuningError, TuningPlan};
