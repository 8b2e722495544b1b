//! Options of the method predictor.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use weightspace::phases::PhaseObserver;
use weightspace::predictor::{self, Ordering, Original, PRESETS, Product, Recipe, RecipeError};
use weightspace::workplace::Workplace;
use weightspace_core::predictor::{CoordinateScale, Encoding};
use weightspace_nn::Net;
use weightspace_nn::data::Augmentation;
use weightspace_nn::train::{Observer, Progress};

use super::shared::SharedArgs;
use crate::cli::Global;
use crate::cli::interruption::{Interruption, Stopped};
use crate::cli::progress::Bar;

/// The predictor, and its training.
#[derive(Args)]
#[command(next_help_heading = "Options of --method predictor")]
pub struct PredictorArgs {
    /// What the other options begin with [default: small]
    #[arg(long, value_name = "NAME", value_parser = preset_parser())]
    preset: Option<String>,
    /// Hidden units of the predictor [default: the preset's, or what --target-bytes has place for]
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u16).range(1..))]
    width: Option<u16>,
    /// Order of the kernels: identity, free, axes, in-filter or cross-filter
    #[arg(long, value_name = "ORDER")]
    order: Option<Ordering>,
    /// How layer, filter and channel become coordinates: local (0 to 1 in every tensor), global (0 to 1 in the
    /// network) or raw (as they are)
    #[arg(long, value_name = "SCALE")]
    coordinates: Option<CoordinateScale>,
    /// What the predictor sees of a coordinate: positional:LEVELS:BASE, chebyshev:DEGREE, tables:WIDTH or
    /// direct-tables
    #[arg(long, value_name = "E")]
    encoding: Option<Encoding>,
    /// Largest side of the kernels of convolutions that are predicted; others are stored [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    largest_kernel: Option<u16>,
    /// Predict linear layers, too, in tiles of N weights of one output
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    linear_tile: Option<u16>,
    /// Steps of reconstruction
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Predictors trained side by side, of which the best is kept: by held-out images with --data, else by
    /// its error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seeds: Option<u32>,
    /// Rounds of reconstruction at most, each of the best of the round before it as long as that gets better
    /// on held-out images; needs --data
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Folder of metrics and checkpoints, which is then kept [default: FILE.work until FILE is written]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Epochs of distillation from the network itself, with --data; 0 for none
    #[arg(long, value_name = "N")]
    distill_epochs: Option<u32>,
    /// Bits of the predictor's weights in the file
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16),
          conflicts_with_all = ["target_bytes", "target_accuracy"])]
    predictor_bits: Option<u8>,
    /// Weights that are 0 stay so: the file holds where they are
    #[arg(long)]
    mask: bool,
}

fn preset_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(
        PRESETS.map(|preset| PossibleValue::new(preset.name).help(preset.title)),
    )
}

impl PredictorArgs {
    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--preset", self.preset.is_some()),
            ("--width", self.width.is_some()),
            ("--order", self.order.is_some()),
            ("--coordinates", self.coordinates.is_some()),
            ("--encoding", self.encoding.is_some()),
            ("--largest-kernel", self.largest_kernel.is_some()),
            ("--linear-tile", self.linear_tile.is_some()),
            ("--steps", self.steps.is_some()),
            ("--seeds", self.seeds.is_some()),
            ("--rounds", self.rounds.is_some()),
            ("--work", self.work.is_some()),
            ("--distill-epochs", self.distill_epochs.is_some()),
            ("--predictor-bits", self.predictor_bits.is_some()),
            ("--mask", self.mask),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    fn recipe(&self, shared: &SharedArgs) -> Recipe {
        let name = self.preset.as_deref().unwrap_or("small");
        let mut recipe = Recipe::preset(name).unwrap_or_default();
        recipe.model.hidden = self.width.map_or(recipe.model.hidden, usize::from);
        recipe.target.ordering = self.order.unwrap_or(recipe.target.ordering);
        recipe.target.coordinates = self.coordinates.unwrap_or(recipe.target.coordinates);
        recipe.model.encoding = self.encoding.unwrap_or(recipe.model.encoding);
        recipe.target.mask |= self.mask;
        let largest = self.largest_kernel.map_or(recipe.target.largest_kernel, usize::from);
        recipe.target.largest_kernel = largest;
        recipe.target.linear_tile = self.linear_tile.map(usize::from).or(recipe.target.linear_tile);
        recipe.steps = self.steps.unwrap_or(recipe.steps);
        recipe.seeds = self.seeds.unwrap_or(recipe.seeds);
        recipe.rounds = self.rounds.unwrap_or(recipe.rounds);
        recipe.epochs = self.distill_epochs.unwrap_or(recipe.epochs);
        recipe.bits = self.predictor_bits.unwrap_or(recipe.bits);
        recipe.target_bytes = shared.target_bytes;
        recipe.target_accuracy = shared.target_accuracy;
        recipe.fit_width = shared.target_bytes.is_some() && self.width.is_none();
        recipe
    }

