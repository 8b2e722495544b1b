//! `weightspace sane embed`: networks as vectors.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use weightspace::sane::embedding::{Embedded, embed_all, embed_one};
use weightspace::sane::pretraining::Samples;
use weightspace::sane::table::{self, Format};
use weightspace::sane::{Halo, SaneError, SaneModel, TokenLayout, map};
use weightspace::zoo::names::matched;
use weightspace::zoo::{Population, epochs};
use weightspace_core::{AtomicFile, TensorInfo};

use crate::cli::model::Model;
use crate::cli::output::{self, OutputArgs};
use crate::cli::{Global, Outcome, text};

/// Write the embeddings of networks: of all models of a zoo, or of single checkpoints
///
/// A row has the mean over all tokens of a network, and of every layer how far its tokens spread. Networks may be of any length, and
/// of other architectures than those that were learnt where positions are not learned.
#[derive(Args)]
pub struct Embed {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Packed zoos or folders of models, or checkpoints and .wsp files
    #[arg(required = true)]
    networks: Vec<PathBuf>,
    // Its name ends in .csv, .parquet or .npz.
    #[command(flatten)]
    output: OutputArgs,
    /// Epochs of a zoo's models [default: all]
    #[arg(long, value_name = "E,..", value_delimiter = ',')]
    epochs: Vec<u32>,
    /// The embeddings of all tokens, too; only .npz holds them
    #[arg(long)]
    full: bool,
    /// Folder for pictures of the embeddings on their first two principal components (SVG, PNG)
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    halo: HaloArgs,
}

/// How long networks are seen.
#[derive(Args)]
pub struct HaloArgs {
    /// Tokens of a snippet that count [default: half the training window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    content: Option<u32>,
    /// Tokens on both sides that are only seen [default: a quarter of it]
    #[arg(long, value_name = "N")]
    context: Option<u32>,
}

impl HaloArgs {
    /// What was asked for, or what suits the autoencoder.
    pub fn of(&self, model: &SaneModel) -> Halo {
        let halo = Halo::of_window(model.autoencoder.config().window);
        Halo {
            content: self.content.map_or(halo.content, |n| n as usize),
            context: self.context.map_or(halo.context, |n| n as usize),
        }
    }
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    networks: usize,
    latent: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pictures: Vec<PathBuf>,
}

pub fn run(arguments: &Embed, global: &Global) -> anyhow::Result<Outcome> {
    let OutputArgs { output, force } = &arguments.output;
    let Some(format) = Format::of(output) else {
        bail!("{}: the name should end in .csv, .parquet or .npz", output.display());
    };
    if arguments.full && format != Format::Npz {
        bail!("{}: --full needs a name that ends in .npz", output.display());
    }
    output::check(output, *force, &arguments.networks)?;
    let model = SaneModel::read(&arguments.model)?;
    let (mut rows, layers) = embed(&model, arguments, global)?;
    let charts = if arguments.pictures.is_some() { map::charts(&rows) } else { Vec::new() };
    if !arguments.full {
        rows.iter_mut().for_each(|row| row.embedding.values.clear());
    }
    table::write(output, format, &rows, &layers)?;
    let mut pictures = Vec::new();
    if let Some(folder) = &arguments.pictures {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, chart) in charts {
            let path = folder.join(format!("{name}.svg"));
            write(&path, chart.to_svg_file()?.as_bytes())?;
            write(&path.with_extension("png"), &chart.to_png()?)?;
            pictures.push(path);
        }
    }
    let latent = model.autoencoder.config().latent;
    let report = Report { output: output.clone(), networks: rows.len(), latent, pictures };
    global.print(&report, |out| {
        let count = text::grouped(report.networks as u64);
        let shown = text::printable(&output.display().to_string());
        writeln!(out, "{shown}: {count} networks, {latent} numbers each")?;
        report.pictures.iter().try_for_each(|path| writeln!(out, "{}", path.display()))
    })?;
    Ok(Outcome::Done)
}

/// Embeddings, and the names of the layers that these have.
fn embed(
    model: &SaneModel,
    arguments: &Embed,
    global: &Global,
) -> anyhow::Result<(Vec<Embedded>, Vec<String>)> {
    let halo = arguments.halo.of(model);
    match zoo_of(&arguments.networks)? {
        Some(zoo) => embed_zoo(model, zoo, arguments, halo, global),
        None => embed_files(model, &arguments.networks, halo),
    }
}

