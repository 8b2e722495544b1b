//! Training of a whole zoo: groups of models in lanes, or models alone where lanes cannot train them, one per thread.

mod alone;
mod group;
mod images;
mod in_lanes;
mod members;
mod record;
mod running_accuracy;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use weightspace_nn::Net;

use self::group::Group;
pub use self::images::ZooImages;
use super::packed::{PackedModel, PackedWriter};
use super::tree::ModelWriter;
use super::{EpochMetrics, ModelSpec, Shard, ZooDescription, ZooError};
use crate::workplace::Workplace;

/// How often it is asked whether to stop.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// How a finished zoo is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One packed file.
    #[default]
    Packed,
    /// A tree of folders, as published.
    Tree,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All models are trained.
    Finished,
    /// Somebody wanted it to stop; what is done is kept.
    Interrupted,
}

/// How far a training is, in epochs of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Epochs that models have gone through.
    pub done: usize,
    /// All of them.
    pub total: usize,
}

/// A zoo, or a part of one, to be trained. The same models come of it whatever the number of threads, the division
/// into parts, and the number of interruptions.
pub struct ZooTraining<'a> {
    description: &'a ZooDescription,
    images: &'a ZooImages,
    place: &'a Workplace,
    specs: Vec<ModelSpec>,
    groups: Vec<Group>,
}

impl<'a> ZooTraining<'a> {
    /// The models of a part, to be trained in a place that remembers what is done.
    ///
    /// # Errors
    /// A network that cannot be or that does not fit the images.
    pub fn new(
        description: &'a ZooDescription,
        images: &'a ZooImages,
        shard: Shard,
        place: &'a Workplace,
    ) -> Result<Self, ZooError> {
        let specs = description.models()?;
        let groups = Group::divide(&specs, shard, images.group_size());
        let training = ZooTraining { description, images, place, specs, groups };
        for group in &training.groups {
            training.check(group)?;
        }
        Ok(training)
    }

    fn check(&self, group: &Group) -> Result<(), ZooError> {
        for &position in &group.positions {
            self.net(position)?;
        }
        Ok(())
    }

    /// Number of models.
    pub fn model_count(&self) -> usize {
        self.groups.iter().map(|group| group.positions.len()).sum()
    }

    /// Elements of the row of one model: its weights, and statistics where it has such.
    pub fn row_len(&self) -> usize {
        let first = self.groups.first().and_then(|group| group.positions.first());
        first
            .and_then(|&position| self.net(position).ok())
            .map_or(0, |net| group::layout(&net).len())
    }

    fn net(&self, position: usize) -> Result<Net, ZooError> {
        let ([channels, size, _], classes) = (self.images.shape(), self.images.class_count());
        self.specs[position].net(channels, size, classes)
    }

    /// Trains what is not trained yet, on so many threads. `progress` is told at the beginning and
    /// about every epoch of a group, and `should_stop` asked several times a second, both on the calling thread.
    ///
    /// # Errors
    /// What the system says; images that do not fit.
    pub fn run(
        &self,
        threads: usize,
        progress: &mut dyn FnMut(Progress),
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Ending, ZooError> {
        self.place.claim(&record::of(self.description, self.images, &self.groups))?;
        let total = self.model_count() * self.description.epochs as usize;
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (say, said) = mpsc::channel();
        thread::scope(|scope| {
            let work = || self.work(&next, &stop, say.clone());
            let workers = threads.clamp(1, self.groups.len().max(1));
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut done = 0;
            progress(Progress { done, total });
            while !workers.iter().all(ScopedJoinHandle::is_finished) {
                if let Ok(more) = said.recv_timeout(ASKED_EVERY) {
                    done += more;
                    progress(Progress { done, total });
                }
                // A thread that ends while there are groups left has failed.
                let failed = workers.iter().any(ScopedJoinHandle::is_finished)
                    && next.load(Ordering::Relaxed) < self.groups.len();
                if failed || should_stop() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            // What was said while the last of them ended.
            done += said.try_iter().sum::<usize>();
            progress(Progress { done, total });
            workers.into_iter().try_for_each(|worker| worker.join().expect("no thread panics"))
        })?;
        let finished = self.groups.iter().all(|group| self.is_trained(group));
        Ok(if finished { Ending::Finished } else { Ending::Interrupted })
    }

    /// Trains one group after the other for as long as there are any.
    fn work(
        &self,
        next: &AtomicUsize,
        stop: &AtomicBool,
        say: mpsc::Sender<usize>,
    ) -> Result<(), ZooError> {
        while let Some(group) = self.groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = |epochs: usize| {
                // Whoever listened may have failed.
                let _ = say.send(epochs * group.positions.len());
            };
            if !self.train_group(group, &|| stop.load(Ordering::Relaxed), &done)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes the zoo, when all is trained.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path, layout: Layout) -> Result<(), ZooError> {
        let mut members: Vec<(usize, &Group, usize)> = Vec::new();
        for group in &self.groups {
            members.extend(group.positions.iter().enumerate().map(|(lane, &p)| (p, group, lane)));
        }
        members.sort_unstable_by_key(|member| member.0);
        match layout {
            Layout::Packed => self.write_packed(path, &members),
            Layout::Tree => self.write_tree(path, &members),
        }
    }

    fn write_packed(
        &self,
        path: &Path,
        members: &[(usize, &Group, usize)],
    ) -> Result<(), ZooError> {
        let epochs = self.description.checkpoint_epochs();
        let models = members.iter().map(|&(position, group, lane)| {
            Ok(PackedModel {
                name: self.specs[position].name(position),
                params: self.params(position),
                tensors: group::layout(&self.net(position)?).0,
                metrics: self.metrics(group, lane)?,
            })
        });
        let models = models.collect::<Result<Vec<_>, ZooError>>()?;
        let text = self.description.to_toml();
        let mut writer = PackedWriter::create(path, Some(&text), &epochs, &models)?;
        for &(_, group, lane) in members {
            for &epoch in &epochs {
                writer.write_row(&self.row(group, lane, epoch)?)?;
            }
        }
        writer.finish()
    }

    fn write_tree(&self, path: &Path, members: &[(usize, &Group, usize)]) -> Result<(), ZooError> {
        for &(position, group, lane) in members {
            let name = self.specs[position].name(position);
            let writer = ModelWriter::create(path, &name, &self.params(position))?;
            let layout = group::layout(&self.net(position)?);
            for epoch in self.description.checkpoint_epochs() {
                let row = self.row(group, lane, epoch)?;
                writer
                    .write_checkpoint(epoch, &layout.state_dict(&row).map_err(ZooError::Spec)?)?;
            }
            writer.write_metrics(&self.metrics(group, lane)?)?;
        }
        Ok(())
    }

    fn params(&self, position: usize) -> super::Params {
        let (channels, classes) = (self.images.shape()[0], self.images.class_count());
        self.description.params(&self.specs[position], channels, classes)
    }

    fn metrics(&self, group: &Group, lane: usize) -> Result<Vec<EpochMetrics>, ZooError> {
        (0..=self.description.epochs).map(|epoch| self.epoch_metrics(group, lane, epoch)).collect()
    }
}
