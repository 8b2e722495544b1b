//! Options of the method predictor.

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use weightspace::predictor::{self, Ordering, PRESETS, Product, Recipe};
use weightspace::quantize::Images;
use weightspace_core::StateDict;
use weightspace_core::container::Header;
use weightspace_nn::Net;
use weightspace_nn::train::{Observer, Progress};

use crate::cli::Global;
use crate::cli::progress::Bar;

/// The predictor, and its training.
#[derive(Args)]
#[command(next_help_heading = "Options of --method predictor")]
pub struct PredictorArgs {
    /// What the other options begin with [default: small]
    #[arg(long, value_name = "NAME", value_parser = preset_parser())]
    preset: Option<String>,
    /// Hidden units of the predictor
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u16).range(1..))]
    width: Option<u16>,
    /// Order of the kernels: identity, free, axes, in-filter or cross-filter
    #[arg(long, value_name = "ORDER")]
    order: Option<Ordering>,
    /// Steps of reconstruction
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Epochs of distillation from the network itself, with --data; 0 for none
    #[arg(long, value_name = "N")]
    distill_epochs: Option<u32>,
    /// Bits of the predictor's weights in the file
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16))]
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
            ("--steps", self.steps.is_some()),
            ("--distill-epochs", self.distill_epochs.is_some()),
            ("--predictor-bits", self.predictor_bits.is_some()),
            ("--mask", self.mask),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    fn recipe(&self) -> Recipe {
        let name = self.preset.as_deref().unwrap_or("small");
        let mut recipe = Recipe::preset(name).unwrap_or_default();
        recipe.model.hidden = self.width.map_or(recipe.model.hidden, usize::from);
        recipe.target.ordering = self.order.unwrap_or(recipe.target.ordering);
        recipe.target.mask |= self.mask;
        recipe.steps = self.steps.unwrap_or(recipe.steps);
        recipe.epochs = self.distill_epochs.unwrap_or(recipe.epochs);
        recipe.bits = self.predictor_bits.unwrap_or(recipe.bits);
        recipe
    }

    /// Bytes of the file that these options lead to, but for the order and for what entropy coding saves.
    pub fn estimated_bytes(&self, net: Option<&Net>) -> u64 {
        const NAMES: u64 = 2000;
        let recipe = self.recipe();
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

    /// Follows the recipe.
    pub fn encode(
        &self,
        header: &Header,
        net: &Net,
        weights: &StateDict,
        images: Option<Images<'_>>,
        global: &Global,
    ) -> anyhow::Result<Product> {
        let recipe = self.recipe();
        let mut watch = Watch { bar: Bar::new(global), steps: 0, phase: 0 };
        predictor::compress(header, net, weights, images, &recipe, global.seed(), &mut watch)
            .with_context(|| net.arch().to_owned())
    }
}

/// A bar for every phase of training.
struct Watch {
    bar: Bar,
    /// Steps of the phase so far.
    steps: u64,
    phase: usize,
}

impl Observer for Watch {
    fn step(&mut self, progress: &Progress) {
        // A phase begins where steps are counted anew.
        self.phase += usize::from(progress.step < self.steps);
        self.steps = progress.step;
        let phase = ["reconstructing", "distilling"][self.phase.min(1)];
        self.bar.report(phase, progress.step as usize, progress.total_steps as usize);
    }
}
