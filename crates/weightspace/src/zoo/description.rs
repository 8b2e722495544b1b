//! What a zoo is, as a TOML file says it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Augmentation, Preprocessing, split_train_validation};
use weightspace_nn::init::Initialisation;
use weightspace_nn::net::Activation;

use super::ZooError;
use super::params::{self, Params};
use super::presets::PRESETS;
use super::spec::{ModelSpec, ZooOptimizer, ZooSchedule};

/// Most models that a grid may have.
const MOST_MODELS: usize = 1 << 20;

/// Seeds that are drawn are below this, as those of published zoos are.
const RANDOM_SEEDS: u32 = 1_000_000;

/// Most bytes of a file that describes a zoo.
const MOST_BYTES: u64 = 1 << 20;

/// What a zoo is: data, training, and values on the axes along which its models differ.
///
/// Its models are all combinations of the values, in the order of the axes as they stand here, the
/// last one varying first; or `sample` of these, drawn without repetition by `sample_seed` and in the
/// same order. Of one seed, a smaller sample is contained in a larger one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZooDescription {
    /// Data set.
    pub data: String,
    /// Normalisation of the images; the data set's own if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<String>,
    /// Specification of the architecture, without activation and dropout.
    pub arch: String,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images of a batch.
    pub batch: usize,
    /// Training images to use, drawn by `data_seed`; all if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Training images that are held out for validation, drawn by `data_seed`.
    #[serde(default)]
    pub holdout: usize,
    /// Seed of the choice of training and validation images.
    #[serde(default = "data_seed")]
    pub data_seed: u64,
    /// Random changes of training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<String>,
    /// Epochs after which weights are kept.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// Which images a model sees when.
    #[serde(default)]
    pub order: Order,
    /// Learning rate over time.
    #[serde(default)]
    pub schedule: ZooSchedule,
    /// Axis: non-linearities; that of the architecture if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Axis<String>>,
    /// Axis: how weights are drawn.
    #[serde(default = "initialisation")]
    pub initialisation: Axis<Initialisation>,
    /// Axis: probabilities of dropout.
    #[serde(default)]
    pub dropout: Axis<f32>,
    /// Axis: optimisers.
    #[serde(default)]
    pub optimizer: Axis<ZooOptimizer>,
    /// Axis: learning rates.
    #[serde(default = "learning_rate")]
    pub learning_rate: Axis<f64>,
    /// Axis: weight decays.
    #[serde(default)]
    pub weight_decay: Axis<f64>,
    /// Axis: seeds.
    #[serde(default)]
    pub seeds: Seeds,
    /// Number of models to draw from the grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// Seed of that, and of seeds that are drawn.
    #[serde(default)]
    pub sample_seed: u64,
}

fn data_seed() -> u64 {
    42
}

fn initialisation() -> Axis<Initialisation> {
    Axis::One(Initialisation::KaimingUniform)
}

fn learning_rate() -> Axis<f64> {
    Axis::One(1e-3)
}

/// One value, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Axis<T> {
    /// All models have it.
    One(T),
    /// Each model has one of them.
    Many(Vec<T>),
}

impl<T: Default> Default for Axis<T> {
    fn default() -> Self {
        Axis::One(T::default())
    }
}

impl<T> Axis<T> {
    /// The values.
    pub fn values(&self) -> &[T] {
        match self {
            Axis::One(value) => std::slice::from_ref(value),
            Axis::Many(values) => values,
        }
    }
}

/// Epochs after which weights are kept; text form a list of them, or `"every"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Checkpoints {
    /// Every one, the untrained model among them.
    #[default]
    #[serde(with = "every")]
    Every,
    /// These, 0 being the untrained model.
    Epochs(Vec<u32>),
}

/// The text `"every"` for a variant without a value.
mod every {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const WORD: &str = "every";

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(WORD)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            WORD => Ok(()),
            other => Err(D::Error::custom(format!("'{other}' is not \"every\""))),
        }
    }
}

/// In which order models see the images of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Each in that of its own seed.
    #[default]
    Own,
    /// All in that of `data_seed`.
    Shared,
}

/// The seeds of a zoo.
///
/// Text form: a number; a list of numbers; `"1-1000"`, a range with both ends; `"random:10"`, ten for every
/// combination of the other axes, drawn by `sample_seed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seeds {
    /// One.
    One(u64),
    /// These.
    List(Vec<u64>),
    /// A range, or random ones.
    Text(String),
}

impl Default for Seeds {
    fn default() -> Self {
        Seeds::One(1)
    }
}

/// What [`Seeds`] say.
enum ParsedSeeds {
    Given(Vec<u64>),
    Random(usize),
}

