//! `weightspace man`: manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use super::{Cli, Outcome};

/// Print the manual page, or write one page for each command into a folder
#[derive(Args)]
pub struct Man {
    /// Folder for the pages, which is made if it does not exist
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Man) -> anyhow::Result<Outcome> {
    match &arguments.dir {
        None => {
            let mut page = Vec::new();
            Page::new(Cli::command()).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(dir) => write_pages(dir).with_context(|| dir.display().to_string())?,
    }
    Ok(Outcome::Done)
}

fn write_pages(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
