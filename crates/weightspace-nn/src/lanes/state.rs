//! A group's training as one file, from which it continues bit for bit.
//!
//! The file is a safetensors file: vectors are tensors, counters are JSON in its metadata. Being one file,
//! it is replaced at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, CheckpointError, DType, StateDict, Tensor};

use super::tally::Tally;
use super::{ImageOrder, LANES, LaneError, LaneTrainer, Vector};
use crate::train::Position;

/// Key of the counters in the file's metadata.
const COUNTERS: &str = "weightspace.lanes";
const WEIGHTS: &str = "weights";
const FIRST: &str = "optimizer.first";
const SECOND: &str = "optimizer.second";
const LOSSES: &str = "epoch.losses";

/// Everything of a state that is no vector.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    /// Architectures and settings of the models, order and number of the images: training continues only
    /// with the same.
    group: String,
    epoch: u32,
    batch: usize,
    epoch_samples: usize,
    epoch_correct: Vec<usize>,
    diverged: Vec<u64>,
}

impl LaneTrainer<'_> {
    /// Writes all that is needed to continue, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path) -> Result<(), LaneError> {
        let counters = Counters {
            group: self.group(),
            epoch: self.position.epoch,
            batch: self.position.batch,
            epoch_samples: self.epoch.samples,
            epoch_correct: self.epoch.correct.to_vec(),
            diverged: self.diverged.to_vec(),
        };
        let counters = serde_json::to_string(&counters).expect("counters are plain JSON");
        let mut tensors = StateDict::new();
        let vectors = [
            (WEIGHTS, &self.weights),
            (FIRST, &self.optimisers.first),
            (SECOND, &self.optimisers.second),
        ];
        for (name, vectors) in vectors {
            let values: Vec<f32> = vectors.iter().flat_map(|vector| vector.0).collect();
            tensors.insert(name, Tensor::from_f32(vec![vectors.len(), LANES], &values));
        }
        let losses = self.epoch.losses.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        tensors.insert(LOSSES, Tensor::from_bytes(DType::F64, vec![LANES], losses));
        let metadata = BTreeMap::from([(COUNTERS.to_owned(), counters)]);
        Ok(write_safetensors(path, &tensors, &metadata)?)
    }

    /// Continues where the file was written: from there on, every bit is as if training had not stopped.
    ///
    /// # Errors
    /// If the file is damaged, or of other models; this group is then as it was.
    pub fn restore(&mut self, path: &Path) -> Result<(), LaneError> {
        let foreign = |reason| LaneError::Foreign { path: path.to_owned(), reason };
        let file = Checkpoint::open(path)?;
        let counters = file.metadata().get(COUNTERS);
        let counters = counters.ok_or_else(|| foreign("it has no counters".to_owned()))?;
        let counters: Counters = serde_json::from_str(counters)
            .map_err(|error| foreign(format!("counters: {error}")))?;
        if counters.group != self.group() {
            return Err(foreign("it was written by models or settings that are others".to_owned()));
        }
        let Counters { epoch, batch, epoch_samples, epoch_correct, diverged, .. } = counters;
        let epochs = self.models[0].config.epochs;
        let inside = epoch < epochs && batch < self.steps_per_epoch();
        let lanes = |found: usize| foreign(format!("{found} lanes, expected {LANES}"));
        let diverged: [u64; LANES] = diverged.try_into().map_err(|d: Vec<_>| lanes(d.len()))?;
        let correct = epoch_correct.try_into().map_err(|c: Vec<_>| lanes(c.len()))?;
        if !inside && (epoch, batch) != (epochs, 0) {
            return Err(foreign(format!("there is no batch {batch} of epoch {epoch}")));
        }
        let weights = vectors(&file, WEIGHTS, self.weights.len())?;
        let first = vectors(&file, FIRST, self.optimisers.first.len())?;
        let second = vectors(&file, SECOND, self.optimisers.second.len())?;
        let losses = tensor(&file, LOSSES, DType::F64, &[LANES])?;
        let mut losses = losses.iter_f64();
        (self.weights, self.optimisers.first, self.optimisers.second) = (weights, first, second);
        let losses = std::array::from_fn(|_| losses.next().unwrap_or(0.0));
        self.epoch = Tally { losses, correct, samples: epoch_samples };
        self.diverged = diverged;
        self.position = Position { epoch, batch };
        Ok(())
    }

    /// What must be the same for training to continue.
    fn group(&self) -> String {
        let order = match self.order {
            ImageOrder::Own => "own".to_owned(),
            ImageOrder::Shared(seed) => format!("shared {seed}"),
        };
        let models = self.models[..self.model_count].iter();
        let models: Vec<_> = models.map(|model| (model.net.arch(), &model.config)).collect();
        let group = (models, order, self.image_count());
        serde_json::to_string(&group).expect("settings are plain JSON")
    }
}

fn vectors(file: &Checkpoint, name: &str, len: usize) -> Result<Vec<Vector>, LaneError> {
    let tensor = tensor(file, name, DType::F32, &[len, LANES])?;
    Ok(tensor.to_f32().as_chunks().0.iter().map(|&lanes| Vector(lanes)).collect())
}

/// A tensor of a file, checked before it is believed.
fn tensor(
    file: &Checkpoint,
    name: &str,
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor, LaneError> {
    let path = || file.path().to_owned();
    let info = file.tensors().iter().find(|info| info.name == name);
    let info =
        info.ok_or_else(|| CheckpointError::NoSuchTensor { path: path(), name: name.to_owned() })?;
    if info.dtype != dtype || info.shape != shape {
        let found = format!("{} of {:?}", info.dtype, info.shape);
        let reason = format!("{name} is {found}, expected {dtype} of {shape:?}");
        return Err(LaneError::Foreign { path: path(), reason });
    }
    Ok(file.read_named(name)?)
}
