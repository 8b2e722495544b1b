//! `weightspace sane pretrain`: an autoencoder from a zoo.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use weightspace::sane::presets::PRESETS;
use weightspace::sane::{PretrainConfig, Study};
use weightspace::zoo::{Population, epochs};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::train::{CheckpointPolicy, Ending, Metrics};

use crate::cli::interruption::Stopped;
use crate::cli::train::config::read_toml;
use crate::cli::train::record;
use crate::cli::train::watch::Watch;
use crate::cli::{Global, Outcome, text};

/// Train an autoencoder of the weights of a zoo's models
///
/// Every model is cut into tokens; the autoencoder learns windows of these, which are read from the zoo while it trains. 70 % of the
/// models are learnt from, 15 % looked at, and 15 % left for tests. The same command continues what was interrupted. The
/// folder holds model.safetensors and config.json, with all that is needed to use the autoencoder, the run's settings
/// (run.json), one line per evaluation (metrics.jsonl) and the newest checkpoint.
#[derive(Args)]
pub struct Pretrain {
    /// Packed zoo, or folder of models
    #[arg(value_name = "ZOO")]
    zoo: PathBuf,
    /// Settings by name [default: tiny]
    #[arg(long, value_name = "NAME", value_parser = preset_parser(), conflicts_with = "config")]
    preset: Option<String>,
    /// Settings to begin with, as --print-config writes them
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder to write
    #[arg(short, long, value_name = "DIR", required_unless_present_any = ["dry_run", "print_config"])]
    output: Option<PathBuf>,
    /// Begin anew where the folder already holds a training
    #[arg(short, long)]
    force: bool,
    /// Epochs of the models to learn from, as 0,1,5,25 [default: all]
    #[arg(long, value_name = "E,..", value_delimiter = ',')]
    model_epochs: Vec<u32>,
    /// Passes over all models and epochs
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Models of a batch, each with two views of a window
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "R")]
    learning_rate: Option<f64>,
    /// Elements of a token
    #[arg(long, value_name = "N")]
    token_size: Option<usize>,
    /// Tokens of a window
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Elements of a token within the transformer
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Blocks of the encoder, and of the decoder
    #[arg(long, value_name = "N")]
    blocks: Option<usize>,
    /// Elements of a token's embedding
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    /// Learn models as they are, not with their units in the order of one of them
    #[arg(long)]
    no_align: bool,
    /// Share of the contrast between models in the loss
    #[arg(long, value_name = "G")]
    contrast: Option<f64>,
    /// Seed by which models are divided
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// Seconds between checkpoints
    #[arg(long, value_name = "S", default_value_t = 60)]
    checkpoint_seconds: u64,
    /// Say what would be trained, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the settings as TOML, and do nothing
    #[arg(long)]
    print_config: bool,
}

fn preset_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(
        PRESETS.map(|preset| PossibleValue::new(preset.name).help(preset.title)),
    )
}

/// What a run is.
#[derive(Serialize)]
struct Record<'a> {
    version: &'static str,
    config: &'a PretrainConfig,
    instruction_set: String,
    zoo: ZooRecord<'a>,
}

#[derive(Serialize)]
struct ZooRecord<'a> {
    models: usize,
    samples: usize,
    arch: &'a str,
    mean: &'a [f64],
    deviation: &'a [f64],
}

/// What `--dry-run` prints.
#[derive(Serialize)]
struct Plan {
    dry_run: bool,
    arch: String,
    parameters: usize,
    tokens: usize,
    layers: usize,
    training_samples: usize,
    validation_samples: usize,
    steps: u64,
    left_out: Vec<String>,
}

/// What is printed at the end.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub metrics: Metrics,
    arch: String,
    parameters: usize,
    training_samples: usize,
    left_out: Vec<String>,
    output: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Pretrain, global: &Global) -> anyhow::Result<Outcome> {
    let config = arguments.settings(global)?;
    if arguments.print_config {
        let toml = toml::to_string(&config).context("cannot write the settings as TOML")?;
        global.print(&config, |out| out.write_all(toml.as_bytes()))?;
        return Ok(Outcome::Done);
    }
    if let Some(report) = pretrain(arguments, &config, global, Some(global))? {
        global.print(&report, |out| report.write(out))?;
    }
    Ok(Outcome::Done)
}

/// Trains an autoencoder and says nothing about it; a terminal sees how far it is.
pub fn make(arguments: &Pretrain, global: &Global) -> anyhow::Result<Report> {
    let watcher = global.shows_progress().then_some(global);
    let report = pretrain(arguments, &arguments.settings(global)?, global, watcher)?;
    report.context("nothing is to be trained")
}

