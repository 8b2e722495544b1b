//! `weightspace sane audit`: whether samples are new models or copies.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use weightspace::sane::audit::{Agreement, Auditor, Nearest};
use weightspace::sane::{SaneModel, TokenLayout};
use weightspace::zoo::{ModelWeights, Population};
use weightspace_core::StateDict;

use super::judge::Judge;
use super::prompts::{PromptArgs, Prompts};
use crate::cli::model::Model;
use crate::cli::progress::Bar;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, Outcome};

/// Say whether sampled networks are new models, or copies of known ones
///
/// Of every sample: how far its standardised weights are from the nearest prompt, and from the nearest model that the
/// autoencoder learnt, at its last epoch; beside that, how far a prompt is from its nearest other prompt; how far its
/// errors on test images are those of that prompt; and how good, and how alike in errors, that prompt is with as much
/// noise, and as far on the way to the mean of all prompts.
#[derive(Args)]
pub struct Audit {
    /// Folder of an autoencoder
    model: PathBuf,
    /// Sampled networks
    #[arg(required = true)]
    samples: Vec<PathBuf>,
    /// What they were sampled from: a zoo, or checkpoints
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    prompts: Vec<PathBuf>,
    /// Zoo that the autoencoder was trained on: its training models are looked at, too
    #[arg(long, value_name = "ZOO")]
    zoo: Option<PathBuf>,
    #[command(flatten)]
    choice: PromptArgs,
}

/// A network beside the prompt that is nearest to the sample.
#[derive(Clone, Copy, Serialize)]
struct Beside {
    test_accuracy: Option<f64>,
    agreement: Agreement,
}

#[derive(Serialize)]
struct Row {
    sample: PathBuf,
    nearest_prompt: String,
    /// Of standardised weights.
    distance: f64,
    /// In units of the mean distance of prompts to their nearest others.
    relative_distance: Option<f64>,
    /// Of the nearest training model.
    training_distance: Option<f64>,
    own: Beside,
    /// The prompt with as much noise.
    noise: Beside,
    /// The prompt as far on the way to the mean of all prompts.
    mean: Beside,
    verdict: &'static str,
}

#[derive(Serialize)]
struct Report {
    prompts: usize,
    training_models: usize,
    /// Mean distance of a prompt to its nearest other prompt.
    spread: Option<f64>,
    /// How far errors of two different prompts agree, at the mean.
    prompt_agreement: Option<Agreement>,
    samples: Vec<Row>,
}

