//! What a run is, as `--config` reads it and `--print-config` writes it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weightspace::predictor::TuningConfig;
use weightspace::quantize::aware::{self, AwareConfig};
use weightspace::subspace::SubspaceConfig;
use weightspace_nn::init::Initialisation;
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::train::{DistillationConfig, TrainConfig};

/// Larger configuration files and records of runs are taken for something else.
const LARGEST_FILE: u64 = 1 << 20;

/// What a run is. Options that are `None` are decided when the data and files are seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Specification of the architecture; that of `init` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Name of the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Normalisation of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<String>,
    /// Training images held out for evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<usize>,
    /// How weights are drawn.
    pub initialisation: Initialisation,
    /// Model to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Draw the layer that tells classes apart anew.
    pub new_head: bool,
    /// Model to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Model around which coefficients are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Key of the basis in place of a seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Train coefficients of a basis; without, every weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subspace: Option<SubspaceConfig>,
    /// Train weights on the grid that they are stored on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<AwareConfig>,
    /// Train the predictor of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor: Option<TuningConfig>,
    /// The file of the predictor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_file: Option<PathBuf>,
    /// Train on noise within this range on both sides of 0, not on images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_inputs: Option<f32>,
    /// How to train.
    pub training: TrainConfig,
}

impl RunConfig {
    /// Whether training needs no images: the predictor of a file that learns what its original says about noise.
    pub fn learns_from_noise_alone(&self) -> bool {
        self.noise_inputs.is_some() && self.predictor.is_some()
    }

    /// Reads a TOML file; what it leaves out has its default, which the method knows for training.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_text(path)?;
        let mut config: RunConfig = parse_toml(path, &text)?;
        let given: toml::Table = parse_toml(path, &text)?;
        let says =
            |name| given.get("training").is_some_and(|training| training.get(name).is_some());
        let said = config.training.clone();
        config.set_training_of_method();
        let training = &mut config.training;
        if says("optimizer") {
            training.optimizer = said.optimizer;
        }
        if says("schedule") {
            training.schedule = said.schedule;
        }
        if says("distillation") {
            training.distillation = said.distillation;
        }
        if says("freeze_statistics") {
            training.freeze_statistics = said.freeze_statistics;
        }
        Ok(config)
    }

    /// Sets how the method is trained where nothing else is said, if it differs from other training.
    pub fn set_training_of_method(&mut self) {
        let default = DistillationConfig::default();
        if self.quantize.is_some() {
            // Its rate is known when the network is.
            aware::set_training(&mut self.training, 0.0, default);
        } else if self.predictor.is_some() {
            // By the teacher alone: what a predictor lacks, the teacher has.
            let distillation = DistillationConfig { temperature: 1.0, alpha: 1.0, ..default };
            aware::set_training(&mut self.training, 1e-4, distillation);
        } else if self.subspace.is_some() {
            // A step of a coefficient moves every weight: the rates of single weights make them diverge.
            self.training.optimizer = OptimizerConfig::Adam(Adam::default());
        }
    }

    /// As TOML, which [`read`](Self::read) reads.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("cannot write the configuration as TOML")
    }
}

/// Reads a small TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    parse_toml(path, &read_text(path)?)
}

fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        // The library's own text quotes the file over several lines.
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        anyhow::anyhow!("{}: line {line}: {}", path.display(), error.message())
    })
}

/// Reads a small text file.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let read = file.take(LARGEST_FILE + 1).read_to_string(&mut text);
    read.with_context(|| path.display().to_string())?;
    ensure!(text.len() as u64 <= LARGEST_FILE, "{}: larger than 1 MiB", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::presets::PRESETS;
    use super::*;

    #[test]
    fn what_a_file_leaves_out_has_the_default_of_its_method() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut of_flags =
            RunConfig { quantize: Some(AwareConfig::default()), ..RunConfig::default() };
        of_flags.set_training_of_method();
        std::fs::write(&file, "[quantize]\n").unwrap();
        assert_eq!(RunConfig::read(file.path()).unwrap(), of_flags);
        std::fs::write(&file, of_flags.to_toml().unwrap()).unwrap();
        assert_eq!(RunConfig::read(file.path()).unwrap(), of_flags);
        let sgd = "[quantize]\n[training.optimizer]\nname = \"sgd\"\nlearning_rate = 0.5\n";
        std::fs::write(&file, sgd).unwrap();
        let read = RunConfig::read(file.path()).unwrap().training;
        assert_eq!(read.optimizer.learning_rate(), 0.5);
        assert_eq!(read.schedule, of_flags.training.schedule);
        std::fs::write(&file, "[training]\nepochs = 3\n").unwrap();
        let plain = TrainConfig { epochs: 3, ..TrainConfig::default() };
        assert_eq!(RunConfig::read(file.path()).unwrap().training, plain);
    }

    #[test]
    fn configurations_survive_toml() {
        for preset in PRESETS {
            let mut config = RunConfig::default();
            preset.flags().apply(&mut config).unwrap();
            let text = config.to_toml().unwrap();
            let read: RunConfig = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(read, config, "{text}");
        }
    }
}
