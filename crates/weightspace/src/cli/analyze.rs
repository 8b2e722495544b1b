//! `weightspace analyze`: what compression did to a network.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use weightspace::analyze::{self, LayerSpectrum, Sample, Versions};
use weightspace::report::{Axis, Chart, Level, Scale, Series, Unit};
use weightspace_core::{AtomicFile, StateDict};
use weightspace_nn::Net;

use super::images::Images;
use super::model::{ArchArgs, Model};
use super::progress::Bar;
use super::setup::Setup;
use super::table::{Align, Table};
use super::{Global, Outcome, text};

/// Say what became of a network: singular values, the line between two versions, errors of weights
#[derive(Args)]
pub struct Analyze {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Per layer: share of the larger half of the squared singular values, and distance of the weights
    Spectral(Spectral),
    /// Loss and accuracy on the straight line from A to B, and a little beyond
    Interpolate(Interpolate),
    /// Error of the weights against accuracy, of several files made from one network
    Error(Errors),
}

/// Where results go besides.
#[derive(Args)]
struct Written {
    /// Folder for the table (CSV) and the picture (SVG); files in it are replaced
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct Spectral {
    /// Checkpoint or .wsp file
    a: PathBuf,
    /// Checkpoint or .wsp file of the same network
    b: PathBuf,
    #[command(flatten)]
    arch: ArchArgs,
    #[command(flatten)]
    written: Written,
}

#[derive(Args)]
struct Interpolate {
    /// Checkpoint or .wsp file
    a: PathBuf,
    /// Checkpoint or .wsp file of the same network
    b: PathBuf,
    #[command(flatten)]
    images: Images,
    /// Places on the line, its ends among them
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(2..=1001))]
    steps: u16,
    /// How far the line goes beyond its ends, in its length
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    beyond: f64,
    #[command(flatten)]
    written: Written,
}

#[derive(Args)]
struct Errors {
    /// Checkpoint
    original: PathBuf,
    /// Files of the same network
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    written: Written,
}

/// Runs the command.
pub fn run(arguments: &Analyze, global: &Global) -> anyhow::Result<Outcome> {
    match &arguments.what {
        What::Spectral(arguments) => spectral(arguments, global)?,
        What::Interpolate(arguments) => interpolate(arguments, global)?,
        What::Error(arguments) => error(arguments, global)?,
    }
    Ok(Outcome::Done)
}

/// Versions of one network in one form: the first decides what the network is.
fn versions(models: &[&Model], net: Option<&Net>, global: &Global) -> anyhow::Result<Versions> {
    let dicts =
        models.iter().map(|model| model.state_dict()).collect::<anyhow::Result<Vec<_>>>()?;
    let versions = Versions::new(net, &dicts).with_context(|| {
        let names = models.iter().map(|model| model.path().display().to_string());
        names.collect::<Vec<_>>().join(", ")
    })?;
    if versions.folded {
        global.explain("batch normalisations are folded in one version: folded in all");
    }
    Ok(versions)
}

impl Setup {
    fn sample(
        &self,
        weights: &StateDict,
        position: f64,
        chosen: Option<&[usize]>,
    ) -> anyhow::Result<Sample> {
        let images = (&self.dataset, chosen);
        Ok(analyze::evaluate(&self.net, weights, position, images, &self.preprocessing)?)
    }
}

impl Written {
    /// Writes NAME.csv and NAME.svg, if a folder is named.
    fn write(&self, name: &str, rows: &[impl Serialize], chart: &Chart) -> anyhow::Result<()> {
        let Some(folder) = &self.output else { return Ok(()) };
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut table = csv::Writer::from_writer(Vec::new());
        rows.iter().try_for_each(|row| table.serialize(row))?;
        write(&folder.join(name).with_extension("csv"), &table.into_inner()?)?;
        write(&folder.join(name).with_extension("svg"), chart.to_svg_file()?.as_bytes())
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    AtomicFile::write_bytes(path, bytes).with_context(|| path.display().to_string())
}

/// One line of the table of [`spectral`].
#[derive(Serialize)]
struct LayerRow<'a> {
    layer: &'a str,
    rows: usize,
    columns: usize,
    ratio_a: f64,
    ratio_b: f64,
    change: f64,
    distance: f64,
    relative_distance: Option<f64>,
}

