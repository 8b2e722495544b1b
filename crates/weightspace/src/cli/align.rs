//! `weightspace align`: the units of one network in the order of another's.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use weightspace::align::{Images, Line};
use weightspace::analyze::{Sample, Versions};
use weightspace_core::align::{AlignOptions, Aligner, Alignment, Distance, Start};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::permutation::{self, PermutationGroup};
use weightspace_core::{StateDict, quoted};
use weightspace_nn::Net;
use weightspace_nn::data::{self, Split};
use weightspace_nn::net::Op;

use super::images::{Choice, draw};
use super::model::Model;
use super::progress::Bar;
use super::setup::Setup;
use super::table::{Align as Side, Table};
use super::{Global, Outcome, output, text};

/// Permute the units of a network so that its weights are most like another's; it computes the same
#[derive(Args)]
pub struct Align {
    /// Checkpoint or .wsp file whose order of units is kept
    a: PathBuf,
    /// Checkpoint or .wsp file of the same architecture, whose units are permuted
    b: PathBuf,
    /// File for the permuted network, in safetensors format
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    #[command(flatten)]
    pub search: Search,
    /// Data set on which loss and accuracy of the straight line from A to B are measured, before
    /// and after
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Places on the line, its ends among them
    #[arg(long, value_name = "N", default_value_t = 11, requires = "data",
          value_parser = clap::value_parser!(u16).range(2..=1001))]
    points: u16,
    /// Estimate the statistics of batch normalisations anew at every place, on N training images in batches of about 128,
    /// 2048 if not said
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2048",
          requires = "data", value_parser = clap::value_parser!(u32).range(2..))]
    reset_batch_norm: Option<u32>,
    #[command(flatten)]
    images: Choice,
}

