//! Training as one file, from which it continues bit for bit.
//!
//! The file is a safetensors file: vectors are tensors, counters are JSON in its metadata. Being one
//! file, it is replaced at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, CheckpointError, DType, StateDict, Tensor};

use super::metrics::Meter;
use super::trainer::Best;
use super::{Position, TrainError, Trainer};
use crate::engine::training::{RunningLayer, RunningStatistics};
use crate::optim::Ema;

/// Key of the counters in the file's metadata.
const COUNTERS: &str = "weightspace.training";
const COEFFICIENTS: &str = "coefficients";
const AVERAGE: &str = "average";
const METER: &str = "meter";
const MEMORY: &str = "method";
const OPTIMIZER: &str = "optimizer.";
const BEST: &str = "best.";

/// Everything of a snapshot that is no vector.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    /// The configuration as JSON: training continues only with the same.
    config: String,
    epoch: u32,
    batch: usize,
    optimizer_steps: u64,
    /// Right samples of the best evaluation.
    best_correct: Option<usize>,
    /// Length of `metrics.jsonl`.
    metrics_bytes: u64,
}

fn flat_f64(values: &[f64]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::from_bytes(DType::F64, vec![values.len()], bytes)
}

impl Trainer<'_> {
    /// Writes all that is needed to continue, whole or not at all.
    ///
    /// # Errors
    /// If the coefficients are not finite, or the system fails.
    pub(super) fn save(&self, path: &Path, metrics_bytes: u64) -> Result<(), TrainError> {
        self.check_finite()?;
        let counters = Counters {
            config: self.config_text(),
            epoch: self.position.epoch,
            batch: self.position.batch,
            optimizer_steps: self.optimizer.step_count(),
            best_correct: self.best.as_ref().map(|best| best.correct),
            metrics_bytes,
        };
        let counters = serde_json::to_string(&counters).expect("counters are plain JSON");
        let metadata = BTreeMap::from([(COUNTERS.to_owned(), counters)]);
        Ok(write_safetensors(path, &self.vectors(), &metadata)?)
    }

    /// Continues where the file was written; returns the length that `metrics.jsonl` had then.
    ///
    /// # Errors
    /// If the file is damaged, or of another training; this one is then not to be used.
    pub(super) fn restore(&mut self, path: &Path) -> Result<u64, TrainError> {
        let foreign = |reason| TrainError::Foreign { path: path.to_owned(), reason };
        let file = Checkpoint::open(path)?;
        let counters = file.metadata().get(COUNTERS);
        let counters = counters.ok_or_else(|| foreign("it has no counters".to_owned()))?;
        let counters: Counters = serde_json::from_str(counters)
            .map_err(|error| foreign(format!("counters: {error}")))?;
        if counters.config != self.config_text() {
            return Err(foreign("its settings are others".to_owned()));
        }
        let position = Position { epoch: counters.epoch, batch: counters.batch };
        if !self.has_position(position) {
            return Err(foreign(format!("there is no {position:?}")));
        }
        let vectors = Vectors { path, file };
        self.position = position;
        self.coefficients = vectors.f32(COEFFICIENTS, self.coefficients.len())?;
        self.restore_optimizer(&vectors, counters.optimizer_steps)?;
        let current = vectors.running("", self.running())?;
        if let Some(correct) = counters.best_correct {
            let coefficients =
                vectors.f32(&format!("{BEST}{COEFFICIENTS}"), self.coefficients.len())?;
            let running = vectors.running(BEST, self.running())?;
            self.best = Some(Best { correct, coefficients, running });
        }
        self.set_running(current);
        if let Some(decay) = self.config().ema
            && self.step_count() > 0
        {
            let average = vectors.f32(AVERAGE, self.coefficients.len())?;
            self.ema = Some(Ema::new(decay, &average)?);
        }
        self.restore_meter(&vectors)?;
        let remembered = self.method.memory().len();
        if remembered > 0 {
            let memory: Vec<_> =
                vectors.tensor(MEMORY, DType::F64, remembered)?.iter_f64().collect();
            self.method.remember(&memory);
        }
        Ok(counters.metrics_bytes)
    }

    pub(super) fn config_text(&self) -> String {
        serde_json::to_string(self.config()).expect("settings are plain JSON")
    }

    fn vectors(&self) -> StateDict {
        let mut vectors = StateDict::new();
        let flat = |values: &[f32]| Tensor::from_f32(vec![values.len()], values);
        vectors.insert(COEFFICIENTS, flat(&self.coefficients));
        for (name, values) in self.optimizer.state() {
            vectors.insert(format!("{OPTIMIZER}{name}"), flat(values));
        }
        insert_running(&mut vectors, "", self.running());
        if let Some(ema) = &self.ema {
            vectors.insert(AVERAGE, flat(ema.weights()));
        }
        if let Some(best) = &self.best {
            vectors.insert(format!("{BEST}{COEFFICIENTS}"), flat(&best.coefficients));
            insert_running(&mut vectors, BEST, &best.running);
        }
        let Meter { loss, samples, step_seconds, run_seconds } = self.meter;
        let meter = [loss, samples, step_seconds, run_seconds, self.last.0, self.last.1];
        vectors.insert(METER, flat_f64(&meter));
        let memory = self.method.memory();
        if !memory.is_empty() {
            vectors.insert(MEMORY, flat_f64(&memory));
        }
        vectors
    }

    fn restore_optimizer(&mut self, vectors: &Vectors, steps: u64) -> Result<(), TrainError> {
        let names: Vec<_> = self.optimizer.state().iter().map(|&(name, _)| name).collect();
        let count = self.coefficients.len();
        let values = names.iter().map(|name| vectors.f32(&format!("{OPTIMIZER}{name}"), count));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let state: Vec<_> =
            names.into_iter().zip(&values).map(|(name, values)| (name, &values[..])).collect();
        Ok(self.optimizer.load_state(steps, &state)?)
    }

    fn restore_meter(&mut self, vectors: &Vectors) -> Result<(), TrainError> {
        let meter = vectors.tensor(METER, DType::F64, 6)?;
        let meter: Vec<_> = meter.iter_f64().collect();
        self.meter = Meter {
            loss: meter[0],
            samples: meter[1],
            step_seconds: meter[2],
            run_seconds: meter[3],
        };
        self.last = (meter[4], meter[5]);
        Ok(())
    }
}

