//! The phases in a row: reconstruction in rounds, distillation, the file.

use serde_json::json;
use weightspace_core::container::Header;
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::comm::Part;
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::{
    Classification, DistillationConfig, Parameterization, Task, TrainConfig, Trainer,
};
use weightspace_nn::{Engine, Net};

use super::{Product, Recipe, RecipeError, RoundScore, size};
use crate::phases::{PhaseObserver, PhasePlace, run_phase};
use crate::predictor::{
    Model, ModelConfig, Others, PredictedWeights, Reconstructed, Reconstruction, Round, Target,
    TuningPlan, VECTOR_BITS, encode, inner_tensors, progressive,
};
use crate::quantize::Images;
use crate::workplace::Workplace;

/// Bits with which rounding changes next to nothing.
const LOSSLESS_BITS: u8 = 16;

/// The network that becomes a file.
#[derive(Clone, Copy)]
pub struct Original<'a> {
    /// What the file will say about it.
    pub header: &'a Header,
    /// What it computes.
    pub net: &'a Net,
    /// Its weights.
    pub weights: &'a StateDict,
    /// What it was trained on, if that is at hand; a tenth is held out.
    pub images: Option<Images<'a>>,
}

/// Follows a recipe: reconstruction, then, where there are images, distillation from the network itself;
/// then the file. With a workplace, what was interrupted goes on there.
///
/// # Errors
/// If the settings, the network and the images do not fit together, or training diverges or is interrupted.
pub fn compress(
    original: Original<'_>,
    recipe: &Recipe,
    seed: u64,
    place: Option<&Workplace>,
    observer: &mut dyn PhaseObserver,
) -> Result<Product, RecipeError> {
    // Before anything is written.
    let subject = Subject::new(original, recipe)?;
    let Original { header, net, images, .. } = original;
    if let Some(place) = place {
        // What is trained does not depend on how accurate the file is to be.
        let trained =
            Recipe { target_accuracy: recipe.target_accuracy.map(|_| 0.0), ..recipe.clone() };
        place.claim(&json!({
            "recipe": trained, "seed": seed, "source_hash": header.source_hash, "arch": net.arch(),
            "data": header.data, "preprocessing": header.preprocessing,
            "images": images.map(|images| images.train.len()),
        }))?;
    }
    let place = PhasePlace { folder: place.map(Workplace::path), prefix: "" };
    subject.follow(original, recipe, seed, place, observer)
}

/// The same in a folder of phases that is claimed already.
///
/// # Errors
/// As [`compress`].
pub fn follow(
    original: Original<'_>,
    recipe: &Recipe,
    seed: u64,
    place: PhasePlace<'_>,
    observer: &mut dyn PhaseObserver,
) -> Result<Product, RecipeError> {
    Subject::new(original, recipe)?.follow(original, recipe, seed, place, observer)
}

/// What is predicted, and by what.
struct Subject {
    target: Target,
    model: Model,
}

impl Subject {
    fn new(original: Original<'_>, recipe: &Recipe) -> Result<Self, RecipeError> {
        recipe.check(original.images.is_some())?;
        let target = Target::new(original.net, original.weights, &recipe.target)?;
        let model = size::model(original.net, &target, recipe)?;
        Ok(Subject { target, model })
    }

