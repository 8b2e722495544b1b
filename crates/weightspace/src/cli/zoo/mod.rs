//! `weightspace zoo`: populations of networks.

mod align;
mod export;
mod import;
mod index;
mod show;
mod stats;
pub(super) mod train;

use std::path::Path;

use clap::{Args, Subcommand};
use weightspace::zoo::Population;

use super::{Global, Outcome};

/// Train, read, convert and describe model zoos: many networks of one architecture, at many epochs
#[derive(Args)]
pub struct Zoo {
    #[command(subcommand)]
    pub(super) command: ZooCommand,
}

#[derive(Subcommand)]
pub(super) enum ZooCommand {
    Train(train::Train),
    Import(import::Import),
    Export(export::Export),
    Align(align::Align),
    Index(index::Index),
    Stats(stats::Stats),
    Show(show::Show),
}

/// Runs the command.
pub fn run(arguments: &Zoo, global: &Global) -> anyhow::Result<Outcome> {
    match &arguments.command {
        ZooCommand::Train(arguments) => return train::run(arguments, global),
        ZooCommand::Import(arguments) => import::run(arguments, global)?,
        ZooCommand::Align(arguments) => align::run(arguments, global)?,
        ZooCommand::Export(arguments) => export::run(arguments, global)?,
        ZooCommand::Index(arguments) => index::run(arguments, global)?,
        ZooCommand::Stats(arguments) => stats::run(arguments, global)?,
        ZooCommand::Show(arguments) => show::run(arguments, global)?,
    }
    Ok(Outcome::Done)
}

/// Opens a zoo and says what it is to users who want to know.
fn open(path: &Path, global: &Global) -> anyhow::Result<Population> {
    let population = Population::open(path)?;
    let (count, layout) = (population.len(), population.layout());
    global.explain(format_args!("{}: {count} models, {layout}", path.display()));
    Ok(population)
}