fn spectral(arguments: &Spectral, global: &Global) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        folded: bool,
        layers: &'a [LayerSpectrum],
    }
    let (a, b) = (Model::open(&arguments.a)?, Model::open(&arguments.b)?);
    let net = a.net_if_known(&arguments.arch.arch, global)?;
    let Versions { weights, folded } = versions(&[&a, &b], net.as_ref(), global)?;
    let layers = analyze::spectral(&weights[0], &weights[1])?;
    let rows: Vec<_> = layers.iter().map(LayerRow::new).collect();
    let curve = |name: &str, of: fn(&LayerSpectrum) -> f64| Series {
        name: name.to_owned(),
        points: (1..).map(f64::from).zip(layers.iter().map(of)).collect(),
    };
    let chart = Chart {
        name: "Share of the larger half of the singular values, layer by layer".into(),
        x: Axis { label: "layer".into(), ..Axis::default() },
        y: Axis { label: "S ratio".into(), unit: Unit::Percent, ..Axis::default() },
        series: vec![curve("A", |l| l.ratio_a), curve("B", |l| l.ratio_b)],
        ..Chart::default()
    };
    arguments.written.write("spectral", &rows, &chart)?;
    global.print(&Report { folded, layers: &layers }, |out| {
        say_folded(folded, out)?;
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            ("layer", Align::Left),
            ("shape", Align::Left),
            right("S ratio of A"),
            right("of B"),
            right("change"),
            right("|dW|"),
            right("of |W|"),
        ]);
        for layer in &layers {
            let relative = layer.relative_distance.map(|share| format!("{share:.4}"));
            table.push([
                text::printable(&layer.name),
                text::shape(&layer.shape),
                format!("{:.4}", layer.ratio_a),
                format!("{:.4}", layer.ratio_b),
                format!("{:+.4}", layer.change),
                format!("{:.4}", layer.distance),
                relative.unwrap_or_else(|| "-".into()),
            ]);
        }
        table.write(out, "")
    })
}

impl<'a> LayerRow<'a> {
    fn new(layer: &'a LayerSpectrum) -> Self {
        let [rows, columns] = layer.shape;
        LayerRow {
            layer: &layer.name,
            rows,
            columns,
            ratio_a: layer.ratio_a,
            ratio_b: layer.ratio_b,
            change: layer.change,
            distance: layer.distance,
            relative_distance: layer.relative_distance,
        }
    }
}

fn say_folded(folded: bool, out: &mut dyn Write) -> io::Result<()> {
    match folded {
        true => writeln!(out, "batch normalisations folded into the weights of all versions\n"),
        false => Ok(()),
    }
}

fn interpolate(arguments: &Interpolate, global: &Global) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        folded: bool,
        images: usize,
        samples: &'a [Sample],
    }
    let beyond = arguments.beyond;
    ensure!((0.0..=100.0).contains(&beyond), "--beyond: {beyond} is not from 0 to 100");
    let (a, b) = (Model::open(&arguments.a)?, Model::open(&arguments.b)?);
    let (setup, chosen) = arguments.images.open(&a, global)?;
    let Versions { weights, folded } = versions(&[&a, &b], Some(&setup.net), global)?;
    let bar = Bar::new(global);
    let count = usize::from(arguments.steps);
    let mut samples = Vec::with_capacity(count);
    for step in 0..count {
        let share = step as f64 / (count - 1) as f64;
        let position = share * (1.0 + 2.0 * beyond) - beyond;
        let mixed = analyze::between(&weights[0], &weights[1], position);
        samples.push(setup.sample(&mixed, position, chosen.as_deref())?);
        bar.report("places", step + 1, count);
    }
    drop(bar);
    let curve = |of: fn(&Sample) -> f64, name: &str| Series {
        name: name.to_owned(),
        points: samples.iter().map(|sample| (sample.position, of(sample))).collect(),
    };
    let axis = |label: &str, unit| Axis { label: label.into(), unit, ..Axis::default() };
    let chart = |y: Axis, series: Series| Chart {
        name: "From A to B on a straight line".into(),
        x: axis("share of B", Unit::Number),
        y,
        series: vec![series],
        ..Chart::default()
    };
    let accuracy = chart(axis("accuracy", Unit::Percent), curve(|s| s.accuracy, "accuracy"));
    arguments.written.write("interpolate", &samples, &accuracy)?;
    let loss = chart(axis("mean cross-entropy", Unit::Number), curve(|s| s.loss, "loss"));
    arguments.written.write("interpolate-loss", &samples, &loss)?;
    let images = chosen.map_or(setup.dataset.len(), |chosen| chosen.len());
    global.print(&Report { folded, images, samples: &samples }, |out| {
        say_folded(folded, out)?;
        let right = |title| (title, Align::Right);
        let mut table = Table::new([right("share of B"), right("loss"), right("accuracy")]);
        for Sample { position, loss, accuracy } in &samples {
            let percent = format!("{:.2} %", 100.0 * accuracy);
            table.push([format!("{position:.3}"), format!("{loss:.4}"), percent]);
        }
        table.write(out, "")?;
        writeln!(out, "\non {} images", text::grouped(images as u64))
    })
}

