//! `weightspace sane audit`: whether samples are new models or copies.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use weightspace::sane::audit::{Agreement, Auditor, Nearest, distance};
use weightspace::sane::{SaneModel, TokenLayout};
use weightspace::zoo::{ModelWeights, Population};
use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};

use super::judge::Judge;
use super::prompts::{PromptArgs, Prompts};
use crate::cli::model::Model;
use crate::cli::progress::Bar;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, Outcome, text};

/// Say whether sampled networks are new models, or copies of known ones
///
/// Of every sample: how far its standardised weights are from the nearest prompt, and from the nearest model that the
/// autoencoder learnt, at any epoch; beside that, how far a prompt is from its nearest other prompt; how far its
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
    /// Zoo that the autoencoder was trained on: its training models are looked at, too, at all epochs
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
    let prompts = weights.into_iter().map(|w| model.align(w)).collect::<Result<Vec<_>, _>>()?;
    let layout = TokenLayout::new(&prompts[0].infos(), model.autoencoder.config().tokens)?;
    let all = prompts.iter().map(|weights| Ok(ModelWeights::of_tensors(weights)));
    let standardisation = model.standardisation_for(&layout, all)?;
    let auditor = Auditor::new((&layout, &standardisation), &prompts)?;
    let samples = arguments.samples.iter().map(|path| Sample::open(path, &model, &auditor));
    let samples = samples.collect::<anyhow::Result<Vec<_>>>()?;
    let train = arguments.zoo.as_deref().map(|zoo| training_models(&model, zoo)).transpose()?;
    let bar = Bar::new(global);
    let learnt = match &train {
        Some(train) => learnt(&samples, train, (&model, &auditor), &bar)?,
        None => vec![None; samples.len()],
    };
    let spread = auditor.spread();
    let found = prompts.iter().map(|weights| predictions(&judge, weights));
    let found = found.collect::<anyhow::Result<Vec<_>>>()?;
    let near = 0.5 * spread.unwrap_or_else(|| auditor.unrelated());
    let prompt_agreement = mean_agreement(&judge, &found);
    let others = prompt_agreement.map_or(0.5, |agreement| agreement.errors.min(0.5));
    let (auditor, judge) = (&auditor, &judge);
    let known = Known { names, prompts, found, auditor, judge, near, others, spread };
    let mut rows = Vec::new();
    for (done, (sample, learnt)) in samples.iter().zip(learnt).enumerate() {
        rows.push(known.row(sample, learnt, global.seed())?);
        bar.report("samples", done + 1, samples.len());
    }
    drop(bar);
    let report = Report {
        prompts: known.prompts.len(),
        training_models: train.map_or(0, |train| train.len()),
        spread,
        prompt_agreement,
        samples: rows,
    };
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

/// A sampled network, with its units as the autoencoder learnt them.
struct Sample<'a> {
    path: &'a Path,
    weights: StateDict,
    tokens: Vec<f32>,
}

impl<'a> Sample<'a> {
    fn open(path: &'a Path, model: &SaneModel, auditor: &Auditor) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        let weights = model.align(Model::open(path)?.state_dict()?).with_context(shown)?;
        let tokens = auditor.tokens(&weights).with_context(shown)?;
        Ok(Sample { path, weights, tokens })
    }
}

/// The network that is nearest to a sample of those that the autoencoder learnt.
#[derive(Clone)]
struct Learnt {
    weights: StateDict,
    distance: f64,
}

/// The models that an autoencoder learnt.
fn training_models(model: &SaneModel, zoo: &Path) -> anyhow::Result<Population> {
    let (zoo, _) = Population::open(zoo)?.without_nan()?;
    Ok(zoo.split(model.split_seed).train)
}

