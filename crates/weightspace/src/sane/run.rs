//! A pretraining from a zoo to an autoencoder.

use serde::{Deserialize, Serialize};
use weightspace_core::align::{AlignOptions, Aligner};
use weightspace_core::permutation::PermutationGroup;
use weightspace_core::{StateDict, quoted};
use weightspace_nn::arch;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::train::{Dense, TrainConfig, Trainer};

use super::model::Autoencoder;
use super::pretraining::{Pretraining, PretrainingConfig, Samples};
use super::{Arranger, SaneConfig, SaneError, SaneModel, Standardisation, TokenLayout};
use crate::zoo::Population;

/// What a pretraining is, as configuration files hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Epochs of the models to learn from; all of them if there are none.
    pub model_epochs: Vec<u32>,
    /// Seed of the division of models into those to learn from, 70 %, and others.
    pub split_seed: u64,
    /// Bring the units of all models into the order of one of them.
    pub align: bool,
    /// The autoencoder.
    pub model: SaneConfig,
    /// How windows are drawn.
    pub windows: PretrainingConfig,
    /// How to train; a batch is so many models with two views each.
    pub training: TrainConfig,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        PretrainConfig {
            model_epochs: Vec::new(),
            split_seed: 0,
            align: true,
            model: SaneConfig::default(),
            windows: PretrainingConfig::default(),
            training: PretrainingConfig::train_config(),
        }
    }
}

/// What is known of a zoo before training.
pub struct Study {
    /// Architecture of all models; empty if it is none that is known.
    pub arch: String,
    /// Its units that may change places; none of an unknown architecture.
    groups: Vec<PermutationGroup>,
    /// How their tensors are tokens.
    pub layout: TokenLayout,
    /// Mean and deviation of the layers of the training models.
    pub standardisation: Standardisation,
    /// The autoencoder.
    pub autoencoder: Autoencoder,
    /// Training samples.
    pub train: Samples,
    /// Samples to look at while training.
    pub validation: Samples,
    /// Names of models that are left out, since weights of them are not finite.
    pub left_out: Vec<String>,
    /// The weights of the first training model at its last epoch: what embeddings are aligned to, and what has the
    /// tensors that are no tokens.
    pub reference: StateDict,
}

impl Study {
    /// Looks at a zoo: all models are read once.
    ///
    /// # Errors
    /// A zoo that cannot be read, that has too few models, or whose models are not of one architecture, which has to be known
    /// where they are aligned.
    pub fn new(zoo: &Population, config: &PretrainConfig) -> Result<Self, SaneError> {
        let (finite, left_out) = zoo.without_nan()?;
        let parts = finite.split(config.split_seed);
        let wanted = |epoch| config.model_epochs.is_empty() || config.model_epochs.contains(&epoch);
        let train = Samples::new(parts.train, wanted)?;
        let validation = Samples::new(parts.validation, wanted)?;
        let Some(last) = train.last_epoch_of(0) else {
            return Err(SaneError::Setting {
                setting: "number of training models with finite weights of such epochs",
                value: "0".to_owned(),
                expected: format!(
                    "at least 1: there are {} models, of which 70 % are to learn from",
                    finite.len()
                ),
            });
        };
        let reference = train.population().weights(0, last)?;
        let layout = TokenLayout::new(&reference.infos(), config.model.tokens)?;
        let net = match arch::recognise(&reference.infos()) {
            Ok(net) => Some(net),
            Err(_) if !config.align => None,
            Err(_) => {
                return Err(SaneError::Model {
                    model: quoted(train.population().name(0)),
                    reason: "no known architecture, so that its units cannot be aligned: models are learnt as they are \
                             with --no-align"
                        .to_owned(),
                });
            }
        };
        let arch = net.as_ref().map_or_else(String::new, |net| net.arch().to_owned());
        let groups = net.map_or_else(Vec::new, |net| net.permutation_groups());
        let models = (0..train.len()).map(|sample| train.open(&layout, sample));
        let standardisation = Standardisation::of(&layout, models)?;
        (0..validation.len()).try_for_each(|sample| validation.open(&layout, sample).map(drop))?;
        let autoencoder = Autoencoder::of(config.model.clone(), &layout)?;
        let (train, validation) = match config.align && !groups.is_empty() {
            true => {
                let aligner = Aligner::new(&groups, &reference, AlignOptions::default())?;
                // Nothing is known of later epochs than those that are learnt.
                let last = |samples: &Samples, model| Ok(samples.last_epoch_of(model));
                let train = train.aligned_by(&aligner, &layout, last)?;
                (train, validation.aligned_by(&aligner, &layout, last)?)
            }
            false => (train, validation),
        };
        Ok(Study {
            arch,
            groups,
            layout,
            standardisation,
            autoencoder,
            train,
            validation,
            left_out,
            reference,
        })
    }

    /// What is left of a training: the autoencoder with these weights, and all that is needed to use it.
    pub fn finish(&self, weights: StateDict, config: &PretrainConfig) -> SaneModel {
        SaneModel {
            autoencoder: self.autoencoder.clone(),
            weights,
            arch: self.arch.clone(),
            layout: self.layout.clone(),
            standardisation: self.standardisation.clone(),
            reference: self.reference.clone(),
            split_seed: config.split_seed,
            aligned: config.align,
        }
    }

    /// Training before its first step.
    ///
    /// # Errors
    /// Settings out of their ranges.
    pub fn trainer(&self, config: &PretrainConfig) -> Result<Trainer<'_>, SaneError> {
        let seed = config.training.seed;
        let task = Pretraining::new(
            &self.autoencoder,
            (&self.layout, &self.standardisation),
            Arranger::new(&self.layout, self.groups.clone()),
            (self.train.clone(), self.validation.clone()),
            config.windows.clone(),
            seed,
        )?;
        let net = self.autoencoder.training_net().net;
        let dense = Dense::new(&net, self.autoencoder.initial(&net, seed));
        let running = RunningStatistics::default();
        Ok(Trainer::new(Box::new(task), Box::new(dense), running, config.training.clone())?)
    }
}
