//! One group of models: its training, and what it leaves on the disk.
//!
//! The folder of a group has `epoch-NNNNNN.safetensors` for every epoch, with `metrics` `[models, 6]` and, where a
//! checkpoint is wanted, `weights` `[models, parameters]`, and `state.safetensors`, from which training continues.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, StateDict, Tensor};
use weightspace_nn::init::Initialisation;
use weightspace_nn::lanes::{ImageOrder, LaneModel};
use weightspace_nn::{ModelState, Net};

use super::ZooTraining;
use super::alone::Alone;
use super::images::{Part, Source};
use super::in_lanes::InLanes;
use super::members::{Members, Scores};
use crate::zoo::description::Order;
use crate::zoo::row::RowLayout;
use crate::zoo::{EpochMetrics, ModelSpec, Shard, ZooError};

const WEIGHTS: &str = "weights";
const METRICS: &str = "metrics";
const STATE: &str = "state.safetensors";

/// Time between two checkpoints within an epoch.
const SAVED_EVERY: Duration = Duration::from_secs(60);

/// Up to sixteen models that are trained at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, by which its folder is called.
    number: usize,
    /// Positions of its models in the zoo.
    pub positions: Vec<usize>,
}

impl Group {
    /// The groups of a part of a zoo: models of a group share activation and dropout, so that no lane computes what
    /// only another one needs.
    pub fn divide(specs: &[ModelSpec], shard: Shard, size: usize) -> Vec<Group> {
        let mut alike: BTreeMap<(&str, u32), Vec<usize>> = BTreeMap::new();
        for position in shard.positions(specs.len()) {
            let spec = &specs[position];
            alike
                .entry((spec.activation.name(), spec.dropout.to_bits()))
                .or_default()
                .push(position);
        }
        let chunks = alike.values().flat_map(|positions| positions.chunks(size));
        let group = |(number, positions): (usize, &[usize])| Group {
            number,
            positions: positions.to_vec(),
        };
        chunks.enumerate().map(group).collect()
    }
}

