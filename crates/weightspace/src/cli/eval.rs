//! `weightspace eval`: accuracy of a model on a data set.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace_nn::data::{Preprocessing, Split};
use weightspace_nn::engine::{StreamingEngine, StreamingOptions};
use weightspace_nn::evaluate::Evaluation;
use weightspace_nn::train::peak_memory_bytes;

use super::decoding::DecodeArgs;
use super::model::{ArchArgs, Model};
use super::setup::Setup;
use super::{Global, Outcome, text};

/// Measure the accuracy of a checkpoint or .wsp file on a data set
#[derive(Args)]
pub struct Eval {
    /// Checkpoint or .wsp file
    file: PathBuf,
    /// Data set as `weightspace list` names it, or folder:PATH; with +SHIFT for shifted images
    #[arg(long, value_name = "NAME")]
    data: String,
    /// Which part of the data set
    #[arg(long, value_enum, default_value_t = Part::Test)]
    split: Part,
    /// Normalisation of the images [default: what the file says, else the architecture's, else the
    /// data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    #[command(flatten)]
    arch: ArchArgs,
    /// Read the weights while the network runs: never hold more of them than a slice of one layer
    #[arg(long)]
    streaming: bool,
    /// Images that go through the network between two readings of the weights [default: what
    /// stays in the cache, 16 MiB of activations at most]
    #[arg(long, value_name = "N", requires = "streaming")]
    batch: Option<NonZeroUsize>,
    #[command(flatten)]
    decoding: DecodeArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Train,
    Test,
}

#[derive(Serialize)]
struct Report {
    /// Fraction of correct images.
    accuracy: f64,
    correct: usize,
    total: usize,
    /// Of preparing the images and running the network; files are read before.
    seconds: f64,
    /// Largest memory of the process; `null` where the system does not tell.
    peak_memory_bytes: Option<u64>,
    /// With the size of the images.
    arch: String,
    data: String,
    /// `null` where the data set has none, so that all its images are looked at.
    split: Option<String>,
    preprocessing: String,
    #[serde(flatten)]
    streamed: Option<Streamed>,
}

/// What streaming did.
#[derive(Clone, Copy, Serialize)]
struct Streamed {
    streaming: bool,
    /// Images that went through the network between two readings of the weights.
    batch: usize,
    /// Readings of the weights.
    batches: usize,
    /// Slices of one reading.
    weight_slices: usize,
    /// Memory of the largest slice, as read and as the kernels want it.
    largest_slice_bytes: usize,
    /// Memory of the activations of a batch.
    activation_bytes: usize,
}

/// Runs the command.
pub fn run(arguments: &Eval, global: &Global) -> anyhow::Result<Outcome> {
    let model = Model::open_with(&arguments.file, &arguments.decoding)?;
    let net = model.net(&arguments.arch.arch)?;
    let split = match arguments.split {
        Part::Train => Split::Train,
        Part::Test => Split::Test,
    };
    let preprocessing = arguments.preprocessing.as_ref();
    let setup = Setup::new(&model, net, &arguments.data, split, preprocessing, global)?;
    let (result, seconds, streamed) = match arguments.streaming {
        true => evaluate_streaming(&model, &setup, arguments.batch, global)?,
        false => {
            let (result, seconds) = setup.evaluate(&model.state_dict()?, global)?;
            (result, seconds, None)
        }
    };
    let report = Report {
        accuracy: result.accuracy(),
        correct: result.correct,
        total: result.total,
        seconds,
        peak_memory_bytes: peak_memory_bytes(),
        arch: setup.net.arch().to_owned(),
        data: setup.dataset.name().to_owned(),
        split: setup.dataset.split().map(|split| split.to_string()),
        preprocessing: setup.preprocessing.to_string(),
        streamed,
    };
    global.print(&report, |out| {
        writeln!(out, "{}", text::accuracy(&result))?;
        let memory = report.peak_memory_bytes.map(text::bytes);
        let memory = memory.map_or(String::new(), |bytes| format!(", peak memory {bytes}"));
        writeln!(out, "{seconds:.2} s{memory}, preprocessing {}", report.preprocessing)?;
        let which = report.split.as_ref().map_or("all".to_owned(), |split| format!("the {split}"));
        let (arch, data) = (text::printable(&report.arch), text::printable(&report.data));
        writeln!(out, "{arch} on {which} images of {data}")?;
        match &report.streamed {
            Some(streamed) => writeln!(out, "{}", streamed.line()),
            None => Ok(()),
        }
    })?;
    Ok(Outcome::Done)
}

/// Counts the images that the network gets right while its weights are read; also the seconds it
/// took.
fn evaluate_streaming(
    model: &Model,
    setup: &Setup,
    batch: Option<NonZeroUsize>,
    global: &Global,
) -> anyhow::Result<(Evaluation, f64, Option<Streamed>)> {
    let total = setup.dataset.len();
    let default = StreamingOptions::default();
    let batch = batch.map(|batch| batch.get().min(total));
    let options = StreamingOptions { batch, ..default };
    let weights = model.weight_source()?;
    let start = Instant::now();
    let mut engine = StreamingEngine::new(&setup.net, &*weights, &options);
    let result = setup.accuracy(&mut engine, global)?;
    let streamed = Streamed {
        streaming: true,
        batch: engine.batch(),
        batches: total.div_ceil(engine.batch()),
        weight_slices: engine.slice_count(),
        largest_slice_bytes: engine.largest_slice_bytes(),
        activation_bytes: engine.activation_bytes(),
    };
    Ok((result, start.elapsed().as_secs_f64(), Some(streamed)))
}

impl Streamed {
    fn line(&self) -> String {
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        format!(
            "weights read {} in {} of at most {}, {} at a time in {} of activations",
            plural(self.batches, "time"),
            plural(self.weight_slices, "slice"),
            text::bytes(self.largest_slice_bytes as u64),
            plural(self.batch, "image"),
            text::bytes(self.activation_bytes as u64),
        )
    }
}
