//! `weightspace zoo index`: one table of a zoo.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use weightspace::zoo::index::{write_csv, write_parquet};

use super::super::output::{self, OutputArgs};
use super::super::progress::Bar;
use super::super::{Global, text};

/// Write a table of a zoo, a row per model and epoch: hyper-parameters, losses, accuracies, generalisation gap
#[derive(Args)]
pub struct Index {
    /// Packed file, or folder of models or checkpoints
    zoo: PathBuf,
    // Its name ends in .csv or .parquet.
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    models: usize,
    rows: usize,
}

pub fn run(arguments: &Index, global: &Global) -> anyhow::Result<()> {
    let OutputArgs { output, force } = &arguments.output;
    let write = match output.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => write_csv,
        Some("parquet") => write_parquet,
        _ => bail!("{}: the name should end in .csv or .parquet", output.display()),
    };
    output::check(output, *force, &[&arguments.zoo])?;
    let population = super::open(&arguments.zoo, global)?;
    let bar = Bar::new(global);
    let rows = write(&population, output, &|phase, done, total| bar.report(phase, done, total))?;
    drop(bar);
    let report = Report { output: output.clone(), models: population.len(), rows };
    global.print(&report, |out| {
        let [rows, models] = [rows, population.len()].map(|count| text::grouped(count as u64));
        let shown = text::printable(&output.display().to_string());
        writeln!(out, "{shown}: {rows} rows, {models} models")
    })
}
