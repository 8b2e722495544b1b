//! `weightspace decompress`: a `.wsp` file back into a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace_core::checkpoint::SafetensorsWriter;
use weightspace_core::{DType, Tensor, quoted};

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
    /// Type of floating-point tensors, rounded to nearest; without it as the file has them, mostly f32
    #[arg(long, value_name = "TYPE")]
    dtype: Option<FloatType>,
    #[command(flatten)]
    decoding: DecodeArgs,
}

/// Floating-point types that loaders of checkpoints know.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FloatType {
    F32,
    F16,
    Bf16,
}

impl FloatType {
    /// The tensor in this type; one of integers as it is.
    fn cast(self, name: &str, tensor: Tensor) -> anyhow::Result<Tensor> {
        if !tensor.dtype().is_float() {
            return Ok(tensor);
        }
        let cast = tensor.cast_float(self.dtype());
        ensure!(
            cast.is_finite_as_f32() || !tensor.is_finite_as_f32(),
            "tensor {} has values beyond the range of {}",
            quoted(name),
            self.dtype()
        );
        Ok(cast)
    }

    fn dtype(self) -> DType {
        match self {
            FloatType::F32 => DType::F32,
            FloatType::F16 => DType::F16,
            FloatType::Bf16 => DType::BF16,
        }
    }
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
    let mut tensors = file.tensors().to_vec();
    for tensor in tensors.iter_mut().filter(|tensor| tensor.dtype.is_float()) {
        tensor.dtype = arguments.dtype.map_or(tensor.dtype, FloatType::dtype);
    }
    let mut writer = SafetensorsWriter::create(path, &tensors, &model.statements())?;
    decoder.decode_each(|name, tensor| {
        let tensor = match arguments.dtype {
            Some(dtype) => {
                dtype.cast(name, tensor).with_context(|| arguments.file.display().to_string())?
            }
            None => tensor,
        };
        Ok::<_, anyhow::Error>(writer.write(&tensor)?)
    })?;
    writer.finish()?;
    let bytes = std::fs::metadata(path)?.len();
    let report = Report { output: path, bytes, tensors: file.tensors().len() };
    global.print(&report, |out| {
        let shown = text::printable(&path.display().to_string());
        writeln!(out, "{shown}: {} tensors, {}", report.tensors, text::bytes(bytes))
    })?;
    Ok(Outcome::Done)
}