/// What was trained; none where it only says what would be trained.
fn pretrain(
    arguments: &Pretrain,
    config: &PretrainConfig,
    global: &Global,
    watcher: Option<&Global>,
) -> anyhow::Result<Option<Report>> {
    config.training.check()?;
    let output = arguments.output.as_deref().filter(|_| !arguments.dry_run);
    if let Some(folder) = output {
        record::check(folder, arguments.force)?;
    }
    let zoo = Population::open(&arguments.zoo)?;
    epochs::check(&zoo, &arguments.model_epochs)?;
    let shown = || arguments.zoo.display().to_string();
    let study = Study::new(&zoo, config).with_context(shown)?;
    let Some(folder) = output else {
        let steps = study.trainer(config).with_context(shown)?.total_steps();
        let plan = study_plan(&study, steps);
        global.print(&plan, |out| plan.write(out))?;
        return Ok(None);
    };
    let policy =
        CheckpointPolicy { steps: None, time: Duration::from_secs(arguments.checkpoint_seconds) };
    let mut trainer = study.trainer(config).with_context(shown)?;
    let mut run = record::open(&study_record(&study, config), folder, policy, arguments.force)?;
    let mut watch = Watch::new(config.training.epochs, watcher)?.of_errors("models");
    if run.restore(&mut trainer)? {
        watch.continue_at(trainer.step_count());
    }
    let ending = trainer.run_in(&mut run, &mut watch)?;
    drop(watch);
    if ending == Ending::Interrupted {
        let (step, total) = (trainer.step_count(), trainer.total_steps());
        let reached = format!("interrupted after step {step} of {total}");
        return Err(Stopped::new(folder, reached).into());
    }
    let net = study.autoencoder.training_net().net;
    let weights = trainer.result().to_state_dict(&net);
    let score = trainer.task().evaluate(&weights, weightspace_nn::comm::Part::WHOLE)?;
    let metrics = trainer.metrics("validation", score);
    study.finish(weights, config).write(folder)?;
    Ok(Some(Report {
        arch: study.arch.clone(),
        parameters: net.parameter_count(),
        training_samples: study.train.len(),
        left_out: study.left_out.clone(),
        output: folder.to_owned(),
        metrics,
    }))
}

impl Pretrain {
    fn settings(&self, global: &Global) -> anyhow::Result<PretrainConfig> {
        let mut config = match &self.config {
            Some(path) => read_toml(path)?,
            None => {
                PretrainConfig::preset(self.preset.as_deref().unwrap_or("tiny")).unwrap_or_default()
            }
        };
        if !self.model_epochs.is_empty() {
            config.model_epochs.clone_from(&self.model_epochs);
        }
        let training = &mut config.training;
        training.epochs = self.epochs.unwrap_or(training.epochs);
        training.batch = self.batch.unwrap_or(training.batch);
        if let Some(rate) = self.learning_rate {
            training.optimizer = training.optimizer.with_learning_rate(rate);
        }
        training.seed = global.given_seed().unwrap_or(training.seed);
        training.threads = global.given_threads().unwrap_or(training.threads);
        let model = &mut config.model;
        model.tokens.size = self.token_size.unwrap_or(model.tokens.size);
        model.window = self.window.unwrap_or(model.window);
        model.width = self.width.unwrap_or(model.width);
        model.blocks = self.blocks.unwrap_or(model.blocks);
        model.latent = self.latent.unwrap_or(model.latent);
        config.windows.contrast = self.contrast.unwrap_or(config.windows.contrast);
        config.align &= !self.no_align;
        config.split_seed = self.split_seed.unwrap_or(config.split_seed);
        Ok(config)
    }
}

fn study_plan(study: &Study, steps: u64) -> Plan {
    Plan {
        dry_run: true,
        arch: study.arch.clone(),
        parameters: study.autoencoder.training_net().net.parameter_count(),
        tokens: study.layout.token_count(),
        layers: study.layout.layers().len(),
        training_samples: study.train.len(),
        validation_samples: study.validation.len(),
        steps,
        left_out: study.left_out.clone(),
    }
}

fn study_record<'a>(study: &'a Study, config: &'a PretrainConfig) -> Record<'a> {
    Record {
        version: env!("CARGO_PKG_VERSION"),
        config,
        instruction_set: format!("{:?}", InstructionSet::best()).to_lowercase(),
        zoo: ZooRecord {
            models: study.train.population().len(),
            samples: study.train.len(),
            arch: &study.arch,
            mean: &study.standardisation.mean,
            deviation: &study.standardisation.deviation,
        },
    }
}

/// An architecture in words.
fn known(arch: &str) -> &str {
    if arch.is_empty() { "unknown architecture" } else { arch }
}

impl Plan {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Plan { arch, tokens, layers, training_samples, validation_samples, .. } = self;
        writeln!(out, "{}: {tokens} tokens of {layers} layers", known(arch))?;
        writeln!(out, "{} parameters of the autoencoder", text::grouped(self.parameters as u64))?;
        writeln!(
            out,
            "{training_samples} models and epochs to learn from, {validation_samples} to look at"
        )?;
        writeln!(out, "{} steps", text::grouped(self.steps))?;
        write_left_out(&self.left_out, out)
    }
}

impl Report {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_left_out(&self.left_out, out)?;
        if let Some(loss) = self.metrics.loss {
            writeln!(out, "mean squared error of validation windows {loss:.4}")?;
        }
        let memory = self.metrics.peak_memory_bytes.map(text::bytes);
        let memory = memory.map_or(String::new(), |bytes| format!(", peak memory {bytes}"));
        writeln!(out, "{:.2} s{memory}", self.metrics.seconds)?;
        writeln!(out, "{}: autoencoder of {}", self.output.display(), known(&self.arch))
    }
}

fn write_left_out(names: &[String], out: &mut dyn Write) -> io::Result<()> {
    match names {
        [] => Ok(()),
        [one] => writeln!(out, "left out, since its weights are not finite: {one}"),
        [first, rest @ ..] => {
            writeln!(
                out,
                "left out, since their weights are not finite: {first} and {} others",
                rest.len()
            )
        }
    }
}