/// How permutations are looked for.
#[derive(Args)]
pub struct Search {
    /// Where the search starts: all units in their places; or groups of units matched one after the
    /// other from what is known; or both, and the nearer result
    #[arg(long, value_enum, default_value_t = StartChoice::Best)]
    start: StartChoice,
    /// Random orders of the groups to try from each start
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    orders: u16,
    /// Most sweeps over the groups
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    max_sweeps: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StartChoice {
    Identity,
    Propagated,
    Best,
}

impl Search {
    /// As the library has it.
    pub fn options(&self, global: &Global) -> AlignOptions {
        AlignOptions {
            start: match self.start {
                StartChoice::Identity => Start::Identity,
                StartChoice::Propagated => Start::Propagated,
                StartChoice::Best => Start::Best,
            },
            max_sweeps: self.max_sweeps.into(),
            orders: self.orders.into(),
            seed: global.seed(),
        }
    }
}

#[derive(Serialize)]
struct Report {
    arch: String,
    /// Whether batch normalisations were folded into the weights that were compared.
    folded: bool,
    groups: usize,
    units: usize,
    moved: usize,
    /// Fraction of the units that change their places.
    moved_share: f64,
    distance_before: Squares,
    distance_after: Squares,
    start: &'static str,
    sweeps: usize,
    converged: bool,
    /// Of the matching alone.
    seconds: f64,
    line: Option<Lines>,
    output: Option<PathBuf>,
}

/// Squared distances.
#[derive(Serialize)]
struct Squares {
    /// Of tensors that units to be permuted have weights in.
    touched: f64,
    /// Of all.
    total: f64,
}

/// The straight line from A to B.
#[derive(Serialize)]
struct Lines {
    data: String,
    images: usize,
    /// Training images for the statistics of batch normalisations.
    reset_batch_norm: Option<usize>,
    before: Line,
    after: Line,
}

/// Runs the command.
pub fn run(arguments: &Align, global: &Global) -> anyhow::Result<Outcome> {
    if let Some(path) = &arguments.output {
        output::check(path, arguments.force, &[&arguments.a, &arguments.b])?;
    }
    let (a, b) = (Model::open(&arguments.a)?, Model::open(&arguments.b)?);
    let images = arguments.data.as_ref().map(|data| arguments.images.open(data, &a, global));
    let images = images.transpose()?;
    let net = match &images {
        Some((setup, _)) => setup.net.clone(),
        None => a.net(&arguments.images.arch.arch)?,
    };
    let groups = net.permutation_groups();
    ensure!(!groups.is_empty(), "{} has no units that may be permuted", net.arch());
    let whole = b.state_dict()?;
    let Versions { weights, folded } = versions(&net, [&a, &b], &whole)?;
    let [first, second] = &weights[..] else { bail!("two versions") };
    let start = Instant::now();
    let found = Aligner::new(&groups, first, arguments.search.options(global))
        .and_then(|aligner| aligner.align(second))
        .with_context(|| format!("{}, {}", a.path().display(), b.path().display()))?;
    let seconds = start.elapsed().as_secs_f64();
    let line = match &images {
        Some((setup, chosen)) => {
            let aligned = permuted(&groups, &found, second)?;
            let chosen = chosen.as_deref();
            Some(arguments.lines(setup, chosen, first, [second, &aligned], folded, global)?)
        }
        None => None,
    };
    if let Some(path) = &arguments.output {
        write_safetensors(path, &permuted(&groups, &found, &whole)?, &b.statements())?;
    }
    let output = arguments.output.clone();
    let report = Report::new(&net, folded, &found, seconds, line, output);
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

/// Both networks in one form. Counters, which old files do not have, are left out.
fn versions(net: &Net, models: [&Model; 2], b: &StateDict) -> anyhow::Result<Versions> {
    let real = |weights: &StateDict| -> StateDict {
        let real = weights.iter().filter(|(_, tensor)| tensor.dtype().is_float());
        real.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
    };
    let weights = [real(&models[0].state_dict()?), real(b)];
    let shown = models.map(|model| model.path().display().to_string()).join(", ");
    Versions::new(Some(net), &weights).context(shown)
}

fn permuted(
    groups: &[PermutationGroup],
    found: &Alignment,
    weights: &StateDict,
) -> anyhow::Result<StateDict> {
    let mut weights = weights.clone();
    permutation::apply(groups, &found.permutations, &mut weights)?;
    Ok(weights)
}

impl Align {
    /// The lines from A to B before and after.
    fn lines(
        &self,
        setup: &Setup,
        chosen: Option<&[usize]>,
        a: &StateDict,
        [before, after]: [&StateDict; 2],
        folded: bool,
        global: &Global,
    ) -> anyhow::Result<Lines> {
        let preprocessing = &setup.preprocessing;
        let name = self.data.as_deref().unwrap_or_default();
        let training = self.reset_batch_norm.map(|wanted| {
            let normalised = |op: &Op| matches!(op, Op::BatchNorm { .. });
            ensure!(
                !folded && setup.net.nodes().iter().any(|node| normalised(&node.op)),
                "--reset-batch-norm: {} has no statistics of batch normalisations{}",
                setup.net.arch(),
                if folded { " left: they are folded into its weights" } else { "" },
            );
            let dataset = data::open(name, global.data_dir(), Split::Train)?;
            let chosen = draw(dataset.len(), wanted as usize, global);
            Ok((dataset, chosen))
        });
        let training = training.transpose()?;
        let images = Images { dataset: &setup.dataset, indices: chosen, preprocessing };
        let training = training.as_ref().map(|(dataset, chosen)| Images {
            dataset,
            indices: chosen.as_deref(),
            preprocessing,
        });
        let points = usize::from(self.points);
        let line = |b: &StateDict, phase: &str| {
            let bar = Bar::new(global);
            let progress = |done| bar.report(phase, done, points);
            Line::new(&setup.net, [a, b], points, images, training, &progress)
        };
        Ok(Lines {
            data: name.to_owned(),
            images: count(images),
            reset_batch_norm: training.map(count),
            before: line(before, "the line before")?,
            after: line(after, "the line after")?,
        })
    }
}

fn count(images: Images<'_>) -> usize {
    images.indices.map_or(images.dataset.len(), <[usize]>::len)
}

impl Report {
    fn new(
        net: &Net,
        folded: bool,
        found: &Alignment,
        seconds: f64,
        line: Option<Lines>,
        output: Option<PathBuf>,
    ) -> Self {
        let squares = |Distance { touched, total }| Squares { touched, total };
        Report {
            arch: net.arch().to_owned(),
            folded,
            groups: found.permutations.len(),
            units: found.units(),
            moved: found.moved(),
            moved_share: found.moved() as f64 / found.units().max(1) as f64,
            distance_before: squares(found.before),
            distance_after: squares(found.after),
            start: found.start.name(),
            sweeps: found.sweeps,
            converged: found.converged,
            seconds,
            line,
            output,
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Report { arch, groups, units, moved, .. } = self;
        let share = 100.0 * self.moved_share;
        writeln!(out, "{arch}: {moved} of {units} units moved ({share:.1} %), {groups} groups")?;
        if self.folded {
            writeln!(out, "batch normalisations folded into the weights of both")?;
        }
        let (before, after) = (self.distance_before.total, self.distance_after.total);
        writeln!(out, "squared distance {before:.6} before, {after:.6} after")?;
        let (start, sweeps, seconds) = (self.start, self.sweeps, self.seconds);
        let limit = if self.converged { "" } else { ", which is the limit" };
        writeln!(out, "{sweeps} sweeps from start {start}{limit}, {seconds:.3} s")?;
        if let Some(lines) = &self.line {
            lines.write(out)?;
        }
        match &self.output {
            Some(path) => writeln!(out, "{}", text::printable(&path.display().to_string())),
            None => Ok(()),
        }
    }
}

impl Lines {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let right = |title| (title, Side::Right);
        let mut table = Table::new([
            right("share of B"),
            right("loss before"),
            right("after"),
            right("accuracy before"),
            right("after"),
        ]);
        let percent = |sample: &Sample| format!("{:.2} %", 100.0 * sample.accuracy);
        for (before, after) in self.before.samples.iter().zip(&self.after.samples) {
            table.push([
                format!("{:.3}", before.position),
                format!("{:.4}", before.loss),
                format!("{:.4}", after.loss),
                percent(before),
                percent(after),
            ]);
        }
        writeln!(out)?;
        table.write(out, "")?;
        let (before, after) = (self.before.barrier, self.after.barrier);
        writeln!(out, "\nbarrier of the loss {before:.4} before, {after:.4} after")?;
        let images = text::grouped(self.images as u64);
        write!(out, "on {images} images of {}", quoted(&self.data))?;
        match self.reset_batch_norm {
            Some(count) => writeln!(
                out,
                "; statistics of batch normalisations from {} training images at every place",
                text::grouped(count as u64)
            ),
            None => writeln!(out),
        }
    }
}
