//! A network together with the images that it is run on.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use weightspace_core::StateDict;
use weightspace_nn::arch;
use weightspace_nn::data::{self, Dataset, Preprocessing, Split, channels_advice};
use weightspace_nn::evaluate::{self, Classifier, Evaluation};
use weightspace_nn::net::Shape;
use weightspace_nn::{Engine, Net};

use super::Global;
use super::model::Model;
use super::progress::Bar;

/// A network, images and their preprocessing, which fit each other.
pub struct Setup {
    /// The network, for images of this size.
    pub net: Net,
    /// The images.
    pub dataset: Dataset,
    /// What is done to them before the network sees them.
    pub preprocessing: Preprocessing,
}

impl Setup {
    /// Reads the data set and fits the network of `model` to it.
    ///
    /// The preprocessing is, in this order: the one given, what the file says, what published
    /// checkpoints of the architecture expect, the data set's own.
    pub fn new(
        model: &Model,
        net: Net,
        data: &str,
        split: Split,
        preprocessing: Option<&Preprocessing>,
        global: &Global,
    ) -> anyhow::Result<Self> {
        let preprocessing = match preprocessing {
            Some(preprocessing) => preprocessing.clone(),
            None => default_preprocessing(model, &net, data)?,
        };
        let dataset = data::open(data, global.data_dir(), split)?;
        let fitted = fit(net, model, &dataset, &preprocessing);
        let net = fitted.with_context(|| model.path().display().to_string())?;
        global.explain(format_args!("{} with preprocessing {preprocessing}", net.arch()));
        Ok(Setup { net, dataset, preprocessing })
    }

    /// Counts the images that the network with these weights gets right; also the seconds it took.
    pub fn evaluate(
        &self,
        weights: &StateDict,
        global: &Global,
    ) -> anyhow::Result<(Evaluation, f64)> {
        let start = Instant::now();
        let engine = Engine::new(&self.net, weights)?;
        let result = self.accuracy(&engine, global)?;
        Ok((result, start.elapsed().as_secs_f64()))
    }

    /// As [`evaluate`](Self::evaluate), on images normalised as a model of this network was trained on, if that
    /// is stated.
    pub fn evaluate_as_stated(
        &self,
        weights: &StateDict,
        stated: Option<&str>,
    ) -> anyhow::Result<Evaluation> {
        let stated = stated.map(str::parse).transpose()?;
        let preprocessing = stated.as_ref().unwrap_or(&self.preprocessing);
        let engine = Engine::new(&self.net, weights)?;
        Ok(evaluate::accuracy(&engine, &self.dataset, None, preprocessing, &|_| ())?)
    }

    /// Counts the images that a classifier gets right.
    pub fn accuracy(
        &self,
        classifier: impl Classifier,
        global: &Global,
    ) -> anyhow::Result<Evaluation> {
        let bar = Bar::new(global);
        let total = self.dataset.len();
        let progress = |done| bar.report("images", done, total);
        let (images, preprocessing) = (&self.dataset, &self.preprocessing);
        Ok(evaluate::accuracy(classifier, images, None, preprocessing, &progress)?)
    }
}

fn default_preprocessing(model: &Model, net: &Net, data: &str) -> anyhow::Result<Preprocessing> {
    let published = || arch::default_preprocessing(net.arch(), data);
    let text = match model.preprocessing().or_else(published) {
        Some(text) => text,
        None => data::info(data)?.preprocessing,
    };
    text.parse().with_context(|| model.path().display().to_string())
}

/// The network for images of the data set's size: networks that end in global pooling read any.
fn fit(
    net: Net,
    model: &Model,
    dataset: &Dataset,
    preprocessing: &Preprocessing,
) -> anyhow::Result<Net> {
    let [channels, height, width] = preprocessing.output_shape(dataset.shape())?;
    let fits = |net: &Net| match net.input_shape() {
        Shape::Maps { .. } => net.input_shape() == Shape::Maps { channels, height, width },
        Shape::Vector(len) => len == channels * height * width,
        Shape::Tokens { .. } => false,
    };
    let net = match fits(&net) {
        true => net,
        false => model.fitted(net, Shape::Maps { channels, height, width }),
    };
    ensure!(
        fits(&net),
        "{} reads {}, but the images of {} are {channels} x {height} x {width} with preprocessing \
         {preprocessing}{}",
        net.arch(),
        describe(net.input_shape()),
        dataset.name(),
        match net.input_shape() {
            Shape::Maps { channels: expected, .. } => channels_advice(expected, channels),
            _ => "",
        }
    );
    ensure!(
        net.class_count() == dataset.class_count(),
        "{} has {} classes, {} has {}",
        net.arch(),
        net.class_count(),
        dataset.name(),
        dataset.class_count(),
    );
    Ok(net)
}

fn describe(shape: Shape) -> String {
    match shape {
        Shape::Maps { channels, height, width } => format!("{channels} x {height} x {width}"),
        Shape::Tokens { count, width } => format!("{count} tokens of {width}"),
        Shape::Vector(len) => format!("{len} values"),
    }
}

/// The test images of a data set; `None` if it has none but the training images.
pub fn test_images(data: &str, data_dir: Option<&Path>) -> anyhow::Result<Option<Dataset>> {
    let images = data::open(data, data_dir, Split::Test)?;
    Ok(Some(images).filter(|images| images.split() == Some(Split::Test)))
}
