//! `weightspace zoo train`: a whole population of networks.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace::workplace::Workplace;
use weightspace::zoo::train::{Ending, Layout, Progress, ZooImages, ZooTraining};
use weightspace::zoo::{Shard, ZooDescription, description::Seeds};
use weightspace_nn::data::{self, Split};

use super::super::interruption::{Interruption, Stopped};
use super::super::progress::Bar;
use super::super::setup::test_images;
use super::super::{Global, Outcome, output, text};

/// Train a zoo: every combination of the settings that a description names
///
/// Small networks are trained sixteen at a time, others one by one, on every thread. The same command continues what was
/// interrupted; the work is kept in OUTPUT.work until the zoo is written. With --shard each of several machines
/// trains its part; `zoo import` makes one zoo of the parts.
#[derive(Args)]
pub struct Train {
    /// Zoo by name, as `weightspace list` shows them
    #[arg(long, value_name = "NAME", required_unless_present = "config")]
    preset: Option<String>,
    /// Description of a zoo, as --print-config writes it
    #[arg(long, value_name = "FILE.toml", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Seeds in place of the description's: a number, "1-200", or "random:10"
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<String>,
    /// Number of models to draw from all combinations
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Epochs of every model
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Training images to use
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Part of the models to train, as 0/4 to 3/4 [default: the part that SLURM_ARRAY_TASK_ID or
    /// JOB_COMPLETION_INDEX names, or all]
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Packed file to write, or folder with --layout tree
    #[arg(short, long, value_name = "OUTPUT", required_unless_present_any = ["dry_run", "print_config"])]
    output: Option<PathBuf>,
    /// Replace what is there
    #[arg(short, long)]
    force: bool,
    /// How the zoo is written
    #[arg(long, value_enum, default_value = "packed")]
    layout: LayoutName,
    /// Say what would be trained, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the description as TOML, and do nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutName {
    Packed,
    Tree,
}

#[derive(Serialize)]
struct Plan {
    dry_run: bool,
    models: usize,
    parameters: usize,
    epochs: u32,
    training_images: usize,
    validation_images: usize,
    test_images: usize,
    /// Of the packed file.
    bytes: u64,
}

/// What was trained.
#[derive(Serialize)]
pub struct Report {
    output: PathBuf,
    pub models: usize,
    epochs: u32,
    parameters: usize,
    seconds: f64,
}

pub fn run(arguments: &Train, global: &Global) -> anyhow::Result<Outcome> {
    let description = arguments.description()?;
    if arguments.print_config {
        let toml = description.to_toml();
        global.print(&description, |out| out.write_all(toml.as_bytes()))?;
        return Ok(Outcome::Done);
    }
    if let Some(report) = train(arguments, &description, global)? {
        global.print(&report, |out| report.write(out))?;
    }
    Ok(Outcome::Done)
}

/// Trains a zoo and says nothing about it.
pub fn make(arguments: &Train, global: &Global) -> anyhow::Result<Report> {
    train(arguments, &arguments.description()?, global)?.context("nothing is to be trained")
}

/// What was trained; none where it only says what would be trained.
fn train(
    arguments: &Train,
    description: &ZooDescription,
    global: &Global,
) -> anyhow::Result<Option<Report>> {
    let shard = match arguments.shard {
        Some(shard) => shard,
        None => {
            Shard::from_environment(|name| std::env::var(name).ok(), None)?.unwrap_or(Shard::WHOLE)
        }
    };
    let output = arguments.output.clone().filter(|_| !arguments.dry_run);
    if let Some(output) = &output {
        match arguments.layout {
            LayoutName::Packed => {
                output::check(output, arguments.force, arguments.config.as_slice())?
            }
            LayoutName::Tree => output::make_folder(output, arguments.force)?,
        }
    }
    let train = data::open(&description.data, global.data_dir(), Split::Train)?;
    let test = test_images(&description.data, global.data_dir())?;
    let images = ZooImages::new(description, train, test)?;
    let mut folder = arguments.output.clone().unwrap_or_default().into_os_string();
    folder.push(".work");
    let place = Workplace::new(folder.into(), arguments.force);
    let training = ZooTraining::new(description, &images, shard, &place)?;
    let Some(output) = output else {
        plan(description, &images, &training, global)?;
        return Ok(None);
    };
    let (start, threads) =
        (Instant::now(), global.given_threads().unwrap_or_else(rayon::current_num_threads));
    let interruption = Interruption::listen()?;
    let bar = Bar::new(global);
    let done = Cell::new(Progress { done: 0, total: 0 });
    let mut progress = |progress: Progress| {
        done.set(progress);
        bar.report("epochs of models", progress.done, progress.total);
    };
    let ending = training.run(threads, &mut progress, &|| interruption.is_wanted())?;
    drop(bar);
    if ending == Ending::Interrupted {
        let Progress { done, total } = done.get();
        let reached = format!("interrupted after {done} of {total} epochs of models");
        return Err(Stopped::new(place.path(), reached).into());
    }
    let layout = match arguments.layout {
        LayoutName::Packed => Layout::Packed,
        LayoutName::Tree => Layout::Tree,
    };
    training.write(&output, layout)?;
    place.remove()?;
    Ok(Some(Report {
        models: training.model_count(),
        epochs: description.epochs,
        parameters: training.row_len(),
        seconds: start.elapsed().as_secs_f64(),
        output,
    }))
}

impl Report {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Report { output, models, epochs, parameters, seconds } = self;
        let shown = text::printable(&output.display().to_string());
        writeln!(
            out,
            "{shown}: {models} models of {parameters} weights, {epochs} epochs, {seconds:.1} s"
        )
    }
}

impl Train {
    /// The description with what the options change.
    fn description(&self) -> anyhow::Result<ZooDescription> {
        let mut description = match (&self.config, &self.preset) {
            (Some(path), _) => ZooDescription::read(path)?,
            (None, Some(name)) => ZooDescription::preset(name)?,
            (None, None) => bail!("--preset or --config says what to train"),
        };
        if let Some(seeds) = &self.seeds {
            description.seeds = match seeds.parse() {
                Ok(seed) => Seeds::One(seed),
                Err(_) => Seeds::Text(seeds.clone()),
            };
        }
        description.sample = self.sample.or(description.sample);
        if let Some(epochs) = self.epochs {
            description.end_at(epochs);
        }
        description.images = self.images.or(description.images);
        // Checked as a whole.
        Ok(ZooDescription::parse(&description.to_toml())?)
    }
}

fn plan(
    description: &ZooDescription,
    images: &ZooImages,
    training: &ZooTraining<'_>,
    global: &Global,
) -> anyhow::Result<()> {
    let [training_images, validation_images, test_images] = images.counts();
    let (models, parameters) = (training.model_count(), training.row_len());
    let rows = models * description.checkpoint_epochs().len();
    let bytes = 4 * (rows * parameters) as u64;
    let epochs = description.epochs;
    let plan = Plan {
        dry_run: true,
        models,
        parameters,
        epochs,
        training_images,
        validation_images,
        test_images,
        bytes,
    };
    global.print(&plan, |out| {
        writeln!(out, "{models} models of {parameters} weights, {epochs} epochs")?;
        let count = |count: usize| text::grouped(count as u64);
        let (a, b, c) = (count(training_images), count(validation_images), count(test_images));
        writeln!(out, "{a} training, {b} validation and {c} test images")?;
        writeln!(out, "{} of weights", text::bytes(bytes))
    })
}