pub fn run(arguments: &Audit, global: &Global) -> anyhow::Result<Outcome> {
    let model = SaneModel::read(&arguments.model)?;
    let Prompts { names, weights, judge, note, .. } =
        arguments.choice.open(&arguments.prompts, global)?;
    if let Some(note) = note {
        global.say(note);
    }
    let mut known = weights.into_iter().map(|w| model.align(w)).collect::<Result<Vec<_>, _>>()?;
    let prompts = known.len();
    let layout = TokenLayout::new(&known[0].infos(), model.autoencoder.config().tokens)?;
    let all = known.iter().map(|weights| Ok(ModelWeights::of_tensors(weights)));
    let standardisation = model.standardisation_for(&layout, all)?;
    if let Some(zoo) = &arguments.zoo {
        known.extend(training_models(&model, zoo)?);
    }
    let auditor = Auditor::new((&layout, &standardisation), &known, prompts)?;
    let spread = auditor.spread(prompts);
    let near = 0.5 * spread.unwrap_or_else(|| auditor.unrelated(0));
    let found = known[..prompts].iter().map(|weights| predictions(&judge, weights));
    let found = found.collect::<anyhow::Result<Vec<_>>>()?;
    let bar = Bar::new(global);
    let mut rows = Vec::new();
    for (done, path) in arguments.samples.iter().enumerate() {
        let shown = || path.display().to_string();
        let sample = model.align(Model::open(path)?.state_dict()?).with_context(shown)?;
        let tokens = auditor.tokens(&sample).with_context(shown)?;
        let Nearest { index, distance } = auditor.nearest(&tokens, 0..prompts);
        let beside = |network: &StateDict| beside(&judge, network, &found[index]);
        let own = beside(&sample)?;
        let seed = global.seed();
        let noise = beside(&auditor.with_noise(index, distance, seed, &known[index])?)?;
        let mean = beside(&auditor.towards_mean(index, distance, &known[index])?)?;
        let training =
            (known.len() > prompts).then(|| auditor.nearest(&tokens, prompts..known.len()));
        let mut copied = (distance < near && is_copy(own, noise)).then_some(Copied::Prompt);
        if let Some(Nearest { index: learnt, distance: away }) = training
            && copied.is_none()
            && away < near.min(distance)
        {
            // Prompts are among the models that were learnt: this is another one.
            let found = predictions(&judge, &known[learnt])?;
            let noisy = auditor.with_noise(learnt, away, seed, &known[learnt])?;
            let [own, noise] =
                [&sample, &noisy].map(|network| self::beside(&judge, network, &found));
            copied = is_copy(own?, noise?).then_some(Copied::Learnt);
        }
        rows.push(Row {
            sample: path.clone(),
            nearest_prompt: names[index].clone(),
            distance,
            relative_distance: spread.map(|spread| distance / spread),
            training_distance: training.map(|nearest| nearest.distance),
            verdict: verdict(copied, own, noise, mean),
            own,
            noise,
            mean,
        });
        bar.report("samples", done + 1, arguments.samples.len());
    }
    drop(bar);
    let report = Report {
        prompts,
        training_models: known.len() - prompts,
        spread,
        prompt_agreement: mean_agreement(&judge, &found),
        samples: rows,
    };
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

/// The last epochs of the models that an autoencoder learnt.
fn training_models(model: &SaneModel, path: &std::path::Path) -> anyhow::Result<Vec<StateDict>> {
    let shown = || path.display().to_string();
    let (zoo, _) = Population::open(path)?.without_nan()?;
    let train = zoo.split(model.split_seed).train;
    let mut all = Vec::new();
    for index in 0..train.len() {
        if let Some(&epoch) = train.model(index)?.epochs.last() {
            all.push(model.align(train.weights(index, epoch)?).with_context(shown)?);
        }
    }
    Ok(all)
}

/// Classes that a network gives to the test images.
fn predictions(judge: &Judge, weights: &StateDict) -> anyhow::Result<Vec<u16>> {
    let logits = judge.logits(weights)?;
    let rows = logits.chunks_exact(judge.net.class_count());
    Ok(rows.map(|row| weightspace_nn::evaluate::argmax(row) as u16).collect())
}

fn labels(judge: &Judge) -> &[u16] {
    judge.test.as_ref().map_or(&[], |test| test.labels())
}

fn beside(judge: &Judge, network: &StateDict, prompt: &[u16]) -> anyhow::Result<Beside> {
    let (found, labels) = (predictions(judge, network)?, labels(judge));
    let right = found.iter().zip(labels).filter(|(a, b)| a == b).count();
    let test_accuracy = (!labels.is_empty()).then(|| right as f64 / labels.len() as f64);
    Ok(Beside { test_accuracy, agreement: Agreement::of(&found, prompt, labels) })
}

/// The mean over all pairs of prompts.
fn mean_agreement(judge: &Judge, found: &[Vec<u16>]) -> Option<Agreement> {
    let pairs = (0..found.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let all: Vec<Agreement> =
        pairs.map(|(a, b)| Agreement::of(&found[a], &found[b], labels(judge))).collect();
    let mean = |of: fn(&Agreement) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    (!all.is_empty())
        .then(|| Agreement { errors: mean(|a| a.errors), classes: mean(|a| a.classes) })
}

/// What a sample is a copy of.
#[derive(Clone, Copy)]
enum Copied {
    Prompt,
    Learnt,
}

/// Whether a sample that is near to a known network makes its errors about as much as that network with noise does.
fn is_copy(own: Beside, noise: Beside) -> bool {
    own.agreement.errors >= 0.9 * noise.agreement.errors
}

/// In words. What is copied is nearer than half of what prompts are from each other, and has the same errors.
fn verdict(copied: Option<Copied>, own: Beside, noise: Beside, mean: Beside) -> &'static str {
    let accuracy = |of: Beside| of.test_accuracy.unwrap_or(0.0);
    match copied {
        Some(Copied::Prompt) => return "a copy of its prompt",
        Some(Copied::Learnt) => return "a copy of a model that the autoencoder learnt",
        None => {}
    }
    match (accuracy(own) >= accuracy(noise), accuracy(own) >= accuracy(mean)) {
        (true, true) => "new, and better than its prompt with noise or moved to the mean",
        (true, false) => "new, but no better than its prompt moved to the mean",
        (false, _) => "worse than its prompt with as much noise",
    }
}

impl Report {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let percent = |value: Option<f64>| {
            value.map_or("unknown".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        write!(out, "{} prompts", self.prompts)?;
        if let Some(spread) = self.spread {
            write!(out, ", {spread:.2} from the nearest other at the mean")?;
        }
        if let Some(agreement) = self.prompt_agreement {
            write!(out, "; two of them share {} of their errors", percent(Some(agreement.errors)))?;
        }
        writeln!(out, "\n")?;
        let right = |title| (title, Align::Right);
        let header = [
            ("sample", Align::Left),
            right("distance"),
            right("to training"),
            right("accuracy"),
            right("shared errors"),
            right("with noise"),
            right("to the mean"),
        ];
        let mut table = Table::new(header);
        for row in &self.samples {
            let both = |beside: Beside| {
                let errors = percent(Some(beside.agreement.errors));
                format!("{}, {errors}", percent(beside.test_accuracy))
            };
            table.push([
                row.sample.display().to_string(),
                format!("{:.2}", row.distance),
                row.training_distance.map_or(String::new(), |distance| format!("{distance:.2}")),
                percent(row.own.test_accuracy),
                percent(Some(row.own.agreement.errors)),
                both(row.noise),
                both(row.mean),
            ]);
        }
        table.write(out, "")?;
        writeln!(out)?;
        for row in &self.samples {
            writeln!(out, "{}: {}", row.sample.display(), row.verdict)?;
        }
        Ok(())
    }
}