/// For every sample the nearest of all epochs of the models that were learnt; one network a thread is in memory besides.
fn learnt(
    samples: &[Sample],
    train: &Population,
    (model, auditor): (&SaneModel, &Auditor),
    bar: &Bar,
) -> anyhow::Result<Vec<Option<Learnt>>> {
    let mut nearest: Vec<Option<Learnt>> = vec![None; samples.len()];
    for index in 0..train.len() {
        let shown = || text::printable(train.name(index));
        let distances = |epoch: u32| {
            let weights = model.align(train.weights(index, epoch)?).with_context(shown)?;
            let tokens = auditor.tokens(&weights).with_context(shown)?;
            let far = samples.iter().map(|sample| distance(&sample.tokens, &tokens));
            Ok((weights, far.collect::<Vec<_>>()))
        };
        let epochs = train.model(index)?.epochs;
        let found = epochs.into_par_iter().map(distances).collect::<anyhow::Result<Vec<_>>>()?;
        for (weights, far) in found {
            for (nearest, distance) in nearest.iter_mut().zip(far) {
                if nearest.as_ref().is_none_or(|nearest| distance < nearest.distance) {
                    *nearest = Some(Learnt { weights: weights.clone(), distance });
                }
            }
        }
        bar.report("models that were learnt", index + 1, train.len());
    }
    Ok(nearest)
}

/// What samples are compared with.
struct Known<'a> {
    names: Vec<String>,
    prompts: Vec<StateDict>,
    /// Classes that prompts give to the test images.
    found: Vec<Vec<u16>>,
    auditor: &'a Auditor<'a>,
    judge: &'a Judge,
    /// Networks within this distance may be copies of each other.
    near: f64,
    /// Networks that share less of their errors are no copies: what two prompts share, at most half.
    others: f64,
    spread: Option<f64>,
}

impl Known<'_> {
    fn row(&self, sample: &Sample, learnt: Option<Learnt>, seed: u64) -> anyhow::Result<Row> {
        let Known { auditor, judge, near, .. } = *self;
        let Nearest { index, distance } = auditor.nearest(&sample.tokens);
        let (prompt, tokens) = (&self.prompts[index], auditor.prompt(index));
        let random = Stream::new(Key::for_purpose(seed, "audit"), index as u64);
        let noisy = auditor.with_noise(tokens, distance, random, prompt)?;
        let moved = auditor.towards_mean(tokens, distance, prompt)?;
        let beside = |network: &StateDict| beside(judge, network, &self.found[index]);
        let (own, noise, mean) = (beside(&sample.weights)?, beside(&noisy)?, beside(&moved)?);
        let training_distance = learnt.as_ref().map(|learnt| learnt.distance);
        let copied = match learnt {
            _ if distance < near && is_copy(own, noise, self.others) => Some(Copied::Prompt),
            // Prompts are among the models that were learnt: this is another one.
            Some(learnt) if learnt.distance < near.min(distance) => {
                self.is_copy_of(sample, &learnt, seed)?.then_some(Copied::Learnt)
            }
            _ => None,
        };
        Ok(Row {
            sample: sample.path.to_owned(),
            nearest_prompt: self.names[index].clone(),
            distance,
            relative_distance: self.spread.map(|spread| distance / spread),
            training_distance,
            verdict: verdict(copied, own, noise, mean),
            own,
            noise,
            mean,
        })
    }

    /// Whether a sample makes the errors of a network that was learnt, which is near to it.
    fn is_copy_of(&self, sample: &Sample, learnt: &Learnt, seed: u64) -> anyhow::Result<bool> {
        let Learnt { weights, distance } = learnt;
        let random = Stream::new(Key::for_purpose(seed, "audit"), self.prompts.len() as u64);
        let tokens = self.auditor.tokens(weights)?;
        let noisy = self.auditor.with_noise(&tokens, *distance, random, weights)?;
        let found = predictions(self.judge, weights)?;
        let beside = |network: &StateDict| beside(self.judge, network, &found);
        Ok(is_copy(beside(&sample.weights)?, beside(&noisy)?, self.others))
    }
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

/// Whether a sample that is near to a known network makes its errors about as much as that network with noise does, and more of
/// them than other networks do.
fn is_copy(own: Beside, noise: Beside, others: f64) -> bool {
    own.agreement.errors >= 0.9 * noise.agreement.errors && own.agreement.errors >= others
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
