//! The first phase: a predictor learns rows.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::comm::Part;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::loss::{Loss, MaskedMeanSquaredError, SquareRoot};
use weightspace_nn::optim::{OptimizerConfig, Ranger};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::{Prepared, Score, Task, TrainConfig, TrainError, Trainer};
use weightspace_nn::{Engine, Net};

use super::model::Coefficients;
use super::{Model, Target};

/// Rows that are predicted at a time for evaluation.
const EVALUATED: usize = 1024;

/// How rows are drawn, and what is made small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconstructionConfig {
    /// Rows of a step; all of them for 0.
    pub rows: usize,
    /// Probability that the rows of a step are drawn uniformly, without replacement. Otherwise they are
    /// drawn in proportion to their norm, with replacement.
    pub uniform: f32,
    /// What is made small.
    pub objective: Objective,
    /// The gradient is that of the loss of all rows, of which those of a step are a share, as the reference's is: smaller,
    /// which only matters to what optimisers add to their divisors.
    pub share: bool,
}

impl Default for ReconstructionConfig {
    /// NeRN's for small networks.
    fn default() -> Self {
        ReconstructionConfig {
            rows: 4096,
            uniform: 0.8,
            objective: Objective::RootMeanSquare,
            share: false,
        }
    }
}

/// What reconstruction makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The root of the mean square of all errors: its gradient does not vanish with the error.
    #[default]
    RootMeanSquare,
    /// The mean square.
    MeanSquare,
}

/// A loss of which only a share of the gradient is known.
struct Share<L> {
    loss: L,
    share: f64,
}

impl<L: Loss> Loss for Share<L> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        self.loss.evaluate(first_sample, outputs, gradient)
    }

    fn of_sum(&self, sum: f64) -> (f64, f64) {
        let (value, factor) = self.loss.of_sum(sum);
        (value, self.share * factor)
    }
}

/// Rows to be learned, as the training loop's task.
pub struct Reconstruction<'a> {
    model: &'a Model,
    config: ReconstructionConfig,
    head: usize,
    rows: Vec<f32>,
    /// What the square of every error counts.
    importance: Vec<f32>,
    /// Number of weights, for the mean of squares.
    weights: f64,
    /// Sums of the norms of the rows up to each.
    norms: Vec<f64>,
    key: Key,
    inputs: Vec<f32>,
    targets: Vec<f32>,
    importances: Vec<f32>,
    drawn: Vec<usize>,
}

impl<'a> Reconstruction<'a> {
    /// The rows of a target. With importances, one for every weight of the network with a mean of about 1,
    /// squares of errors count as much.
    ///
    /// # Panics
    /// If the model or the importances are of another target.
    pub fn new(
        model: &'a Model,
        target: &Target,
        config: &ReconstructionConfig,
        importance: Option<&[f32]>,
        seed: u64,
    ) -> Self {
        let (rows, head) = (target.rows(), target.head());
        assert_eq!(rows.len(), model.row_count() * head, "rows of the predictor");
        assert_eq!(model.net().class_count(), head, "outputs of the predictor");
        let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let norms = rows.chunks_exact(head).scan(0.0, |sum, row| {
            *sum += norm(row);
            Some(*sum)
        });
        Reconstruction {
            norms: norms.collect(),
            importance: target.row_importances(importance),
            weights: target.element_count() as f64,
            key: Key::for_purpose(seed, "rows"),
            config: config.clone(),
            model,
            head,
            rows,
            inputs: Vec::new(),
            targets: Vec::new(),
            importances: Vec::new(),
            drawn: Vec::new(),
        }
    }

    /// Number of rows of a step.
    pub fn rows_per_step(&self) -> usize {
        let all = self.model.row_count();
        if self.config.rows == 0 { all } else { self.config.rows.min(all) }
    }

    /// How to train for so many steps: by the reference's settings, and with these rows per step. The
    /// optimiser and all else may be changed, but not the batch.
    pub fn train_config(&self, steps: u64, seed: u64) -> TrainConfig {
        let batch = self.rows_per_step();
        let per_epoch = (self.model.row_count() / batch) as u64;
        let optimizer = OptimizerConfig::Ranger(Ranger::default());
        TrainConfig {
            epochs: steps.div_ceil(per_epoch).clamp(1, u64::from(u32::MAX)) as u32,
            batch,
            drop_last: true,
            seed,
            evaluate_every: (1000 / per_epoch).max(1) as u32,
            schedule: Schedule::Cosine { minimum: 1e-6, warmup: None },
            optimizer,
            ..TrainConfig::default()
        }
    }

