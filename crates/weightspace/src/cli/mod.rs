//! The command line: one file per command, and what they share.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a check failed, 2 error.

pub mod align;
pub mod analyze;
pub mod completions;
pub mod compress;
pub mod curve;
pub mod decompress;
pub mod demo;
pub mod diff;
pub mod eval;
pub mod inspect;
pub mod list;
pub mod man;
pub mod sane;
pub mod train;
mod training;
pub mod verify;
pub mod zoo;

mod command_line;
mod compare;
mod decoding;
mod global;
mod images;
mod interruption;
mod model;
mod output;
mod progress;
mod setup;
mod subspace;
mod table;
mod text;
mod weight_source;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use interruption::Stopped;

pub use global::Global;

/// Treats the weights of neural networks as data: compress, restore, compare and evaluate them.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Demo(demo::Demo),
    Inspect(inspect::Inspect),
    Compress(Box<compress::Compress>),
    Decompress(decompress::Decompress),
    Verify(verify::Verify),
    Diff(diff::Diff),
    Eval(eval::Eval),
    Curve(curve::Curve),
    Analyze(analyze::Analyze),
    Align(align::Align),
    Train(Box<train::Train>),
    Zoo(zoo::Zoo),
    Sane(sane::Sane),
    /// List architectures, data sets, formats, methods and preprocessings
    List,
    Completions(completions::Completions),
    Man(man::Man),
}

/// How a command ended when there was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked to do.
    Done,
    /// It checked something, and the answer is no.
    CheckFailed,
}

impl Outcome {
    /// The outcome of a check.
    pub fn of_check(passed: bool) -> Self {
        if passed { Outcome::Done } else { Outcome::CheckFailed }
    }
}

/// Reports an error in one line on stderr and says how the process exits.
pub fn finish(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let (line, code) = match error.downcast_ref::<Stopped>() {
                // As shells report a process that SIGINT ended.
                Some(stopped) => (stopped.to_string(), 130),
                None => (format!("error: {}", text::one_line(&error)), 2),
            };
            // Nothing is left to be done when stderr is closed.
            let _ = writeln!(io::stderr(), "{line}");
            ExitCode::from(code)
        }
    }
}

/// True when whoever reads our output has seen enough of it, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(closed).context("writing")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