impl Seeds {
    fn parse(&self) -> Result<ParsedSeeds, ZooError> {
        let malformed = |text: &str| {
            wrong(format!(
                "seeds = \"{text}\": expected \"1-1000\" or \"random:10\", at most {MOST_MODELS}"
            ))
        };
        match self {
            Seeds::One(seed) => Ok(ParsedSeeds::Given(vec![*seed])),
            Seeds::List(seeds) => Ok(ParsedSeeds::Given(seeds.clone())),
            Seeds::Text(text) => {
                if let Some(count) = text.strip_prefix("random:") {
                    let count =
                        count.parse().ok().filter(|count| (1..=MOST_MODELS).contains(count));
                    return count.map(ParsedSeeds::Random).ok_or_else(|| malformed(text));
                }
                let ends = text.split_once('-');
                let ends =
                    ends.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
                let (first, last) = ends
                    .filter(|(a, b)| a <= b && b - a < MOST_MODELS as u64)
                    .ok_or_else(|| malformed(text))?;
                Ok(ParsedSeeds::Given((first..=last).collect()))
            }
        }
    }
}

fn wrong(reason: impl Into<String>) -> ZooError {
    ZooError::Description(reason.into())
}

impl ZooDescription {
    /// Parses and checks a description.
    ///
    /// # Errors
    /// In one line: what is unknown, malformed or out of its range.
    pub fn parse(text: &str) -> Result<Self, ZooError> {
        let description: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let line = line.map_or(String::new(), |line| format!("line {line}: "));
            wrong(format!("{line}{}", error.message().replace('\n', " ")))
        })?;
        description.check()?;
        Ok(description)
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), with the name of the file.
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        let metadata = fs::metadata(path).map_err(ZooError::io(path))?;
        if !metadata.is_file() || metadata.len() > MOST_BYTES {
            return Err(ZooError::malformed(path, "not a description of a zoo of at most 1 MiB"));
        }
        let text = fs::read_to_string(path).map_err(ZooError::io(path))?;
        ZooDescription::parse(&text).map_err(|error| ZooError::malformed(path, error))
    }

    /// The description of that name in the table [`PRESETS`].
    ///
    /// # Errors
    /// A name that is not there.
    pub fn preset(name: &str) -> Result<Self, ZooError> {
        let found = PRESETS.iter().find(|preset| preset.name == name);
        let preset = found.ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            wrong(format!("unknown preset '{name}'; known are {}", names.join(", ")))
        })?;
        ZooDescription::parse(preset.toml)
    }

    /// The description as TOML.
    ///
    /// # Panics
    /// Never: every description has a text form.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a description has a text form")
    }

    /// The description of several zoos as one, where they differ in nothing but seeds: `"1-32"` and `"33-96"` make a
    /// list of 96 seeds. None where they differ in more, drew their models, or have too many.
    pub fn joined(parts: &[Self]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let with_seeds =
            |description: &Self, seeds| ZooDescription { seeds, ..description.clone() };
        let alike = |other: &Self| with_seeds(other, first.seeds.clone()) == *first;
        if first.sample.is_some() || !rest.iter().all(alike) {
            return None;
        }
        let mut seeds = Vec::new();
        for part in parts {
            let Ok(ParsedSeeds::Given(more)) = part.seeds.parse() else { return None };
            seeds.extend(more);
        }
        seeds.sort_unstable();
        seeds.dedup();
        let joined = with_seeds(first, Seeds::List(seeds));
        joined.check().is_ok().then_some(joined)
    }

    /// Epochs after which weights are kept, ascending; 0 is the untrained model.
    pub fn checkpoint_epochs(&self) -> Vec<u32> {
        match &self.checkpoints {
            Checkpoints::Every => (0..=self.epochs).collect(),
            Checkpoints::Epochs(epochs) => epochs.clone(),
        }
    }

    /// Random changes of training images.
    ///
    /// # Errors
    /// If the text names none; a description that was checked has no such text.
    pub fn augmentation(&self) -> Result<Augmentation, ZooError> {
        let Some(text) = &self.augment else { return Ok(Augmentation::NONE) };
        text.parse().map_err(|error| wrong(format!("augment: {error}")))
    }

    /// Normalisation of the images: what is given, else what suits the data set.
    ///
    /// # Errors
    /// Unknown names; a description that was checked has none.
    pub fn preprocessing(&self) -> Result<Preprocessing, ZooError> {
        let info = data::info(&self.data).map_err(|error| wrong(error.to_string()))?;
        let text = self.preprocessing.as_deref().unwrap_or(info.preprocessing);
        text.parse().map_err(|error| wrong(format!("{error}")))
    }

    /// The models of the zoo.
    ///
    /// # Errors
    /// Values that no model can have; a description that was checked has none.
    pub fn models(&self) -> Result<Vec<ModelSpec>, ZooError> {
        let activations = self.activations()?;
        let seeds = self.seeds.parse()?;
        let seed_count = match &seeds {
            ParsedSeeds::Given(seeds) => seeds.len(),
            ParsedSeeds::Random(count) => *count,
        };
        let lengths = [
            activations.len(),
            self.initialisation.values().len(),
            self.dropout.values().len(),
            self.optimizer.values().len(),
            self.learning_rate.values().len(),
            self.weight_decay.values().len(),
            seed_count,
        ];
        let total = lengths.iter().try_fold(1usize, |n, &length| n.checked_mul(length));
        let total = total.filter(|n| (1..=MOST_MODELS).contains(n)).ok_or_else(|| {
            wrong(format!("the axes have {lengths:?} values: no model, or more than {MOST_MODELS}"))
        })?;
        let spec = |mut position: usize| {
            let grid_position = position;
            let mut place = [0; 7];
            for (place, length) in place.iter_mut().zip(lengths).rev() {
                (*place, position) = (position % length, position / length);
            }
            ModelSpec {
                arch: self.arch.clone(),
                activation: activations[place[0]],
                initialisation: self.initialisation.values()[place[1]],
                dropout: self.dropout.values()[place[2]],
                optimizer: self.optimizer.values()[place[3]],
                learning_rate: self.learning_rate.values()[place[4]],
                weight_decay: self.weight_decay.values()[place[5]],
                schedule: self.schedule,
                seed: match &seeds {
                    ParsedSeeds::Given(seeds) => seeds[place[6]],
                    ParsedSeeds::Random(_) => self.random_seed(grid_position),
                },
            }
        };
        Ok(self.positions(total)?.into_iter().map(spec).collect())
    }

    /// Sets the number of epochs; of the checkpoints those stay that are reached, and the last epoch is one.
    pub fn end_at(&mut self, epochs: u32) {
        if let Checkpoints::Epochs(wanted) = &mut self.checkpoints
            && epochs < self.epochs
        {
            wanted.retain(|&epoch| epoch < epochs);
            wanted.push(epochs);
        }
        self.epochs = epochs;
    }

    /// Flat keys of `params.json` for a model: those of its axes, of the training, and of the network's
    /// images.
    pub fn params(&self, spec: &ModelSpec, in_channels: usize, classes: usize) -> Params {
        let mut all = spec.to_params();
        let mut set = |key: &str, value| all.insert(key.to_owned(), value);
        set("model::channels_in", json!(in_channels));
        set("model::o_dim", json!(classes));
        set("training::batchsize", json!(self.batch));
        set("training::epochs_train", json!(self.epochs));
        set(params::DATA, json!(self.data));
        if let Some(preprocessing) = &self.preprocessing {
            set(params::PREPROCESSING, json!(preprocessing));
        }
        if let Some(images) = self.images {
            set("weightspace::images", json!(images));
        }
        all
    }

    /// Positions of the models in the grid, ascending.
    fn positions(&self, total: usize) -> Result<Vec<usize>, ZooError> {
        let Some(sample) = self.sample else { return Ok((0..total).collect()) };
        if !(1..=total).contains(&sample) {
            return Err(wrong(format!("sample = {sample}: the grid has {total} models")));
        }
        let mut drawn = split_train_validation(total, 0, self.sample_seed).0;
        drawn.truncate(sample);
        drawn.sort_unstable();
        Ok(drawn)
    }

    /// A seed of its own for every position of the grid.
    fn random_seed(&self, position: usize) -> u64 {
        let key = Key::for_purpose(self.sample_seed, "zoo seeds");
        Stream::new(key, position as u64).below(RANDOM_SEEDS).into()
    }

    fn activations(&self) -> Result<Vec<Activation>, ZooError> {
        let Some(axis) = &self.activation else {
            let name = self.arch.split(':').next().unwrap_or_default();
            let default = arch::find(name).map(|arch| arch.defaults.activation);
            return Ok(vec![default.unwrap_or(Activation::Relu)]);
        };
        let activation = |name: &String| {
            Activation::ALL.into_iter().find(|activation| activation.name() == name).ok_or_else(
                || {
                    let known = Activation::ALL.map(Activation::name).join(", ");
                    wrong(format!("unknown activation '{name}'; known are {known}"))
                },
            )
        };
        axis.values().iter().map(activation).collect()
    }

    fn check(&self) -> Result<(), ZooError> {
        self.preprocessing()?;
        self.augmentation()?;
        let net = arch::build(&self.arch, &ArchOptions::default());
        net.map_err(|error| wrong(error.to_string()))?;
        if self.epochs == 0 || self.batch == 0 || self.images == Some(0) {
            return Err(wrong("epochs, batch and images are at least 1"));
        }
        let epochs = self.checkpoint_epochs();
        let ascending = epochs.is_sorted_by(|a, b| a < b);
        if !ascending || epochs.last().is_none_or(|&last| last > self.epochs) {
            return Err(wrong(format!(
                "checkpoints are \"every\" or ascending epochs from 0 to {}",
                self.epochs
            )));
        }
        once(
            "activation",
            &self.activations()?.into_iter().map(Activation::name).collect::<Vec<_>>(),
        )?;
        once("initialisation", self.initialisation.values())?;
        once("dropout", self.dropout.values())?;
        once("optimizer", self.optimizer.values())?;
        once("learning_rate", self.learning_rate.values())?;
        once("weight_decay", self.weight_decay.values())?;
        self.models()?.iter().try_for_each(ModelSpec::check)
    }
}
/// Refuses a value that stands on an axis twice: it would make models that are the same.
fn once<T: PartialEq + std::fmt::Debug>(axis: &str, values: &[T]) -> Result<(), ZooError> {
    let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
    match twice {
        Some((_, value)) => Err(wrong(format!("{axis} has the value {value:?} twice"))),
        None => Ok(()),
    }
}