    fn follow(
        &self,
        original: Original<'_>,
        recipe: &Recipe,
        seed: u64,
        place: PhasePlace<'_>,
        observer: &mut dyn PhaseObserver,
    ) -> Result<Product, RecipeError> {
        let Subject { target, model } = self;
        let mut phases = Phases { original, recipe, seed, place, observer };
        let rounds = phases.reconstruct(model, target)?;
        // The first of equals.
        let best = rounds.iter().rev().max_by(|a, b| a.score.total_cmp(&b.score));
        let best = best.expect("at least one round");
        let bytes = phases.file(model, target, &best.coefficients)?;
        let accuracy = |images| {
            let file = WspFile::from_bytes("the predictor", bytes.clone())?;
            held_out_accuracy(original.net, images, recipe, &file.state_dict()?)
        };
        let held_out_accuracy = original.images.map(accuracy).transpose()?;
        let error = target.rmse(&best.weights);
        let nothing = target.rmse(&vec![0.0; best.weights.len()]);
        Ok(Product {
            hidden: model.hidden(),
            coefficients: best.coefficients.len(),
            predicted: target.element_count(),
            error,
            relative_error: error / nothing.max(f64::MIN_POSITIVE),
            held_out_accuracy,
            rounds: rounds
                .iter()
                .map(|round| RoundScore { score: round.score, error: target.rmse(&round.weights) })
                .collect(),
            bytes,
        })
    }
}

impl Recipe {
    fn check(&self, with_images: bool) -> Result<(), RecipeError> {
        let &Recipe { model: ModelConfig { hidden, layers, .. }, bits, seeds, rounds, .. } = self;
        if hidden == 0 || layers < 2 {
            return Err(RecipeError::Size { layers, hidden });
        }
        if !(2..=16).contains(&bits) {
            return Err(RecipeError::Bits(bits));
        }
        if seeds == 0 || rounds == 0 {
            return Err(RecipeError::Rounds { rounds, seeds });
        }
        if rounds > 1 && !with_images {
            return Err(RecipeError::NoImages);
        }
        if self.target_accuracy.is_some() && !with_images {
            return Err(RecipeError::NoAccuracy);
        }
        Ok(())
    }
}

struct Phases<'a, 'o> {
    original: Original<'a>,
    recipe: &'a Recipe,
    seed: u64,
    place: PhasePlace<'a>,
    observer: &'o mut dyn PhaseObserver,
}

impl Phases<'_, '_> {
    /// The first phase, round by round.
    fn reconstruct(&mut self, model: &Model, target: &Target) -> Result<Vec<Round>, RecipeError> {
        let recipe = self.recipe;
        let seeds: Vec<u64> = (0..u64::from(recipe.seeds)).map(|i| self.seed + i).collect();
        let mut trained = 0;
        let original = self.original;
        let several = recipe.seeds > 1 || recipe.rounds > 1;
        let images = original.images.filter(|_| several);
        let reconstruct = |target: &Target, seed| {
            let name = match several {
                true => format!("round-{}-seed-{seed}", 1 + trained / seeds.len()),
                false => "reconstruction".to_owned(),
            };
            trained += 1;
            self.reconstruct_once(model, target, &name, seed)
        };
        let score = |weights: &[f32]| match images {
            Some(images) => {
                let weights = target.with_weights(weights.to_vec());
                held_out_accuracy(original.net, images, recipe, weights.state_dict())
            }
            None => Ok(-target.rmse(weights)),
        };
        progressive(target, &seeds, recipe.rounds as usize, reconstruct, score)
    }

    fn reconstruct_once(
        &mut self,
        model: &Model,
        target: &Target,
        name: &str,
        seed: u64,
    ) -> Result<Reconstructed, RecipeError> {
        let recipe = self.recipe;
        let task = Reconstruction::new(model, target, &recipe.reconstruction, None, seed);
        let config =
            TrainConfig { optimizer: recipe.optimizer, ..task.train_config(recipe.steps, seed) };
        let threads = config.threads;
        let mut trainer = task.trainer(model.initial(seed), config)?;
        run_phase(self.place, name, &mut trainer, self.observer)?;
        let coefficients = trainer.result_coefficients().to_vec();
        let (net, fixed) = (self.original.net, Others::Fixed);
        let mut method = PredictedWeights::new(net, model, target, &coefficients, fixed, threads);
        let mut weights = target.weights().to_vec();
        method.expand(&coefficients, &mut weights);
        Ok(Reconstructed { coefficients, weights })
    }

