//! `weightspace inspect`: what is in a file, without reading its tensors.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weightspace_core::TensorInfo;

use super::model::{Model, Source};
use super::table::{Align, Table};
use super::{Global, Outcome, text};

/// Show what is in a checkpoint or .wsp file: format, architecture, sizes, tensors
#[derive(Args)]
pub struct Inspect {
    /// Checkpoint of any format, Hugging Face folder, or .wsp file
    file: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'a str,
    /// Canonical name; `null` if no known architecture fits.
    arch: Option<String>,
    /// Why no architecture was recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    arch_unknown: Option<String>,
    parameters: u64,
    /// Of the file, or of all files of a folder's model.
    bytes: u64,
    tensors: Vec<TensorReport<'a>>,
    /// What was taken from the front of every name.
    stripped_prefix: &'a str,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TensorReport<'a> {
    name: &'a str,
    shape: &'a [usize],
    dtype: &'static str,
}

/// Runs the command.
pub fn run(arguments: &Inspect, global: &Global) -> anyhow::Result<Outcome> {
    let model = Model::open(&arguments.file)?;
    let Source::Checkpoint(checkpoint) = model.source();
    let net = weightspace_nn::arch::recognise(model.tensors());
    let report = Report {
        format: checkpoint.format(),
        arch: net.as_ref().ok().map(|net| net.arch().to_owned()),
        arch_unknown: net.as_ref().err().map(|reason| text::printable(&reason.to_string())),
        parameters: model.parameter_count(net.as_ref().ok()),
        bytes: model.file_bytes()?,
        tensors: model.tensors().iter().map(TensorReport::new).collect(),
        stripped_prefix: checkpoint.stripped_prefix(),
        metadata: checkpoint.metadata(),
    };
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

impl<'a> TensorReport<'a> {
    fn new(info: &'a TensorInfo) -> Self {
        TensorReport { name: &info.name, shape: &info.shape, dtype: info.dtype.name() }
    }
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "format      {}", self.format)?;
        match (&self.arch, &self.arch_unknown) {
            (Some(arch), _) => writeln!(out, "arch        {arch}")?,
            (None, reason) => {
                writeln!(out, "arch        unknown: {}", reason.as_deref().unwrap_or_default())?;
            }
        }
        writeln!(out, "parameters  {}", text::grouped(self.parameters))?;
        writeln!(out, "file        {} bytes", text::grouped(self.bytes))?;
        if !self.stripped_prefix.is_empty() {
            writeln!(
                out,
                "names       without their prefix {}",
                text::printable(self.stripped_prefix)
            )?;
        }
        for (key, value) in self.metadata {
            writeln!(out, "metadata    {}: {}", text::printable(key), text::printable(value))?;
        }
        let mut table =
            Table::new([("tensor", Align::Left), ("dtype", Align::Left), ("shape", Align::Left)]);
        for tensor in &self.tensors {
            let name = text::printable(tensor.name);
            table.push([name, tensor.dtype.to_owned(), text::shape(tensor.shape)]);
        }
        writeln!(out)?;
        table.write(out, "")
    }
}
