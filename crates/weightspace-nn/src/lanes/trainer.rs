//! Training of a group.

use super::forward::DropoutSeeds;
use super::optimise::Optimisers;
use super::plan::Plan;
use super::tally::Tally;
use super::workspace::Workspace;
use super::{ImageOrder, LANES, LaneError, LaneImages, LaneModel, Vector, zeros};
use crate::Net;
use crate::data::{Augmentation, Batches};
use crate::kernels::simd::InstructionSet;
use crate::schedule::Timeline;
use crate::train::{Position, Score, Selection, TrainConfig, dropout_seed};

/// Up to sixteen models in training. Everything is allocated when it is made.
pub struct LaneTrainer<'a> {
    images: &'a LaneImages,
    pub(super) order: ImageOrder,
    /// A full group: models beyond the last are the first one again.
    pub(super) models: Vec<LaneModel>,
    pub(super) model_count: usize,
    pub(super) plan: Plan,
    pub(super) set: InstructionSet,
    /// The order of every model, or the one of all.
    batches: Vec<Batches>,
    pub(super) position: Position,
    pub(super) weights: Vec<Vector>,
    gradient: Vec<Vector>,
    pub(super) optimisers: Optimisers,
    workspace: Workspace,
    /// Images of the batch of every model.
    indices: Vec<[usize; LANES]>,
    /// Of the epoch that is under way.
    pub(super) epoch: Tally,
    /// Steps from 1 at which models stopped being finite; 0 for never.
    pub(super) diverged: [u64; LANES],
}

impl<'a> LaneTrainer<'a> {
    /// Checks that networks of this kind can be trained in lanes.
    ///
    /// # Errors
    /// The first operation that cannot.
    pub fn supports(net: &Net) -> Result<(), LaneError> {
        Plan::supports(net)
    }

    /// A group of 1 to 16 models before its first step.
    ///
    /// # Errors
    /// Networks that lanes cannot run or that differ in more than activations and dropout, settings that
    /// lanes do not have, or images that do not fit.
    pub fn new(
        mut models: Vec<LaneModel>,
        images: &'a LaneImages,
        order: ImageOrder,
    ) -> Result<Self, LaneError> {
        let model_count = models.len();
        if !(1..=LANES).contains(&model_count) {
            return Err(LaneError::ModelCount(model_count));
        }
        for (i, model) in models.iter().enumerate() {
            check_config(i, &model.config)?;
            check_alike(i, &model.config, &models[0].config)?;
            let (found, expected) = (model.weights.len(), model.net.parameter_count());
            if found != expected {
                let what = format!("the start of model {i}");
                return Err(LaneError::Mismatch { what, found, of: "weights", expected });
            }
        }
        models.resize(LANES, models[0].clone());
        let TrainConfig { batch, drop_last, epochs, .. } = models[0].config;
        let plan = Plan::new(&models, model_count, batch)?;
        images.check(plan.lengths[0], plan.class_count())?;
        let ordered = |seed| Batches::new((0..images.len()).collect(), batch, seed, drop_last);
        let batches: Vec<Batches> = match order {
            ImageOrder::Own => models.iter().map(|model| ordered(model.config.seed)).collect(),
            ImageOrder::Shared(seed) => vec![ordered(seed)],
        };
        let steps_per_epoch = batches[0].batches_per_epoch() as u64;
        if steps_per_epoch == 0 {
            let what = "the data set".to_owned();
            let (found, of) = (images.len(), "images to make a batch of");
            return Err(LaneError::Mismatch { what, found, of, expected: batch });
        }
        let timeline =
            Timeline { total_steps: steps_per_epoch * u64::from(epochs), steps_per_epoch };
        let value = |i: usize| Vector(std::array::from_fn(|lane| models[lane].weights[i]));
        let mut trainer = LaneTrainer {
            images,
            order,
            model_count,
            set: InstructionSet::best(),
            batches,
            position: Position::default(),
            weights: (0..plan.parameter_count).map(value).collect(),
            gradient: zeros(plan.parameter_count),
            optimisers: Optimisers::new(&models, timeline)?,
            workspace: Workspace::new(&plan, true),
            indices: vec![[0; LANES]; batch],
            epoch: Tally::default(),
            diverged: [0; LANES],
            plan,
            models,
        };
        // Weights stand in lanes from here on.
        trainer.models.iter_mut().for_each(|model| model.weights = Vec::new());
        Ok(trainer)
    }

    /// The same with kernels for an instruction set other than the best, for tests and measurements.
    ///
    /// # Panics
    /// At the first step, if this machine does not have it.
    pub fn with_instruction_set(self, set: InstructionSet) -> Self {
        LaneTrainer { set, ..self }
    }

    /// Number of models.
    pub fn model_count(&self) -> usize {
        self.model_count
    }

    /// Finished epochs.
    pub fn epoch(&self) -> u32 {
        self.position.epoch
    }

    /// Whether all epochs are done.
    pub fn is_finished(&self) -> bool {
        self.position.epoch >= self.models[0].config.epochs
    }

