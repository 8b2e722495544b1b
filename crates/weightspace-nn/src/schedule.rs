//! Learning rates over the course of training, as configuration files hold them.
//!
//! All are functions of the step alone, so that training continues anywhere; they agree with the schedulers
//! of PyTorch when those are advanced after every step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How long training is: what turns epochs into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Steps of the whole training.
    pub total_steps: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
}

/// A length of time, `{ epochs = 5 }` or `{ steps = 500 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// In passes over the training data, rounded to whole steps.
    Epochs(f64),
    /// In steps.
    Steps(u64),
}

impl Span {
    /// The same in steps.
    pub fn steps(self, timeline: Timeline) -> u64 {
        match self {
            Span::Epochs(epochs) => (epochs * timeline.steps_per_epoch as f64).round() as u64,
            Span::Steps(steps) => steps,
        }
    }

    fn check(self, setting: &'static str) -> Result<(), ScheduleError> {
        match self {
            Span::Epochs(epochs) => positive(setting, epochs),
            Span::Steps(steps) => positive(setting, steps as f64),
        }
    }
}

/// Points in time, `{ epochs = [100, 150] }` or `{ steps = [32000, 48000] }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Milestones {
    /// In passes over the training data.
    Epochs(Vec<u64>),
    /// In steps.
    Steps(Vec<u64>),
}

impl Milestones {
    /// How many have been reached at `step`.
    fn reached(&self, step: u64, timeline: Timeline) -> usize {
        let (list, unit) = match self {
            Milestones::Epochs(list) => (list, timeline.steps_per_epoch),
            Milestones::Steps(list) => (list, 1),
        };
        list.iter().filter(|m| m.saturating_mul(unit) <= step).count()
    }
}

/// A linear rise at the beginning, from `start_factor` times the learning rate to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// How long it takes.
    pub length: Span,
    /// Factor of the first step.
    #[serde(default = "start_factor")]
    pub start_factor: f64,
}

/// How one-cycle goes from one value to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cosine,
    /// Along a straight line.
    Linear,
}

impl Anneal {
    /// The value between `start` (at `progress` 0) and `end` (at 1).
    fn between(self, start: f64, end: f64, progress: f64) -> f64 {
        match self {
            Anneal::Cosine => end + (start - end) / 2.0 * (1.0 + libm::cos(PI * progress)),
            Anneal::Linear => start + (end - start) * progress,
        }
    }
}

/// Momentum that falls while the learning rate rises, and rises while it falls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MomentumCycle {
    /// Momentum at the highest learning rate.
    pub lowest: f64,
    /// Momentum at both ends.
    pub highest: f64,
}

/// A learning rate as a function of the step. Serialised, `name` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same throughout.
    Constant {
        /// Rise at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warmup: Option<Warmup>,
    },
    /// Multiplied by `gamma` again and again, as `StepLR`.
    Step {
        /// Time between two multiplications, counted from the start of training.
        every: Span,
        /// Factor.
        #[serde(default = "gamma")]
        gamma: f64,
        /// Rise at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warmup: Option<Warmup>,
    },
    /// Multiplied by `gamma` at every milestone, as `MultiStepLR`.
    MultiStep {
        /// When, counted from the start of training.
        milestones: Milestones,
        /// Factor.
        #[serde(default = "gamma")]
        gamma: f64,
        /// Rise at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warmup: Option<Warmup>,
    },
    /// Falls along half a cosine from the end of the warm-up to the end of training, as
    /// `CosineAnnealingLR`.
    Cosine {
        /// Where it ends.
        #[serde(default)]
        minimum: f64,
        /// Rise at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warmup: Option<Warmup>,
    },
    /// Rises to the optimiser's learning rate and falls to almost nothing, as `OneCycleLR` with two phases.
    OneCycle {
        /// Share of training in which it rises.
        #[serde(default = "rise")]
        rise: f64,
        /// The highest learning rate divided by the first.
        #[serde(default = "divisor")]
        divisor: f64,
        /// The first learning rate divided by the last.
        #[serde(default = "final_divisor")]
        final_divisor: f64,
        /// Shape of both phases.
        #[serde(default)]
        anneal: Anneal,
        /// Momentum against the learning rate, if it changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        momentum: Option<MomentumCycle>,
    },
}

fn start_factor() -> f64 {
    0.01
}

fn gamma() -> f64 {
    0.1
}

fn rise() -> f64 {
    0.3
}

fn divisor() -> f64 {
    25.0
}

fn final_divisor() -> f64 {
    1e4
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant { warmup: None }
    }
}

/// A setting of a schedule that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{setting} of the schedule is {value}; it must be {expected}")]
pub struct ScheduleError {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub expected: &'static str,
}

fn require(
    setting: &'static str,
    value: f64,
    ok: impl Fn(f64) -> bool,
    expected: &'static str,
) -> Result<(), ScheduleError> {
    if value.is_finite() && ok(value) {
        Ok(())
    } else {
        Err(ScheduleError { setting, value, expected })
    }
}

