//! `weightspace train`: a network from data.

pub mod presets;

pub mod config;
mod flags;
mod inputs;
mod product;
pub mod record;
pub mod watch;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use weightspace::comm;
use weightspace::predictor::NoiseInputs;
use weightspace::subspace::Subspace;
use weightspace_core::StateDict;
use weightspace_nn::comm::{Communicator, Part, Solo, agree, agree_on};
use weightspace_nn::train::{
    CheckpointPolicy, Classification, Dense, Ending, Metrics, Parameterization, RunFolder, Score,
    Task, Trainer,
};
use weightspace_nn::{Engine, ModelState};

use self::config::RunConfig;
use self::flags::Flags;
use self::inputs::Inputs;
use self::presets::PresetName;
use self::product::Product;
use self::watch::Watch;
use super::interruption::Stopped;
use super::subspace::key;
use super::{Global, Outcome, text};

/// Train a network on the CPU
///
/// The same command continues a training that was interrupted, with the same result as if it had not
/// been. The folder holds model.safetensors and config.json, for all methods but dense also model.wsp, the
/// run's settings (run.json), one line per evaluation (metrics.jsonl) and the newest checkpoint.
///
/// Started by mpirun, and built with the feature mpi, all processes train one network, each with its
/// part of every batch and of the coefficients, and --threads threads.
#[derive(Args)]
pub struct Train {
    /// Recipe to begin with, as `weightspace list` shows them; other options change it
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<PresetName>,
    /// Settings to begin with, as --print-config writes them
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder to write
    #[arg(short, long, value_name = "DIR", required_unless_present_any = ["dry_run", "print_config"])]
    output: Option<PathBuf>,
    /// Begin anew where the folder already holds a training
    #[arg(short, long)]
    force: bool,
    /// Steps between checkpoints [default: only by time, and at evaluations]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_steps: Option<u64>,
    /// Seconds between checkpoints
    #[arg(long, value_name = "S", default_value_t = 60)]
    checkpoint_seconds: u64,
    /// Try a few steps, print what the whole would take, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the settings as TOML, and do nothing
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What `--dry-run` prints.
#[derive(Serialize)]
struct Plan {
    dry_run: bool,
    arch: String,
    data: String,
    preprocessing: String,
    parameters: usize,
    /// Of the tensors of the model's file.
    bytes: usize,
    training_images: usize,
    held_out_images: usize,
    steps: u64,
    /// Of the whole training without evaluations, from a few steps.
    estimated_seconds: f64,
    /// Largest memory of these steps.
    peak_memory_bytes: Option<u64>,
}

/// What is printed at the end.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    metrics: Metrics,
    arch: &'a str,
    data: &'a str,
    preprocessing: String,
    parameters: usize,
    output: &'a Path,
    /// Of the model's file.
    bytes: u64,
}

/// Runs the command. Of several ranks the first speaks and writes for all.
pub fn run(arguments: &Train, global: &Global) -> anyhow::Result<Outcome> {
    let comm = comm::world()?;
    let outcome = run_on_rank(arguments, global, &comm);
    if leads(&*comm) { outcome } else { Ok(Outcome::Done) }
}

fn run_on_rank(
    arguments: &Train,
    global: &Global,
    comm: &Arc<dyn Communicator>,
) -> anyhow::Result<Outcome> {
    let config = agree(&**comm, settings(arguments, global))?;
    if arguments.print_config {
        if leads(&**comm) {
            let toml = config.to_toml()?;
            global.print(&config, |out| out.write_all(toml.as_bytes()))?;
        }
        return Ok(Outcome::Done);
    }
    let output = arguments.output.as_deref().filter(|_| !arguments.dry_run);
    let open = || {
        config.training.check()?;
        if let Some(folder) = output.filter(|_| leads(&**comm)) {
            record::check(folder, arguments.force)?;
        }
        Inputs::open(config, global)
    };
    let inputs = agree(&**comm, open())?;
    let record = serde_json::to_vec(&inputs.record())?;
    agree_on(&**comm, "settings, data or processor", &[&record])?;
    let Some(folder) = output else { return dry_run(&inputs, global, comm) };
    let said = match train(&inputs, folder, arguments, Some(global), comm)? {
        Trained::Elsewhere => Ok(()),
        Trained::Here { metrics, file } => report(&inputs, metrics, folder, &file, global),
    };
    agree(&**comm, said.map(|()| Outcome::Done))
}

