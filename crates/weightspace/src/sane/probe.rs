//! What embeddings know about networks: linear probes for their properties (SANE, section 4.1).

use std::collections::BTreeSet;

use faer::{Mat, MatRef};
use serde::Serialize;

use super::features::{Extractor, Features, untrained};
use super::halo::Halo;
use super::pretraining::Samples;
use super::ridge::{self, accuracy, determination, fit_best};
use super::scale::{Scale, Scaler};
use super::{SaneError, SaneModel};
use crate::zoo::index::{AXES, axis_value};
use crate::zoo::{EpochMetrics, Population};

/// Elements of a matrix of features beyond which nothing is fitted.
const LARGEST: usize = 1 << 27;

/// What is predicted, and how well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeRow {
    /// The property.
    pub target: String,
    /// `determination` (R^2) for numbers, `accuracy` for classes.
    pub score: &'static str,
    /// What the probe sees.
    pub features: Features,
    /// How many numbers that is.
    pub dimension: usize,
    /// On the validation models, by which the penalty was chosen.
    pub validation: f64,
    /// On the test models.
    pub test: f64,
    /// The penalty.
    pub penalty: f64,
}

/// How networks are probed.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Epochs of the models; those of these that there are.
    pub epochs: Vec<u32>,
    /// Seed by which models are divided into three parts.
    pub split_seed: u64,
    /// Seed of the autoencoder that has learnt nothing.
    pub seed: u64,
    /// How long networks are seen.
    pub halo: Halo,
    /// What probes see of features.
    pub scale: Scale,
}

impl ProbeConfig {
    /// The published epochs, and the division that the autoencoder was trained with.
    pub fn of(model: &SaneModel) -> Self {
        ProbeConfig {
            epochs: vec![1, 3, 5, 10, 15, 20, 25],
            split_seed: model.split_seed,
            seed: 0,
            halo: Halo::of_window(model.autoencoder.config().window),
            scale: Scale::default(),
        }
    }
}

/// Features and properties of the models of a part.
struct Part {
    features: Vec<Mat<f64>>,
    /// Targets and their values, one per sample.
    numbers: Vec<Vec<f64>>,
    /// Of every axis of the zoo the value of every sample, if it has one.
    classes: Vec<Vec<Option<String>>>,
}

/// Names of the numbers that are predicted.
pub const NUMBERS: [&str; 3] = ["test accuracy", "epoch", "generalisation gap"];

fn numbers(metrics: &EpochMetrics) -> [f64; 3] {
    let test = f64::from(metrics.test_accuracy);
    [test, f64::from(metrics.epoch), f64::from(metrics.train_accuracy) - test]
}

