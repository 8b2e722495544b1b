//! What one model of a zoo is.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weightspace_nn::Net;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::Augmentation;
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::net::Activation;
use weightspace_nn::optim::{Adam, AdamW, OptimizerConfig, Sgd};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::TrainConfig;

use super::ZooError;
use super::params::{self, Params};
use weightspace_core::quoted;

/// What one model of a zoo is: its value on each of the axes along which zoos vary.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Specification of the architecture without activation and dropout, for instance `zoo-cnn`.
    pub arch: String,
    /// Non-linearity.
    pub activation: Activation,
    /// How weights are drawn; biases begin with 0.01.
    pub initialisation: Initialisation,
    /// Probability of dropout.
    pub dropout: f32,
    /// Optimiser.
    pub optimizer: ZooOptimizer,
    /// Learning rate; of a schedule, the highest.
    pub learning_rate: f64,
    /// Weight decay, on all tensors as PyTorch does.
    pub weight_decay: f64,
    /// Learning rate over time.
    pub schedule: ZooSchedule,
    /// Seed of initial weights, order of images and dropout.
    pub seed: u64,
}

/// An optimiser of the zoos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZooOptimizer {
    /// Adam with PyTorch's settings.
    #[default]
    Adam,
    /// Stochastic gradient descent with momentum 0.9.
    Sgd,
    /// AdamW with PyTorch's settings.
    AdamW,
}

impl ZooOptimizer {
    /// Every optimiser.
    pub const ALL: [ZooOptimizer; 3] = [ZooOptimizer::Adam, ZooOptimizer::Sgd, ZooOptimizer::AdamW];

    /// The name, for instance `adam`.
    pub const fn name(self) -> &'static str {
        match self {
            ZooOptimizer::Adam => "adam",
            ZooOptimizer::Sgd => "sgd",
            ZooOptimizer::AdamW => "adamw",
        }
    }
}

/// A learning rate over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZooSchedule {
    /// The same throughout.
    #[default]
    Constant,
    /// PyTorch's one-cycle.
    OneCycle,
}

/// Momentum of SGD in all zoos.
const MOMENTUM: f64 = 0.9;

/// Key under which the architecture stands as it is called here.
pub(super) const ARCH: &str = "weightspace::arch";

/// Names that published zoos have for architectures.
const PUBLISHED_TYPES: [(&str, &str); 4] = [
    ("CNN", "zoo-cnn"),
    ("CNN3", "zoo-cnn-medium"),
    ("Resnet18", "resnet18-cifar"),
    ("Resnet34", "resnet34-cifar"),
];

impl ModelSpec {
    /// The network, for images of so many channels and of this height and width.
    ///
    /// # Errors
    /// If the architecture does not exist or cannot have these settings.
    pub fn net(&self, in_channels: usize, size: usize, classes: usize) -> Result<Net, ZooError> {
        let options = ArchOptions {
            classes: Some(classes),
            in_channels: Some(in_channels),
            size: Some(size),
            activation: Some(self.activation),
            dropout: Some(self.dropout),
        };
        arch::build(&self.arch, &options).map_err(|error| ZooError::Spec(error.to_string()))
    }

    /// How it is trained, on one thread.
    pub fn train_config(&self, epochs: u32, batch: usize) -> TrainConfig {
        let (learning_rate, weight_decay) = (self.learning_rate, self.weight_decay);
        TrainConfig {
            epochs,
            batch,
            seed: self.seed,
            threads: 1,
            augmentation: Augmentation::NONE,
            optimizer: match self.optimizer {
                ZooOptimizer::Adam => {
                    OptimizerConfig::Adam(Adam { learning_rate, weight_decay, ..Adam::default() })
                }
                ZooOptimizer::AdamW => OptimizerConfig::AdamW(AdamW {
                    learning_rate,
                    weight_decay,
                    ..AdamW::default()
                }),
                ZooOptimizer::Sgd => {
                    let momentum = MOMENTUM;
                    OptimizerConfig::Sgd(Sgd {
                        learning_rate,
                        weight_decay,
                        momentum,
                        ..Sgd::default()
                    })
                }
            },
            schedule: match self.schedule {
                ZooSchedule::Constant => Schedule::Constant { warmup: None },
                ZooSchedule::OneCycle => TrainConfig::one_cycle(),
            },
            ..TrainConfig::default()
        }
    }

