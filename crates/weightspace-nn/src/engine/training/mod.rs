//! Training: the loss of a batch and its gradient with respect to the flat weights.
//!
//! See [`plan`] for how a step is cut into phases. Every thread has its own samples, buffers and
//! weight gradients; threads meet only between phases, where sums are added in the order of the
//! threads. So the same threads and instruction set give the same bits.
//!
//! With several ranks ([`comm`](crate::comm)) each of them steps with its part of the batch, and what
//! threads add up at their meetings all ranks do. Ranks of one thread each make the
//! values that as many threads of one rank make, bit for bit, and sum gradients with other roundings.

mod backward;
mod batch_norm;
mod exchange;
mod parameters;
pub mod plan;
mod worker;

pub use batch_norm::{NormMode, RunningLayer, RunningStatistics};
pub use plan::{TrainingPlan, Wishes};

use std::sync::Arc;

use self::batch_norm::NormState;
use self::exchange::Exchange;
use self::parameters::{Ranges, StepParameters};
use self::worker::{Shared, Worker};
use crate::comm::{Communicator, Solo};
use crate::kernels::simd::InstructionSet;
use crate::loss::Loss;
use crate::net::{Net, Op};

/// How a training engine runs.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// Most samples of a batch, of those that this rank has of it.
    pub batch: usize,
    /// Threads; the samples of a batch are divided among them. All ranks have as many.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub set: InstructionSet,
    /// What else is computed.
    pub wishes: Wishes,
    /// The ranks that step together.
    pub comm: Arc<dyn Communicator>,
}

impl TrainingOptions {
    /// Batches of up to `batch` samples on `threads` threads of the only rank.
    pub fn new(batch: usize, threads: usize) -> Self {
        let set = InstructionSet::best();
        let (threads, wishes) = (threads.max(1), Wishes::default());
        TrainingOptions { batch, threads, set, wishes, comm: Arc::new(Solo) }
    }
}

/// One batch, or what one rank has of it.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Samples, one after the other: the values of all inputs, channel-major. A rank may have none.
    pub inputs: &'a [f32],
    /// Number of the first of these in the batch of all ranks, as losses and dropout count them; 0 with
    /// one rank.
    pub first: usize,
    /// How batch normalisations treat it.
    pub mode: NormMode,
    /// Seed of the dropout masks: another one for every step; `None` switches dropout off.
    pub dropout: Option<u64>,
}

/// The network is planned once; then step after step runs without allocating, but for what several
/// ranks say to each other.
pub struct TrainingEngine {
    net: Net,
    plan: TrainingPlan,
    options: TrainingOptions,
    ranges: Vec<Ranges>,
    parameters: Vec<StepParameters>,
    norms: Vec<NormState>,
    workers: Vec<Worker>,
    running: RunningStatistics,
    exchange: Exchange,
}