/// One file of [`error`].
#[derive(Serialize)]
struct ErrorRow {
    file: String,
    bytes: u64,
    rmse: f64,
    loss: f64,
    accuracy: f64,
}

fn error(arguments: &Errors, global: &Global) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        folded: bool,
        weights: usize,
        original: &'a Sample,
        files: &'a [ErrorRow],
    }
    let original = Model::open(&arguments.original)?;
    let (setup, chosen) = arguments.images.open(&original, global)?;
    let models = arguments.files.iter().map(|path| Model::open(path));
    let models = models.collect::<anyhow::Result<Vec<_>>>()?;
    let all: Vec<&Model> = std::iter::once(&original).chain(&models).collect();
    let Versions { weights, folded } = versions(&all, Some(&setup.net), global)?;
    let (first, others) = weights.split_first().context("no versions")?;
    let before = setup.sample(first, 0.0, chosen.as_deref())?;
    let bar = Bar::new(global);
    let mut rows = Vec::new();
    for (model, weights) in models.iter().zip(others) {
        let Sample { loss, accuracy, .. } = setup.sample(weights, 1.0, chosen.as_deref())?;
        let file = model.path().display().to_string();
        let bytes = model.file_bytes()?;
        rows.push(ErrorRow { file, bytes, rmse: analyze::rmse(first, weights), loss, accuracy });
        bar.report("files", rows.len(), models.len());
    }
    drop(bar);
    let mut points: Vec<_> = rows.iter().map(|row| (row.rmse, row.accuracy)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let chart = Chart {
        name: "Accuracy against the error of the weights".into(),
        x: Axis {
            label: "root mean square error of the weights".into(),
            scale: Scale::Logarithmic,
            unit: Unit::Number,
        },
        y: Axis { label: "accuracy".into(), unit: Unit::Percent, ..Axis::default() },
        series: vec![Series { name: "files".into(), points }],
        levels: vec![Level { name: "original".into(), y: before.accuracy }],
        ..Chart::default()
    };
    arguments.written.write("error", &rows, &chart)?;
    let count = analyze::weights(first);
    let report = Report { folded, weights: count, original: &before, files: &rows };
    global.print(&report, |out| {
        say_folded(folded, out)?;
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            ("file", Align::Left),
            right("bytes"),
            right("RMSE"),
            right("loss"),
            right("accuracy"),
        ]);
        let percent = |fraction: f64| format!("{:.2} %", 100.0 * fraction);
        let loss = format!("{:.4}", before.loss);
        let bytes = text::grouped(original.file_bytes().unwrap_or_default());
        table.push(["original".into(), bytes, "0".into(), loss, percent(before.accuracy)]);
        for row in &rows {
            table.push([
                text::printable(&row.file),
                text::grouped(row.bytes),
                format!("{:.6}", row.rmse),
                format!("{:.4}", row.loss),
                percent(row.accuracy),
            ]);
        }
        table.write(out, "")?;
        writeln!(out, "\nRMSE over {} weights of layers", text::grouped(count as u64))
    })
}