/// Trains as one process, and says nothing about it; returns the model's file.
pub fn make(arguments: &Train, global: &Global) -> anyhow::Result<PathBuf> {
    let output = arguments.output.as_deref().context("no folder to write is named")?;
    record::check(output, arguments.force)?;
    let inputs = Inputs::open(settings(arguments, global)?, global)?;
    let solo: Arc<dyn Communicator> = Arc::new(Solo);
    match train(&inputs, output, arguments, None, &solo)? {
        Trained::Here { file, .. } => Ok(file),
        Trained::Elsewhere => bail!("{}: another process wrote the model", output.display()),
    }
}

/// How a training ended.
enum Trained {
    /// Another rank has written the model.
    Elsewhere,
    /// The model is written.
    Here { metrics: Metrics, file: PathBuf },
}

/// Whether this rank speaks and writes for all.
fn leads(comm: &dyn Communicator) -> bool {
    comm.rank() == 0
}

/// The preset or file, and on top of it the flags.
fn settings(arguments: &Train, global: &Global) -> anyhow::Result<RunConfig> {
    let mut config = match &arguments.config {
        Some(path) => RunConfig::read(path)?,
        None => RunConfig::default(),
    };
    if let Some(PresetName(preset)) = arguments.preset {
        preset.flags().apply(&mut config)?;
    }
    arguments.flags.apply(&mut config)?;
    flags::check_teacher(&config)?;
    if let Some(seed) = global.given_seed() {
        config.training.seed = seed;
    }
    if let Some(threads) = global.given_threads() {
        config.training.threads = threads;
    }
    Ok(config)
}

/// Training before its first step.
fn trainer<'a>(inputs: &'a Inputs, comm: &Arc<dyn Communicator>) -> anyhow::Result<Trainer<'a>> {
    let Inputs { net, config, images, preprocessing, .. } = inputs;
    let training = &config.training;
    let held_out = config.holdout.unwrap_or(0);
    let mut task = Classification::new(net, images, preprocessing, held_out, training)?;
    let mut noise = None;
    if let (Some(teacher), Some(distillation)) = (&inputs.teacher, training.distillation) {
        match config.noise_inputs {
            None => task = task.with_teacher(teacher, distillation)?,
            Some(range) => {
                let samples = images.len() - held_out;
                let inputs = NoiseInputs::new(net, teacher, distillation, samples, training.seed)?;
                noise = Some(inputs.with_range(range));
            }
        }
    }
    let task: Box<dyn Task> = match noise {
        Some(noise) => Box::new(noise.with_evaluation(task)),
        None => Box::new(task),
    };
    let ModelState { weights, running } = inputs.start()?;
    let method = method(inputs, weights)?;
    Ok(Trainer::distributed(task, method, running, training.clone(), Arc::clone(comm))?)
}

/// What is trained.
fn method(inputs: &Inputs, weights: Vec<f32>) -> anyhow::Result<Box<dyn Parameterization + '_>> {
    let Inputs { net, config, aware, tuning, .. } = inputs;
    if let (Some(plan), Some(tuning)) = (tuning, &config.predictor) {
        return Ok(Box::new(plan.parameterization(net, tuning, config.training.threads)));
    }
    if let (Some(plan), Some(config)) = (aware, &config.quantize) {
        return Ok(Box::new(plan.parameterization(net, config, weights)));
    }
    let Some(subspace) = &config.subspace else {
        return Ok(Box::new(Dense::new(net, weights)));
    };
    let (key, _) = key(subspace, config.key_file.as_deref(), config.training.seed)?;
    let is_delta = config.base.is_some();
    Ok(Box::new(Subspace::new(net, subspace, key, &weights, is_delta)?))
}

/// Trains; `shown` is where progress is shown, if it is.
fn train(
    inputs: &Inputs,
    output: &Path,
    arguments: &Train,
    shown: Option<&Global>,
    comm: &Arc<dyn Communicator>,
) -> anyhow::Result<Trained> {
    let leads = leads(&**comm);
    let mut trainer = trainer(inputs, comm)?;
    let policy = CheckpointPolicy {
        steps: arguments.checkpoint_steps,
        time: Duration::from_secs(arguments.checkpoint_seconds),
    };
    let folder = match leads {
        true => record::open(&inputs.record(), output, policy, arguments.force),
        false => Ok(RunFolder::reader(output)),
    };
    let mut folder = agree(&**comm, folder)?;
    let watch = Watch::new(inputs.config.training.epochs, shown.filter(|_| leads));
    let mut watch = agree(&**comm, watch)?;
    if folder.restore(&mut trainer)? {
        watch.continue_at(trainer.step_count());
    }
    let ending = trainer.run_in(&mut folder, &mut watch)?;
    drop(watch);
    if ending == Ending::Interrupted {
        let (step, total) = (trainer.step_count(), trainer.total_steps());
        let reached = format!("interrupted after step {step} of {total}");
        return Err(Stopped::new(output, reached).into());
    }
    let product = Product::new(inputs, &mut trainer)?;
    let mut finish = || {
        let metrics = final_metrics(inputs, &trainer, &product.model)?;
        folder.append(&metrics)?;
        let file = product.write(inputs, output)?;
        Ok(Trained::Here { metrics, file })
    };
    agree(&**comm, if leads { finish() } else { Ok(Trained::Elsewhere) })
}

