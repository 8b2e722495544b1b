//! `demo --full`: a population of networks, an autoencoder of their weights, and what that knows and makes.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use weightspace::report::{Chart, Column, Part, Section, Table};
use weightspace::sane::embedding::embed_all;
use weightspace::sane::pretraining::Samples;
use weightspace::sane::probe::ProbeRow;
use weightspace::sane::{Halo, SaneModel, map};
use weightspace::zoo::Population as Zoo;

use super::results::percent;
use crate::cli::command_line::parse;
use crate::cli::sane::sample::Known;
use crate::cli::sane::{SaneCommand, pretrain, probe, sample};
use crate::cli::table::{self, Align};
use crate::cli::zoo::{self, ZooCommand};
use crate::cli::{Command, Global};

const ZOO: &str = "zoo train --preset digits";
const PRETRAIN: &str = "sane pretrain --preset tiny";
const PROBE: &str = "sane probe";

/// How networks are sampled; every one has a folder of that name.
const SAMPLINGS: [(&str, &str); 4] = [
    ("kde", "--method kde --noise joint"),
    ("subsample", "--method subsample --noise joint"),
    ("subsample-token", "--method subsample --noise token"),
    ("bootstrap", "--method bootstrap --noise joint"),
];

/// What became of a population.
#[derive(Serialize)]
pub struct Population {
    /// Networks that were trained.
    pub models: usize,
    /// Mean squared error of validation windows, in units of the variance of a layer's weights.
    pub reconstruction_error: f64,
    /// What is predicted from embeddings, weights and statistics.
    pub probes: Vec<ProbeRow>,
    /// New networks.
    pub samplings: Vec<Sampling>,
    /// Time of all of it.
    pub seconds: f64,
    /// Where embeddings lie.
    #[serde(skip)]
    charts: Vec<Chart>,
}

/// Networks that were sampled in one way.
#[derive(Serialize)]
pub struct Sampling {
    /// Folder of the networks.
    pub folder: String,
    /// The other options of `sane sample`.
    pub settings: &'static str,
    /// Networks.
    pub count: usize,
    /// Mean accuracy of the prompts on test images.
    pub prompts: f64,
    /// Mean accuracy of the networks on test images.
    pub mean: f64,
    /// The highest of these.
    pub best: f64,
    /// That of the mean of their logits.
    pub ensemble: f64,
}

