//! `weightspace sane evaluate`: what an autoencoder loses.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace::sane::pretraining::Samples;
use weightspace::sane::reconstruction::{Reconstruction, reconstruct};
use weightspace::sane::{Halo, SaneModel};
use weightspace::zoo::{Population, epochs};

use crate::cli::progress::Bar;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, Outcome, text};

/// Say how well an autoencoder reconstructs models that it has not learnt
///
/// Networks are cut into snippets that are encoded and decoded: once of the training window's length, of which the middle half
/// counts, and end to end in windows of several lengths. Errors are mean squares, in units of the variance of a layer's weights.
#[derive(Args)]
pub struct Evaluate {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Packed zoo, or folder of models
    zoo: PathBuf,
    /// Which of the models, divided as in training
    #[arg(long, value_enum, default_value = "test")]
    part: Part,
    /// Epochs of the models [default: all]
    #[arg(long, value_name = "E,..", value_delimiter = ',')]
    epochs: Vec<u32>,
    /// Lengths of windows [default: a quarter of the training window, half, all, and twice that]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    windows: Vec<u32>,
}

/// A part of a zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Train,
    Validation,
    Test,
}

#[derive(Serialize)]
struct Report {
    part: Part,
    aligned: bool,
    layers: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// Tokens of a snippet that count.
    content: usize,
    /// Tokens on each side that are only seen.
    context: usize,
    #[serde(flatten)]
    found: Reconstruction,
}

pub fn run(arguments: &Evaluate, global: &Global) -> anyhow::Result<Outcome> {
    let model = SaneModel::read(&arguments.model)?;
    let shown = || arguments.zoo.display().to_string();
    let (zoo, _) = Population::open(&arguments.zoo)?.without_nan()?;
    epochs::check(&zoo, &arguments.epochs)?;
    let parts = zoo.split(model.split_seed);
    let part = match arguments.part {
        Part::Train => parts.train,
        Part::Validation => parts.validation,
        Part::Test => parts.test,
    };
    let wanted = |epoch| arguments.epochs.is_empty() || arguments.epochs.contains(&epoch);
    let samples = Samples::new(part, wanted)?;
    if samples.is_empty() {
        bail!("{}: no models of this part have weights of these epochs", shown());
    }
    let samples = model.align_samples(samples).with_context(shown)?;
    let bar = Bar::new(global);
    let rows = arguments.halos(&model).into_iter().map(|halo| {
        let report = |done, total| bar.report("networks", done, total);
        let found = reconstruct(&model, &samples, halo, report).with_context(shown)?;
        Ok(Row { content: halo.content, context: halo.context, found })
    });
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    drop(bar);
    let layers = model.layout.layers().iter().map(|layer| layer.name.clone()).collect();
    let report = Report { part: arguments.part, aligned: model.aligned, layers, rows };
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

impl Evaluate {
    /// The usual snippets, and then windows end to end, none longer than the networks.
    fn halos(&self, model: &SaneModel) -> Vec<Halo> {
        let (window, longest) = (model.autoencoder.config().window, model.layout.token_count());
        let mut lengths: Vec<usize> = match self.windows.is_empty() {
            true => vec![window / 4, window / 2, window, 2 * window],
            false => self.windows.iter().map(|&length| length as usize).collect(),
        };
        lengths.iter_mut().for_each(|length| *length = (*length).clamp(1, longest));
        lengths.dedup();
        let windows = lengths.into_iter().map(|content| Halo { content, context: 0 });
        [Halo::of_window(window)].into_iter().chain(windows).collect()
    }
}

impl Report {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(first) = self.rows.first() else { return Ok(()) };
        let count = text::grouped(first.found.networks as u64);
        let aligned = if self.aligned { "aligned" } else { "as they are" };
        writeln!(out, "{count} networks, {aligned}; mean squared error:\n")?;
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            right("tokens"),
            right("seen besides"),
            right("of weights"),
            right("with padding"),
        ]);
        for Row { content, context, found } in &self.rows {
            table.push([
                content.to_string(),
                (2 * context).to_string(),
                format!("{:.4}", found.error),
                format!("{:.4}", found.error_with_padding),
            ]);
        }
        table.write(out, "")?;
        writeln!(out)?;
        let mut table = Table::new([("layer", Align::Left), right("of weights")]);
        for (name, error) in self.layers.iter().zip(&first.found.layers) {
            table.push([text::printable(name).to_string(), format!("{error:.4}")]);
        }
        table.write(out, "")
    }
}
