//! `weightspace zoo import`: a tree of folders becomes one file.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use weightspace::zoo::{self, Population, Survey, ZooDescription};

use super::super::output::{self, OutputArgs};
use super::super::progress::Bar;
use super::super::{Global, text};

/// Damaged models that are named.
const NAMED: usize = 20;

/// Pack zoos into one file: a published tree of folders, packed files, the parts of a zoo
#[derive(Args)]
pub struct Import {
    /// Folder of models, each with params.json, result.json and checkpoint_NNNNNN/checkpoints; or a
    /// packed file; several are joined
    #[arg(required = true, value_name = "ZOO")]
    zoos: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Epochs to take [default: those that more than half of the models have]
    #[arg(long, value_name = "N", value_delimiter = ',', num_args = 1..)]
    epochs: Vec<u32>,
    /// Leave out models that are damaged or lack an epoch, and name them
    #[arg(long)]
    skip_damaged: bool,
    /// Description (TOML) that the zoo was made from, to keep in the file
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    bytes: u64,
    models: usize,
    epochs: Vec<u32>,
    parameters: usize,
    damaged: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

pub fn run(arguments: &Import, global: &Global) -> anyhow::Result<()> {
    let Import { zoos, output: OutputArgs { output, force }, .. } = arguments;
    output::check(output, *force, zoos)?;
    let mut parts =
        zoos.iter().map(|zoo| super::open(zoo, global)).collect::<Result<Vec<_>, _>>()?;
    let population = match parts.len() {
        1 => parts.remove(0),
        _ => Population::join(parts)?,
    };
    let mut epochs = arguments.epochs.clone();
    epochs.sort_unstable();
    epochs.dedup();
    zoo::epochs::check(&population, &epochs)?;
    let import = zoo::Import {
        epochs: (!epochs.is_empty()).then_some(epochs),
        skip_damaged: arguments.skip_damaged,
        description: arguments
            .description
            .as_deref()
            .map(ZooDescription::read)
            .transpose()?
            .map(|description| description.to_toml()),
    };
    let bar = Bar::new(global);
    let survey =
        import.write(&population, output, &|phase, done, total| bar.report(phase, done, total))?;
    drop(bar);
    if !survey.damaged.is_empty() {
        global.say(text::printable(&warning(&survey)));
    }
    let elements = |model: &zoo::packed::PackedModel| {
        model.tensors.iter().map(|tensor| tensor.element_count()).sum()
    };
    let report = Report {
        output: output.clone(),
        bytes: fs::metadata(output).with_context(|| output.display().to_string())?.len(),
        models: survey.models.len(),
        parameters: survey.models.first().map_or(0, elements),
        epochs: survey.epochs,
        damaged: survey
            .damaged
            .into_iter()
            .map(|d| Skipped { name: d.name, reason: d.reason })
            .collect(),
    };
    global.print(&report, |out| {
        let Report { bytes, models, epochs, parameters, .. } = &report;
        let models = text::grouped(*models as u64);
        let parameters = text::grouped(*parameters as u64);
        let shown = text::printable(&output.display().to_string());
        let epochs = epochs.len();
        writeln!(
            out,
            "{shown}: {models} models x {epochs} epochs x {parameters} weights, {}",
            text::bytes(*bytes)
        )
    })
}

/// All that was left out, on one line.
fn warning(survey: &Survey) -> String {
    let named = survey.damaged.iter().take(NAMED).map(|d| format!("{} ({})", d.name, d.reason));
    let mut line = format!(
        "skipped {} damaged: {}",
        survey.damaged.len(),
        named.collect::<Vec<_>>().join("; ")
    );
    if survey.damaged.len() > NAMED {
        line += &format!("; and {} more", survey.damaged.len() - NAMED);
    }
    line
}
