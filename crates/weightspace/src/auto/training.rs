//! Candidates that train.

use std::path::Path;

use weightspace_core::WspFile;
use weightspace_core::container::Header;
use weightspace_nn::data::Augmentation;
use weightspace_nn::{Engine, Net};

use super::candidates::quantized;
use super::{AutoError, Goal, Session};
use crate::phases::{PhasePlace, Reporting};
use crate::predictor::{self, Original, Recipe};
use crate::quantize::aware::{self, AwareConfig, AwareError, AwareRecipe, Lesson};
use crate::quantize::{Images, Progress, QuantizeError};

/// Part of the size of the smallest file that is accurate enough which training tries next.
const SMALLER: f64 = 0.8;

/// How candidates train.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Passes over the training images for every file.
    pub epochs: u32,
    /// Random changes of images.
    pub augmentation: Augmentation,
    /// Whose logits are learnt, if not the network's own.
    pub teacher: Option<&'a Engine>,
    /// Seed of all that is random.
    pub seed: u64,
    /// Where every training has a folder, in which it goes on if it is interrupted.
    pub place: Option<&'a Path>,
    /// Whether training is to stop.
    pub should_stop: &'a dyn Fn() -> bool,
}

impl Session<'_> {
    /// What training needs: how, the network, and its images.
    fn lesson(&self) -> Result<(Training<'_>, &Net, Images<'_>), AutoError> {
        let needs = |what| move || QuantizeError::Needs(what);
        let training = self.training.ok_or_else(needs("training needs --train-epochs"))?;
        let source = self.network.source();
        let (net, images) = source.ok_or_else(needs("training needs images (--data)"))?;
        Ok((training, net, images))
    }

    /// A file of weights that are trained on its grid. For an accuracy, sizes are tried from that of post-training
    /// quantisation downwards for as long as it is reached.
    pub(super) fn trained_on_grid(
        &self,
        header: &Header,
        goal: Goal,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, AutoError> {
        let (training, net, images) = self.lesson()?;
        let weights = self.network.original();
        let own = match training.teacher {
            Some(_) => None,
            None => Some(Engine::new(net, weights).map_err(QuantizeError::from)?),
        };
        let teacher = training.teacher.or(own.as_ref()).expect("one of both");
        let lesson = Lesson { header, net, weights, images, teacher };
        let train = |bytes: u64| {
            let recipe = AwareRecipe {
                grid: AwareConfig { target_bytes: bytes, ..AwareConfig::default() },
                epochs: training.epochs,
                batch: batch(images),
                augmentation: training.augmentation,
                held_out: self.network.held_out_count(),
                seed: training.seed,
                ..AwareRecipe::default()
            };
            let name = format!("quantize-trained-{bytes}-");
            let place = PhasePlace { folder: training.place, prefix: &name };
            aware::train(lesson, &recipe, place, progress, training.should_stop)
        };
        let wanted = match goal {
            Goal::Bytes(bytes) => return Ok(train(bytes)?),
            Goal::Accuracy(accuracy) => accuracy,
        };
        let untrained = quantized(self, header, goal, progress)?.len();
        let (mut smallest, mut best) = (untrained, None);
        loop {
            let smaller = match train((SMALLER * smallest as f64) as u64) {
                Ok(file) => file,
                Err(AwareError::Quantize(QuantizeError::OutOfReach(_))) => break,
                Err(error) => return Err(error.into()),
            };
            let decoded = WspFile::from_bytes("candidate", smaller.clone())?.state_dict()?;
            if self.network.held_out_accuracy(&decoded)? < wanted {
                break;
            }
            (smallest, best) = (smaller.len(), Some(smaller));
        }
        best.ok_or_else(|| {
            let Training { epochs, .. } = training;
            let text = format!("no file smaller than {untrained} bytes after {epochs} epochs");
            AutoError::OutOfReach(text)
        })
    }

    /// A file of a predictor of the weights: for a size, of as many hidden units as that allows.
    pub(super) fn predicted(
        &self,
        header: &Header,
        goal: Goal,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, AutoError> {
        let (training, net, images) = self.lesson()?;
        let mut recipe = Recipe {
            epochs: training.epochs,
            augmentation: training.augmentation,
            held_out: Some(self.network.held_out_count()),
            ..Recipe::preset("best").unwrap_or_default()
        };
        let name = match goal {
            Goal::Bytes(bytes) => {
                (recipe.target_bytes, recipe.fit_width) = (Some(bytes), true);
                format!("predictor-{bytes}-")
            }
            Goal::Accuracy(accuracy) => {
                recipe.target_accuracy = Some(accuracy);
                "predictor-".to_owned()
            }
        };
        let weights = self.network.original();
        let original = Original { header, net, weights, images: Some(images) };
        let Training { place, seed, should_stop, .. } = training;
        let mut observer = Reporting::new(progress, should_stop);
        let place = PhasePlace { folder: place, prefix: &name };
        Ok(predictor::follow(original, &recipe, seed, place, &mut observer)?.bytes)
    }
}

/// Images of a batch: fewer of small data sets, so that there are steps enough.
fn batch(images: Images<'_>) -> usize {
    (images.train.len() / 100).clamp(8, 128)
}
