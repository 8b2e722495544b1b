//! Images with labels.

use std::ops::Range;

use weightspace_core::StateDict;

use super::teacher::Teacher;
use super::{DistillationConfig, Prepared, Score, Task, TrainConfig, TrainError};
use crate::comm::Part;
use crate::data::{Augmentation, Dataset, Mixtures, Preprocessing, View, split_train_validation};
use crate::evaluate::{argmax, for_each_batch};
use crate::loss::{CrossEntropy, Loss};
use crate::net::Op;
use crate::{Engine, Net, NodeId};

/// Seed of the division into training and held-out images: the same for every run, so that what one
/// network was not trained on is held out from those that learn from it, too.
pub const HELD_OUT_SEED: u64 = 0;

/// Images of a data set, some of them held out, with cross-entropy as their loss or with a teacher.
pub struct Classification<'a> {
    net: &'a Net,
    dataset: &'a Dataset,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    seed: u64,
    label_smoothing: f32,
    training: Vec<usize>,
    held_out: Vec<usize>,
    teacher: Option<Teacher<'a>>,
    indices: Vec<usize>,
    images: Vec<f32>,
    mixtures: Mixtures,
    labels: Vec<u16>,
}

/// The feature maps that distillation compares: what every batch normalisation and every sum gives.
pub fn feature_maps(net: &Net) -> Vec<NodeId> {
    let is_one = |id: &NodeId| matches!(net.node(*id).op, Op::BatchNorm { .. } | Op::Add);
    net.node_ids().filter(is_one).collect()
}

impl<'a> Classification<'a> {
    /// All images of `dataset`, `held_out` of them ([`split_train_validation`] with
    /// [`HELD_OUT_SEED`]) for evaluation only.
    ///
    /// # Errors
    /// If network, images and preprocessing do not fit together, or there are too few images.
    pub fn new(
        net: &'a Net,
        dataset: &'a Dataset,
        preprocessing: &Preprocessing,
        held_out: usize,
        config: &TrainConfig,
    ) -> Result<Self, TrainError> {
        let count = dataset.len();
        if held_out >= count {
            let purpose = format!("to hold {held_out} of them out");
            return Err(TrainError::TooFewSamples { samples: count, purpose });
        }
        let image: usize = preprocessing.output_shape(dataset.shape())?.iter().product();
        expect(dataset.name(), image, "values in an image", net, net.input_len())?;
        expect(dataset.name(), dataset.class_count(), "classes", net, net.class_count())?;
        let (training, held_out) = split_train_validation(count, held_out, HELD_OUT_SEED);
        Ok(Classification {
            net,
            dataset,
            preprocessing: preprocessing.clone(),
            augmentation: config.augmentation,
            seed: config.seed,
            label_smoothing: config.label_smoothing,
            training,
            held_out,
            teacher: None,
            indices: Vec::new(),
            images: Vec::new(),
            mixtures: Mixtures::default(),
            labels: Vec::new(),
        })
    }

    /// Learns from a teacher, which sees the same augmented images. Where feature maps are compared, it is an engine
    /// whose taps are its own [`feature_maps`].
    ///
    /// # Errors
    /// If the teacher reads other images, knows other classes, or has other feature maps than are needed.
    pub fn with_teacher(
        self,
        teacher: &'a Engine,
        config: DistillationConfig,
    ) -> Result<Self, TrainError> {
        let teacher = Teacher::new(self.net, teacher, config, self.training.len())?;
        Ok(Classification { teacher: Some(teacher), ..self })
    }

    /// Number of images held out.
    pub fn held_out_count(&self) -> usize {
        self.held_out.len()
    }
}

/// Checks that something has as many values as a network needs.
pub(super) fn expect(
    what: &str,
    found: usize,
    of: &'static str,
    net: &Net,
    expected: usize,
) -> Result<(), TrainError> {
    let (what, other) = (what.to_owned(), net.arch().to_owned());
    match found == expected {
        true => Ok(()),
        false => Err(TrainError::Mismatch { what, found, of, other, expected }),
    }
}

impl Task for Classification<'_> {
    fn net(&self) -> &Net {
        self.net
    }

    fn taps(&self) -> Vec<NodeId> {
        self.teacher.iter().flat_map(Teacher::taps).collect()
    }

    fn sample_count(&self) -> usize {
        self.training.len()
    }

    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError> {
        let classes = self.net.class_count();
        let labels = self.dataset.labels();
        self.indices.clear();
        self.indices.extend(samples.iter().map(|&sample| self.training[sample]));
        self.labels.clear();
        self.labels.extend(self.indices.iter().map(|&index| labels[index]));
        self.images.resize(share.len() * self.net.input_len(), 0.0);
        let view = View {
            preprocessing: &self.preprocessing,
            augmentation: self.augmentation,
            seed: self.seed,
            epoch: self.teacher.as_ref().map_or(epoch, |teacher| teacher.view(epoch)),
        };
        // Here and not on a thread of its own during the step before: it takes 0.3 ms of the 50 ms of
        // a step of ResNet-20.
        let (dataset, own) = (self.dataset, &self.indices[share.clone()]);
        dataset.fill_augmented(own, &view, &mut self.images)?;
        if self.teacher.as_ref().is_some_and(Teacher::mixes) {
            self.mixtures.mix(dataset, own, &self.training, &view, &mut self.images)?;
        }
        let Some(teacher) = &mut self.teacher else {
            let loss = CrossEntropy::new(&self.labels, classes);
            let loss = Box::new(loss.with_label_smoothing(self.label_smoothing));
            return Ok(Prepared { inputs: &self.images, loss, taps: Vec::new() });
        };
        teacher.ask(epoch, samples, share, &self.images)?;
        let loss = Box::new(teacher.loss(&self.labels));
        Ok(Prepared { inputs: &self.images, loss, taps: teacher.feature_losses() })
    }

    fn evaluate(&self, weights: &StateDict, part: Part) -> Result<Option<Score>, TrainError> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let engine = Engine::new(self.net, weights)?;
        let own = &self.held_out[part.range(self.held_out.len())];
        Score::of(&engine, self.dataset, Some(own), &self.preprocessing).map(Some)
    }
}

impl Score {
    /// Accuracy and cross-entropy of a network on images of a data set (all of them for `None`).
    ///
    /// # Errors
    /// If the images do not fit the preprocessing or the network.
    pub fn of(
        engine: &Engine,
        dataset: &Dataset,
        indices: Option<&[usize]>,
        preprocessing: &Preprocessing,
    ) -> Result<Self, TrainError> {
        let classes = engine.class_count();
        let (mut score, mut correct) = (Score::default(), 0);
        let (mut labels, mut gradient) = (Vec::new(), Vec::new());
        for_each_batch(engine, dataset, indices, preprocessing, |indices, logits| {
            labels.clear();
            labels.extend(indices.iter().map(|&index| dataset.labels()[index]));
            gradient.resize(logits.len(), 0.0);
            let loss = CrossEntropy::new(&labels, classes);
            let mean = loss.evaluate(0, logits, &mut gradient[..logits.len()]);
            score.loss += mean * labels.len() as f64;
            for (logits, &label) in logits.chunks_exact(classes).zip(&labels) {
                correct += usize::from(argmax(logits) == usize::from(label));
            }
            score.total += labels.len();
        })?;
        score.loss /= score.total.max(1) as f64;
        Ok(Score { correct: Some(correct), ..score })
    }
}
