//! `weightspace eval`: accuracy of a model on a data set.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace_nn::data::{Preprocessing, Split};
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
    arch: String,
    preprocessing: String,
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
    let (result, seconds) = setup.evaluate(&model.state_dict()?, global)?;
    let report = Report {
        accuracy: result.accuracy(),
        correct: result.correct,
        total: result.total,
        seconds,
        peak_memory_bytes: peak_memory_bytes(),
        arch: setup.net.arch().to_owned(),
        preprocessing: setup.preprocessing.to_string(),
    };
    global.print(&report, |out| {
        writeln!(out, "{}", text::accuracy(&result))?;
        let memory = report.peak_memory_bytes.map(text::bytes);
        let memory = memory.map_or(String::new(), |bytes| format!(", peak memory {bytes}"));
        writeln!(out, "{seconds:.2} s{memory}")
    })?;
    Ok(Outcome::Done)
}
