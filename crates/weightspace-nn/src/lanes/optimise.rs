//! The step of every model's optimiser, with the formulas of [`optim`](crate::optim).

use std::ops::Range;

use super::{LaneError, LaneModel, Vector, zeros};
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::optim::{Adaptive, AdaptiveValue, OptimizerConfig, Rule, SgdValue, Step, Wide, divided};
use crate::schedule::{Schedule, Timeline};

/// The optimisers of a group, and their state.
pub(super) struct Optimisers {
    models: Vec<Model>,
    timeline: Timeline,
    /// The tensors of a model, and whether they are vectors.
    tensors: Vec<(Range<usize>, bool)>,
    /// Buffer of momentum, or averaged gradient.
    pub first: Vec<Vector>,
    /// Averaged square; empty if no model needs it.
    pub second: Vec<Vector>,
}

struct Model {
    optimizer: OptimizerConfig,
    schedule: Schedule,
    decay_vectors: bool,
}

impl Model {
    fn is_adaptive(&self) -> bool {
        !matches!(self.optimizer, OptimizerConfig::Sgd(_))
    }
}

/// Factors of one step: those of every lane side by side.
#[derive(Clone, Copy)]
struct Factors {
    adaptive: AdaptiveValue<Vector>,
    epsilon: Vector,
    sgd: SgdValue<Vector>,
    /// Bits of the lanes with an adaptive rule.
    is_adaptive: u16,
}

impl Optimisers {
    /// The optimisers of a full group before the first step.
    ///
    /// # Errors
    /// Settings out of their ranges, or an optimiser that lanes do not have.
    pub fn new(models: &[LaneModel], timeline: Timeline) -> Result<Self, LaneError> {
        for (model, LaneModel { config, .. }) in models.iter().enumerate() {
            let checked = match &config.optimizer {
                OptimizerConfig::Sgd(rule) => rule.check(),
                OptimizerConfig::Adam(rule) => rule.check(),
                OptimizerConfig::AdamW(rule) => rule.check(),
                _ => {
                    let setting = "optimizer but sgd, adam and adamw";
                    return Err(LaneError::Setting { model, setting });
                }
            };
            checked.map_err(|source| LaneError::Optimizer { model, source })?;
        }
        let layout = models[0].net.layout();
        let tensors = layout.entries().iter().map(|e| (e.range(), e.shape.len() < 2)).collect();
        let models: Vec<Model> = models
            .iter()
            .map(|LaneModel { config, .. }| Model {
                optimizer: config.optimizer,
                schedule: config.schedule.clone(),
                decay_vectors: config.decay_vectors,
            })
            .collect();
        let squares = models.iter().any(Model::is_adaptive);
        let second = zeros(if squares { layout.len() } else { 0 });
        Ok(Optimisers { models, timeline, tensors, first: zeros(layout.len()), second })
    }

    /// Changes the weights by their gradient; `step` counts from 0.
    pub fn step(
        &mut self,
        set: InstructionSet,
        step: u64,
        weights: &mut [Vector],
        gradient: &[Vector],
    ) {
        let of_matrices = self.factors(step, false);
        let of_vectors = match self.models.iter().all(|model| model.decay_vectors) {
            true => of_matrices,
            false => self.factors(step, true),
        };
        for (range, is_vector) in &self.tensors {
            let factors = if *is_vector { &of_vectors } else { &of_matrices };
            let second = if self.second.is_empty() { 0..0 } else { range.clone() };
            let update = Update {
                factors,
                weights: &mut weights[range.clone()],
                gradient: &gradient[range.clone()],
                first: &mut self.first[range.clone()],
                second: &mut self.second[second],
            };
            dispatch(set, update);
        }
    }

    fn factors(&self, step: u64, of_vectors: bool) -> Factors {
        let zero = Vector::ZERO;
        let mut factors = Factors {
            adaptive: AdaptiveValue {
                gain1: zero,
                beta2: zero,
                gain2: zero,
                l2: zero,
                keep: zero,
                scale: zero,
            },
            epsilon: zero,
            sgd: SgdValue { rate: zero, decay: zero, keep: zero, gain: zero, ahead: [zero; 2] },
            is_adaptive: 0,
        };
        for (lane, model) in self.models.iter().enumerate() {
            let Model { optimizer, schedule, decay_vectors } = model;
            let learning_rate =
                schedule.learning_rate(optimizer.learning_rate(), step, self.timeline);
            let momentum = schedule.momentum(step, self.timeline);
            let decays = *decay_vectors || !of_vectors;
            let weight_decay_scale = if decays { 1.0 } else { 0.0 };
            let step = Step { count: step + 1, learning_rate, weight_decay_scale };
            match *optimizer {
                OptimizerConfig::Sgd(mut rule) => {
                    momentum.into_iter().for_each(|momentum| rule.set_momentum(momentum));
                    factors.set_sgd(lane, rule.factors(&step));
                }
                OptimizerConfig::Adam(mut rule) => {
                    momentum.into_iter().for_each(|momentum| rule.set_momentum(momentum));
                    factors.set_adaptive(lane, rule.adaptive(&step));
                }
                OptimizerConfig::AdamW(mut rule) => {
                    momentum.into_iter().for_each(|momentum| rule.set_momentum(momentum));
                    factors.set_adaptive(lane, rule.adaptive(&step));
                }
                _ => unreachable!("checked when the group was made"),
            }
        }
        factors
    }
}

