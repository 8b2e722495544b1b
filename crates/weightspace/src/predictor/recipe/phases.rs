//! The phases in a row: reconstruction in rounds, distillation, the file.

use serde_json::json;
use weightspace_core::container::Header;
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::comm::Part;
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::{
    CheckpointPolicy, Classification, DistillationConfig, Ending, Observer, Parameterization,
    RunFolder, Silent, Task, TrainConfig, Trainer,
};
use weightspace_nn::{Engine, Net};

use super::{Product, Recipe, RecipeError, RoundScore};
use crate::predictor::{
    Model, ModelConfig, Others, PredictedWeights, Reconstructed, Reconstruction, Round, Target,
    TuningConfig, TuningPlan, VECTOR_BITS, encode, inner_tensors, progressive,
};
use crate::quantize::Images;
use crate::workplace::Workplace;

/// Bits with which rounding changes next to nothing.
const LOSSLESS_BITS: u8 = 16;

/// Watches the phases of a recipe.
pub trait PhaseObserver: Observer {
    /// A phase begins, or continues after so many steps.
    fn phase(&mut self, _name: &str, _step: u64) {}
}

impl PhaseObserver for Silent {}

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
    recipe.check(original.images.is_some())?;
    let Original { header, net, weights, images } = original;
    let target = Target::new(net, weights, &recipe.target)?;
    let model = Model::new(target.grid(), target.head(), &recipe.model)?;
    if let Some(place) = place {
        place.claim(&json!({
            "recipe": recipe, "seed": seed, "source_hash": header.source_hash, "arch": net.arch(),
            "data": header.data, "preprocessing": header.preprocessing,
            "images": images.map(|images| images.train.len()),
        }))?;
    }
    let mut phases = Phases { original, recipe, seed, place, observer };
    let rounds = phases.reconstruct(&model, &target)?;
    // The first of equals.
    let best = rounds.iter().rev().max_by(|a, b| a.score.total_cmp(&b.score));
    let best = best.expect("at least one round");
    let images = images.filter(|_| recipe.epochs > 0);
    let bits = if images.is_some() { LOSSLESS_BITS } else { recipe.bits };
    let inner = inner_tensors(&model, &best.coefficients, bits);
    let mut bytes = encode(header, net, &target, &model, inner, target.state_dict(), VECTOR_BITS)?;
    if let Some(images) = images {
        let file = WspFile::from_bytes("the reconstruction", bytes)?;
        bytes = phases.distil(images, &file)?;
    }
    Ok(Product {
        bytes,
        coefficients: best.coefficients.len(),
        predicted: target.element_count(),
        error: target.rmse(&best.weights),
        rounds: rounds
            .iter()
            .map(|round| RoundScore { score: round.score, error: target.rmse(&round.weights) })
            .collect(),
    })
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
        Ok(())
    }
}

struct Phases<'a, 'o> {
    original: Original<'a>,
    recipe: &'a Recipe,
    seed: u64,
    place: Option<&'a Workplace>,
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
            Some(images) => held_out_accuracy(original.net, target, images, weights),
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

    /// The second phase: trains a predictor, rounded as it is to be in the end; returns the file.
    fn distil(&mut self, images: Images<'_>, file: &WspFile) -> Result<Vec<u8>, RecipeError> {
        let Original { header, net, weights, .. } = self.original;
        let (bits, vector_bits) = (self.recipe.bits, VECTOR_BITS);
        let tuning = TuningConfig { bits, vector_bits, ..TuningConfig::default() };
        let plan = TuningPlan::new(net, header, weights, file, &tuning)?;
        let teacher = Engine::new(net, weights)?;
        let distillation = DistillationConfig { temperature: 1.0, alpha: 1.0, features: 0.0 };
        let adam = Adam { learning_rate: self.recipe.learning_rate, ..Adam::default() };
        let config = TrainConfig {
            epochs: self.recipe.epochs,
            seed: self.seed,
            freeze_statistics: true,
            optimizer: OptimizerConfig::Adam(adam),
            schedule: Schedule::Cosine { minimum: 0.0, warmup: None },
            distillation: Some(distillation),
            ..TrainConfig::default()
        };
        let task = classification(net, images, &config)?.with_teacher(&teacher, distillation)?;
        let method = plan.parameterization(net, &tuning, config.threads);
        let running = plan.running().clone();
        let mut trainer = Trainer::new(Box::new(task), Box::new(method), running, config)?;
        run_phase(self.place, "distillation", &mut trainer, self.observer)?;
        Ok(plan.encode(net, header, &tuning, trainer.result_coefficients())?)
    }
}

/// The images of a training, of which a tenth is held out.
fn classification<'a>(
    net: &'a Net,
    images: Images<'a>,
    config: &TrainConfig,
) -> Result<Classification<'a>, RecipeError> {
    let held_out = images.train.len() / 10;
    Ok(Classification::new(net, images.train, images.preprocessing, held_out, config)?)
}

/// Share of the held-out images that a network with these weights names rightly.
fn held_out_accuracy(
    net: &Net,
    target: &Target,
    images: Images<'_>,
    weights: &[f32],
) -> Result<f64, RecipeError> {
    let task = classification(net, images, &TrainConfig::default())?;
    let score = task.evaluate(target.with_weights(weights.to_vec()).state_dict(), Part::WHOLE)?;
    Ok(score.map_or(0.0, |score| score.accuracy()))
}

/// Runs a phase from where it was to its end.
fn run_phase(
    place: Option<&Workplace>,
    name: &str,
    trainer: &mut Trainer<'_>,
    observer: &mut dyn PhaseObserver,
) -> Result<(), RecipeError> {
    let ending = match place {
        None => {
            observer.phase(name, 0);
            trainer.run(observer)?
        }
        Some(place) => {
            let path = place.path().join(name);
            let mut folder = RunFolder::open(&path, CheckpointPolicy::default())?;
            folder.restore(trainer)?;
            observer.phase(name, trainer.step_count());
            trainer.run_in(&mut folder, observer)?
        }
    };
    match ending {
        Ending::Finished => Ok(()),
        Ending::Interrupted => Err(RecipeError::Interrupted {
            phase: name.to_owned(),
            step: trainer.step_count(),
            total: trainer.total_steps(),
        }),
    }
}
