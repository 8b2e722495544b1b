//! `weightspace decompress`: a `.wsp` file back into a checkpoint.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use weightspace_core::checkpoint::SafetensorsWriter;

use super::decoding::DecodeArgs;
use super::model::{Model, Source};
use super::output::{self, OutputArgs};
use super::{Global, Outcome, text};

/// Restore a checkpoint, in safetensors format, from a .wsp file
#[derive(Args)]
pub struct Decompress {
    /// File made by `weightspace compress`
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    bytes: u64,
    tensors: usize,
}

/// Runs the command.
pub fn run(arguments: &Decompress, global: &Global) -> anyhow::Result<Outcome> {
    let OutputArgs { output: path, force } = &arguments.output;
    output::check(path, *force, &[&arguments.file])?;
    let model = Model::open_with(&arguments.file, &arguments.decoding)?;
    let Source::Wsp(file) = model.source() else {
        anyhow::bail!("{}: not a .wsp file", arguments.file.display());
    };
    let decoder = model.decoder(file)?;
    let mut writer = SafetensorsWriter::create(path, file.tensors(), &model.statements())?;
    decoder.decode_each(|_, tensor| Ok::<_, anyhow::Error>(writer.write(&tensor)?))?;
    writer.finish()?;
    let bytes = std::fs::metadata(path)?.len();
    let report = Report { output: path, bytes, tensors: file.tensors().len() };
    global.print(&report, |out| {
        let shown = text::printable(&path.display().to_string());
        writeln!(out, "{shown}: {} tensors, {}", report.tensors, text::bytes(bytes))
    })?;
    Ok(Outcome::Done)
}
