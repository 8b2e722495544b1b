//! The loop.

use std::sync::Arc;
use std::time::Instant;

use weightspace_core::random::{Key, Stream};

use super::metrics::Meter;
use super::{Metrics, Observer, Parameterization, Progress, Task};
use super::{RunFolder, TrainConfig, TrainError};
use crate::ModelState;
use crate::comm::{Communicator, Solo, agree, agree_on};
use crate::data::Batches;
use crate::engine::training::{
    Batch, NormMode, RunningStatistics, TrainingEngine, TrainingOptions, Wishes,
};
use crate::loss::Loss;
use crate::model_state::all_finite;
use crate::optim::{Ema, Optimizer, clip_global_norm};
use crate::schedule::Timeline;

/// Which batch comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Batch of the epoch, from 0.
    pub batch: usize,
}

/// How [`Trainer::run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// The observer wanted it to stop.
    Interrupted,
}

/// The best evaluation so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Best {
    pub correct: usize,
    pub coefficients: Vec<f32>,
    pub running: RunningStatistics,
}

/// Training, at some step of it.
///
/// With several ranks each has a trainer, and all of them call its methods in the same order, but those
/// that only look at it.
pub struct Trainer<'a> {
    pub(super) task: Box<dyn Task + 'a>,
    pub(super) method: Box<dyn Parameterization + 'a>,
    pub(super) config: TrainConfig,
    pub(super) comm: Arc<dyn Communicator>,
    engine: TrainingEngine,
    batches: Batches,
    timeline: Timeline,
    pub(super) optimizer: Optimizer,
    pub(super) position: Position,
    pub(super) coefficients: Vec<f32>,
    /// Begins with the weights after the first step.
    pub(super) ema: Option<Ema>,
    pub(super) best: Option<Best>,
    pub(super) meter: Meter,
    /// Learning rate and loss of the last step.
    pub(super) last: (f64, f64),
    /// Expanded weights, and the gradient of the coefficients; empty where the weights are the
    /// coefficients.
    weights: Vec<f32>,
    coefficient_gradient: Vec<f32>,
    gradient: Vec<f32>,
    /// Of a batch of all ranks; empty where nobody compares samples.
    outputs: Vec<f32>,
}

impl<'a> Trainer<'a> {
    /// Training before its first step, with the method's initial coefficients and these running
    /// statistics. Everything is allocated here.
    ///
    /// # Errors
    /// Settings out of their ranges, or too few samples for a batch.
    pub fn new(
        task: Box<dyn Task + 'a>,
        method: Box<dyn Parameterization + 'a>,
        running: RunningStatistics,
        config: TrainConfig,
    ) -> Result<Self, TrainError> {
        Self::distributed(task, method, running, config, Arc::new(Solo))
    }

    /// As [`new`](Self::new), as one of several ranks, each with its part of every batch and as many
    /// threads as the configuration says.
    ///
    /// # Errors
    /// As for [`new`](Self::new), or ranks that do not begin alike.
    pub fn distributed(
        task: Box<dyn Task + 'a>,
        method: Box<dyn Parameterization + 'a>,
        running: RunningStatistics,
        config: TrainConfig,
        comm: Arc<dyn Communicator>,
    ) -> Result<Self, TrainError> {
        let trainer = Self::on_rank(task, method, running, config, Arc::clone(&comm));
        let trainer = agree(&*comm, trainer)?;
        let config = trainer.config_text();
        agree_on(&*comm, "settings", &[config.as_bytes()])?;
        agree_on(&*comm, "coefficients", &[bytemuck::cast_slice(&trainer.coefficients)])?;
        Ok(trainer)
    }

