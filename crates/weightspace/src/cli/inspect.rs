//! `weightspace inspect`: what is in a file, without reading its tensors.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weightspace_core::TensorInfo;
use weightspace_core::basis::Start;
use weightspace_core::container::{Projected, ProjectionKey, Section, WspFile};

use super::model::{ArchChoice, Model, Source};
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
    #[serde(flatten)]
    details: Details<'a>,
    tensors: Vec<TensorReport<'a>>,
}

/// What only one kind of file has.
#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    Checkpoint {
        /// What was taken from the front of every name.
        stripped_prefix: &'a str,
        metadata: &'a BTreeMap<String, String>,
        /// What has tensors, too, but is no part of the weights.
        left_out: &'a [String],
    },
    Wsp {
        method: &'static str,
        data: &'a str,
        preprocessing: &'a str,
        /// Of the model that the file was made from.
        source_hash: String,
        source_bytes: u64,
        source_parameters: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        projection: Option<ProjectionReport>,
        sections: Vec<SectionReport>,
    },
}

/// How coefficients stand for weights.
#[derive(Serialize)]
struct ProjectionReport {
    basis: &'static str,
    start: &'static str,
    /// `null` if the key is not a seed.
    seed: Option<u64>,
    /// False if the key is not in the file.
    has_key: bool,
    /// Content hash of the model that decoding needs.
    base_hash: Option<String>,
    coefficients: usize,
    segments: usize,
    step: f32,
    planes: usize,
}

#[derive(Serialize)]
struct SectionReport {
    kind: &'static str,
    bytes: usize,
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
    let net = model.net(&ArchChoice::Auto);
    let report = Report {
        format: model.format(),
        arch: net.as_ref().ok().map(|net| net.arch().to_owned()),
        arch_unknown: net
            .as_ref()
            .err()
            .map(|reason| text::printable(&reason.root_cause().to_string())),
        parameters: model.parameter_count(net.as_ref().ok()),
        bytes: model.file_bytes()?,
        details: Details::of(model.source()),
        tensors: model.tensors().iter().map(TensorReport::new).collect(),
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
        self.details.write(out)?;
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

impl<'a> Details<'a> {
    fn of(source: &'a Source) -> Self {
        match source {
            Source::Checkpoint(checkpoint) => Details::Checkpoint {
                stripped_prefix: checkpoint.stripped_prefix(),
                metadata: checkpoint.metadata(),
                left_out: checkpoint.left_out(),
            },
            Source::Wsp(file) => {
                let header = file.header();
                let section = |section: &Section| SectionReport {
                    kind: section.kind.name(),
                    bytes: section.range.len(),
                };
                Details::Wsp {
                    method: header.method.name(),
                    data: &header.data,
                    preprocessing: &header.preprocessing,
                    source_hash: text::hexadecimal(&header.source_hash),
                    source_bytes: header.source_bytes,
                    source_parameters: header.source_parameters,
                    projection: file.projection().map(|own| ProjectionReport::new(file, own)),
                    sections: file.sections().iter().map(section).collect(),
                }
            }
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |key: &str, value: &str| match value.is_empty() {
            true => Ok(()),
            false => writeln!(out, "{key:<12}{}", text::printable(value)),
        };
        match self {
            Details::Checkpoint { stripped_prefix, metadata, left_out } => {
                line("prefix", stripped_prefix)?;
                line("left out", &left_out.join(", "))?;
                metadata.iter().try_for_each(|(k, v)| line("metadata", &format!("{k}: {v}")))
            }
            Details::Wsp {
                method,
                data,
                preprocessing,
                source_bytes,
                projection,
                sections,
                ..
            } => {
                line("method", method)?;
                line("data", data)?;
                line("images", preprocessing)?;
                line("original", &format!("{} bytes", text::grouped(*source_bytes)))?;
                if let Some(projection) = projection {
                    line("projection", &projection.text())?;
                    line("base", projection.base_hash.as_deref().unwrap_or_default())?;
                }
                let sizes = sections.iter().map(|s| format!("{} {}", s.kind, s.bytes));
                line("sections", &sizes.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl ProjectionReport {
    fn new(file: &WspFile, projected: &Projected) -> Self {
        ProjectionReport {
            basis: projected.basis.name(),
            start: match projected.start {
                Start::Zero => "zero",
                Start::Drawn => "drawn",
                Start::Base => "base",
                _ => "other",
            },
            seed: match projected.key {
                ProjectionKey::Seed(seed) => Some(seed),
                _ => None,
            },
            has_key: projected.key != ProjectionKey::Withheld,
            // As much of it as other commands show.
            base_hash: projected.base_hash.map(|hash| text::hexadecimal(&hash[..16])),
            coefficients: projected.coefficient_count(),
            segments: projected.segments.len(),
            step: projected.step,
            planes: file.whole_planes(),
        }
    }

    fn text(&self) -> String {
        let ProjectionReport { basis, start, segments, step, planes, .. } = self;
        let key = match (self.seed, self.has_key) {
            (Some(seed), _) => format!("seed {seed}"),
            (None, true) => "key in the file".to_owned(),
            (None, false) => "key not in the file".to_owned(),
        };
        let coefficients = text::grouped(self.coefficients as u64);
        let parts = if *segments == 1 { String::new() } else { format!(" in {segments} parts") };
        format!(
            "{basis}, {coefficients} coefficients{parts}, {planes} planes, step {step:e}, start {start}, {key}"
        )
    }
}
