//! Files that commands write.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::model::file_and_part;

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

/// Finds out before the work begins what would keep the file from being written after it; it must be none of those that are read.
pub fn check<P: AsRef<Path>>(path: &Path, force: bool, read: &[P]) -> anyhow::Result<()> {
    let shown = path.display();
    if let Ok(written) = fs::canonicalize(path) {
        let is_read = |read: &P| {
            let (file, _) = file_and_part(read.as_ref());
            fs::canonicalize(file).is_ok_and(|read| read == written)
        };
        ensure!(!read.iter().any(is_read), "{shown}: is read; name another file to write");
    }
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

/// Makes a folder, which must not be there with anything in it unless files of it may be replaced.
pub fn make_folder(folder: &Path, force: bool) -> anyhow::Result<()> {
    let shown = || folder.display().to_string();
    if folder.exists() && !folder.is_dir() {
        bail!("{}: is a file, expected a folder to write into", shown());
    }
    fs::create_dir_all(folder).with_context(shown)?;
    let mut entries = fs::read_dir(folder).with_context(shown)?;
    if !force && entries.next().is_some() {
        bail!("{}: is not empty; -f writes into it", shown());
    }
    Ok(())
}
