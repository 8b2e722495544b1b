//! On which images of a data set a network is measured.

use anyhow::ensure;
use clap::{Args, ValueEnum};
use weightspace_nn::data::{Preprocessing, Split, split_train_validation};

use super::Global;
use super::model::{ArchArgs, Model};
use super::setup::Setup;

/// Training images that are looked at when the number is not given.
const TRAINING_IMAGES: usize = 10_000;

/// A data set, and which of its images.
#[derive(Args)]
pub struct Images {
    /// Data set as `weightspace list` names it, or folder:PATH
    #[arg(long, value_name = "NAME")]
    data: String,
    #[command(flatten)]
    choice: Choice,
}

/// Which images of a data set that is named elsewhere, and the network that reads them.
#[derive(Args)]
pub struct Choice {
    /// Which part of the data set
    #[arg(long, value_enum, default_value_t = Part::Test, requires = "data")]
    split: Part,
    /// Images to look at, drawn by --seed [default: all test images, 10000 training images]
    #[arg(long, value_name = "N", requires = "data")]
    images: Option<usize>,
    /// Normalisation of the images [default: what the model says, else the architecture's, else the
    /// data set's]
    #[arg(long, value_name = "P", requires = "data")]
    preprocessing: Option<Preprocessing>,
    #[command(flatten)]
    pub arch: ArchArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Train,
    Test,
}

impl Images {
    /// The network with its images, and which of them to look at.
    pub fn open(
        &self,
        model: &Model,
        global: &Global,
    ) -> anyhow::Result<(Setup, Option<Vec<usize>>)> {
        self.choice.open(&self.data, model, global)
    }
}

impl Choice {
    /// The network with the images of a data set, and which of them to look at.
    pub fn open(
        &self,
        data: &str,
        model: &Model,
        global: &Global,
    ) -> anyhow::Result<(Setup, Option<Vec<usize>>)> {
        let split = match self.split {
            Part::Train => Split::Train,
            Part::Test => Split::Test,
        };
        let net = model.net(&self.arch.arch)?;
        let setup = Setup::new(model, net, data, split, self.preprocessing.as_ref(), global)?;
        let wanted = self.images.or(match self.split {
            Part::Train => Some(TRAINING_IMAGES),
            Part::Test => None,
        });
        let chosen = wanted.and_then(|wanted| draw(setup.dataset.len(), wanted, global));
        ensure!(chosen.as_ref().is_none_or(|chosen| !chosen.is_empty()), "--images: no images");
        Ok((setup, chosen))
    }
}

/// So many of `count` images, by --seed; `None` for all of them.
pub fn draw(count: usize, wanted: usize, global: &Global) -> Option<Vec<usize>> {
    (wanted < count).then(|| {
        let mut all = split_train_validation(count, 0, global.seed()).0;
        all.truncate(wanted);
        all
    })
}
