//! Commands that run other commands, as their users would.

use std::ffi::OsStr;
use std::path::Path;

use clap::Parser;

use super::{Cli, Command};

/// The command of a line of words and the paths that follow.
pub fn parse(line: &str, paths: &[&Path]) -> anyhow::Result<Command> {
    let words = ["weightspace"].into_iter().chain(line.split_whitespace()).map(OsStr::new);
    let words = words.chain(paths.iter().map(|path| path.as_os_str()));
    Ok(Cli::try_parse_from(words)?.command)
}
