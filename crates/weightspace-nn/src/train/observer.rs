//! Who watches training.

use super::Metrics;

/// Watches training, and may end it.
pub trait Observer {
    /// After every step.
    fn step(&mut self, _progress: &Progress) {}

    /// After every evaluation.
    fn evaluation(&mut self, _metrics: &Metrics) {}

    /// Whether training should stop after the step that was just taken.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Steps of the whole training.
    pub total_steps: u64,
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Epochs of the whole training.
    pub epochs: u32,
    /// Loss of the last step.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Samples trained on per second since the last evaluation.
    pub images_per_second: f64,
}