/// Names of a layer's statistics.
fn running_names(prefix: &str, layer: &str) -> [String; 3] {
    ["mean", "variance", "batches"].map(|part| format!("{prefix}running.{layer}.{part}"))
}

fn insert_running(vectors: &mut StateDict, prefix: &str, running: &RunningStatistics) {
    for layer in &running.layers {
        let [mean, variance, batches] = running_names(prefix, &layer.name);
        vectors.insert(mean, Tensor::from_f32(vec![layer.mean.len()], &layer.mean));
        vectors.insert(variance, Tensor::from_f32(vec![layer.variance.len()], &layer.variance));
        let bytes = layer.batches.to_le_bytes().to_vec();
        vectors.insert(batches, Tensor::from_bytes(DType::I64, vec![], bytes));
    }
}

/// The tensors of a file, checked before they are believed.
struct Vectors<'a> {
    path: &'a Path,
    file: Checkpoint,
}

impl Vectors<'_> {
    fn tensor(&self, name: &str, dtype: DType, len: usize) -> Result<Tensor, TrainError> {
        let info = self.file.tensors().iter().find(|info| info.name == name);
        let info = info.ok_or_else(|| CheckpointError::NoSuchTensor {
            path: self.path.to_owned(),
            name: name.to_owned(),
        })?;
        if info.dtype != dtype || info.shape.iter().product::<usize>() != len {
            let found = info.shape.iter().product::<usize>();
            let reason =
                format!("{name} has {found} values of {}, expected {len} of {dtype}", info.dtype);
            return Err(TrainError::Foreign { path: self.path.to_owned(), reason });
        }
        Ok(self.file.read_named(name)?)
    }

    fn f32(&self, name: &str, len: usize) -> Result<Vec<f32>, TrainError> {
        Ok(self.tensor(name, DType::F32, len)?.to_f32().into_owned())
    }

    /// Statistics of the same layers as those of `like`.
    fn running(
        &self,
        prefix: &str,
        like: &RunningStatistics,
    ) -> Result<RunningStatistics, TrainError> {
        let layer = |like: &RunningLayer| {
            let [mean, variance, batches] = running_names(prefix, &like.name);
            let batches = self.tensor(&batches, DType::I64, 1)?;
            Ok(RunningLayer {
                name: like.name.clone(),
                mean: self.f32(&mean, like.mean.len())?,
                variance: self.f32(&variance, like.variance.len())?,
                batches: batches.iter_f64().next().unwrap_or(0.0) as i64,
            })
        };
        let layers = like.layers.iter().map(layer).collect::<Result<_, TrainError>>()?;
        Ok(RunningStatistics { layers })
    }
}