/// Names of the layers of a network with these tensors.
fn layer_names(model: &SaneModel, infos: &[TensorInfo]) -> Result<Vec<String>, SaneError> {
    let names = |layout: &TokenLayout| layout.layers().iter().map(|l| l.name.clone()).collect();
    match model.layout.fits(infos) {
        true => Ok(names(&model.layout)),
        false => TokenLayout::new(infos, model.autoencoder.config().tokens).map(|l| names(&l)),
    }
}

fn embed_zoo(
    model: &SaneModel,
    zoo: Population,
    arguments: &Embed,
    halo: Halo,
    global: &Global,
) -> anyhow::Result<(Vec<Embedded>, Vec<String>)> {
    let shown = zoo.path().display().to_string();
    let (zoo, left_out) = zoo.without_nan()?;
    say_left_out(&left_out, global);
    let epochs = &arguments.epochs;
    epochs::check(&zoo, epochs)?;
    let samples = Samples::new(zoo, |epoch| epochs.is_empty() || epochs.contains(&epoch))?;
    if samples.is_empty() {
        bail!("{shown}: no models with finite weights of these epochs");
    }
    let layers = layer_names(model, &samples.tensors(0)?)?;
    let mut rows = Vec::new();
    let take = |mut row: Embedded| {
        // All tokens of many networks are more than memory may hold.
        if !arguments.full {
            row.embedding.values = Vec::new();
        }
        rows.push(row);
        Ok(())
    };
    embed_all(model, samples, halo, take).context(shown)?;
    Ok((rows, layers))
}

fn embed_files(
    model: &SaneModel,
    paths: &[PathBuf],
    halo: Halo,
) -> anyhow::Result<(Vec<Embedded>, Vec<String>)> {
    let mut rows = Vec::new();
    let mut first: Option<(Vec<TensorInfo>, Vec<String>)> = None;
    for path in paths {
        let shown = || path.display().to_string();
        let mut tensors = Model::open(path)?.state_dict()?;
        match &first {
            None => {
                let layers = layer_names(model, &tensors.infos()).with_context(shown)?;
                first = Some((tensors.infos(), layers));
            }
            Some((infos, _)) => {
                let others =
                    || format!("{}: its layers are not those of the networks before it", shown());
                tensors = matched(tensors, infos).with_context(others)?;
            }
        }
        rows.push(Embedded {
            model: shown(),
            epoch: 0,
            test_accuracy: None,
            generalisation_gap: None,
            embedding: embed_one(model, tensors, None, halo).with_context(shown)?,
        });
    }
    Ok((rows, first.map(|(_, layers)| layers).unwrap_or_default()))
}

/// Tells that models are passed over.
pub fn say_left_out(names: &[String], global: &Global) {
    if let [first, more @ ..] = names {
        let others =
            if more.is_empty() { String::new() } else { format!(" and {} others", more.len()) };
        let first = text::printable(first);
        global.say(format_args!("{first}{others} left out: weights that are not finite"));
    }
}

/// The zoo at a path, or several as one; none where paths are those of single networks.
pub fn zoo_of(paths: &[PathBuf]) -> anyhow::Result<Option<Population>> {
    let (zoos, files): (Vec<&PathBuf>, _) = paths.iter().partition(|path| is_zoo(path));
    if let (Some(zoo), Some(file)) = (zoos.first(), files.first()) {
        bail!("{} is a zoo and {} a network: give one or the other", zoo.display(), file.display());
    }
    let mut zoos = zoos.iter().map(|path| Population::open(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(match zoos.len() {
        0 | 1 => zoos.pop(),
        _ => Some(Population::join(zoos)?),
    })
}

/// Whether a path is a zoo and no single checkpoint.
fn is_zoo(path: &Path) -> bool {
    match path.is_dir() {
        // A folder of a training is the network that was trained.
        true => !path.join("model.safetensors").exists(),
        false => Population::open(path).is_ok(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    AtomicFile::write_bytes(path, bytes).with_context(|| path.display().to_string())
}