fn not_negative(setting: &'static str, value: f64) -> Result<(), ScheduleError> {
    require(setting, value, |v| v >= 0.0, "a finite number, not negative")
}

fn positive(setting: &'static str, value: f64) -> Result<(), ScheduleError> {
    require(setting, value, |v| v > 0.0, "a finite number above 0")
}

fn share(setting: &'static str, value: f64) -> Result<(), ScheduleError> {
    require(setting, value, |v| (0.0..=1.0).contains(&v), "from 0 to 1")
}

impl Schedule {
    /// Checks the settings.
    ///
    /// # Errors
    /// One that is out of its range.
    pub fn check(&self) -> Result<(), ScheduleError> {
        if let Some(warmup) = self.warmup() {
            warmup.length.check("warmup.length")?;
            share("warmup.start_factor", warmup.start_factor)?;
        }
        match self {
            Schedule::Constant { .. } => Ok(()),
            Schedule::Step { every, gamma, .. } => {
                every.check("every")?;
                not_negative("gamma", *gamma)
            }
            Schedule::MultiStep { gamma, .. } => not_negative("gamma", *gamma),
            Schedule::Cosine { minimum, .. } => not_negative("minimum", *minimum),
            Schedule::OneCycle { rise, divisor, final_divisor, momentum, .. } => {
                share("rise", *rise)?;
                positive("divisor", *divisor)?;
                positive("final_divisor", *final_divisor)?;
                let Some(MomentumCycle { lowest, highest }) = momentum else { return Ok(()) };
                let below_one = |v: f64| (0.0..1.0).contains(&v);
                require("momentum.lowest", *lowest, below_one, "at least 0 and below 1")?;
                require("momentum.highest", *highest, below_one, "at least 0 and below 1")
            }
        }
    }

    /// Learning rate of step `step` (from 0) where the optimiser's settings say `base`; steps after the end
    /// of training have that of the last one.
    pub fn learning_rate(&self, base: f64, step: u64, timeline: Timeline) -> f64 {
        let step = step.min(timeline.total_steps.saturating_sub(1));
        let rise = self.warmup().map_or(0, |warmup| warmup.length.steps(timeline));
        if let Some(warmup) = self.warmup().filter(|_| step < rise) {
            let start = warmup.start_factor;
            return base * (start + (1.0 - start) * step as f64 / rise as f64);
        }
        match self {
            Schedule::Constant { .. } => base,
            Schedule::Step { every, gamma, .. } => {
                base * libm::pow(*gamma, (step / every.steps(timeline).max(1)) as f64)
            }
            Schedule::MultiStep { milestones, gamma, .. } => {
                base * libm::pow(*gamma, milestones.reached(step, timeline) as f64)
            }
            Schedule::Cosine { minimum, .. } => {
                let progress = (step - rise) as f64 / (timeline.total_steps - rise).max(1) as f64;
                Anneal::Cosine.between(base, *minimum, progress)
            }
            Schedule::OneCycle { rise, divisor, final_divisor, anneal, .. } => {
                let first = base / divisor;
                match phase(*rise, step, timeline) {
                    Phase::Rise(progress) => anneal.between(first, base, progress),
                    Phase::Fall(progress) => anneal.between(base, first / final_divisor, progress),
                }
            }
        }
    }

    /// Momentum of step `step` (from 0), for schedules that change it.
    pub fn momentum(&self, step: u64, timeline: Timeline) -> Option<f64> {
        let Schedule::OneCycle { rise, anneal, momentum: Some(cycle), .. } = self else {
            return None;
        };
        let step = step.min(timeline.total_steps.saturating_sub(1));
        Some(match phase(*rise, step, timeline) {
            Phase::Rise(progress) => anneal.between(cycle.highest, cycle.lowest, progress),
            Phase::Fall(progress) => anneal.between(cycle.lowest, cycle.highest, progress),
        })
    }

    fn warmup(&self) -> Option<Warmup> {
        match self {
            Schedule::Constant { warmup }
            | Schedule::Step { warmup, .. }
            | Schedule::MultiStep { warmup, .. }
            | Schedule::Cosine { warmup, .. } => *warmup,
            Schedule::OneCycle { .. } => None,
        }
    }
}

/// Where in one-cycle a step is, and how far into that phase: 0 to 1.
enum Phase {
    Rise(f64),
    Fall(f64),
}

fn phase(rise: f64, step: u64, timeline: Timeline) -> Phase {
    // The peak is a step of its own, and so is the end: hence the subtractions.
    let peak = rise * timeline.total_steps as f64 - 1.0;
    let end = timeline.total_steps as f64 - 1.0;
    let step = step as f64;
    if step <= peak {
        Phase::Rise(if peak > 0.0 { step / peak } else { 1.0 })
    } else {
        Phase::Fall(if end > peak { ((step - peak) / (end - peak)).min(1.0) } else { 1.0 })
    }
}