impl TrainingEngine {
    /// Plans and allocates.
    pub fn new(net: &Net, options: TrainingOptions) -> Self {
        let plan = TrainingPlan::new(net, &options.wishes);
        let ranges = parameters::ranges(net, &plan.steps);
        let parameters = parameters::allocate(net, &plan, &ranges);
        let channels = |norm: &plan::Norm| match net.node(norm.node).op {
            Op::BatchNorm { channels, .. } => channels,
            _ => 0,
        };
        let norms = plan.norms.iter().map(|norm| NormState::new(channels(norm))).collect();
        let capacity = options.batch.div_ceil(options.threads);
        let workers = (0..options.threads).map(|_| {
            let gradients = parameters::allocate_gradients(net, &plan, &ranges);
            Worker::new(net, &plan, capacity, gradients)
        });
        let workers = workers.collect();
        let running = RunningStatistics::new(net);
        let exchange = Exchange::new(Arc::clone(&options.comm));
        TrainingEngine {
            exchange,
            net: net.clone(),
            plan,
            options,
            ranges,
            parameters,
            norms,
            workers,
            running,
        }
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The plan.
    pub fn plan(&self) -> &TrainingPlan {
        &self.plan
    }

    /// Most samples of a batch, of those that this rank has of it.
    pub fn batch_size(&self) -> usize {
        self.options.batch
    }

    /// Running statistics of the batch normalisations.
    pub fn running(&self) -> &RunningStatistics {
        &self.running
    }

    /// Sets the running statistics, which must be of this network.
    pub fn set_running(&mut self, running: RunningStatistics) {
        self.running = running;
    }

    /// The loss of a batch and its gradient with respect to the flat weights, which stand as
    /// [`Net::layout`] says. `taps` are the losses of the tapped nodes in their order.
    ///
    /// All ranks step together, with the same weights and with losses of the whole batch, and find
    /// the same.
    ///
    /// # Panics
    /// If a slice has a wrong length, or the engine was planned for losses on whole batches.
    pub fn step(
        &mut self,
        weights: &[f32],
        batch: Batch<'_>,
        loss: &dyn Loss,
        taps: &[&dyn Loss],
        gradient: &mut [f32],
    ) -> f64 {
        assert!(self.plan.merged, "planned for a loss on whole batches");
        assert_eq!(gradient.len(), weights.len(), "gradient of every weight");
        self.start(weights, batch, true);
        self.run(weights, batch, Some((loss, taps)), true);
        let sum = self.finish(gradient);
        whole_loss(sum, loss, taps, gradient)
    }

    /// The outputs of this rank's samples `[samples, width]`. In an engine that is planned for losses on whole
    /// batches, [`backward`](Self::backward) may follow.
    ///
    /// # Panics
    /// If a slice has a wrong length.
    pub fn forward(&mut self, weights: &[f32], batch: Batch<'_>, outputs: &mut [f32]) {
        self.start(weights, batch, !self.plan.merged);
        self.run(weights, batch, None, false);
        let mut rest = outputs;
        for worker in &self.workers {
            let (own, behind) = rest.split_at_mut(worker.samples * self.net.class_count());
            own.copy_from_slice(&worker.outputs[..own.len()]);
            rest = behind;
        }
        assert!(rest.is_empty(), "outputs of every sample");
    }

    /// The gradient after [`forward`](Self::forward) with the same weights and batch; the losses
    /// see the whole batch in any order of calls.
    ///
    /// # Panics
    /// If a slice has a wrong length, or the engine was planned for losses on single samples.
    pub fn backward(
        &mut self,
        batch: Batch<'_>,
        loss: &dyn Loss,
        taps: &[&dyn Loss],
        gradient: &mut [f32],
    ) -> f64 {
        assert!(!self.plan.merged, "planned for losses on single samples");
        for phase in (0..self.plan.phases.len()).rev() {
            self.run_phase(batch, Some((loss, taps)), phase, Direction::Backward);
            self.finish_gradients(batch, phase);
        }
        let sum = self.finish(gradient);
        whole_loss(sum, loss, taps, gradient)
    }

    /// The gradient of the inputs after a step, sample by sample; where it was asked for.
    pub fn input_gradient(&self) -> impl Iterator<Item = &[f32]> {
        let len = self.net.input_len();
        self.workers.iter().flat_map(move |worker| worker.input_gradient.chunks_exact(len))
    }

    /// The first layer whose values are not finite, or the first weight tensor that is not; `None`
    /// where everything is finite. All ranks find the same.
    pub fn first_not_finite(&mut self, weights: &[f32], batch: Batch<'_>) -> Option<String> {
        for entry in self.net.layout().entries() {
            if weights[entry.range()].iter().any(|w| !w.is_finite()) {
                return Some(format!("tensor {}", entry.name));
            }
        }
        if self.options.comm.any(batch.inputs.iter().any(|v| !v.is_finite())) {
            return Some("the input".to_string());
        }
        let running = self.running.clone();
        self.start(weights, batch, false);
        for phase in 0..self.plan.phases.len() {
            self.run_phase(batch, None, phase, Direction::Check);
            self.finish_statistics(weights, batch, phase);
        }
        self.running = running;
        let own = self.workers.iter().filter_map(|worker| worker.failure).min();
        let step = self.exchange.min(own)?;
        Some(format!("layer {}", self.name_of(step)))
    }

    /// The name of a step's layer, or that of the layer before it.
    fn name_of(&self, step: usize) -> String {
        let mut id = self.plan.steps[step].node;
        loop {
            let node = self.net.node(id);
            match node.inputs.first() {
                _ if !node.name.is_empty() => return node.name.clone(),
                Some(&input) => id = input,
                None => return "input".to_string(),
            }
        }
    }

    /// Divides the batch, packs the weights, forgets the last step.
    fn start(&mut self, weights: &[f32], batch: Batch<'_>, backward: bool) {
        let samples = batch.inputs.len() / self.net.input_len();
        assert_eq!(batch.inputs.len(), samples * self.net.input_len(), "whole samples");
        assert!(samples <= self.options.batch, "a batch of at most {}", self.options.batch);
        let threads = self.workers.len();
        for (i, worker) in self.workers.iter_mut().enumerate() {
            let (start, end) = (i * samples / threads, (i + 1) * samples / threads);
            (worker.first, worker.samples) = (start, end - start);
        }
        let set = &mut self.parameters;
        parameters::pack(&self.plan, &self.ranges, weights, backward, set);
        for (i, norm) in self.plan.norms.iter().enumerate() {
            let affine = self.affine(weights, norm.step);
            let (state, running) = (&mut self.norms[i], &self.running.layers[i]);
            state.start(norm, batch.mode, running, affine);
        }
    }

    fn affine<'a>(&self, weights: &'a [f32], step: usize) -> (&'a [f32], &'a [f32]) {
        let ranges = &self.ranges[step];
        (&weights[ranges.weight.clone()], &weights[ranges.bias.clone()])
    }

    fn run(
        &mut self,
        weights: &[f32],
        batch: Batch<'_>,
        losses: Option<(&dyn Loss, &[&dyn Loss])>,
        backward: bool,
    ) {
        let last = self.plan.phases.len() - 1;
        for phase in 0..=last {
            let direction = match phase == last && backward {
                true => Direction::Both,
                false => Direction::Forward,
            };
            self.run_phase(batch, losses, phase, direction);
            self.finish_statistics(weights, batch, phase);
        }
        if backward {
            self.finish_gradients(batch, last);
            for phase in (0..last).rev() {
                self.run_phase(batch, losses, phase, Direction::Backward);
                self.finish_gradients(batch, phase);
            }
        }
    }