    fn on_rank(
        task: Box<dyn Task + 'a>,
        mut method: Box<dyn Parameterization + 'a>,
        running: RunningStatistics,
        config: TrainConfig,
        comm: Arc<dyn Communicator>,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let samples = task.sample_count();
        let batches =
            Batches::new((0..samples).collect(), config.batch, config.seed, config.drop_last);
        let steps_per_epoch = batches.batches_per_epoch() as u64;
        if steps_per_epoch == 0 {
            let purpose = format!("for a batch of {}", config.batch);
            return Err(TrainError::TooFewSamples { samples, purpose });
        }
        let total_steps = steps_per_epoch * u64::from(config.epochs);
        method.attach(Arc::clone(&comm));
        let mut groups = method.groups();
        if !config.decay_vectors {
            groups = groups.without_decay_on_vectors();
        }
        let coefficients = method.initial();
        if let Some(decay) = config.ema {
            Ema::new(decay, &[])?;
        }
        let net = task.net();
        let batch = config.batch.min(samples);
        let inputs = task.inputs_per_sample();
        let options = TrainingOptions::new(inputs * batch.div_ceil(comm.size()), config.threads);
        let whole_batch_loss = task.compares_samples();
        let wishes = Wishes { taps: task.taps(), whole_batch_loss, ..Wishes::default() };
        let outputs = if whole_batch_loss { inputs * batch * net.class_count() } else { 0 };
        let options = TrainingOptions { comm: Arc::clone(&comm), wishes, ..options };
        let mut engine = TrainingEngine::new(net, options);
        engine.set_running(running);
        let weight_count = net.parameter_count();
        let expanded = |count| vec![0.0; if method.is_identity() { 0 } else { count }];
        Ok(Trainer {
            optimizer: Optimizer::new(&config.optimizer, groups)?,
            weights: expanded(weight_count),
            coefficient_gradient: expanded(coefficients.len()),
            gradient: vec![0.0; weight_count],
            outputs: vec![0.0; outputs],
            timeline: Timeline { total_steps, steps_per_epoch },
            position: Position::default(),
            ema: None,
            best: None,
            meter: Meter::default(),
            last: (0.0, 0.0),
            task,
            method,
            config,
            comm,
            engine,
            batches,
            coefficients,
        })
    }

    /// How it trains.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The ranks that train together.
    pub fn comm(&self) -> &Arc<dyn Communicator> {
        &self.comm
    }

    /// What it trains for.
    pub fn task(&self) -> &dyn Task {
        &*self.task
    }

    /// Which batch comes next.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether training has such a batch, or ends there.
    pub(super) fn has_position(&self, Position { epoch, batch }: Position) -> bool {
        let inside = epoch < self.config.epochs && batch < self.batches.batches_per_epoch();
        inside || epoch == self.config.epochs && batch == 0
    }

    /// Steps taken.
    pub fn step_count(&self) -> u64 {
        let Position { epoch, batch } = self.position;
        u64::from(epoch) * self.timeline.steps_per_epoch + batch as u64
    }

    /// Steps of the whole training.
    pub fn total_steps(&self) -> u64 {
        self.timeline.total_steps
    }

    /// Whether all epochs are done.
    pub fn is_finished(&self) -> bool {
        self.position.epoch >= self.config.epochs
    }

    /// The coefficients after the last step.
    pub fn coefficients(&self) -> &[f32] {
        &self.coefficients
    }

    /// The running statistics after the last step.
    pub fn running(&self) -> &RunningStatistics {
        self.engine.running()
    }

    /// Sets the running statistics, as re-estimated ones, which must be of this network.
    pub fn set_running(&mut self, running: RunningStatistics) {
        self.engine.set_running(running);
    }

