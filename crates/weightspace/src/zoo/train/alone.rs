//! One model that lanes cannot train, by the ordinary engine.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weightspace_core::StateDict;
use weightspace_nn::comm::Part as RankPart;
use weightspace_nn::data::View;
use weightspace_nn::loss::{CrossEntropy, Loss};
use weightspace_nn::train::{
    CheckpointPolicy, Dense, Prepared, RunFolder, Score, Task, TrainConfig, TrainError, Trainer,
};
use weightspace_nn::{Engine, ModelState, Net};

use super::images::{Datasets, Part};
use super::in_lanes::pair;
use super::members::{Members, Scores};
use super::running_accuracy::{Counted, TALLY, Tally};
use crate::zoo::ZooError;
use crate::zoo::row::RowLayout;

/// A model on a thread of its own. What is said of it in an epoch is the loss and accuracy of its training steps, as of
/// models in lanes; one that diverges is not a number from then on.
pub struct Alone<'a> {
    trainer: Trainer<'a>,
    net: &'a Net,
    images: &'a Datasets,
    folder: RunFolder,
    /// Of this epoch's training steps.
    tally: Arc<Tally>,
    tally_file: PathBuf,
    /// The epoch that a model which has diverged stands for.
    diverged: Option<u32>,
}

impl<'a> Alone<'a> {
    /// Before the first step; `folder` is where it continues.
    ///
    /// # Errors
    /// If model and images do not fit, or the folder is not writable.
    pub fn new(
        net: &'a Net,
        start: ModelState,
        config: TrainConfig,
        images: &'a Datasets,
        folder: &Path,
    ) -> Result<Self, ZooError> {
        let config = TrainConfig { augmentation: images.augmentation, ..config };
        let tally = Arc::new(Tally::default());
        let task = Images {
            net,
            images,
            seed: config.seed,
            inputs: Vec::new(),
            labels: Vec::new(),
            tally: Arc::clone(&tally),
        };
        let method = Dense::new(net, start.weights);
        let trainer = Trainer::new(Box::new(task), Box::new(method), start.running, config)?;
        let tally_file = folder.join(TALLY);
        let folder = RunFolder::open(folder, CheckpointPolicy::default())?;
        Ok(Alone { trainer, net, images, folder, tally, tally_file, diverged: None })
    }

    /// The mean loss and the accuracy of an epoch's steps, unless `stop` said so before its end.
    fn train_epoch(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Scores>, TrainError> {
        let epoch = self.trainer.position().epoch;
        while self.trainer.position().epoch == epoch {
            if stop() {
                return Ok(None);
            }
            self.trainer.step()?;
        }
        // Weights may have stopped being finite in the last step.
        let loss = self.trainer.evaluate()?.train_loss;
        let accuracy = self.tally.take_accuracy();
        Ok(loss.map(|loss| [loss as f32, accuracy]))
    }

    fn state(&mut self) -> StateDict {
        self.trainer.current().to_state_dict(self.net)
    }
}

impl Members for Alone<'_> {
    fn epoch(&self) -> u32 {
        self.diverged.unwrap_or_else(|| self.trainer.position().epoch)
    }

    fn is_finished(&self) -> bool {
        self.epoch() >= self.trainer.config().epochs
    }

    fn run_epoch(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<Scores>>, ZooError> {
        const UNKNOWN: Scores = [f32::NAN; 2];
        if let Some(epoch) = &mut self.diverged {
            *epoch += 1;
            return Ok(Some(vec![UNKNOWN]));
        }
        let epoch = self.trainer.position().epoch;
        match self.train_epoch(stop) {
            Ok(scores) => Ok(scores.map(|scores| vec![scores])),
            Err(TrainError::Diverged { .. }) => {
                self.diverged = Some(epoch + 1);
                Ok(Some(vec![UNKNOWN]))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn evaluate(&mut self, part: Part) -> Result<Option<Vec<Scores>>, ZooError> {
        let Datasets { train, chosen, held_out, test, preprocessing, .. } = self.images;
        let (dataset, indices) = match part {
            Part::Train => (train, Some(&chosen[..])),
            Part::Validation if held_out.is_empty() => return Ok(None),
            Part::Validation => (train, Some(&held_out[..])),
            Part::Test => match test {
                Some(test) => (test, None),
                None => return Ok(None),
            },
        };
        if self.diverged.is_some() {
            return Ok(Some(vec![[f32::NAN; 2]]));
        }
        let engine = Engine::new(self.net, &self.state()).map_err(TrainError::from)?;
        let score = Score::of(&engine, dataset, indices, preprocessing)?;
        Ok(Some(vec![pair(&score)]))
    }

    fn rows(&mut self) -> Result<Vec<Vec<f32>>, ZooError> {
        let state = self.state();
        let row = RowLayout(state.infos()).row(&state).map_err(ZooError::Spec)?;
        Ok(vec![match self.diverged {
            Some(_) => vec![f32::NAN; row.len()],
            None => row,
        }])
    }

    fn save(&mut self) -> Result<(), ZooError> {
        match self.diverged {
            // It diverges again.
            Some(_) => Ok(()),
            None => {
                self.folder.save(&self.trainer)?;
                self.tally.save(&self.tally_file, self.trainer.step_count())
            }
        }
    }

    fn restore(&mut self) -> Result<bool, ZooError> {
        let there = self.folder.restore(&mut self.trainer)?;
        self.tally.restore(&self.tally_file, self.trainer.step_count());
        Ok(there)
    }
}

/// Images of a zoo as a task of the training loop.
struct Images<'a> {
    net: &'a Net,
    images: &'a Datasets,
    seed: u64,
    inputs: Vec<f32>,
    labels: Vec<u16>,
    tally: Arc<Tally>,
}

impl Task for Images<'_> {
    fn net(&self) -> &Net {
        self.net
    }

    fn sample_count(&self) -> usize {
        self.images.chosen.len()
    }

    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError> {
        let Datasets { train, chosen, preprocessing, augmentation, .. } = self.images;
        let view = View { preprocessing, augmentation: *augmentation, seed: self.seed, epoch };
        let indices: Vec<usize> = samples.iter().map(|&sample| chosen[sample]).collect();
        self.labels.clear();
        self.labels.extend(indices.iter().map(|&index| train.labels()[index]));
        self.inputs.resize(share.len() * self.net.input_len(), 0.0);
        let (inputs, own) = (&mut self.inputs[..], &indices[share]);
        train.fill_augmented(own, &view, inputs)?;
        let (labels, classes) = (&self.labels[..], self.net.class_count());
        let loss = CrossEntropy::new(labels, classes);
        let loss: Box<dyn Loss> = Box::new(Counted { loss, labels, classes, tally: &self.tally });
        Ok(Prepared { inputs: &self.inputs, loss, taps: Vec::new() })
    }

    /// Zoos evaluate by themselves.
    fn evaluate(&self, _: &StateDict, _: RankPart) -> Result<Option<Score>, TrainError> {
        Ok(None)
    }
}