/// Probes for every property that differs within a zoo: for test accuracy, epoch and generalisation gap, and for
/// hyper-parameters as classes. Properties that are not known of all samples are left out.
///
/// # Errors
/// If the zoo cannot be read, is not one of the autoencoder's, or has too few models.
pub fn probe(
    model: &SaneModel,
    zoo: &Population,
    config: &ProbeConfig,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<ProbeRow>, SaneError> {
    let random = untrained(model, config.seed);
    let groups = model.groups()?;
    let mut extractor = Extractor::new(model, &random, groups, config.halo);
    let (finite, _) = zoo.without_nan()?;
    let parts = finite.split(config.split_seed);
    let samples = [parts.train, parts.validation, parts.test]
        .map(|part| Samples::new(part, |epoch| config.epochs.contains(&epoch)))
        .map(|samples| model.align_samples(samples?));
    let [train, validation, test] = samples;
    let samples = [train?, validation?, test?];
    let total: usize = samples.iter().map(Samples::len).sum();
    if samples.iter().any(|samples| samples.len() < 2) {
        return Err(SaneError::Setting {
            setting: "number of models at these epochs",
            value: total.to_string(),
            expected: "at least 2 in each of the three parts of the zoo".to_owned(),
        });
    }
    let mut done = 0;
    let mut read = |samples: &Samples| {
        Part::read(&mut extractor, model, samples, || {
            done += 1;
            progress(done, total);
        })
    };
    let [train, validation, test] = [read(&samples[0])?, read(&samples[1])?, read(&samples[2])?];
    let mut rows = Vec::new();
    for (index, name) in NUMBERS.into_iter().enumerate() {
        let targets = [&train, &validation, &test].map(|part| column(&part.numbers[index]));
        rows.extend(probes(
            name,
            "determination",
            config.scale,
            [&train, &validation, &test],
            &targets,
            determination,
        ));
    }
    // Models of one seed may begin with the same weights, which says nothing of what was learnt.
    let axes = AXES.iter().enumerate().filter(|(_, (axis, _))| *axis != "seed");
    for (index, (axis, _)) in axes {
        let Some(targets) = one_hot([&train, &validation, &test].map(|part| &part.classes[index]))
        else {
            continue;
        };
        rows.extend(probes(
            axis,
            "accuracy",
            config.scale,
            [&train, &validation, &test],
            &targets,
            accuracy,
        ));
    }
    Ok(rows)
}

impl Part {
    fn read(
        extractor: &mut Extractor<'_>,
        model: &SaneModel,
        samples: &Samples,
        mut done: impl FnMut(),
    ) -> Result<Self, SaneError> {
        let mut rows: Vec<Vec<Vec<f64>>> = vec![Vec::new(); Features::ALL.len()];
        let (mut values, mut classes) = (vec![Vec::new(); 3], vec![Vec::new(); AXES.len()]);
        for sample in 0..samples.len() {
            let weights = samples.open(&model.layout, sample)?;
            let features = extractor.features(&weights, samples.aligned(sample), &Features::ALL)?;
            rows.iter_mut().zip(features).for_each(|(rows, features)| rows.push(features));
            let (params, metrics) = samples.known(sample)?;
            let of = numbers(&metrics);
            values.iter_mut().zip(of).for_each(|(values, value)| values.push(value));
            for (classes, (axis, _)) in classes.iter_mut().zip(AXES) {
                classes.push(axis_value(&params, axis));
            }
            done();
        }
        let matrix = |rows: &Vec<Vec<f64>>| {
            let columns = rows.first().map_or(0, Vec::len);
            Mat::from_fn(rows.len(), columns, |i, j| rows[i][j])
        };
        Ok(Part { features: rows.iter().map(matrix).collect(), numbers: values, classes })
    }
}

fn column(values: &[f64]) -> Mat<f64> {
    Mat::from_fn(values.len(), 1, |i, _| values[i])
}

/// Targets of an axis, 1 for the value of a sample and 0 for others; nothing where the training models do not differ, all
/// differ, or a value is unknown.
fn one_hot(parts: [&Vec<Option<String>>; 3]) -> Option<[Mat<f64>; 3]> {
    let known: Option<BTreeSet<&String>> = parts[0].iter().map(Option::as_ref).collect();
    let names: Vec<&String> = known?.into_iter().collect();
    let all_known =
        parts.iter().all(|part| part.iter().flatten().all(|name| names.contains(&name)));
    let complete = parts.iter().all(|part| part.iter().all(Option::is_some));
    if names.len() < 2 || names.len() > 32 || !all_known || !complete {
        return None;
    }
    Some(parts.map(|part| {
        Mat::from_fn(part.len(), names.len(), |i, j| {
            f64::from(u8::from(part[i].as_ref() == Some(names[j])))
        })
    }))
}

/// The probes of one target on all features.
fn probes(
    target: &str,
    score: &'static str,
    scale: Scale,
    parts: [&Part; 3],
    targets: &[Mat<f64>; 3],
    of: impl Fn(MatRef<'_, f64>, MatRef<'_, f64>) -> f64,
) -> Vec<ProbeRow> {
    let all = targets.iter().flat_map(|t| (0..t.nrows()).map(move |i| t[(i, 0)]));
    let train = &targets[0];
    let differs = (0..train.nrows()).any(|i| train[(i, 0)] != train[(0, 0)]);
    if !differs || !all.into_iter().all(f64::is_finite) {
        return Vec::new();
    }
    let row = |(index, &features): (usize, &Features)| {
        let train = parts[0].features[index].as_ref();
        let dimension = train.ncols();
        if dimension.saturating_mul(train.nrows()) > LARGEST {
            return None;
        }
        let scaler = Scaler::new(scale, train)?;
        let seen = parts.map(|part| scaler.apply(part.features[index].as_ref()));
        let samples = |part: usize| ridge::Samples {
            features: seen[part].as_ref(),
            targets: targets[part].as_ref(),
        };
        let [train, validation, test] = [samples(0), samples(1), samples(2)];
        let (ridge, found, penalty) = fit_best(train, validation, &of)?;
        let test = of(ridge.predict(test.features).as_ref(), test.targets);
        let target = target.to_owned();
        Some(ProbeRow { target, score, features, dimension, validation: found, test, penalty })
    };
    Features::ALL.iter().enumerate().filter_map(row).collect()
}
