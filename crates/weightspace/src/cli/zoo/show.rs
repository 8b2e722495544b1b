//! `weightspace zoo show`: one model of a zoo.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use weightspace::zoo::{EpochMetrics, Params, stated};
use weightspace_core::TensorInfo;
use weightspace_core::checkpoint::write_safetensors;

use super::super::table::{Align, Table};
use super::super::{Global, output, text};

/// Show a model of a zoo: parameters, metrics, tensors; or save its weights
#[derive(Args)]
pub struct Show {
    /// Packed file, or folder of models or checkpoints
    zoo: PathBuf,
    /// Name of the model, a part of it that no other has, or its position
    model: String,
    /// Write the weights as a safetensors file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    /// Epoch of the weights to write [default: the last]
    #[arg(long, value_name = "N", requires = "output")]
    epoch: Option<u32>,
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    position: usize,
    arch: Option<String>,
    params: &'a Params,
    epochs: Vec<Epoch>,
    tensors: Vec<Tensor>,
}

/// Metrics as JSON has them: what is unknown is null.
#[derive(Serialize)]
struct Epoch {
    epoch: u32,
    train_loss: f32,
    train_accuracy: f32,
    validation_loss: f32,
    validation_accuracy: f32,
    test_loss: f32,
    test_accuracy: f32,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: &'static str,
}

pub fn run(arguments: &Show, global: &Global) -> anyhow::Result<()> {
    if let Some(path) = &arguments.output {
        output::check(path, arguments.force, &[&arguments.zoo])?;
    }
    let population = super::open(&arguments.zoo, global)?;
    let index = population.find(&arguments.model)?;
    let model = population.model(index)?;
    let tensors = match model.epochs.first() {
        Some(&epoch) => population.tensors(index, epoch)?,
        None => Vec::new(),
    };
    let arch = stated::arch_of(&model.params, &tensors);
    if let Some(path) = &arguments.output {
        let epoch = arguments.epoch.or(model.epochs.last().copied());
        let name = text::printable(&model.name);
        ensure!(
            epoch.is_some_and(|epoch| model.epochs.contains(&epoch)),
            "{}: {name} has no such epoch, but {:?}",
            arguments.zoo.display(),
            model.epochs
        );
        let weights = population.weights(index, epoch.unwrap_or(0))?;
        write_safetensors(path, &weights, &stated::metadata(&model.params, &tensors))?;
    }
    let report = Report {
        name: &model.name,
        position: index,
        arch,
        params: &model.params,
        epochs: model.metrics.iter().map(Epoch::new).collect(),
        tensors: tensors.into_iter().map(Tensor::new).collect(),
    };
    global.print(&report, |out| report.write(out))
}

impl Epoch {
    fn new(m: &EpochMetrics) -> Self {
        Epoch {
            epoch: m.epoch,
            train_loss: m.train_loss,
            train_accuracy: m.train_accuracy,
            validation_loss: m.validation_loss,
            validation_accuracy: m.validation_accuracy,
            test_loss: m.test_loss,
            test_accuracy: m.test_accuracy,
        }
    }
}

impl Tensor {
    fn new(TensorInfo { name, dtype, shape }: TensorInfo) -> Self {
        Tensor { name, shape, dtype: dtype.name() }
    }
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}, model {}", text::printable(self.name), self.position)?;
        if let Some(arch) = &self.arch {
            writeln!(out, "architecture {}", text::printable(arch))?;
        }
        writeln!(out)?;
        let mut table = Table::new([("parameter", Align::Left), ("value", Align::Left)]);
        for (key, value) in self.params {
            let value = match value {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            table.push([text::printable(key), text::printable(&value)]);
        }
        table.write(out, "")?;
        writeln!(out)?;
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            right("epoch"),
            right("train loss"),
            right("accuracy"),
            right("validation loss"),
            right("accuracy"),
            right("test loss"),
            right("accuracy"),
        ]);
        for e in &self.epochs {
            table.push([
                e.epoch.to_string(),
                loss(e.train_loss),
                percent(e.train_accuracy),
                loss(e.validation_loss),
                percent(e.validation_accuracy),
                loss(e.test_loss),
                percent(e.test_accuracy),
            ]);
        }
        table.write(out, "")?;
        writeln!(out)?;
        let mut table =
            Table::new([("tensor", Align::Left), right("shape"), ("type", Align::Left)]);
        for Tensor { name, shape, dtype } in &self.tensors {
            table.push([text::printable(name), text::shape(shape), (*dtype).to_owned()]);
        }
        table.write(out, "")
    }
}

fn loss(value: f32) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") }
}

fn percent(value: f32) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{:.2} %", 100.0 * value) }
}