    fn run_phase(
        &mut self,
        batch: Batch<'_>,
        losses: Option<(&dyn Loss, &[&dyn Loss])>,
        phase: usize,
        direction: Direction,
    ) {
        let mut workers = std::mem::take(&mut self.workers);
        let shared = Shared {
            net: &self.net,
            plan: &self.plan,
            set: self.options.set,
            parameters: &self.parameters,
            norms: &self.norms,
            mode: batch.mode,
            dropout: batch.dropout,
            inputs: batch.inputs,
            first: batch.first,
            loss: losses.map(|l| l.0),
            taps: losses.map_or(&[], |l| l.1),
            check: direction == Direction::Check,
        };
        let last = phase + 1 == self.plan.phases.len();
        let run = |worker: &mut Worker| {
            if phase == 0 && direction != Direction::Backward {
                worker.clear();
            }
            for chunk in worker.chunks(&self.plan, phase) {
                if direction != Direction::Backward {
                    worker.forward(&shared, phase, &chunk);
                    if last && direction == Direction::Forward {
                        worker.keep_outputs(&shared, &chunk);
                    }
                }
                if matches!(direction, Direction::Backward | Direction::Both) {
                    worker.backward(&shared, phase, &chunk);
                }
            }
        };
        // The thread that asks does the first share itself: waking one thread less per phase is a
        // fifth of a step of LeNet.
        if let Some((first, others)) = workers.split_first_mut() {
            rayon::in_place_scope(|scope| {
                for worker in others {
                    scope.spawn(|_| run(worker));
                }
                run(first);
            });
        }
        self.workers = workers;
    }

    /// Values of every channel in one sample of a batch normalisation's input.
    fn pixels(&self, norm: &plan::Norm) -> usize {
        let layout = &self.plan.layouts[norm.input.index()];
        layout.height * layout.width
    }

    /// After a phase forward: the statistics of the values that it made.
    fn finish_statistics(&mut self, weights: &[f32], batch: Batch<'_>, phase: usize) {
        for i in 0..self.plan.norms.len() {
            let norm = self.plan.norms[i];
            if norm.input_phase == phase && batch.mode != NormMode::Running {
                let pixels = self.pixels(&norm);
                let affine = self.affine(weights, norm.step);
                let (state, running) = (&mut self.norms[i], &mut self.running.layers[i]);
                let workers = self.workers.iter();
                let parts = workers.map(|w| (&w.sums[i][0], (w.samples * pixels) as f64));
                let moments = self.exchange.moments(parts, running.mean.len());
                state.finish_statistics(&norm, batch.mode, moments, running, affine);
            }
        }
    }

    /// After a phase backward: the gradients of its batch normalisations.
    fn finish_gradients(&mut self, batch: Batch<'_>, phase: usize) {
        for i in 0..self.plan.norms.len() {
            let norm = self.plan.norms[i];
            if norm.phase == phase {
                let pixels = self.pixels(&norm);
                let (first, others) = self.workers.split_first_mut().expect("a worker");
                let samples = first.samples + others.iter().map(|w| w.samples).sum::<usize>();
                let sums = &mut first.sums[i][1];
                others.iter().for_each(|worker| sums.add(&worker.sums[i][1]));
                let count = self.exchange.sum(sums, (samples * pixels) as f64);
                self.norms[i].finish_gradient(batch.mode, (sums, count));
            }
        }
    }

    /// Adds up the gradients and the loss, those of all ranks.
    fn finish(&mut self, gradient: &mut [f32]) -> f64 {
        let mut gradients: Vec<_> = self.workers.iter_mut().map(|w| &mut w.gradients).collect();
        parameters::reduce(&self.plan, &self.ranges, &mut gradients, gradient);
        self.options.comm.sum_f32(gradient);
        // These are of the whole batch already.
        for (norm, state) in self.plan.norms.iter().zip(&self.norms) {
            let ranges = &self.ranges[norm.step];
            gradient[ranges.weight.clone()].copy_from_slice(&state.weight_gradient);
            gradient[ranges.bias.clone()].copy_from_slice(&state.bias_gradient);
        }
        let mut loss = [self.workers.iter().map(|worker| worker.loss).sum()];
        self.options.comm.sum_f64(&mut loss);
        loss[0]
    }
}

/// The loss of a batch from the sum over its samples; changes the gradient to that of the loss.
fn whole_loss(sum: f64, loss: &dyn Loss, taps: &[&dyn Loss], gradient: &mut [f32]) -> f64 {
    if !taps.is_empty() {
        return sum;
    }
    let (value, factor) = loss.of_sum(sum);
    if factor != 1.0 {
        gradient.iter_mut().for_each(|g| *g *= factor as f32);
    }
    value
}

/// Which way a phase runs.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Backward,
    /// Forward and back, chunk by chunk.
    Both,
    /// Forward, looking for values that are not finite.
    Check,
}