/// Trains a zoo and an autoencoder in the folder, and looks at what these tell.
pub fn make(folder: &Path, global: &Global) -> anyhow::Result<Population> {
    let start = Instant::now();
    let (zoo_path, model) = (folder.join("digits.zoo"), folder.join("sane"));
    let seed = global.seed();
    global.explain(format_args!("{ZOO}"));
    let Command::Zoo(command) = parse(&format!("{ZOO} --force -o"), &[&zoo_path])? else {
        unreachable!()
    };
    let ZooCommand::Train(train) = &command.command else { unreachable!() };
    let trained = zoo::train::make(train, global)?;
    global.explain(format_args!("{PRETRAIN}"));
    let line = format!("{PRETRAIN} --seed {seed} --force -o");
    let SaneCommand::Pretrain(command) = sane(&line, &[&model, &zoo_path])? else { unreachable!() };
    let learnt = pretrain::make(&command, global)?;
    let SaneCommand::Probe(command) = sane(PROBE, &[&model, &zoo_path])? else { unreachable!() };
    let probes = probe::find(&command, global)?.probes;
    let samplings = SAMPLINGS.into_iter().map(|(name, settings)| {
        global.explain(format_args!("sane sample {settings}"));
        sampling((name, settings), folder, [&model, &zoo_path], global)
    });
    Ok(Population {
        models: trained.models,
        reconstruction_error: learnt.metrics.loss.unwrap_or_default(),
        probes,
        samplings: samplings.collect::<anyhow::Result<_>>()?,
        charts: charts(&model, &zoo_path)?,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn sane(line: &str, paths: &[&Path]) -> anyhow::Result<SaneCommand> {
    let Command::Sane(command) = parse(line, paths)? else { unreachable!() };
    Ok(command.command)
}

fn sampling(
    (name, settings): (&str, &'static str),
    folder: &Path,
    [model, zoo]: [&Path; 2],
    global: &Global,
) -> anyhow::Result<Sampling> {
    let output = folder.join(name);
    let line = format!("sane sample {settings} --force -o");
    let SaneCommand::Sample(command) = sane(&line, &[&output, model, zoo])? else { unreachable!() };
    let report = sample::make(&command, global)?;
    let accuracies = |known: &[Known]| -> Vec<f64> {
        known.iter().filter_map(|network| network.test_accuracy).collect()
    };
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len().max(1) as f64;
    let samples = accuracies(&report.samples);
    Ok(Sampling {
        folder: name.to_owned(),
        settings,
        count: samples.len(),
        prompts: mean(&accuracies(&report.prompts)),
        mean: mean(&samples),
        best: samples.iter().copied().fold(0.0, f64::max),
        ensemble: report.ensemble_test_accuracy.unwrap_or_default(),
    })
}

fn charts(model: &Path, zoo: &Path) -> anyhow::Result<Vec<Chart>> {
    let model = SaneModel::read(model)?;
    let halo = Halo::of_window(model.autoencoder.config().window);
    let mut rows = Vec::new();
    embed_all(&model, Samples::new(Zoo::open(zoo)?, |_| true)?, halo, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(map::charts(&rows).into_iter().map(|(_, chart)| chart).collect())
}

impl Sampling {
    /// Settings, networks, prompts, mean, best and ensemble.
    fn cells(&self) -> [String; 6] {
        let [prompts, mean, best, ensemble] =
            [self.prompts, self.mean, self.best, self.ensemble].map(percent);
        [self.settings.to_owned(), self.count.to_string(), prompts, mean, best, ensemble]
    }
}

impl Population {
    /// Writes for people what samples are worth.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{} networks, and new ones made of their embeddings:\n", self.models)?;
        let right = |title| (title, Align::Right);
        let mut table = table::Table::new([
            ("sampled with", Align::Left),
            right("networks"),
            right("prompts"),
            right("mean"),
            right("best"),
            right("all together"),
        ]);
        self.samplings.iter().for_each(|sampling| table.push(sampling.cells()));
        table.write(out, "")
    }

    /// What the page shows of it.
    pub fn sections(&self) -> Vec<Section> {
        vec![self.embeddings(), self.probed(), self.sampled()]
    }

    fn embeddings(&self) -> Section {
        Section {
            title: "A population of networks".into(),
            text: format!(
                "{} networks were trained (\"weightspace {ZOO} -o digits.zoo\"), and an autoencoder learnt windows of their \
                 weights (\"weightspace {PRETRAIN} digits.zoo -o sane\"); of those that it has not seen, its \
                 reconstruction leaves {:.3} of the variance. Every point is a network at an epoch of its training.",
                self.models, self.reconstruction_error,
            ),
            parts: self.charts.iter().cloned().map(Part::Chart).collect(),
        }
    }

    fn probed(&self) -> Section {
        let rows = self.probes.iter().map(|row| {
            vec![
                row.target.replace('_', " "),
                if row.score == "accuracy" { "accuracy" } else { "R²" }.to_owned(),
                row.features.name().to_owned(),
                row.dimension.to_string(),
                format!("{:.3}", row.test),
            ]
        });
        Section {
            title: "What weights tell".into(),
            text: format!(
                "Linear probes on networks that nothing was fitted to (\"weightspace {PROBE} sane digits.zoo\")."
            ),
            parts: vec![Part::Table(Table {
                columns: vec![
                    Column::text("property"),
                    Column::text("score"),
                    Column::text("seen"),
                    Column::number("numbers"),
                    Column::number("on test networks"),
                ],
                rows: rows.collect(),
            })],
        }
    }

    fn sampled(&self) -> Section {
        let rows = self.samplings.iter().map(|sampling| {
            [sampling.folder.clone()].into_iter().chain(sampling.cells()).collect()
        });
        Section {
            title: "New networks".into(),
            text: "Networks that the decoder makes of embeddings near those of the best models (\"weightspace sane \
                   sample sane digits.zoo SETTINGS -o FOLDER\"), without a step of training. Accuracies are those on \
                   test images."
                .into(),
            parts: vec![Part::Table(Table {
                columns: vec![
                    Column::text("folder"),
                    Column::text("settings"),
                    Column::number("networks"),
                    Column::number("prompts"),
                    Column::number("mean"),
                    Column::number("best"),
                    Column::number("all together"),
                ],
                rows: rows.collect(),
            })],
        }
    }
}
