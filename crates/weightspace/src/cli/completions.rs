//! `weightspace completions`: what shells need to complete the command line.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Outcome};

/// Print the completions of a shell
///
/// For bash, for instance: weightspace completions bash > ~/.local/share/bash-completion/completions/weightspace
#[derive(Args)]
pub struct Completions {
    /// Shell
    shell: Shell,
}

/// Runs the command.
pub fn run(arguments: &Completions) -> anyhow::Result<Outcome> {
    // Through memory: the generator panics where it cannot write.
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(arguments.shell, &mut command, "weightspace", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Outcome::Done)
}