/// How well the model does on the test images, or, where there are none, on the held-out ones.
fn final_metrics(
    inputs: &Inputs,
    trainer: &Trainer<'_>,
    model: &StateDict,
) -> anyhow::Result<Metrics> {
    let Some(images) = inputs.test_images()? else {
        return Ok(trainer.metrics("held-out", trainer.task().evaluate(model, Part::WHOLE)?));
    };
    let engine = Engine::new(&inputs.net, model)?;
    let score = Score::of(&engine, &images, None, &inputs.preprocessing)?;
    Ok(trainer.metrics("test", Some(score)))
}

fn report(
    inputs: &Inputs,
    metrics: Metrics,
    output: &Path,
    file: &Path,
    global: &Global,
) -> anyhow::Result<()> {
    let bytes = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    let report = Report {
        arch: inputs.net.arch(),
        data: inputs.data(),
        preprocessing: inputs.preprocessing.to_string(),
        parameters: inputs.net.parameter_count(),
        output,
        bytes,
        metrics,
    };
    global.print(&report, |out| {
        let Metrics { split, correct, total, seconds, .. } = report.metrics;
        if let Some(correct) = correct.filter(|_| total > 0) {
            let accuracy = 100.0 * correct as f64 / total as f64;
            writeln!(out, "accuracy {accuracy:.2} % ({correct}/{total}, {split})")?;
        }
        let memory = report.metrics.peak_memory_bytes.map(text::bytes);
        let memory = memory.map_or(String::new(), |bytes| format!(", peak memory {bytes}"));
        writeln!(out, "{seconds:.2} s{memory}")?;
        writeln!(out, "{}: {}", file.display(), text::bytes(bytes))
    })
}

/// Takes steps for a second, at least three, of which the first does not count.
fn dry_run(
    inputs: &Inputs,
    global: &Global,
    comm: &Arc<dyn Communicator>,
) -> anyhow::Result<Outcome> {
    let mut trainer = trainer(inputs, comm)?;
    let steps = trainer.total_steps();
    trainer.step()?;
    let (start, mut taken) = (Instant::now(), 0);
    let wanted = |taken| taken < 2 || start.elapsed() < Duration::from_secs(1);
    while !trainer.is_finished() && comm.any(wanted(taken)) {
        trainer.step()?;
        taken += 1;
    }
    let per_step = start.elapsed().as_secs_f64() / f64::from(taken.max(1));
    let model = trainer.current().to_state_dict(&inputs.net);
    let held_out = inputs.config.holdout.unwrap_or(0);
    let plan = Plan {
        dry_run: true,
        arch: inputs.net.arch().to_owned(),
        data: inputs.data().to_owned(),
        preprocessing: inputs.preprocessing.to_string(),
        parameters: inputs.net.parameter_count(),
        bytes: model.infos().iter().map(|info| info.byte_count()).sum(),
        training_images: inputs.images.len() - held_out,
        held_out_images: held_out,
        steps,
        estimated_seconds: per_step * steps as f64,
        peak_memory_bytes: trainer.metrics("held-out", None).peak_memory_bytes,
    };
    if leads(&**comm) {
        global.print(&plan, |out| plan.write(out))?;
    }
    Ok(Outcome::Done)
}

impl Plan {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = |count: usize| text::grouped(count as u64);
        writeln!(out, "{} on {}, preprocessing {}", self.arch, self.data, self.preprocessing)?;
        let bytes = text::bytes(self.bytes as u64);
        writeln!(out, "{} parameters, {bytes}", count(self.parameters))?;
        let (training, held_out) = (count(self.training_images), count(self.held_out_images));
        writeln!(out, "{training} training images, {held_out} held out")?;
        write!(out, "{} steps, about {:.0} s", text::grouped(self.steps), self.estimated_seconds)?;
        let memory = self.peak_memory_bytes.map(text::bytes);
        writeln!(out, "{}", memory.map_or(String::new(), |bytes| format!(", memory {bytes}")))
    }
}

impl Inputs {
    /// Name of the data set.
    pub fn data(&self) -> &str {
        self.config.data.as_deref().unwrap_or_default()
    }
}