    /// The file of a reconstruction: where there are images, of what distillation makes of it.
    fn file(
        &mut self,
        model: &Model,
        target: &Target,
        coefficients: &[f32],
    ) -> Result<Vec<u8>, RecipeError> {
        let Original { header, net, images, .. } = self.original;
        let recipe = self.recipe;
        let images = images.filter(|_| recipe.epochs > 0);
        let has_target = recipe.target_bytes.is_some() || recipe.target_accuracy.is_some();
        let bits = if images.is_some() || has_target { LOSSLESS_BITS } else { recipe.bits };
        let inner = inner_tensors(model, coefficients, bits);
        let bytes = encode(header, net, target, model, inner, target.state_dict(), VECTOR_BITS)?;
        if !has_target && images.is_none() {
            return Ok(bytes);
        }
        let file = || WspFile::from_bytes("the reconstruction", bytes.clone());
        let bytes = match (images, recipe.target_accuracy) {
            (None, None) => return size::rounded(self.original, &file()?, recipe.target_bytes),
            (None, Some(_)) => bytes,
            (Some(images), _) => self.distil(images, &file()?)?,
        };
        match (recipe.target_accuracy, self.original.images) {
            (Some(accuracy), Some(images)) => {
                size::for_accuracy(self.original, bytes, accuracy, |weights| {
                    held_out_accuracy(net, images, recipe, weights)
                })
            }
            _ => Ok(bytes),
        }
    }

    /// The second phase: trains a predictor, rounded as it is to be in the end; returns the file.
    fn distil(&mut self, images: Images<'_>, file: &WspFile) -> Result<Vec<u8>, RecipeError> {
        let Original { header, net, weights, .. } = self.original;
        let recipe = self.recipe;
        let bits = if recipe.target_accuracy.is_some() { LOSSLESS_BITS } else { recipe.bits };
        let tuning = size::tuning(bits, recipe.target_bytes);
        let plan = TuningPlan::new(net, header, weights, file, &tuning)?;
        let teacher = Engine::new(net, weights)?;
        let distillation =
            DistillationConfig { temperature: 1.0, alpha: 1.0, ..DistillationConfig::default() };
        let adam = Adam { learning_rate: recipe.learning_rate, ..Adam::default() };
        let config = TrainConfig {
            epochs: recipe.epochs,
            seed: self.seed,
            freeze_statistics: true,
            augmentation: recipe.augmentation,
            optimizer: OptimizerConfig::Adam(adam),
            schedule: Schedule::Cosine { minimum: 0.0, warmup: None },
            distillation: Some(distillation),
            ..TrainConfig::default()
        };
        let task = classification(net, images, recipe, &config)?;
        let task = task.with_teacher(&teacher, distillation)?;
        let method = plan.parameterization(net, &tuning, config.threads);
        let running = plan.running().clone();
        let mut trainer = Trainer::new(Box::new(task), Box::new(method), running, config)?;
        run_phase(self.place, "distillation", &mut trainer, self.observer)?;
        let trained = (trainer.result_coefficients(), &trainer.memory()[..]);
        Ok(plan.encode(net, header, &tuning, trained)?)
    }
}

/// The images of a training, of which a part is held out.
fn classification<'a>(
    net: &'a Net,
    images: Images<'a>,
    recipe: &Recipe,
    config: &TrainConfig,
) -> Result<Classification<'a>, RecipeError> {
    let held_out = recipe.held_out.unwrap_or(images.train.len() / 10);
    Ok(Classification::new(net, images.train, images.preprocessing, held_out, config)?)
}

/// Share of the held-out images that a network with these weights names rightly.
fn held_out_accuracy(
    net: &Net,
    images: Images<'_>,
    recipe: &Recipe,
    weights: &StateDict,
) -> Result<f64, RecipeError> {
    let task = classification(net, images, recipe, &TrainConfig::default())?;
    let score = task.evaluate(weights, Part::WHOLE)?;
    Ok(score.map_or(0.0, |score| score.accuracy()))
}