    /// Trains until all epochs are done or the observer of any rank wants it to stop.
    ///
    /// # Errors
    /// If training diverges.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Ending, TrainError> {
        self.run_with(None, observer)
    }

    /// As [`run`](Self::run), keeping metrics and checkpoints; there is one of where it ended.
    ///
    /// # Errors
    /// If training diverges, with the last checkpoint before that kept, or the system fails.
    pub fn run_in(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<Ending, TrainError> {
        self.run_with(Some(folder), observer)
    }

    fn run_with(
        &mut self,
        mut folder: Option<&mut RunFolder>,
        observer: &mut dyn Observer,
    ) -> Result<Ending, TrainError> {
        while !self.is_finished() {
            self.step()?;
            observer.step(&self.progress());
            let metrics = self.is_evaluation_due().then(|| self.evaluate()).transpose()?;
            if let Some(metrics) = &metrics {
                observer.evaluation(metrics);
            }
            let stop = self.comm.any(observer.should_stop()) && !self.is_finished();
            if let Some(folder) = &mut folder {
                let kept = self.keep(folder, metrics.as_ref(), stop);
                agree(&*self.comm, kept)?;
            }
            if stop {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// Keeps what is known after a step, on the rank that does so.
    fn keep(
        &self,
        folder: &mut RunFolder,
        metrics: Option<&Metrics>,
        stop: bool,
    ) -> Result<(), TrainError> {
        if let Some(metrics) = metrics {
            folder.append(metrics)?;
        }
        match metrics.is_some() || stop || folder.is_due(self.step_count()) {
            true => folder.save(self),
            false => Ok(()),
        }
    }

    /// How far training is.
    pub fn progress(&self) -> Progress {
        let ended = self.position.batch == 0;
        Progress {
            step: self.step_count(),
            total_steps: self.total_steps(),
            epoch: self.position.epoch + u32::from(!ended),
            epochs: self.config.epochs,
            loss: self.last.1,
            learning_rate: self.last.0,
            images_per_second: self.meter.rate().unwrap_or(0.0),
        }
    }

    /// One step: forward, backward, and a change of the coefficients.
    ///
    /// # Errors
    /// If the loss is not finite; the coefficients are then those before the step.
    ///
    /// # Panics
    /// If all epochs are done.
    pub fn step(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let step = self.step_count();
        let Position { epoch, batch } = self.position;
        let samples = self.batches.batch(epoch, batch);
        let share = self.comm.part().range(samples.len());
        let inputs_per_sample = self.task.inputs_per_sample();
        let compares_samples = self.task.compares_samples();
        let width = self.task.net().class_count();
        let mut prepared = agree(&*self.comm, self.task.batch(epoch, samples, share.clone()))?;
        let weights = match self.method.is_identity() {
            true => &self.coefficients,
            false => {
                self.method.expand(&self.coefficients, &mut self.weights);
                &self.weights
            }
        };
        let batch = Batch {
            inputs: prepared.inputs,
            first: inputs_per_sample * share.start,
            mode: match self.config.freeze_statistics {
                true => NormMode::Running,
                false => NormMode::TRAINING,
            },
            dropout: Some(dropout_seed(self.config.seed, step)),
        };
        if compares_samples {
            let inputs = |samples: usize| samples * inputs_per_sample * width;
            let outputs = &mut self.outputs[..inputs(samples.len())];
            outputs.fill(0.0);
            let own = inputs(share.start)..inputs(share.end);
            self.engine.forward(weights, batch, &mut outputs[own]);
            self.comm.sum_f32(outputs);
            prepared.loss.observe(outputs);
        }
        let taps: Vec<&dyn Loss> = prepared.taps.iter().map(|loss| &**loss).collect();
        let (loss, gradient) = (&*prepared.loss, &mut self.gradient);
        let loss = match compares_samples {
            true => self.engine.backward(batch, loss, &taps, gradient),
            false => self.engine.step(weights, batch, loss, &taps, gradient),
        };
        if !loss.is_finite() {
            let place = self.engine.first_not_finite(weights, batch);
            let place = place.unwrap_or_else(|| "the loss".to_owned());
            return Err(TrainError::Diverged { step: step + 1, place, loss });
        }
        drop(prepared);
        let count = samples.len();
        let learning_rate = self.update(step);
        self.last = (learning_rate, loss);
        self.advance();
        self.meter.add(loss, count, start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Changes the coefficients by the gradient of the weights; returns the learning rate.
    fn update(&mut self, step: u64) -> f64 {
        let gradient = match self.method.is_identity() {
            true => &mut self.gradient,
            false => {
                let target = &mut self.coefficient_gradient;
                self.method.pullback(&self.coefficients, &self.gradient, target);
                target
            }
        };
        if let Some(clip) = self.config.clip {
            clip_global_norm(gradient, clip);
        }
        let schedule = &self.config.schedule;
        let base = self.config.optimizer.learning_rate();
        let learning_rate = schedule.learning_rate(base, step, self.timeline);
        // Optimisers forget it, so that it must be said anew even where it does not change.
        if let Some(momentum) = schedule.momentum(step, self.timeline) {
            self.optimizer.set_momentum(momentum);
        }
        self.optimizer.step(&mut self.coefficients, gradient, learning_rate);
        match (&mut self.ema, self.config.ema) {
            (Some(ema), _) => ema.update(&self.coefficients),
            (none, Some(decay)) => *none = Ema::new(decay, &self.coefficients).ok(),
            (None, None) => {}
        }
        learning_rate
    }

    fn advance(&mut self) {
        self.position.batch += 1;
        if self.position.batch == self.batches.batches_per_epoch() {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
        }
    }

    /// Whether an epoch has just ended after which there is an evaluation.
    pub fn is_evaluation_due(&self) -> bool {
        let Position { epoch, batch } = self.position;
        let due = epoch.is_multiple_of(self.config.evaluate_every) || self.is_finished();
        batch == 0 && epoch > 0 && due
    }

    /// Fails if the coefficients or the running statistics are not finite: they are not worth
    /// keeping.
    pub(super) fn check_finite(&self) -> Result<(), TrainError> {
        let running = self.running();
        let layer = || running.layers.iter().find(|layer| !layer.is_finite());
        let place = match all_finite(&self.coefficients) {
            false => self.first_tensor_not_finite(),
            true => match layer() {
                Some(layer) => format!("a statistic of layer {}", layer.name),
                None => return Ok(()),
            },
        };
        Err(TrainError::Diverged { step: self.step_count(), place, loss: self.last.1 })
    }

    fn first_tensor_not_finite(&self) -> String {
        let layout = self.task.net().layout();
        let entries = layout.entries().iter().filter(|_| self.method.is_identity());
        let mut entries = entries.filter(|e| !all_finite(&self.coefficients[e.range()]));
        entries.next().map_or("a coefficient".to_owned(), |entry| format!("tensor {}", entry.name))
    }

    /// Coefficients as they are evaluated.
    pub(super) fn averaged(&self) -> &[f32] {
        self.ema.as_ref().map_or(&self.coefficients, Ema::weights)
    }

    /// The network as it is now, averaged if an average is kept.
    pub fn current(&mut self) -> ModelState {
        let coefficients = self.averaged().to_vec();
        let running = self.running().clone();
        self.expanded(coefficients, running)
    }

    /// The coefficients that the configuration selects: those of the best evaluated, or those of now.
    pub fn result_coefficients(&self) -> &[f32] {
        self.best.as_ref().map_or(self.averaged(), |best| &best.coefficients)
    }

    /// What the parameterization remembers of training ([`Parameterization::memory`]).
    pub fn memory(&self) -> Vec<f64> {
        self.method.memory()
    }

    /// The network that the configuration selects: the best evaluated, or the one of now.
    pub fn result(&mut self) -> ModelState {
        match self.best.clone() {
            Some(best) => self.expanded(best.coefficients, best.running),
            None => self.current(),
        }
    }

    fn expanded(&mut self, coefficients: Vec<f32>, running: RunningStatistics) -> ModelState {
        if self.method.is_identity() {
            return ModelState { weights: coefficients, running };
        }
        let mut weights = vec![0.0; self.gradient.len()];
        self.method.expand(&coefficients, &mut weights);
        ModelState { weights, running }
    }
}

/// The dropout masks of a step: the first two words of stream `step` of purpose `dropout`.
pub(crate) fn dropout_seed(seed: u64, step: u64) -> u64 {
    let mut stream = Stream::new(Key::for_purpose(seed, "dropout"), step);
    u64::from(stream.next_u32()) << 32 | u64::from(stream.next_u32())
}