impl ZooTraining<'_> {
    /// Whether all epochs of a group are on the disk.
    pub(super) fn is_trained(&self, group: &Group) -> bool {
        self.epoch_file(group, self.description.epochs).exists()
    }

    fn folder(&self, group: &Group) -> PathBuf {
        self.place.path().join(format!("group-{:05}", group.number))
    }

    fn epoch_file(&self, group: &Group, epoch: u32) -> PathBuf {
        self.folder(group).join(format!("epoch-{epoch:06}.safetensors"))
    }

    /// Trains a group from where it is to its end; `false` if it was stopped before. `done` is told how many epochs
    /// have gone by since it was last told.
    pub(super) fn train_group(
        &self,
        group: &Group,
        stop: &dyn Fn() -> bool,
        done: &dyn Fn(usize),
    ) -> Result<bool, ZooError> {
        if self.is_trained(group) {
            done(self.description.epochs as usize);
            return Ok(true);
        }
        let folder = self.folder(group);
        fs::create_dir_all(&folder).map_err(ZooError::io(&folder))?;
        match &self.images.source {
            Source::Lanes(images) => {
                let order = match self.description.order {
                    Order::Own => ImageOrder::Own,
                    Order::Shared => ImageOrder::Shared(self.description.data_seed),
                };
                let models = self.lane_models(group)?;
                let members = InLanes::new(models, images, order, folder.join(STATE))?;
                self.drive(group, members, stop, done)
            }
            Source::Datasets(images) => {
                let position = group.positions[0];
                let (spec, net) = (&self.specs[position], self.net(position)?);
                let config = spec.train_config(self.description.epochs, self.description.batch);
                let start = ModelState::initial(&net, spec.initialisation, spec.seed);
                let members = Alone::new(&net, start, config, images, &folder)?;
                self.drive(group, members, stop, done)
            }
        }
    }

    fn drive(
        &self,
        group: &Group,
        mut members: impl Members,
        stop: &dyn Fn() -> bool,
        done: &dyn Fn(usize),
    ) -> Result<bool, ZooError> {
        if members.restore()? {
            done(members.epoch() as usize);
        } else {
            let scores = members.evaluate(Part::Train)?.unwrap_or_default();
            self.write_epoch(group, &mut members, &scores)?;
        }
        while !members.is_finished() {
            let saved = Instant::now();
            let scores = members.run_epoch(&|| stop() || saved.elapsed() > SAVED_EVERY)?;
            if let Some(scores) = scores {
                self.write_epoch(group, &mut members, &scores)?;
                done(1);
            }
            // After what it says is done.
            members.save()?;
            if stop() && !members.is_finished() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lane_models(&self, group: &Group) -> Result<Vec<LaneModel>, ZooError> {
        let model = |&position: &usize| {
            let (spec, net) = (&self.specs[position], self.net(position)?);
            let config = spec.train_config(self.description.epochs, self.description.batch);
            let weights = spec.start(&net);
            Ok(LaneModel { net, config, weights })
        };
        group.positions.iter().map(model).collect()
    }

    /// Writes what is known after an epoch, or before the first.
    fn write_epoch(
        &self,
        group: &Group,
        members: &mut impl Members,
        train: &[Scores],
    ) -> Result<(), ZooError> {
        let epoch = members.epoch();
        let (validation, test) =
            (members.evaluate(Part::Validation)?, members.evaluate(Part::Test)?);
        let models = group.positions.len();
        let values = (0..models).flat_map(|model| {
            let of = |scores: Option<&[Scores]>| scores.map_or([f32::NAN; 2], |all| all[model]);
            [of(Some(train)), of(validation.as_deref()), of(test.as_deref())].concat()
        });
        let values: Vec<f32> = values.collect();
        let mut tensors = StateDict::new();
        tensors.insert(METRICS, Tensor::from_f32(vec![models, 6], &values));
        if self.description.checkpoint_epochs().contains(&epoch) {
            let rows = members.rows()?.concat();
            tensors.insert(WEIGHTS, Tensor::from_f32(vec![models, rows.len() / models], &rows));
        }
        let file = self.epoch_file(group, epoch);
        Ok(write_safetensors(&file, &tensors, &BTreeMap::new())?)
    }

    /// The weights of one model of a group after an epoch.
    pub(super) fn row(&self, group: &Group, lane: usize, epoch: u32) -> Result<Vec<f32>, ZooError> {
        self.read(group, epoch, WEIGHTS, lane)
    }

    /// What is known about one model of a group after an epoch.
    pub(super) fn epoch_metrics(
        &self,
        group: &Group,
        lane: usize,
        epoch: u32,
    ) -> Result<EpochMetrics, ZooError> {
        let row = self.read(group, epoch, METRICS, lane)?;
        let path = self.epoch_file(group, epoch);
        let values = row.try_into().map_err(|_| ZooError::malformed(&path, "not six metrics"))?;
        Ok(EpochMetrics::from_values(epoch, values))
    }

    fn read(
        &self,
        group: &Group,
        epoch: u32,
        name: &str,
        row: usize,
    ) -> Result<Vec<f32>, ZooError> {
        let path = self.epoch_file(group, epoch);
        let file = Checkpoint::open(&path)?;
        let index = file.tensors().iter().position(|info| info.name == name);
        let index = index.ok_or_else(|| ZooError::malformed(&path, format!("no tensor {name}")))?;
        let &[models, width] = &file.tensors()[index].shape[..] else {
            return Err(ZooError::malformed(&path, format!("tensor {name} is no matrix")));
        };
        if models != group.positions.len() {
            let expected = group.positions.len();
            return Err(ZooError::malformed(
                &path,
                format!("{models} models, expected {expected}"),
            ));
        }
        let values = file.read_elements(index, row * width..(row + 1) * width)?;
        Ok(values.to_f32().into_owned())
    }
}

/// Names and shapes of a network's tensors, in the order of its rows.
pub fn layout(net: &Net) -> RowLayout {
    let state = ModelState::initial(net, Initialisation::default(), 0);
    RowLayout(state.to_state_dict(net).infos())
}
