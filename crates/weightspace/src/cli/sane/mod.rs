//! `weightspace sane`: what a population of networks teaches.

mod audit;
mod embed;
mod judge;
mod neighbours;
mod pretrain;
mod probe;
mod prompts;
mod sample;

use clap::{Args, Subcommand};

use super::{Global, Outcome};

/// Learn from a zoo: an autoencoder of the weights of all its models
#[derive(Args)]
pub struct Sane {
    #[command(subcommand)]
    command: SaneCommand,
}

#[derive(Subcommand)]
enum SaneCommand {
    Pretrain(Box<pretrain::Pretrain>),
    Embed(embed::Embed),
    Probe(probe::Probe),
    Neighbours(neighbours::Neighbours),
    Sample(Box<sample::Sample>),
    Audit(audit::Audit),
}

/// Runs the command.
pub fn run(arguments: &Sane, global: &Global) -> anyhow::Result<Outcome> {
    match &arguments.command {
        SaneCommand::Pretrain(arguments) => pretrain::run(arguments, global),
        SaneCommand::Embed(arguments) => embed::run(arguments, global),
        SaneCommand::Neighbours(arguments) => neighbours::run(arguments, global),
        SaneCommand::Sample(arguments) => sample::run(arguments, global),
        SaneCommand::Audit(arguments) => audit::run(arguments, global),
        SaneCommand::Probe(arguments) => probe::run(arguments, global),
    }
}