    /// Weights to begin with, in the order of [`Net::layout`].
    pub fn start(&self, net: &Net) -> Vec<f32> {
        initialise(net, self.initialisation, self.seed)
    }

    /// The flat keys of `params.json` that say all this.
    pub fn to_params(&self) -> Params {
        let published = PUBLISHED_TYPES.iter().find(|(_, arch)| *arch == self.arch);
        let mut params = Params::new();
        let mut set = |key: &str, value: Value| params.insert(key.to_owned(), value);
        set("model::type", json!(published.map_or(self.arch.as_str(), |(name, _)| name)));
        set(ARCH, json!(self.arch));
        set("model::nlin", json!(self.activation.name()));
        set("model::init_type", json!(self.initialisation.name().replace('-', "_")));
        // As a decimal number of its own, not that of the nearest double.
        set("model::dropout", json!(shortest(self.dropout)));
        set("optim::optimizer", json!(self.optimizer.name()));
        set("optim::lr", json!(self.learning_rate));
        set("optim::wd", json!(self.weight_decay));
        if self.optimizer == ZooOptimizer::Sgd {
            set("optim::momentum", json!(MOMENTUM));
        }
        if self.schedule == ZooSchedule::OneCycle {
            set("optim::scheduler", json!("OneCycleLR"));
        }
        set("seed", json!(self.seed));
        params
    }

