//! Which networks new ones are drawn around.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use weightspace::zoo::names::matched;
use weightspace::zoo::{self, Population};
use weightspace_core::StateDict;

use super::embed::{say_left_out, zoo_of};
use super::judge::{Judge, JudgeArgs, Like};
use crate::cli::model::Model;
use crate::cli::{Global, text};

/// Prompts, and the images to judge by.
#[derive(Args)]
pub struct PromptArgs {
    /// Share of the zoo's models that are prompts: the best on validation images
    #[arg(long, value_name = "S", default_value_t = 0.3)]
    best: f64,
    /// Epoch of the zoo's models [default: the last of each]
    #[arg(long, value_name = "E")]
    epoch: Option<u32>,
    #[command(flatten)]
    judge: JudgeArgs,
}

/// Networks that new ones are drawn around.
pub struct Prompts {
    /// Files, or models with their epochs.
    pub names: Vec<String>,
    /// Their weights.
    pub weights: Vec<StateDict>,
    /// Their accuracies on the judge's validation and test images, where the zoo says them.
    pub accuracies: Vec<Option<[f64; 2]>>,
    /// What judges networks like them.
    pub judge: Judge,
    /// Which models were not looked at, in words.
    pub note: Option<String>,
}

impl PromptArgs {
    /// The best models of a zoo, or checkpoints.
    pub fn open(&self, paths: &[PathBuf], global: &Global) -> anyhow::Result<Prompts> {
        if let Some(zoo) = zoo_of(paths)? {
            let shown = zoo.path().display().to_string();
            return self.best_of(zoo, global).context(shown);
        }
        let first = Model::open(&paths[0])?;
        let open = |path: &PathBuf| like(&first, Model::open(path)?);
        let weights = paths.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        let judge = self.judge.judge(Like::File(&first), first.tensors(), global)?;
        let accuracies = vec![None; weights.len()];
        Ok(Prompts { names, weights, accuracies, judge, note: None })
    }

    /// The best models of a zoo that have the activation, or the stated architecture, of the best of all.
    fn best_of(&self, zoo: Population, global: &Global) -> anyhow::Result<Prompts> {
        if !(self.best > 0.0 && self.best <= 1.0) {
            bail!("--best is {}, expected above 0 and at most 1", self.best);
        }
        let (zoo, left_out) = zoo.without_nan()?;
        say_left_out(&left_out, global);
        let mut ranked = Vec::new();
        for index in 0..zoo.len() {
            let model = zoo.model(index)?;
            let of = |epoch: &u32| self.epoch.is_none_or(|wanted| wanted == *epoch);
            let Some(epoch) = model.epochs.iter().copied().rfind(of) else { continue };
            let metrics = model.metrics.iter().find(|metrics| metrics.epoch == epoch);
            let known = metrics.map_or([f32::NAN; 2], |m| [m.validation_accuracy, m.test_accuracy]);
            ranked.push((known, index, epoch, model));
        }
        let score = |[known, _]: [f32; 2]| if known.is_nan() { f32::NEG_INFINITY } else { known };
        ranked.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)).then(a.1.cmp(&b.1)));
        if ranked.is_empty() {
            bail!("no models with finite weights of this epoch");
        }
        if self.best < 1.0 && ranked.iter().all(|(known, ..)| known[0].is_nan()) {
            bail!(
                "no model has a validation accuracy, by which --best chooses: --best 1 takes all"
            );
        }
        let kind = |model: &zoo::Model| match model.spec() {
            Ok(spec) => Some(spec.activation.name().to_owned()),
            Err(_) => model.stated_arch().map(str::to_owned),
        };
        let (all, own) = (ranked.len(), kind(&ranked[0].3));
        ranked.retain(|(_, _, _, model)| kind(model) == own);
        let note = own.filter(|_| ranked.len() < all).map(|own| {
            let (count, own) = (ranked.len(), text::printable(&own));
            format!("prompts are of the {count} of {all} models with {own}")
        });
        let kept = (self.best * ranked.len() as f64).ceil().max(1.0) as usize;
        ranked.truncate(kept);
        let weights = ranked.iter().map(|(_, index, epoch, _)| zoo.weights(*index, *epoch));
        let mut weights = weights.collect::<Result<Vec<_>, _>>()?;
        let infos = weights[0].infos();
        for (weights, (_, _, _, model)) in weights.iter_mut().zip(&ranked) {
            let others =
                || format!("{}: its tensors are not those of {}", model.name, ranked[0].3.name);
            *weights = matched(std::mem::take(weights), &infos).with_context(others)?;
        }
        let judge = self.judge.judge(Like::Model(&zoo, &ranked[0].3), &infos, global)?;
        let names = ranked.iter().map(|(_, _, epoch, model)| format!("{}:{epoch}", model.name));
        // What a zoo says is of its own images.
        let own = self.judge.is_the_zoos() && zoo.description().is_some();
        let known = |known: [f32; 2]| known.iter().all(|value| !value.is_nan());
        let accuracies =
            ranked.iter().map(|(of, ..)| (own && known(*of)).then(|| of.map(f64::from)));
        let accuracies = accuracies.collect();
        Ok(Prompts { names: names.collect(), weights, accuracies, judge, note })
    }
}

/// The tensors of a network, in the order and under the names of another's, which it has to be like.
fn like(first: &Model, other: Model) -> anyhow::Result<StateDict> {
    let shown = |model: &Model| model.path().display().to_string();
    matched(other.state_dict()?, first.tensors()).with_context(|| {
        format!("{}: its tensors are not those of {}", shown(&other), shown(first))
    })
}
