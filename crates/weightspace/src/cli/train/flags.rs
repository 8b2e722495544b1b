//! The flags that change a run's configuration; a preset is nothing but such flags.

mod predictor;

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use weightspace::predictor::TuningConfig;
use weightspace::quantize::aware::AwareConfig;
use weightspace::subspace::Norms;
use weightspace::subspace::SubspaceConfig;
use weightspace_nn::data::{Augmentation, Preprocessing};
use weightspace_nn::init::Initialisation;
use weightspace_nn::optim::OptimizerConfig;
use weightspace_nn::schedule::{Milestones, Schedule, Span, Warmup};
use weightspace_nn::train::{Selection, TrainConfig};

use self::predictor::PredictorFlags;
use super::config::RunConfig;
use crate::cli::subspace::SubspaceArgs;

/// What is trained, on what and how; what is not given stays as it was.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Architecture as `weightspace list` names it [default: that of --init]
    #[arg(long, value_name = "A")]
    arch: Option<String>,
    /// Data set as `weightspace list` names it, or folder:PATH; with +SHIFT for shifted images
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Normalisation of the images [default: what --init says, else the architecture's, else the
    /// data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    /// Training images held out for evaluation [default: a tenth]
    #[arg(long, value_name = "N")]
    holdout: Option<usize>,
    /// How weights are drawn [default: pytorch-default]
    #[arg(long, value_name = "HOW")]
    initialisation: Option<Initialisation>,
    /// Begin with the weights of this checkpoint or .wsp file
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Draw the last linear layer of --init anew, for the classes of the data
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    new_head: Option<bool>,
    #[command(flatten)]
    loop_: LoopFlags,
    #[command(flatten)]
    optimizer: OptimizerFlags,
    #[command(flatten)]
    teacher: TeacherFlags,
    /// What is trained: dense (every weight), quantize (every weight of --init on the grid of a small
    /// file), predictor (the predictor of --init's weights that a file holds) or subspace (coefficients of
    /// a pseudo-random basis); all but the first write model.wsp [default: dense]
    #[arg(long, value_name = "M", value_parser = ["dense", "quantize", "predictor", "subspace"])]
    method: Option<String>,
    #[command(flatten)]
    size: SizeFlags,
    #[command(flatten)]
    predictor: PredictorFlags,
    #[command(flatten)]
    subspace: SubspaceFlags,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of the training loop")]
struct LoopFlags {
    /// Passes over the training images [default: 10]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Images of a batch [default: 128]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Leave out the last, smaller batch of an epoch
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    drop_last: Option<bool>,
    /// Random changes of images: cropN, flip, cropN-flip or none [default: none]
    #[arg(long, value_name = "HOW")]
    augment: Option<Augmentation>,
    /// Weight of the uniform distribution in the labels [default: 0]
    #[arg(long, value_name = "P")]
    label_smoothing: Option<f32>,
    /// Scale gradients down to this norm
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// Average the weights over time with this decay, for instance 0.999
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Epochs between evaluations on held-out images [default: 1]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u32>,
    /// Which weights are kept: the last or those best on held-out images [default: last]
    #[arg(long, value_name = "last|best", value_parser = selection)]
    select: Option<Selection>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of the optimiser")]
struct OptimizerFlags {
    /// sgd, adam, adamw, radam, ranger or muon, with PyTorch's settings where no flag says otherwise
    /// [default: sgd --learning-rate 0.05 --momentum 0.9 --nesterov --weight-decay 5e-4, adam for what
    /// becomes a file]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<String>,
    /// Learning rate, the highest of the schedule [default of --method quantize: 1 / sqrt(weights)]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Momentum of sgd and muon
    #[arg(long, value_name = "X")]
    momentum: Option<f64>,
    /// Nesterov's momentum for sgd and muon
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Weight decay also on biases and normalisations [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    decay_vectors: Option<bool>,
    /// Learning rate over time: constant, cosine, one-cycle, step:EPOCHS[:FACTOR] (of 0.1) or
    /// multi-step:EPOCH,EPOCH.. [default: one-cycle]
    #[arg(long, value_name = "S", value_parser = schedule)]
    schedule: Option<Schedule>,
    /// Epochs in which the learning rate rises to the schedule's
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of distillation")]
struct TeacherFlags {
    /// Learn from the logits of this checkpoint or .wsp file [default for --method quantize and
    /// predictor: --init]
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Divide logits by this before they are compared [default: 4, for --method predictor 1]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Weight of the teacher; the labels have the rest of 1 [default: 0.9, for --method predictor 1]
    #[arg(long, value_name = "A")]
    alpha: Option<f32>,
    /// Weight of the distances of feature maps (of every batch normalisation and sum) from the teacher's
    /// [default: 0]
    #[arg(long, value_name = "X")]
    feature_weight: Option<f64>,
    /// Show both networks mixtures of two images each; needs --alpha 1
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mixtures: Option<bool>,
    /// Draw augmentation and mixtures in N ways only, then again, and remember what the teacher said about each
    /// [default: 0, anew in every epoch]
    #[arg(long, value_name = "N")]
    views: Option<u32>,
    /// Ask the teacher about noise, within this range on both sides of 0, and not about images, so that a file's predictor is
    /// trained without --data, too, on 10000 inputs an epoch [default range: 1]
    #[arg(long, value_name = "RANGE", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    noise_inputs: Option<f32>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of --method quantize and --method predictor")]
struct SizeFlags {
    /// Largest size of the file [default: 50000 for quantize, none for predictor]
    #[arg(long, value_name = "N")]
    target_bytes: Option<u64>,
    /// With --method predictor, steps of the grids in units of those that meet the target without
    /// training [default: 1]
    #[arg(long, value_name = "F")]
    step_factor: Option<f64>,
    /// Price of a bit, in squared steps, when a weight is rounded [default: 0.1]
    #[arg(long, value_name = "P")]
    rounding_price: Option<f64>,
    /// Price in the loss of one bit for every weight, where the file has its target size [default: 0.25]
    #[arg(long, value_name = "P")]
    rate_price: Option<f64>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of --method subspace")]
struct SubspaceFlags {
    #[command(flatten)]
    subspace: SubspaceArgs,
}

fn selection(text: &str) -> Result<Selection, String> {
    match text {
        "last" => Ok(Selection::Last),
        "best" => Ok(Selection::Best),
        _ => Err("neither last nor best".to_owned()),
    }
}

/// A schedule by its name, with epochs behind a colon.
fn schedule(text: &str) -> Result<Schedule, String> {
    let (name, epochs) = text.split_once(':').unwrap_or((text, ""));
    let number = |text: &str| match text.parse() {
        Ok(epoch @ 1..) => Ok(epoch),
        _ => Err(format!("'{text}' is no number of epochs")),
    };
    let (gamma, warmup) = (0.1, None);
    let schedule = match name {
        "step" => {
            let (epochs, factor) = epochs.split_once(':').unwrap_or((epochs, "0.1"));
            let gamma = factor.parse().map_err(|_| format!("'{factor}' is no factor"))?;
            Schedule::Step { every: Span::Epochs(number(epochs)? as f64), gamma, warmup }
        }
        "multi-step" => {
            let milestones = epochs.split(',').map(number).collect::<Result<_, _>>()?;
            Schedule::MultiStep { milestones: Milestones::Epochs(milestones), gamma, warmup }
        }
        _ if text != name => return Err(format!("{name} takes no epochs")),
        "constant" => Schedule::Constant { warmup },
        "cosine" => Schedule::Cosine { minimum: 0.0, warmup },
        "one-cycle" => TrainConfig::one_cycle(),
        _ => {
            let known =
                "constant, cosine, one-cycle, step:EPOCHS[:FACTOR] and multi-step:EPOCH,EPOCH..";
            return Err(format!("unknown schedule; known are {known}"));
        }
    };
    Ok(schedule)
}

/// Replaces `target` where a flag is given.
fn set<T: Clone>(target: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        target.clone_from(value);
    }
}

/// Fills `target` where a flag is given.
fn fill<T: Clone>(target: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        target.clone_from(flag);
    }
}

impl Flags {
    /// Changes what the flags say.
    pub fn apply(&self, config: &mut RunConfig) -> anyhow::Result<()> {
        fill(&mut config.arch, &self.arch);
        fill(&mut config.data, &self.data);
        fill(&mut config.preprocessing, &self.preprocessing.as_ref().map(ToString::to_string));
        fill(&mut config.holdout, &self.holdout);
        set(&mut config.initialisation, &self.initialisation);
        fill(&mut config.init, &self.init);
        set(&mut config.new_head, &self.new_head);
        self.apply_method(config);
        self.loop_.apply(&mut config.training);
        self.optimizer.apply(&mut config.training)?;
        self.teacher.apply(config)?;
        self.size.apply(config)?;
        self.predictor.apply(config)?;
        self.subspace.apply(config)
    }

    /// Makes room for the method's settings, and forgets those of others.
    fn apply_method(&self, config: &mut RunConfig) {
        let Some(method) = self.method.as_deref() else { return };
        config.subspace = config.subspace.take().filter(|_| method == "subspace");
        config.quantize = config.quantize.take().filter(|_| method == "quantize");
        config.predictor = config.predictor.take().filter(|_| method == "predictor");
        match method {
            "subspace" if config.subspace.is_none() => {
                config.subspace = Some(SubspaceConfig::default());
                config.set_training_of_method();
            }
            "quantize" if config.quantize.is_none() => {
                config.quantize = Some(AwareConfig::default());
                config.set_training_of_method();
            }
            "predictor" if config.predictor.is_none() => {
                config.predictor = Some(TuningConfig::default());
                config.set_training_of_method();
            }
            _ => {}
        }
    }
}

impl LoopFlags {
    fn apply(&self, training: &mut TrainConfig) {
        set(&mut training.epochs, &self.epochs);
        set(&mut training.batch, &self.batch);
        set(&mut training.drop_last, &self.drop_last);
        set(&mut training.augmentation, &self.augment);
        set(&mut training.label_smoothing, &self.label_smoothing);
        fill(&mut training.clip, &self.clip);
        fill(&mut training.ema, &self.ema);
        set(&mut training.evaluate_every, &self.evaluate_every);
        set(&mut training.select, &self.select);
    }
}

impl OptimizerFlags {
    fn apply(&self, training: &mut TrainConfig) -> anyhow::Result<()> {
        if let Some(name) = &self.optimizer {
            training.optimizer = OptimizerConfig::named(name)?;
        }
        let settings = [
            ("learning_rate", self.learning_rate.map(Value::from)),
            ("momentum", self.momentum.map(Value::from)),
            ("nesterov", self.nesterov.map(Value::from)),
            ("weight_decay", self.weight_decay.map(Value::from)),
        ];
        for (name, value) in settings {
            if let Some(value) = value {
                training.optimizer = with_setting(&training.optimizer, name, value)?;
            }
        }
        set(&mut training.decay_vectors, &self.decay_vectors);
        set(&mut training.schedule, &self.schedule);
        let Some(epochs) = self.warmup else { return Ok(()) };
        match &mut training.schedule {
            Schedule::OneCycle { .. } => bail!("one-cycle has a rise of its own, no --warmup"),
            Schedule::Constant { warmup }
            | Schedule::Step { warmup, .. }
            | Schedule::MultiStep { warmup, .. }
            | Schedule::Cosine { warmup, .. } => {
                *warmup = Some(Warmup { length: Span::Epochs(epochs), start_factor: 0.01 });
            }
        }
        Ok(())
    }
}

/// The optimiser with one setting changed, by the name that it has in configuration files.
fn with_setting(
    optimizer: &OptimizerConfig,
    name: &str,
    value: Value,
) -> anyhow::Result<OptimizerConfig> {
    let mut settings = json!(optimizer);
    let Some(setting) = settings.get_mut(name) else {
        bail!("{} has no {}", settings["name"].as_str().unwrap_or("it"), name.replace('_', " "));
    };
    *setting = value;
    serde_json::from_value(settings).with_context(|| format!("{name} of the optimizer"))
}

impl TeacherFlags {
    fn apply(&self, config: &mut RunConfig) -> anyhow::Result<()> {
        fill(&mut config.teacher, &self.teacher);
        fill(&mut config.noise_inputs, &self.noise_inputs);
        let range = config.noise_inputs.unwrap_or(1.0);
        ensure!(range.is_finite() && range > 0.0, "--noise-inputs {range}: not above 0");
        let Self { temperature, alpha, feature_weight, mixtures, views, .. } = self;
        let given = temperature.or(*alpha).is_some()
            || feature_weight.is_some()
            || mixtures.is_some()
            || views.is_some();
        if given || is_taught(config) {
            let distillation = config.training.distillation.get_or_insert_default();
            set(&mut distillation.temperature, temperature);
            set(&mut distillation.alpha, alpha);
            set(&mut distillation.features, feature_weight);
            set(&mut distillation.mixtures, mixtures);
            set(&mut distillation.views, views);
            let both = distillation.views > 0 && config.noise_inputs.is_some();
            ensure!(!both, "--views and --noise-inputs: noise is new in every epoch");
            let both = distillation.features > 0.0 && config.noise_inputs.is_some();
            ensure!(!both, "--feature-weight and --noise-inputs: feature maps are those of images");
        }
        Ok(())
    }
}

/// Whether there is a network to learn from: what becomes a file of a network has the original.
fn is_taught(config: &RunConfig) -> bool {
    config.teacher.is_some() || config.predictor.is_some() || config.quantize.is_some()
}

/// Refuses settings of a teacher where there is none. Presets leave it to be named.
pub fn check_teacher(config: &RunConfig) -> anyhow::Result<()> {
    let given = config.training.distillation.is_some() || config.noise_inputs.is_some();
    ensure!(
        !given || is_taught(config),
        "--temperature, --alpha, --feature-weight, --mixtures, --views and --noise-inputs need a --teacher"
    );
    Ok(())
}

impl SizeFlags {
    fn apply(&self, config: &mut RunConfig) -> anyhow::Result<()> {
        if let Some(tuning) = &mut config.predictor {
            fill(&mut tuning.target_bytes, &self.target_bytes);
            set(&mut tuning.step_factor, &self.step_factor);
            set(&mut tuning.rounding_price, &self.rounding_price);
            set(&mut tuning.rate_price, &self.rate_price);
            return Ok(());
        }
        let Some(aware) = &mut config.quantize else {
            let methods = "--method quantize or predictor";
            ensure!(self.target_bytes.is_none(), "--target-bytes needs {methods}");
            let prices = self.step_factor.or(self.rounding_price).or(self.rate_price);
            ensure!(prices.is_none(), "--step-factor and prices need {methods}");
            return Ok(());
        };
        set(&mut aware.target_bytes, &self.target_bytes);
        ensure!(self.step_factor.is_none(), "--step-factor needs --method predictor");
        set(&mut aware.rounding_price, &self.rounding_price);
        set(&mut aware.rate_price, &self.rate_price);
        Ok(())
    }
}

impl SubspaceFlags {
    fn apply(&self, config: &mut RunConfig) -> anyhow::Result<()> {
        let given = self.subspace.first_given();
        let Some(subspace) = &mut config.subspace else {
            return match given {
                Some(flag) => bail!("{flag} needs --method subspace"),
                None => Ok(()),
            };
        };
        self.subspace.apply(subspace);
        fill(&mut config.base, &self.subspace.base);
        fill(&mut config.key_file, &self.subspace.key_file);
        let both = config.base.is_some() && config.init.is_some();
        ensure!(!both, "--init and --base: training begins with one or the other");
        config.training.freeze_statistics = subspace.norms == Norms::Base;
        let without = config.training.freeze_statistics && config.base.is_none();
        ensure!(!without, "--norms base needs a --base");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_parsed_or_refused() {
        let milestones = Milestones::Epochs(vec![100, 150]);
        let expected = Schedule::MultiStep { milestones, gamma: 0.1, warmup: None };
        assert_eq!(schedule("multi-step:100,150"), Ok(expected));
        let expected = Schedule::Step { every: Span::Epochs(30.0), gamma: 0.1, warmup: None };
        assert_eq!(schedule("step:30"), Ok(expected));
        let expected = Schedule::Step { every: Span::Epochs(50.0), gamma: 0.5, warmup: None };
        assert_eq!(schedule("step:50:0.5"), Ok(expected));
        assert!(schedule("step:50:x").is_err());
        assert_eq!(schedule("cosine"), Ok(Schedule::Cosine { minimum: 0.0, warmup: None }));
        for text in ["", "step", "step:0", "multi-step:", "multi-step:1,x", "cosine:3", "linear"] {
            assert!(schedule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_that_an_optimizer_does_not_have_are_refused() {
        let mut training = TrainConfig::default();
        let flags = OptimizerFlags {
            optimizer: Some("adam".to_owned()),
            learning_rate: Some(0.01),
            ..OptimizerFlags::default()
        };
        flags.apply(&mut training).unwrap();
        assert_eq!(training.optimizer.learning_rate(), 0.01);
        let flags = OptimizerFlags { momentum: Some(0.5), ..OptimizerFlags::default() };
        let error = flags.apply(&mut training).unwrap_err().to_string();
        assert_eq!(error, "adam has no momentum");
    }
}
