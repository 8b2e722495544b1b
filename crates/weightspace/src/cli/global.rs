//! Options that every command has, and how it speaks to its user.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

/// Options of all commands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say what was decided and why, on stderr
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Threads to use [default: one for each core]
    #[arg(long, value_name = "N", global = true)]
    threads: Option<NonZeroUsize>,
    /// Seed of everything that is random [default: 0]
    #[arg(long, value_name = "N", global = true)]
    seed: Option<u64>,
    /// Folder that holds the data sets
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "WEIGHTSPACE_DATA",
        hide_env_values = true,
        // Unlike a path it may be empty, as variables of the environment are that mean nothing.
        value_parser = clap::value_parser!(OsString)
    )]
    data_dir: Option<OsString>,
}

impl Global {
    /// Starts the threads that all computations share.
    pub fn start_threads(&self) -> anyhow::Result<()> {
        let threads = self.threads.map_or(0, NonZeroUsize::get);
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build_global().context("cannot start the threads")
    }

    /// Seed of everything that is random.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The seed if it was given.
    pub fn given_seed(&self) -> Option<u64> {
        self.seed
    }

    /// The number of threads if it was given.
    pub fn given_threads(&self) -> Option<usize> {
        self.threads.map(NonZeroUsize::get)
    }

    /// Folder that holds the data sets.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref().filter(|folder| !folder.is_empty()).map(Path::new)
    }

    /// Prints a result: the document with `--json`, else what `text` writes.
    pub fn print(
        &self,
        document: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(document)?)?;
        } else {
            text(&mut out)?;
        }
        Ok(out.flush()?)
    }

    /// Says what was decided, for users who want to know more.
    pub fn explain(&self, message: impl std::fmt::Display) {
        if self.verbose {
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    /// Says what happens, unless nothing is to be said.
    pub fn say(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            // Nothing is left to be done when stderr is closed.
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    /// Whether nothing but results and errors is wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The same without a word of its own, for a command that another one runs.
    pub fn silenced(&self) -> Self {
        Global { quiet: true, verbose: false, ..self.clone() }
    }

    /// Whether to draw progress bars.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}