    /// What the keys of `params.json` say; others are not looked at.
    ///
    /// # Errors
    /// A key that is missing, or whose value is nothing that can be trained here.
    pub fn from_params(params: &Params) -> Result<Self, ZooError> {
        let missing = |key: &str| ZooError::Spec(format!("the parameters have no {key}"));
        let text = |key| params::text(params, key).ok_or_else(|| missing(key));
        let number = |key| params::number(params, key).ok_or_else(|| missing(key));
        let unknown = |key: &str, value: &str, known: &str| {
            ZooError::Spec(format!("{key} is {}; known are {known}", quoted(value)))
        };
        let activation = text("model::nlin")?;
        let initialisation = text("model::init_type")?;
        let optimizer = text("optim::optimizer")?;
        let names = Activation::ALL.map(Activation::name).join(", ");
        let schedule = match params::text(params, "optim::scheduler") {
            None => ZooSchedule::Constant,
            Some("OneCycleLR") => ZooSchedule::OneCycle,
            Some(other) => return Err(unknown("optim::scheduler", other, "OneCycleLR")),
        };
        let seed = params.get("seed").and_then(Value::as_u64).ok_or_else(|| missing("seed"))?;
        let spec = ModelSpec {
            arch: arch_of(params).ok_or_else(|| missing("model::type"))?.to_owned(),
            activation: named(Activation::ALL, Activation::name, activation)
                .ok_or_else(|| unknown("model::nlin", activation, &names))?,
            initialisation: Initialisation::from_str(&initialisation.replace('_', "-"))
                .map_err(|error| ZooError::Spec(format!("model::init_type: {error}")))?,
            dropout: number("model::dropout")? as f32,
            optimizer: named(ZooOptimizer::ALL, ZooOptimizer::name, optimizer)
                .ok_or_else(|| unknown("optim::optimizer", optimizer, "adam, sgd, adamw"))?,
            learning_rate: number("optim::lr")?,
            weight_decay: number("optim::wd")?,
            schedule,
            seed,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One that is out of its range.
    pub fn check(&self) -> Result<(), ZooError> {
        let within = |name: &str, value: f64, ok: bool, expected: &str| match ok {
            true => Ok(()),
            false => Err(ZooError::Spec(format!("{name} is {value}, expected {expected}"))),
        };
        let positive = |value: f64| value.is_finite() && value >= 0.0;
        let p = self.dropout;
        within("dropout", p.into(), (0.0..1.0).contains(&p), "from 0 to below 1")?;
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        within("learning_rate", rate, positive(rate), "a finite number from 0 on")?;
        within("weight_decay", decay, positive(decay), "a finite number from 0 on")
    }

    /// Name of the model at a position of its zoo, as folders of published zoos are called:
    /// `NN_tune_trainable_<position, five digits>_<hash of the parameters>_seed=<seed>`. It depends on position and
    /// parameters alone, and names of a zoo sort by position.
    pub fn name(&self, index: usize) -> String {
        // Keys of the map are in order, so that the text is the same on every machine.
        let hash = Sha256::digest(Value::Object(self.to_params()).to_string());
        let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("NN_tune_trainable_{index:05}_{hash}_seed={}", self.seed)
    }
}

/// The architecture that parameters name, as it is called here if it is known.
pub(super) fn arch_of(params: &Params) -> Option<&str> {
    if let Some(arch) = params::text(params, ARCH) {
        return Some(arch);
    }
    let name = params::text(params, "model::type")?;
    let known = PUBLISHED_TYPES.iter().find(|(published, _)| *published == name);
    Some(known.map_or(name, |(_, arch)| arch))
}

fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    text: &str,
) -> Option<T> {
    all.into_iter().find(|value| name(*value) == text)
}

/// The `f64` that is written as the `f32` is.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ModelSpec {
        ModelSpec {
            arch: "zoo-cnn".into(),
            activation: Activation::Tanh,
            initialisation: Initialisation::KaimingUniform,
            dropout: 0.3,
            optimizer: ZooOptimizer::Sgd,
            learning_rate: 3e-4,
            weight_decay: 0.0,
            schedule: ZooSchedule::OneCycle,
            seed: 17,
        }
    }

    #[test]
    fn parameters_have_the_published_keys_and_say_everything() {
        let params = spec().to_params();
        let text = Value::Object(params.clone()).to_string();
        for part in [
            r#""model::type":"CNN""#,
            r#""model::nlin":"tanh""#,
            r#""model::init_type":"kaiming_uniform""#,
            r#""model::dropout":0.3"#,
            r#""optim::optimizer":"sgd""#,
            r#""optim::lr":0.0003"#,
            r#""optim::momentum":0.9"#,
            r#""seed":17"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(ModelSpec::from_params(&params).unwrap(), spec());
        for arch in ["mlp:64-32-10", "resnet18-cifar", "zoo-cnn-medium"] {
            let spec = ModelSpec { arch: arch.into(), ..spec() };
            assert_eq!(ModelSpec::from_params(&spec.to_params()).unwrap(), spec);
        }
    }

    #[test]
    fn parameters_that_cannot_be_trained_are_refused() {
        for (key, value, part) in [
            ("model::nlin", json!("leakyrelu"), "model::nlin is \"leakyrelu\"; known are relu"),
            ("model::init_type", json!("zeros"), "unknown initialisation 'zeros'"),
            ("model::dropout", json!(1.5), "dropout is 1.5"),
            ("optim::optimizer", json!("rms_prop"), "optim::optimizer is \"rms_prop\""),
            ("optim::lr", json!(null), "have no optim::lr"),
            ("optim::wd", json!(-1), "weight_decay is -1"),
            ("optim::scheduler", json!("StepLR"), "optim::scheduler"),
            ("seed", json!(0.5), "have no seed"),
        ] {
            let mut params = spec().to_params();
            params.insert(key.into(), value);
            let error = ModelSpec::from_params(&params).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_tell_models_apart() {
        let name = spec().name(3);
        assert!(
            name.starts_with("NN_tune_trainable_00003_") && name.ends_with("_seed=17"),
            "{name}"
        );
        assert_eq!(name, spec().name(3));
        assert_ne!(name, ModelSpec { dropout: 0.0, ..spec() }.name(3));
    }

    #[test]
    fn training_is_as_the_axes_say() {
        let config = spec().train_config(5, 10);
        config.check().unwrap();
        assert_eq!((config.epochs, config.batch, config.seed), (5, 10, 17));
        let OptimizerConfig::Sgd(sgd) = config.optimizer else { panic!("{:?}", config.optimizer) };
        assert_eq!((sgd.learning_rate, sgd.momentum, sgd.nesterov), (3e-4, 0.9, false));
        assert_eq!(config.schedule, TrainConfig::one_cycle());
        let net = spec().net(1, 28, 10).unwrap();
        assert_eq!(net.arch(), "zoo-cnn:dropout=0.3");
        let start = spec().start(&net);
        assert_eq!(start.len(), 2464);
        let bias = net.layout().get("module_list.0.bias").unwrap().range();
        assert!(start[bias].iter().all(|&value| value == 0.01));
    }
}
