//! `weightspace sane neighbours`: which models are like another.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use weightspace::sane::SaneModel;
use weightspace::sane::embedding::{Embedded, distance, embed_all, embed_one};
use weightspace::sane::pretraining::Samples;
use weightspace::zoo::{Population, epochs};
use weightspace_core::StateDict;

use super::embed::{HaloArgs, say_left_out};
use crate::cli::model::Model;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, Outcome};

/// Find the models of a zoo whose embeddings are nearest to that of a network
#[derive(Args)]
pub struct Neighbours {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Packed zoo, or folder of models
    zoo: PathBuf,
    /// Checkpoint or .wsp file, or with --epoch a model of the zoo: its name, position, or a part of its name
    network: String,
    /// Epoch of the zoo's model to look for
    #[arg(long, value_name = "E")]
    epoch: Option<u32>,
    /// Epochs of the models to look at [default: all]
    #[arg(long, value_name = "E,..", value_delimiter = ',')]
    epochs: Vec<u32>,
    /// How many to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[command(flatten)]
    halo: HaloArgs,
}

#[derive(Serialize)]
struct Neighbour {
    model: String,
    epoch: u32,
    /// Of the mean embeddings.
    distance: f64,
    test_accuracy: Option<f32>,
}

#[derive(Serialize)]
struct Report {
    neighbours: Vec<Neighbour>,
}

fn open_file(path: &str, zoo: &Population) -> anyhow::Result<StateDict> {
    if !Path::new(path).exists() && zoo.find(path).is_ok() {
        bail!("{path}: is no file, but a model of {}: --epoch says which", zoo.path().display());
    }
    Model::open(path.as_ref())?.state_dict()
}

pub fn run(arguments: &Neighbours, global: &Global) -> anyhow::Result<Outcome> {
    let model = SaneModel::read(&arguments.model)?;
    let zoo = Population::open(&arguments.zoo)?;
    epochs::check(&zoo, &arguments.epochs)?;
    let halo = arguments.halo.of(&model);
    let wanted = |epoch| arguments.epochs.is_empty() || arguments.epochs.contains(&epoch);
    let known = match arguments.epoch {
        Some(epoch) => {
            let index = zoo.find(&arguments.network)?;
            // Says so if there is no such epoch.
            zoo.tensors(index, epoch)?;
            Some((zoo.name(index).to_owned(), epoch))
        }
        None => None,
    };
    let file = match &known {
        Some(_) => None,
        None => Some(open_file(&arguments.network, &zoo)?),
    };
    let (zoo, left_out) = zoo.without_nan()?;
    say_left_out(&left_out, global);
    let samples = Samples::new(zoo, |epoch| wanted(epoch) || arguments.epoch == Some(epoch))?;
    let named = || arguments.network.clone();
    let own = file.map(|tensors| embed_one(&model, tensors, Some(&samples), halo));
    let mut own = own.transpose().with_context(named)?.map(|embedding| embedding.mean);
    let mut rows = Vec::new();
    let take = |row: Embedded| {
        // A model of the zoo stands where it stands among all others.
        if known.as_ref().is_some_and(|(name, epoch)| *name == row.model && *epoch == row.epoch) {
            own = Some(row.embedding.mean.clone());
        }
        if wanted(row.epoch) {
            rows.push((row.model, row.epoch, row.test_accuracy, row.embedding.mean));
        }
        Ok(())
    };
    let shown = || arguments.zoo.display().to_string();
    embed_all(&model, samples, halo, take).with_context(shown)?;
    let own = own.context("its weights are not finite").with_context(named)?;
    let neighbour = |(model, epoch, test_accuracy, mean): (_, _, _, Vec<f64>)| Neighbour {
        distance: distance(&own, &mean),
        model,
        epoch,
        test_accuracy,
    };
    let mut neighbours: Vec<Neighbour> = rows.into_iter().map(neighbour).collect();
    neighbours.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    neighbours.truncate(arguments.count as usize);
    let report = Report { neighbours };
    global.print(&report, |out| {
        let right = |title| (title, Align::Right);
        let header =
            [right("distance"), right("epoch"), right("test accuracy"), ("model", Align::Left)];
        let mut table = Table::new(header);
        for row in &report.neighbours {
            let accuracy = row.test_accuracy;
            table.push([
                format!("{:.4}", row.distance),
                row.epoch.to_string(),
                accuracy.map_or(String::new(), |accuracy| format!("{:.2} %", 100.0 * accuracy)),
                row.model.clone(),
            ]);
        }
        table.write(out, "")
    })?;
    Ok(Outcome::Done)
}