    /// Steps of one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches[0].batches_per_epoch()
    }

    /// Steps taken.
    pub fn step_count(&self) -> u64 {
        let Position { epoch, batch } = self.position;
        u64::from(epoch) * self.steps_per_epoch() as u64 + batch as u64
    }

    pub(super) fn image_count(&self) -> usize {
        self.images.len()
    }

    /// The weights of a model, in the order of [`Net::layout`].
    ///
    /// # Panics
    /// If there is no such model.
    pub fn weights(&self, model: usize) -> Vec<f32> {
        self.of_model(model, &self.weights)
    }

    /// The gradient of the last step of a model, in the order of [`Net::layout`]; zeros before the first.
    ///
    /// # Panics
    /// If there is no such model.
    pub fn gradient(&self, model: usize) -> Vec<f32> {
        self.of_model(model, &self.gradient)
    }

    fn of_model(&self, model: usize, values: &[Vector]) -> Vec<f32> {
        assert!(model < self.model_count, "model {model} of {}", self.model_count);
        values.iter().map(|value| value.0[model]).collect()
    }

    /// The step, from 1, at which a model's loss or weights stopped being finite.
    pub fn diverged(&self, model: usize) -> Option<u64> {
        (self.diverged[model] > 0).then_some(self.diverged[model])
    }

    /// One step of all models; returns the mean loss of each model's batch (of lanes without a model,
    /// nothing of use). A model whose loss is not finite goes on so, and hurts no other.
    ///
    /// # Panics
    /// If all epochs are done.
    pub fn step(&mut self) -> [f64; LANES] {
        assert!(!self.is_finished(), "all epochs are done");
        let step = self.step_count();
        let count = self.choose_images();
        let seeds = std::array::from_fn(|lane| dropout_seed(self.models[lane].config.seed, step));
        let weight = 1.0 / count as f32;
        let mut tally = Tally::default();
        self.gradient.fill(Vector::ZERO);
        for first in (0..count).step_by(self.plan.chunk) {
            let samples = self.plan.chunk.min(count - first);
            self.load(first, samples);
            let Self { plan, workspace, weights, gradient, set, .. } = self;
            let dropout = DropoutSeeds { seeds: &seeds, first };
            plan.forward(*set, weights, workspace, samples, Some(dropout));
            plan.backward((*set, weights), workspace, (samples, weight), &mut tally, gradient);
        }
        let Self { optimisers, weights, gradient, .. } = self;
        optimisers.step(self.set, step, weights, gradient);
        let losses = tally.losses.map(|loss| loss / count as f64);
        for (diverged, loss) in self.diverged.iter_mut().zip(losses) {
            if *diverged == 0 && !loss.is_finite() {
                *diverged = step + 1;
            }
        }
        self.epoch.add(&tally);
        self.position.batch += 1;
        if self.position.batch == self.steps_per_epoch() {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
        }
        losses
    }

    /// Trains to the end of an epoch; returns every model's mean loss and accuracy on the batches as they were learned
    /// from. `None` if `stop` said so: the
    /// state is then that of the last step, and the next call continues the epoch.
    ///
    /// # Panics
    /// If all epochs are done.
    pub fn run_epoch(&mut self, stop: &dyn Fn() -> bool) -> Option<Vec<Score>> {
        loop {
            if stop() {
                return None;
            }
            self.step();
            if self.position.batch == 0 {
                return Some(std::mem::take(&mut self.epoch).scores(self.model_count));
            }
        }
    }

    /// Finds the images of the next batch; returns how many each model has.
    fn choose_images(&mut self) -> usize {
        let Position { epoch, batch } = self.position;
        let mut count = 0;
        let is_shared = self.batches.len() == 1;
        for (lane, batches) in self.batches.iter_mut().enumerate() {
            let indices = batches.batch(epoch, batch);
            count = indices.len();
            for (chosen, &index) in self.indices.iter_mut().zip(indices) {
                match is_shared {
                    true => chosen.fill(index),
                    false => chosen[lane] = index,
                }
            }
        }
        count
    }

    /// Writes images and labels of a chunk to where the passes read them.
    fn load(&mut self, first: usize, samples: usize) {
        let Self { images, workspace, indices, order, plan, set, .. } = self;
        let targets = workspace.values[0].chunks_exact_mut(plan.lengths[0]);
        let rows = indices[first..first + samples].iter().zip(&mut workspace.labels).zip(targets);
        for ((indices, labels), target) in rows {
            *labels = indices.map(|index| images.label(index));
            match order {
                ImageOrder::Own => images.gather(*set, indices, target),
                ImageOrder::Shared(_) => images.broadcast(indices[0], target),
            }
        }
    }
}

/// Refuses settings that are out of range, and those that lanes do not have.
fn check_config(model: usize, config: &TrainConfig) -> Result<(), LaneError> {
    config.check().map_err(|source| LaneError::Config { model, source })?;
    let unsupported = [
        (config.augmentation != Augmentation::NONE, "augmentation"),
        (config.label_smoothing != 0.0, "label_smoothing"),
        (config.clip.is_some(), "clip"),
        (config.ema.is_some(), "ema"),
        (config.select != Selection::Last, "selection of the best weights"),
        (config.distillation.is_some(), "distillation"),
    ];
    match unsupported.into_iter().find(|(is_set, _)| *is_set) {
        Some((_, setting)) => Err(LaneError::Setting { model, setting }),
        None => Ok(()),
    }
}

/// Refuses models that do not go through as many steps of as many images as the first.
fn check_alike(model: usize, config: &TrainConfig, first: &TrainConfig) -> Result<(), LaneError> {
    let numbers = |c: &TrainConfig| (c.batch, c.epochs, c.drop_last);
    if numbers(config) == numbers(first) {
        return Ok(());
    }
    let describe = |c: &TrainConfig| {
        format!("batch {}, {} epochs and drop_last {}", c.batch, c.epochs, c.drop_last)
    };
    Err(LaneError::Differs { model, found: describe(config), expected: describe(first) })
}