    /// Bytes of the file that these options lead to, but for the order and for what entropy coding saves.
    pub fn estimated_bytes(&self, shared: &SharedArgs, net: Option<&Net>) -> u64 {
        const NAMES: u64 = 2000;
        let recipe = self.recipe(shared);
        if let Some(target) = recipe.target_bytes {
            return target;
        }
        let hidden = recipe.model.hidden as u64;
        let layers = recipe.model.layers as u64;
        let coefficients = (layers - 2) * hidden * hidden + 250 * hidden;
        let others = net.map_or(0, |net| {
            let layout = net.layout();
            let small = layout.entries().iter().filter(|entry| entry.shape.len() < 4);
            small.map(|entry| 2 * entry.element_count() as u64).sum()
        });
        coefficients * u64::from(recipe.bits) / 8 + others + NAMES
    }

    /// Follows the recipe. Ctrl-C leaves what is done in a folder, where the same command goes on; with `anew`
    /// the work of other settings is forgotten.
    pub fn encode(
        &self,
        original: Original<'_>,
        shared: &SharedArgs,
        augmentation: Option<Augmentation>,
        output: &Path,
        anew: bool,
        global: &Global,
    ) -> anyhow::Result<Product> {
        ensure!(
            self.distill_epochs.is_none_or(|epochs| epochs == 0) || original.images.is_some(),
            "--distill-epochs needs images: --data"
        );
        let mut recipe = self.recipe(shared);
        recipe.augmentation = augmentation.unwrap_or_default();
        let folder = self.work.clone().unwrap_or_else(|| work_folder(output));
        let place = Workplace::new(folder, anew);
        let mut watch = Watch::new(global)?;
        let name = || original.net.arch().to_owned();
        let made = predictor::compress(original, &recipe, global.seed(), Some(&place), &mut watch);
        drop(watch);
        let out_of_reach = matches!(made, Err(RecipeError::OutOfReach(_)));
        if self.work.is_none() && out_of_reach && shared.target_accuracy.is_none() {
            // Another try has another size, for which this work is of no use.
            place.remove()?;
        }
        let product = made.map_err(|error| match error {
            RecipeError::Interrupted(interrupted) => Stopped::new(place.path(), interrupted).into(),
            RecipeError::OutOfReach(reason) if shared.target_accuracy.is_some() => anyhow!(
                "{}: {reason}; {} keeps the work for a lower one",
                name(),
                place.path().display()
            ),
            error => anyhow::Error::new(error).context(name()),
        })?;
        if self.work.is_none() {
            place.remove()?;
        }
        Ok(product)
    }
}

/// What reconstruction came to, as printed.
#[derive(Serialize)]
pub struct Reconstructed {
    /// Root mean square of the error of a weight, before rounding and distillation.
    rmse: f64,
    /// The same as a share of the root mean square of the predicted weights.
    relative_error: f64,
    /// Accuracy of the file on the held-out images, with --data.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out_accuracy: Option<f64>,
    /// The best of every round, where there were several predictors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<RoundReport>,
}

#[derive(Serialize)]
struct RoundReport {
    /// On the held-out images, where these decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out_accuracy: Option<f64>,
    rmse: f64,
}

impl Reconstructed {
    /// Of a product.
    pub fn of(product: &Product) -> Self {
        let several = product.rounds.len() > 1 || product.rounds.iter().any(|r| r.score >= 0.0);
        let rounds = product.rounds.iter().filter(|_| several).map(|round| RoundReport {
            held_out_accuracy: (round.score >= 0.0).then_some(round.score),
            rmse: round.error,
        });
        Reconstructed {
            rmse: product.error,
            relative_error: product.relative_error,
            held_out_accuracy: product.held_out_accuracy,
            rounds: rounds.collect(),
        }
    }

    /// Prints it.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (index, round) in self.rounds.iter().enumerate() {
            write!(out, "round {}: error of a weight {:.4}", index + 1, round.rmse)?;
            match round.held_out_accuracy {
                Some(accuracy) => writeln!(out, ", held-out accuracy {:.2} %", 100.0 * accuracy)?,
                None => writeln!(out)?,
            }
        }
        writeln!(
            out,
            "reconstructed with an error of {:.4} (root mean square), {:.1} % of that of the weights",
            self.rmse,
            100.0 * self.relative_error
        )?;
        let Some(accuracy) = self.held_out_accuracy else { return Ok(()) };
        writeln!(out, "held-out accuracy of the file {:.2} %", 100.0 * accuracy)
    }
}

/// Where the work on a file is kept until it is written.
pub fn work_folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".work");
    name.into()
}

/// A bar for every phase of training; stops when Ctrl-C is pressed.
struct Watch<'a> {
    bar: Bar,
    global: &'a Global,
    phase: String,
    interrupted: Interruption,
}

impl<'a> Watch<'a> {
    fn new(global: &'a Global) -> anyhow::Result<Self> {
        let interrupted = Interruption::listen()?;
        Ok(Watch { bar: Bar::new(global), global, phase: String::new(), interrupted })
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, progress: &Progress) {
        self.bar.report(&self.phase, progress.step as usize, progress.total_steps as usize);
    }

    fn should_stop(&self) -> bool {
        self.interrupted.is_wanted()
    }
}

impl PhaseObserver for Watch<'_> {
    fn phase(&mut self, name: &str, step: u64) {
        name.clone_into(&mut self.phase);
        if step > 0 {
            self.global.say(format_args!("{name} continues after step {step}"));
        }
    }
}
