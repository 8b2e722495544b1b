//! Up to sixteen models, one in every lane.

use std::path::PathBuf;

use weightspace_nn::lanes::{ImageOrder, LaneImages, LaneModel, LaneTrainer};
use weightspace_nn::train::Score;

use super::images::Part;
use super::members::{Members, Scores};
use crate::zoo::ZooError;

/// A group in lanes.
pub struct InLanes<'a> {
    trainer: LaneTrainer<'a>,
    images: &'a [Option<LaneImages>; 3],
    state: PathBuf,
}

impl<'a> InLanes<'a> {
    /// Before the first step; `state` is where it continues.
    ///
    /// # Errors
    /// If models and images do not fit.
    pub fn new(
        models: Vec<LaneModel>,
        images: &'a [Option<LaneImages>; 3],
        order: ImageOrder,
        state: PathBuf,
    ) -> Result<Self, ZooError> {
        let train = images[0].as_ref().expect("a zoo has training images");
        Ok(InLanes { trainer: LaneTrainer::new(models, train, order)?, images, state })
    }
}

impl Members for InLanes<'_> {
    fn epoch(&self) -> u32 {
        self.trainer.epoch()
    }

    fn is_finished(&self) -> bool {
        self.trainer.is_finished()
    }

    fn run_epoch(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<Scores>>, ZooError> {
        Ok(self.trainer.run_epoch(stop).map(|scores| scores.iter().map(pair).collect()))
    }

    fn evaluate(&mut self, part: Part) -> Result<Option<Vec<Scores>>, ZooError> {
        let images = self.images[part as usize].as_ref();
        Ok(images.map(|images| self.trainer.evaluate(images).iter().map(pair).collect()))
    }

    fn rows(&mut self) -> Result<Vec<Vec<f32>>, ZooError> {
        Ok((0..self.trainer.model_count()).map(|model| self.trainer.weights(model)).collect())
    }

    fn save(&mut self) -> Result<(), ZooError> {
        Ok(self.trainer.save(&self.state)?)
    }

    fn restore(&mut self) -> Result<bool, ZooError> {
        let there = self.state.exists();
        if there {
            self.trainer.restore(&self.state)?;
        }
        Ok(there)
    }
}

/// Loss and accuracy.
pub fn pair(score: &Score) -> Scores {
    [score.loss as f32, score.accuracy() as f32]
}
