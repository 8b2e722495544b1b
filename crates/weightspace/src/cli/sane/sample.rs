//! `weightspace sane sample`: new networks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use weightspace::align::{Images, estimate_statistics};
use weightspace::sane::sampling::{Method, Noise, Sampled, Sampler, SamplingConfig};
use weightspace::sane::{SaneModel, TokenLayout};
use weightspace::zoo::ModelWeights;
use weightspace::zoo::names::renamed;
use weightspace::zoo::stated::{ARCH_KEY, PREPROCESSING_KEY};
use weightspace_core::StateDict;
use weightspace_core::checkpoint::write_safetensors;

use super::embed::HaloArgs;
use super::judge::Judge;
use super::prompts::{PromptArgs, Prompts};
use crate::cli::progress::Bar;
use crate::cli::train::record::write_json;
use crate::cli::{Global, Outcome, output, text};

/// Make new networks from the embeddings of known ones
///
/// Prompts are the best models of a zoo, or checkpoints. Their embeddings are what new ones are drawn around; decoded, they
/// are networks, which held-out training images judge. The folder holds the networks as checkpoints, which `weightspace train
/// --init` goes on with, and what is known of them (samples.json). Prompts may be of another architecture than the
/// autoencoder was trained on where its positions are not learned.
#[derive(Args)]
pub struct Sample {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Packed zoo, folder of models, or checkpoints and .wsp files
    #[arg(required = true)]
    prompts: Vec<PathBuf>,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the samples that are there
    #[arg(short, long)]
    force: bool,
    /// How embeddings are drawn, and which networks are kept: kde (as they come), subsample (the best of many),
    /// bootstrap (again from the best), gaussian (bootstrap without prompts)
    #[arg(long, value_name = "M", default_value = "subsample", value_parser = method_parser())]
    method: Method,
    /// What is added to the embeddings of prompts
    #[arg(long, value_name = "N", default_value = "joint", value_parser = noise_parser())]
    noise: Noise,
    /// Deviation of that noise, in units of the deviation of the embeddings of a layer's tokens
    #[arg(long, value_name = "H", default_value_t = 0.2)]
    bandwidth: f32,
    /// Deviation of the embeddings that gaussian begins with, in the same units
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    prior: f32,
    /// Networks to make
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// Draws of which the best are kept
    #[arg(long, value_name = "N", default_value_t = 50)]
    candidates: usize,
    /// Rounds of bootstrapping
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Training images by which statistics of batch normalisations are estimated anew; 0 for none
    #[arg(long, value_name = "N", default_value_t = 6400)]
    condition: usize,
    #[command(flatten)]
    choice: PromptArgs,
    #[command(flatten)]
    halo: HaloArgs,
}

fn noise_parser() -> impl TypedValueParser<Value = Noise> {
    let help = [
        "every token has a prompt and noise of its own",
        "all tokens have one prompt, each has noise of its own",
        "all tokens have one prompt and one vector of noise",
    ];
    let names =
        Noise::ALL.iter().zip(help).map(|(n, help)| PossibleValue::new(n.name()).help(help));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).map(|name| {
        let named = Noise::ALL.into_iter().find(|noise| noise.name() == name);
        named.unwrap_or(Noise::Joint)
    })
}

fn method_parser() -> impl TypedValueParser<Value = Method> {
    let names = PossibleValuesParser::new(Method::ALL.map(Method::name));
    names.map(|name| {
        let named = Method::ALL.into_iter().find(|method| method.name() == name);
        named.unwrap_or(Method::Subsample)
    })
}

/// Networks that were made, and what they were made from.
#[derive(Serialize)]
pub struct Report {
    method: Method,
    /// Which models could not be prompts.
    #[serde(skip)]
    note: Option<String>,
    pub prompts: Vec<Known>,
    pub samples: Vec<Known>,
    /// Of the mean of the samples' logits, on test images.
    pub ensemble_test_accuracy: Option<f64>,
    /// Networks that were decoded and judged.
    judged: usize,
    seconds: f64,
}

/// A network and how good it is.
#[derive(Serialize)]
pub struct Known {
    name: String,
    pub validation_accuracy: f64,
    pub test_accuracy: Option<f64>,
}

pub fn run(arguments: &Sample, global: &Global) -> anyhow::Result<Outcome> {
    let report = make(arguments, global)?;
    global.print(&report, |out| report.write(&arguments.output, out))?;
    Ok(Outcome::Done)
}

/// Makes networks and writes them.
pub fn make(arguments: &Sample, global: &Global) -> anyhow::Result<Report> {
    let start = Instant::now();
    let model = SaneModel::read(&arguments.model)?;
    let prompts = arguments.choice.open(&arguments.prompts, global)?;
    output::make_folder(&arguments.output, arguments.force)?;
    let config = SamplingConfig {
        noise: arguments.noise,
        bandwidth: arguments.bandwidth,
        prior: arguments.prior,
        count: arguments.count,
        candidates: arguments.candidates,
        rounds: arguments.rounds,
        ..SamplingConfig::new(arguments.method, arguments.halo.of(&model))
    };
    let aligned = prompts
        .names
        .iter()
        .zip(&prompts.weights)
        .map(|(name, weights)| model.align(weights.clone()).with_context(|| name.clone()));
    let aligned = aligned.collect::<anyhow::Result<Vec<_>>>()?;
    let first = &aligned[0];
    let layout = TokenLayout::new(&first.infos(), model.autoencoder.config().tokens)?;
    let all = aligned.iter().map(|weights| Ok(ModelWeights::of_tensors(weights)));
    let own = model.standardisation_for(&layout, all)?;
    let mut sampler = Sampler::new(&model, (&layout, &own), config, global.seed());
    let known = aligned.into_iter().map(|weights| sampler.prompt(weights));
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let (mut judged, bar) = (0, Bar::new(global));
    let total = match arguments.method {
        Method::Kde => arguments.count,
        Method::Subsample => arguments.candidates,
        Method::Bootstrap | Method::Gaussian => arguments.candidates * arguments.rounds.max(1),
    };
    let samples = sampler.sample(known, |weights| {
        let weights = arguments.condition(&prompts.judge, weights)?;
        let score = prompts.judge.score(&weights)?;
        judged += 1;
        bar.report("networks", judged, total);
        anyhow::Ok((weights, score))
    })?;
    drop(bar);
    let report = arguments.report(&prompts, &samples, judged, start)?;
    remove_samples(&arguments.output)?;
    write(&arguments.output, &prompts.judge, &samples)?;
    write_json(&arguments.output.join("samples.json"), &report)?;
    Ok(report)
}

