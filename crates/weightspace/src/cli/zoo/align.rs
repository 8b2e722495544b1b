//! `weightspace zoo align`: the units of all models in one order.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use weightspace::zoo::align::{self, Reference};
use weightspace::zoo::{Damaged, ZooError};

use super::super::align::Search;
use super::super::output::{self, OutputArgs};
use super::super::progress::Bar;
use super::super::{Global, text};

/// Permute the units of every model so that its last weights are most like those of one model
#[derive(Args)]
pub struct Align {
    /// Folder of models, or a packed file
    zoo: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    /// The model that all are aligned to: its name, its position, or a part of its name that no other
    /// has [default: the first by name]
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    #[command(flatten)]
    search: Search,
    /// Leave out models that are damaged or have weights that are not finite, and name them
    #[arg(long)]
    skip_damaged: bool,
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    reference: String,
    /// Epoch of the reference.
    epoch: u32,
    models: usize,
    epochs: usize,
    /// Mean squared distance to the reference after the last epoch, over all tensors.
    distance_before: f64,
    distance_after: f64,
    /// Fraction of all units of all models that change their places.
    moved_share: f64,
    /// Models whose search ended at the limit of sweeps.
    not_converged: usize,
    /// Of the matching, with reading.
    seconds: f64,
    damaged: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

pub fn run(arguments: &Align, global: &Global) -> anyhow::Result<()> {
    let OutputArgs { output, force } = &arguments.output;
    output::check(output, *force, &[&arguments.zoo])?;
    let population = super::open(&arguments.zoo, global)?;
    let reference = match &arguments.reference {
        Some(text) => Reference::read(&population, population.find(text)?)?,
        None if arguments.skip_damaged => Reference::first_sound(&population)?,
        None => Reference::read(&population, 0)?,
    };
    let bar = Bar::new(global);
    let progress = |phase: &str, done: usize, total: usize| bar.report(phase, done, total);
    let start = Instant::now();
    let options = arguments.search.options(global);
    let found = align::align(&population, &reference, &options, &progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let found = match arguments.skip_damaged {
        true => found,
        false => found.into_iter().map(|result| result.map(Ok)).collect::<Result<_, ZooError>>()?,
    };
    let (population, alignments, damaged) = align::sound(&population, found);
    ensure!(!population.is_empty(), "{}: no model can be aligned", arguments.zoo.display());
    let survey = align::write(&population, &reference, &alignments, output, &progress)
        .with_context(|| output.display().to_string())?;
    drop(bar);
    let count = alignments.len();
    let mean = |of: fn(&_) -> f64| alignments.iter().map(of).sum::<f64>() / count as f64;
    let report = Report {
        output: output.clone(),
        epoch: reference.epoch,
        models: count,
        epochs: survey.epochs.len(),
        distance_before: mean(|alignment: &weightspace_core::align::Alignment| {
            alignment.before.total
        }),
        distance_after: mean(|alignment| alignment.after.total),
        moved_share: mean(|alignment| alignment.moved() as f64 / alignment.units().max(1) as f64),
        not_converged: alignments.iter().filter(|alignment| !alignment.converged).count(),
        seconds,
        damaged: damaged
            .into_iter()
            .map(|Damaged { name, reason }| Skipped { name, reason })
            .collect(),
        reference: reference.name,
    };
    for Skipped { name, reason } in &report.damaged {
        global.say(text::printable(&format!("skipped {name}: {reason}")));
    }
    global.print(&report, |out| {
        let shown = |text: &str| text::printable(text);
        let Report { reference, epoch, models, epochs, .. } = &report;
        let (before, after) = (report.distance_before, report.distance_after);
        writeln!(
            out,
            "{}: {} models x {epochs} epochs aligned to {} after epoch {epoch}, {seconds:.2} s",
            shown(&output.display().to_string()),
            text::grouped(*models as u64),
            shown(reference),
        )?;
        let share = 100.0 * report.moved_share;
        writeln!(
            out,
            "mean squared distance {before:.4} before, {after:.4} after; {share:.1} % of units moved"
        )?;
        match report.not_converged {
            0 => Ok(()),
            count => writeln!(out, "{count} models not converged; more --max-sweeps may bring them nearer"),
        }
    })
}