    /// A trainer of these coefficients.
    ///
    /// # Errors
    /// Settings out of their ranges.
    pub fn trainer(
        self,
        initial: Vec<f32>,
        config: TrainConfig,
    ) -> Result<Trainer<'a>, TrainError> {
        let coefficients = Coefficients::new(self.model, initial);
        let running = RunningStatistics::default();
        Trainer::new(Box::new(self), Box::new(coefficients), running, config)
    }

    /// The rows of a step, of which a uniform choice is given: that, or others.
    fn draw(&mut self, epoch: u32, uniform: &[usize]) {
        let first = uniform.first().copied().unwrap_or(0);
        let mut stream = Stream::new(self.key, u64::from(epoch) << 32 | first as u64);
        self.drawn.clear();
        let all = *self.norms.last().unwrap_or(&0.0);
        if stream.uniform() < self.config.uniform || all == 0.0 || self.config.rows == 0 {
            return self.drawn.extend_from_slice(uniform);
        }
        let last = self.norms.len() - 1;
        for _ in uniform {
            let point = f64::from(stream.next_u32()) * all / 2f64.powi(32);
            self.drawn.push(self.norms.partition_point(|&sum| sum <= point).min(last));
        }
    }

    /// Mean square of the errors of predicted rows, by importance.
    fn mean_square(&self, first: usize, found: &[f32]) -> f64 {
        let values = first * self.head..first * self.head + found.len();
        let pairs = found.iter().zip(&self.rows[values.clone()]).zip(&self.importance[values]);
        let square = |((a, b), w): ((&f32, &f32), &f32)| {
            f64::from(*w) * (f64::from(*a) - f64::from(*b)).powi(2)
        };
        pairs.map(square).sum::<f64>() / self.weights
    }
}

impl Task for Reconstruction<'_> {
    fn net(&self) -> &Net {
        self.model.net()
    }

    fn sample_count(&self) -> usize {
        self.model.row_count()
    }

    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError> {
        self.draw(epoch, samples);
        let head = self.head;
        let gather = |from: &[f32], width: usize, rows: &[usize], to: &mut Vec<f32>| {
            to.clear();
            rows.iter().for_each(|&row| to.extend_from_slice(&from[row * width..][..width]));
        };
        gather(self.model.inputs(), 3, &self.drawn[share], &mut self.inputs);
        gather(&self.rows, head, &self.drawn, &mut self.targets);
        gather(&self.importance, head, &self.drawn, &mut self.importances);
        let valid = self.weights / self.model.row_count() as f64;
        let loss = MaskedMeanSquaredError::new(&self.targets, head).with_mask(&self.importances);
        let loss = loss.with_normaliser(valid * samples.len() as f64);
        let share = match self.config.share {
            true => samples.len() as f64 / self.model.row_count() as f64,
            false => 1.0,
        };
        let loss: Box<dyn Loss> = match self.config.objective {
            Objective::RootMeanSquare => Box::new(Share { loss: SquareRoot(loss), share }),
            Objective::MeanSquare => Box::new(Share { loss, share }),
        };
        Ok(Prepared { inputs: &self.inputs, loss, taps: Vec::new() })
    }

    /// The root of the mean square of all errors is the loss; every rank looks at all rows.
    fn evaluate(&self, weights: &StateDict, _: Part) -> Result<Option<Score>, TrainError> {
        let engine = Engine::new(self.model.net(), weights)?;
        let mut found = vec![0.0; EVALUATED * self.head];
        let mut square = 0.0;
        for (chunk, inputs) in self.model.inputs().chunks(3 * EVALUATED).enumerate() {
            let found = &mut found[..inputs.len() / 3 * self.head];
            engine.forward(inputs, found)?;
            square += self.mean_square(chunk * EVALUATED, found);
        }
        Ok(Some(Score { total: self.model.row_count(), loss: square.sqrt(), ..Score::default() }))
    }
}
