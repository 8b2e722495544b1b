//! `weightspace sane probe`: what embeddings know about networks.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace::sane::SaneModel;
use weightspace::sane::probe::{NUMBERS, ProbeConfig, ProbeRow, probe};
use weightspace::sane::scale::Scale;
use weightspace::zoo::{Population, epochs};

use crate::cli::progress::Bar;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, Outcome, text};

/// Predict properties of a zoo's models from their embeddings, beside what their weights and numbers about these tell
///
/// Linear probes are fitted to 70 % of the models, their penalty is chosen by 15 %, and the rest tells how good they are: R^2 of test
/// accuracy, epoch and generalisation gap, and the accuracy of hyper-parameters as classes.
#[derive(Args)]
pub struct Probe {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Packed zoo, or folder of models
    zoo: PathBuf,
    /// Epochs of the models
    #[arg(long, value_name = "E,..", value_delimiter = ',', default_value = "1,3,5,10,15,20,25")]
    epochs: Vec<u32>,
    /// Seed by which models are divided [default: the autoencoder's]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// What probes see of features
    #[arg(long, value_enum, value_name = "SCALE", default_value_t = ScaleName::Values)]
    scale: ScaleName,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScaleName {
    /// Their values; those far outside of what most training models have are moved to the edge of it
    Values,
    /// Their ranks among the training models, for zoos in which many models have diverged
    Ranks,
}

/// How well every property is predicted from every kind of features.
#[derive(Serialize)]
pub struct Report {
    split_seed: u64,
    scale: Scale,
    pub probes: Vec<ProbeRow>,
}

pub fn run(arguments: &Probe, global: &Global) -> anyhow::Result<Outcome> {
    let report = find(arguments, global)?;
    global.print(&report, |out| write(&report.probes, out))?;
    Ok(Outcome::Done)
}

/// Fits the probes.
pub fn find(arguments: &Probe, global: &Global) -> anyhow::Result<Report> {
    let model = SaneModel::read(&arguments.model)?;
    let zoo = Population::open(&arguments.zoo)?;
    epochs::check(&zoo, &arguments.epochs)?;
    let mut config = ProbeConfig::of(&model);
    config.epochs.clone_from(&arguments.epochs);
    config.split_seed = arguments.split_seed.unwrap_or(config.split_seed);
    config.seed = global.seed();
    config.scale = match arguments.scale {
        ScaleName::Values => Scale::Values,
        ScaleName::Ranks => Scale::Ranks,
    };
    let bar = Bar::new(global);
    let rows = probe(&model, &zoo, &config, |done, total| bar.report("embedding", done, total));
    drop(bar);
    let probes = rows.with_context(|| arguments.zoo.display().to_string())?;
    for name in NUMBERS.into_iter().filter(|name| probes.iter().all(|row| row.target != *name)) {
        global.say(format_args!(
            "no probe of {name}: it is unknown of some models, or the same in all that are learnt from"
        ));
    }
    Ok(Report { split_seed: config.split_seed, scale: config.scale, probes })
}

fn write(rows: &[ProbeRow], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new([
        ("", Align::Left),
        ("", Align::Left),
        ("numbers", Align::Right),
        ("validation", Align::Right),
        ("test", Align::Right),
    ]);
    let mut target = "";
    for row in rows {
        let name = match row.score {
            "accuracy" => format!("{} (accuracy)", row.target.replace('_', " ")),
            _ => format!("{} (R^2)", row.target),
        };
        table.push([
            if row.target == target { String::new() } else { name },
            row.features.name().to_owned(),
            text::grouped(row.dimension as u64),
            format!("{:.3}", row.validation),
            format!("{:.3}", row.test),
        ]);
        target = &row.target;
    }
    table.write(out, "")
}
