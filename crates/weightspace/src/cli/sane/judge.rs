//! How good sampled networks are: on held-out training images, and at the end on test images.

use anyhow::{Context, bail};
use clap::Args;
use weightspace::zoo::names::renamed;
use weightspace::zoo::{Model, Population, ZooDescription};
use weightspace_core::{DType, StateDict, TensorInfo};
use weightspace_nn::data::{self, Dataset, Preprocessing, Split, split_train_validation};
use weightspace_nn::evaluate;
use weightspace_nn::net::Shape;
use weightspace_nn::{Engine, Net, arch};

use crate::cli::Global;
use crate::cli::model::ArchChoice;
use crate::cli::setup::test_images;

/// Training images that are held out where nothing says how many.
const HELD_OUT: usize = 5000;

/// Images to judge by; a zoo that was trained here knows its own.
#[derive(Args)]
pub struct JudgeArgs {
    /// Data set [default: the zoo's, or what its models state]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Normalisation of the images [default: the zoo's, or what a model states, else the data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    /// Training images to judge by [default: the zoo's, else 5000]
    #[arg(long, value_name = "N")]
    holdout: Option<usize>,
    /// Architecture with its activation, as zoo-cnn:gelu [default: that of the prompts]
    #[arg(long, value_name = "SPEC")]
    arch: Option<String>,
}

/// A network with the images that it is judged by.
pub struct Judge {
    /// The network.
    pub net: Net,
    /// Training images.
    pub train: Dataset,
    /// Those that are not held out.
    pub chosen: Vec<usize>,
    /// Those that networks are chosen by.
    pub held_out: Vec<usize>,
    /// Test images, where there are such.
    pub test: Option<Dataset>,
    /// What is done to images.
    pub preprocessing: Preprocessing,
}

/// What networks are like that are to be judged.
#[derive(Clone, Copy)]
pub enum Like<'a> {
    /// A model of a zoo.
    Model(&'a Population, &'a Model),
    /// A checkpoint or .wsp file.
    File(&'a crate::cli::model::Model),
}

impl JudgeArgs {
    /// Whether nothing is asked for but what a zoo says itself.
    pub fn is_the_zoos(&self) -> bool {
        self.data.is_none()
            && self.preprocessing.is_none()
            && self.holdout.is_none()
            && self.arch.is_none()
    }

    /// The judge of networks like this one, which has these tensors.
    pub fn judge(
        &self,
        like: Like<'_>,
        tensors: &[TensorInfo],
        global: &Global,
    ) -> anyhow::Result<Judge> {
        let (description, stated_data) = match like {
            Like::Model(zoo, model) => (zoo.description(), model.data()),
            Like::File(_) => (None, None),
        };
        let description = description.map(|text| ZooDescription::parse(&text)).transpose()?;
        let described = description.as_ref().map(|d| d.data.as_str());
        let Some(data) = self.data.as_deref().or(described).or(stated_data) else {
            bail!("nothing says what the networks are for: --data NAME is needed");
        };
        let own = description.as_ref().filter(|d| d.data == *data);
        let stated = match like {
            Like::Model(_, model) => {
                model.preprocessing().filter(|_| stated_data.is_none_or(|own| own == data))
            }
            Like::File(file) => file.preprocessing(),
        };
        let preprocessing = match (&self.preprocessing, own) {
            (Some(preprocessing), _) => preprocessing.clone(),
            (None, Some(description)) => description.preprocessing()?,
            (None, None) => stated.unwrap_or(data::info(data)?.preprocessing).parse()?,
        };
        let train = data::open(data, global.data_dir(), Split::Train)?;
        let test = test_images(data, global.data_dir())?;
        let held_out = self.holdout.or(own.map(|d| d.holdout).filter(|&count| count > 0));
        let held_out = held_out.unwrap_or(HELD_OUT.min(train.len() / 5));
        if held_out == 0 || held_out >= train.len() {
            bail!("--holdout: {held_out} of {} training images of {data}", train.len());
        }
        let seed = own.map_or(0, |description| description.data_seed);
        let (chosen, held_out) = split_train_validation(train.len(), held_out, seed);
        let net = match (&self.arch, like) {
            (Some(spec), _) => arch::build(spec, &Default::default())?,
            (None, Like::Model(_, model)) if !model.has_settings() => match model.stated_arch() {
                Some(spec) => arch::build(spec, &Default::default())?,
                None => arch::recognise(tensors)?,
            },
            (None, Like::Model(_, model)) => {
                let [channels, size, _] = preprocessing.output_shape(train.shape())?;
                model.spec()?.net(channels, size, train.class_count())?
            }
            (None, Like::File(file)) => file.net(&ArchChoice::Auto)?,
        };
        arch::check(&net, tensors).context("--arch does not fit the prompts")?;
        let [channels, height, width] = preprocessing.output_shape(train.shape())?;
        let found = channels * height * width;
        let expected = net.input_shape().element_count();
        if found != expected && !matches!(net.input_shape(), Shape::Tokens { .. }) {
            bail!(
                "{} reads {expected} values, but the images of {data} have {found} with preprocessing {preprocessing}",
                net.arch()
            );
        }
        Ok(Judge { net, train, chosen, held_out, test, preprocessing })
    }
}

impl Judge {
    /// Weights under the names of the judge's network: prompts may call their modules differently.
    pub fn named(&self, weights: &StateDict) -> StateDict {
        let infos = self.net.parameters().into_iter().map(|parameter| TensorInfo {
            name: parameter.name,
            dtype: DType::F32,
            shape: parameter.shape,
        });
        renamed(weights.clone(), &infos.collect::<Vec<_>>())
    }

    /// Accuracy on the held-out training images.
    pub fn score(&self, weights: &StateDict) -> anyhow::Result<f64> {
        self.accuracy(weights, &self.train, Some(&self.held_out))
    }

    /// Accuracy on the test images, if there are such.
    pub fn test(&self, weights: &StateDict) -> anyhow::Result<Option<f64>> {
        self.test.as_ref().map(|test| self.accuracy(weights, test, None)).transpose()
    }

    fn accuracy(
        &self,
        weights: &StateDict,
        images: &Dataset,
        indices: Option<&[usize]>,
    ) -> anyhow::Result<f64> {
        let engine = Engine::new(&self.net, &self.named(weights))?;
        let found = evaluate::accuracy(&engine, images, indices, &self.preprocessing, &|_| ())?;
        Ok(found.accuracy())
    }

    /// Logits on the test images, image by image; empty where there are none.
    pub fn logits(&self, weights: &StateDict) -> anyhow::Result<Vec<f32>> {
        let mut logits = Vec::new();
        if let Some(test) = &self.test {
            let engine = Engine::new(&self.net, &self.named(weights))?;
            let take = |_: &[usize], own: &[f32]| logits.extend_from_slice(own);
            evaluate::for_each_batch(&engine, test, None, &self.preprocessing, take)?;
        }
        Ok(logits)
    }

    /// Accuracy on the test images of logits.
    pub fn accuracy_of(&self, logits: &[f32]) -> Option<f64> {
        let labels = self.test.as_ref()?.labels();
        let rows = logits.chunks_exact(self.net.class_count()).zip(labels);
        let right = rows.filter(|(row, label)| evaluate::argmax(row) == usize::from(**label));
        Some(right.count() as f64 / labels.len().max(1) as f64)
    }
}