impl Sample {
    /// A network whose normalisations have the statistics of its own values.
    fn condition(&self, judge: &Judge, weights: StateDict) -> anyhow::Result<StateDict> {
        if self.condition == 0 {
            return Ok(weights);
        }
        let images = &judge.chosen[..self.condition.min(judge.chosen.len())];
        let (dataset, preprocessing) = (&judge.train, &judge.preprocessing);
        let images = Images { dataset, indices: Some(images), preprocessing };
        let estimated = estimate_statistics(&judge.net, &judge.named(&weights), images)?;
        Ok(renamed(estimated, &weights.infos()))
    }

    /// Looks at test images, once.
    fn report(
        &self,
        Prompts { names, weights, accuracies, judge, note }: &Prompts,
        samples: &[Sampled],
        judged: usize,
        start: Instant,
    ) -> anyhow::Result<Report> {
        let prompt = |((name, weights), known): ((&String, &StateDict), &Option<[f64; 2]>)| {
            let (validation_accuracy, test_accuracy) = match known {
                Some([validation, test]) => (*validation, Some(*test)),
                None => (judge.score(weights)?, judge.test(weights)?),
            };
            anyhow::Ok(Known { name: name.clone(), validation_accuracy, test_accuracy })
        };
        let prompts = names.iter().zip(weights).zip(accuracies);
        let prompts = prompts.map(prompt).collect::<anyhow::Result<_>>()?;
        let mut sum: Vec<f32> = Vec::new();
        let mut known = Vec::new();
        for (index, sampled) in samples.iter().enumerate() {
            let logits = judge.logits(&sampled.weights)?;
            known.push(Known {
                name: sample_name(index),
                validation_accuracy: sampled.score,
                test_accuracy: judge.accuracy_of(&logits),
            });
            sum.resize(logits.len(), 0.0);
            sum.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit);
        }
        Ok(Report {
            method: self.method,
            note: note.clone(),
            prompts,
            samples: known,
            ensemble_test_accuracy: judge.accuracy_of(&sum),
            judged,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

fn sample_name(index: usize) -> String {
    format!("sample-{index:03}.safetensors")
}

fn write(folder: &Path, judge: &Judge, samples: &[Sampled]) -> anyhow::Result<()> {
    let metadata = BTreeMap::from([
        (ARCH_KEY.to_owned(), judge.net.arch().to_owned()),
        (PREPROCESSING_KEY.to_owned(), judge.preprocessing.to_string()),
    ]);
    for (index, sampled) in samples.iter().enumerate() {
        write_safetensors(
            &folder.join(sample_name(index)),
            &judge.named(&sampled.weights),
            &metadata,
        )?;
    }
    Ok(())
}

/// Removes the samples of before, of which there may have been more.
fn remove_samples(folder: &Path) -> anyhow::Result<()> {
    let shown = |path: &Path| path.display().to_string();
    for entry in fs::read_dir(folder).with_context(|| shown(folder))? {
        let path = entry.with_context(|| shown(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("sample-").and_then(|n| n.strip_suffix(".safetensors"));
        if number.is_some_and(|number| number.parse::<usize>().is_ok()) {
            fs::remove_file(&path).with_context(|| shown(&path))?;
        }
    }
    Ok(())
}

impl Report {
    fn write(&self, folder: &Path, out: &mut dyn Write) -> io::Result<()> {
        let line = |name: &str, all: &[Known]| {
            let mean = |of: fn(&Known) -> Option<f64>| {
                let values: Option<Vec<f64>> = all.iter().map(of).collect();
                values.map(|v| (v.iter().sum::<f64>() / v.len().max(1) as f64, v))
            };
            let text = |found: Option<(f64, Vec<f64>)>| match found {
                None => "unknown".to_owned(),
                Some((mean, values)) => {
                    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    format!("{:.2} %, best {:.2} %", 100.0 * mean, 100.0 * best)
                }
            };
            let validation = text(mean(|known| Some(known.validation_accuracy)));
            let test = text(mean(|known| known.test_accuracy));
            format!("{} {name}: mean validation accuracy {validation}; test {test}", all.len())
        };
        self.note.iter().try_for_each(|note| writeln!(out, "{note}"))?;
        writeln!(out, "{}", line("prompts", &self.prompts))?;
        writeln!(out, "{}", line("samples", &self.samples))?;
        if let Some(accuracy) = self.ensemble_test_accuracy {
            writeln!(out, "all samples together: test {:.2} %", 100.0 * accuracy)?;
        }
        let judged = text::grouped(self.judged as u64);
        writeln!(out, "{}: {judged} networks judged in {:.1} s", folder.display(), self.seconds)
    }
}
