//! Files that commands write.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

/// The options `-o` and `-f`.
#[derive(Args)]
pub struct OutputArgs {
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(short, long)]
    pub force: bool,
}

/// Finds out before the work begins what would keep the file from being written after it.
pub fn check(path: &Path, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => bail!("{shown}: exists and is not a regular file"),
        Ok(_) if !force => bail!("{shown}: exists; -f replaces it"),
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            bail!("{shown}: there is no folder {}", folder.display())
        }
        _ => Ok(()),
    }
}
