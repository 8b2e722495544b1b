//! Momentum with orthogonalised steps.

use serde::{Deserialize, Serialize};

use super::adam::AVERAGES;
use super::error::{averaging, not_negative, require};
use super::newton_schulz::NewtonSchulz;
use super::rule::{Piece, Rule, Step};
use super::{AdamW, OptimizerError, ParameterGroup};

/// Muon (Jordan et al. 2024), as `torch.optim.Muon` with f32 in place of bfloat16.
///
/// The averaged gradient of a matrix (a convolution's filters count as one row each) is replaced by the
/// nearest matrix with orthogonal rows or columns. Tensors of one dimension follow [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Learning rate before any schedule, above zero.
    pub learning_rate: f64,
    /// Factor of the running average of the gradient.
    pub momentum: f64,
    /// Look ahead along the average.
    pub nesterov: bool,
    /// Share of the weights, per unit of learning rate, that every step takes away.
    pub weight_decay: f64,
    /// How the size of a step depends on the shape of the matrix.
    pub scale: MatrixScale,
    /// What tensors of one dimension follow; a schedule changes both learning rates in proportion.
    pub adamw: AdamW,
}

/// How the size of a step of [`Muon`] depends on the shape of the matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixScale {
    /// sqrt(max(1, rows / columns)), as in the original.
    #[default]
    Original,
    /// 0.2 sqrt(max(rows, columns)): steps as large as AdamW's, so that its learning rates fit.
    MatchRmsAdamw,
}

impl MatrixScale {
    fn factor(self, rows: usize, columns: usize) -> f64 {
        match self {
            MatrixScale::Original => (rows as f64 / columns as f64).max(1.0).sqrt(),
            MatrixScale::MatchRmsAdamw => 0.2 * (rows.max(columns) as f64).sqrt(),
        }
    }
}

impl Default for Muon {
    fn default() -> Self {
        Muon {
            learning_rate: 1e-3,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            scale: MatrixScale::Original,
            adamw: AdamW::default(),
        }
    }
}

/// [`Muon`] with the room that its products need.
pub(super) struct MuonRule {
    config: Muon,
    newton_schulz: NewtonSchulz,
    /// The matrix that is made orthogonal.
    direction: Vec<f32>,
}

impl MuonRule {
    pub fn new(config: Muon, groups: &[ParameterGroup]) -> Self {
        let mut newton_schulz = NewtonSchulz::default();
        let mut largest = 0;
        for (rows, columns) in groups.iter().filter_map(ParameterGroup::matrix) {
            newton_schulz.reserve(rows, columns);
            largest = largest.max(rows * columns);
        }
        MuonRule { config, newton_schulz, direction: vec![0.0; largest] }
    }
}

impl Rule for MuonRule {
    fn check(&self) -> Result<(), OptimizerError> {
        let rate = self.config.learning_rate;
        require(rate.is_finite() && rate > 0.0, "learning_rate", rate, "a finite number above 0")?;
        averaging("momentum", self.config.momentum)?;
        not_negative("weight_decay", self.config.weight_decay)?;
        self.config.adamw.check()
    }

    fn state_names(&self) -> &'static [&'static str] {
        AVERAGES
    }

    fn set_momentum(&mut self, momentum: f64) {
        self.config.momentum = momentum;
    }

    fn update(&self, step: &Step, piece: Piece<'_>) {
        let Muon { learning_rate, adamw, .. } = self.config;
        let proportion = adamw.learning_rate / learning_rate;
        adamw.update(&Step { learning_rate: step.learning_rate * proportion, ..*step }, piece);
    }

    fn takes_whole(&self, group: &ParameterGroup) -> bool {
        group.matrix().is_some()
    }

    fn update_tensor(&mut self, step: &Step, group: &ParameterGroup, tensor: Piece<'_>) {
        let Some((rows, columns)) = group.matrix().filter(|&(r, c)| r * c > 0) else { return };
        let config = &self.config;
        let momentum = config.momentum as f32;
        let gain = (1.0 - config.momentum) as f32;
        let direction = &mut self.direction[..rows * columns];
        let values = direction.iter_mut().zip(tensor.gradient).zip(tensor.first);
        for ((direction, &gradient), average) in values {
            *average += gain * (gradient - *average);
            *direction = match config.nesterov {
                true => gradient + momentum * (*average - gradient),
                false => *average,
            };
        }
        self.newton_schulz.orthogonalize(direction, rows, columns);
        let rate = (step.learning_rate * config.scale.factor(rows, columns)) as f32;
        let decay = config.weight_decay * step.weight_decay_scale;
        let keep = (1.0 - step.learning_rate * decay) as f32;
        for (weight, direction) in tensor.weights.iter_mut().zip(direction) {
            *weight = keep * *weight - rate * *direction;
        }
    }
}