impl Factors {
    fn set_adaptive(&mut self, lane: usize, adaptive: Adaptive) {
        let AdaptiveValue { gain1, beta2, gain2, l2, keep, scale } = adaptive.rounded();
        self.adaptive.gain1.0[lane] = gain1;
        self.adaptive.beta2.0[lane] = beta2;
        self.adaptive.gain2.0[lane] = gain2;
        self.adaptive.l2.0[lane] = l2;
        self.adaptive.keep.0[lane] = keep;
        self.adaptive.scale.0[lane] = scale;
        self.epsilon.0[lane] = adaptive.epsilon.unwrap_or(0.0) as f32;
        self.is_adaptive |= 1 << lane;
    }

    fn set_sgd(&mut self, lane: usize, SgdValue { rate, decay, keep, gain, ahead }: SgdValue) {
        self.sgd.rate.0[lane] = rate;
        self.sgd.decay.0[lane] = decay;
        self.sgd.keep.0[lane] = keep;
        self.sgd.gain.0[lane] = gain;
        self.sgd.ahead[0].0[lane] = ahead[0];
        self.sgd.ahead[1].0[lane] = ahead[1];
    }
}

/// One step of one tensor of all models.
struct Update<'a> {
    factors: &'a Factors,
    weights: &'a mut [Vector],
    gradient: &'a [Vector],
    first: &'a mut [Vector],
    second: &'a mut [Vector],
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn load<L: Lanes>(vector: &Vector) -> Wide<L> {
    // SAFETY: a vector has 16 values; the rest by the contract of this function.
    unsafe { Wide::new(L::load(vector.0.as_ptr())) }
}

/// Replaces the lanes whose bits are set.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn replace<L: Lanes>(vector: &mut Vector, value: Wide<L>, bits: u16) {
    // SAFETY: a vector has 16 values; the rest by the contract of this function.
    unsafe {
        let old = L::load(vector.0.as_ptr());
        old.blend(value.get(), bits).store(vector.0.as_mut_ptr());
    }
}

impl Update<'_> {
    /// Steps the lanes of adaptive rules.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn adaptive<L: Lanes>(&mut self) {
        let Factors { adaptive, epsilon, is_adaptive, .. } = self.factors;
        // SAFETY: as for this function.
        unsafe {
            let epsilon = load::<L>(epsilon);
            let factors = AdaptiveValue {
                gain1: load(&adaptive.gain1),
                beta2: load(&adaptive.beta2),
                gain2: load(&adaptive.gain2),
                l2: load(&adaptive.l2),
                keep: load(&adaptive.keep),
                scale: load(&adaptive.scale),
            };
            let state = self.first.iter_mut().zip(&mut *self.second);
            let values = self.weights.iter_mut().zip(self.gradient).zip(state);
            for ((weight, gradient), (mean, square)) in values {
                let old = [load(weight), load(mean), load(square)];
                let direction = |mean, square| divided(mean, square, epsilon);
                let [w, m, s] = factors.step(old, load(gradient), direction);
                replace(weight, w, *is_adaptive);
                replace(mean, m, *is_adaptive);
                replace(square, s, *is_adaptive);
            }
        }
    }

    /// Steps the lanes of plain descent.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn descent<L: Lanes>(&mut self) {
        let Factors { sgd, is_adaptive, .. } = self.factors;
        // SAFETY: as for this function.
        unsafe {
            let factors = SgdValue {
                rate: load::<L>(&sgd.rate),
                decay: load(&sgd.decay),
                keep: load(&sgd.keep),
                gain: load(&sgd.gain),
                ahead: [load(&sgd.ahead[0]), load(&sgd.ahead[1])],
            };
            let values = self.weights.iter_mut().zip(self.gradient).zip(&mut *self.first);
            for ((weight, gradient), buffer) in values {
                let [w, b] = factors.step([load(weight), load(buffer)], load(gradient));
                replace(weight, w, !is_adaptive);
                replace(buffer, b, !is_adaptive);
            }
        }
    }
}

impl Kernel for Update<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: by the contract of `run`.
        unsafe {
            if self.factors.is_adaptive != 0 {
                self.adaptive::<L>();
            }
            if self.factors.is_adaptive != u16::MAX {
                self.descent::<L>();
            }
        }
    }
}
