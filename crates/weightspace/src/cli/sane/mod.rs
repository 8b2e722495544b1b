//! `weightspace sane`: what a population of networks teaches.

mod pretrain;

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
}

/// Runs the command.
pub fn run(arguments: &Sane, global: &Global) -> anyhow::Result<Outcome> {
    match &arguments.command {
        SaneCommand::Pretrain(arguments) => pretrain::run(arguments, global),
    }
}
