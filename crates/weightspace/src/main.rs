//! The `weightspace` program: parses the command line and runs one command.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let outcome = global.start_threads().and_then(|()| match command {
        Command::Demo(arguments) => cli::demo::run(&arguments, &global),
        Command::Inspect(arguments) => cli::inspect::run(&arguments, &global),
        Command::Compress(arguments) => cli::compress::run(&arguments, &global),
        Command::Decompress(arguments) => cli::decompress::run(&arguments, &global),
        Command::Verify(arguments) => cli::verify::run(&arguments, &global),
        Command::Diff(arguments) => cli::diff::run(&arguments, &global),
        Command::Eval(arguments) => cli::eval::run(&arguments, &global),
        Command::Curve(arguments) => cli::curve::run(&arguments, &global),
        Command::Analyze(arguments) => cli::analyze::run(&arguments, &global),
        Command::Align(arguments) => cli::align::run(&arguments, &global),
        Command::Train(arguments) => cli::train::run(&arguments, &global),
        Command::Zoo(arguments) => cli::zoo::run(&arguments, &global),
        Command::Sane(arguments) => cli::sane::run(&arguments, &global),
        Command::List => cli::list::run(&global),
        Command::Completions(arguments) => cli::completions::run(&arguments),
        Command::Man(arguments) => cli::man::run(&arguments),
    });
    cli::finish(outcome)
}
