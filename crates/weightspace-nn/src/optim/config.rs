//! The table of optimisers, and their settings as configuration files hold them.

use serde::{Deserialize, Serialize};

use super::muon::MuonRule;
use super::rule::Rule;
use super::{Adam, AdamW, Muon, OptimizerError, ParameterGroup, RAdam, Ranger, Sgd};

/// An optimiser and its settings. Serialised, `name` says which; settings left out have PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// `sgd`
    Sgd(Sgd),
    /// `adam`
    Adam(Adam),
    /// `adamw`
    AdamW(AdamW),
    /// `radam`
    RAdam(RAdam),
    /// `ranger`
    Ranger(Ranger),
    /// `muon`
    Muon(Muon),
}

/// An entry of the table of optimisers.
#[derive(Clone, Copy, Debug)]
pub struct OptimizerInfo {
    /// Name in configuration files and on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// Where it was published.
    pub reference: &'static str,
    /// Its default settings.
    pub defaults: fn() -> OptimizerConfig,
}

/// Every optimiser.
pub static OPTIMIZERS: &[OptimizerInfo] = &[
    OptimizerInfo {
        name: "sgd",
        title: "stochastic gradient descent, with momentum or Nesterov's",
        reference: "https://proceedings.mlr.press/v28/sutskever13.html",
        defaults: || OptimizerConfig::Sgd(Sgd::default()),
    },
    OptimizerInfo {
        name: "adam",
        title: "Adam, weight decay in the gradient",
        reference: "https://arxiv.org/abs/1412.6980",
        defaults: || OptimizerConfig::Adam(Adam::default()),
    },
    OptimizerInfo {
        name: "adamw",
        title: "Adam with decoupled weight decay",
        reference: "https://arxiv.org/abs/1711.05101",
        defaults: || OptimizerConfig::AdamW(AdamW::default()),
    },
    OptimizerInfo {
        name: "radam",
        title: "rectified Adam",
        reference: "https://arxiv.org/abs/1908.03265",
        defaults: || OptimizerConfig::RAdam(RAdam::default()),
    },
    OptimizerInfo {
        name: "ranger",
        title: "rectified Adam with Lookahead and centralised gradients",
        reference: "https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer",
        defaults: || OptimizerConfig::Ranger(Ranger::default()),
    },
    OptimizerInfo {
        name: "muon",
        title: "momentum with orthogonalised steps, AdamW for vectors",
        reference: "https://kellerjordan.github.io/posts/muon/",
        defaults: || OptimizerConfig::Muon(Muon::default()),
    },
];

impl OptimizerConfig {
    /// The default settings of the optimiser of that name.
    ///
    /// # Errors
    /// A name that is not in [`OPTIMIZERS`].
    pub fn named(name: &str) -> Result<Self, OptimizerError> {
        let info = OPTIMIZERS.iter().find(|info| info.name == name);
        info.map(|info| (info.defaults)()).ok_or_else(|| OptimizerError::UnknownName {
            name: name.into(),
            known: OPTIMIZERS.iter().map(|info| info.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Learning rate before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            OptimizerConfig::Sgd(c) => c.learning_rate,
            OptimizerConfig::Adam(c) => c.learning_rate,
            OptimizerConfig::AdamW(c) => c.learning_rate,
            OptimizerConfig::RAdam(c) => c.learning_rate,
            OptimizerConfig::Ranger(c) => c.learning_rate,
            OptimizerConfig::Muon(c) => c.learning_rate,
        }
    }

    /// The same with another learning rate.
    pub fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        let own = match &mut self {
            OptimizerConfig::Sgd(c) => &mut c.learning_rate,
            OptimizerConfig::Adam(c) => &mut c.learning_rate,
            OptimizerConfig::AdamW(c) => &mut c.learning_rate,
            OptimizerConfig::RAdam(c) => &mut c.learning_rate,
            OptimizerConfig::Ranger(c) => &mut c.learning_rate,
            OptimizerConfig::Muon(c) => &mut c.learning_rate,
        };
        *own = learning_rate;
        self
    }

    /// The rule that changes weights, ready for these tensors.
    pub(super) fn rule(&self, groups: &[ParameterGroup]) -> Box<dyn Rule> {
        match *self {
            OptimizerConfig::Sgd(sgd) => Box::new(sgd),
            OptimizerConfig::Adam(adam) => Box::new(adam),
            OptimizerConfig::AdamW(adamw) => Box::new(adamw),
            OptimizerConfig::RAdam(radam) => Box::new(radam),
            OptimizerConfig::Ranger(ranger) => Box::new(ranger.radam()),
            OptimizerConfig::Muon(muon) => Box::new(MuonRule::new(muon, groups)),
        }
    }
}
