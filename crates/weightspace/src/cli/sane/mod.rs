//! `weightspace sane`: what a population of networks teaches.

mod audit;
mod embed;
mod evaluate;
mod judge;
mod neighbours;
pub(super) mod pretrain;
pub(super) mod probe;
mod prompts;
pub(super) mod sample;

use clap::{Args, Subcommand};

use super::{Global, Outcome};

/// Learn from a zoo: an autoencoder of the weights of all its models
#[derive(Args)]
pub struct Sane {
    #[command(subcommand)]
    pub(super) command: SaneCommand,
}

#[derive(Subcommand)]
pub(super) enum SaneCommand {
    Pretrain(Box<pretrain::Pretrain>),
    Evaluate(evaluate::Evaluate),
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
        SaneCommand::Evaluate(arguments) => evaluate::run(arguments, global),
        SaneCommand::Embed(arguments) => embed::run(arguments, global),
        SaneCommand::Neighbours(arguments) => neighbours::run(arguments, global),
        SaneCommand::Sample(arguments) => sample::run(arguments, global),
        SaneCommand::Audit(arguments) => audit::run(arguments, global),
        SaneCommand::Probe(arguments) => probe::run(arguments, global),
    }
}
