//! `weightspace zoo export`: the tree of folders of a zoo.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weightspace::zoo::import::write_tree;

use super::super::progress::Bar;
use super::super::{Global, output, text};

/// Write a zoo as the published tree of folders, checkpoints as safetensors
#[derive(Args)]
pub struct Export {
    /// Packed file, or folder of models or checkpoints
    zoo: PathBuf,
    /// Folder for the models
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Write into a folder that is not empty, and replace files of the same models
    #[arg(short, long)]
    force: bool,
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    models: usize,
}

pub fn run(arguments: &Export, global: &Global) -> anyhow::Result<()> {
    let Export { zoo, output, force } = arguments;
    let population = super::open(zoo, global)?;
    output::make_folder(output, *force)?;
    let bar = Bar::new(global);
    write_tree(&population, output, &|phase, done, total| bar.report(phase, done, total))?;
    drop(bar);
    let report = Report { output: output.clone(), models: population.len() };
    global.print(&report, |out| {
        let models = text::grouped(report.models as u64);
        writeln!(out, "{}: {models} models", text::printable(&output.display().to_string()))
    })
}
