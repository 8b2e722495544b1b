//! A zoo in one safetensors file; docs/format.md says what is in it.

mod write;

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use weightspace_core::{Checkpoint, DType, StateDict, TensorInfo, quoted};

pub(super) use write::different_size;
pub use write::{PackedModel, PackedWriter};

use super::ZooError;
use super::metrics::EpochMetrics;
use super::params::{self, Params};
use super::population::Model;
use super::row::{RowLayout, TensorEntry};
use super::tree::check_name;

/// Version of the format.
const VERSION: &str = "1";

/// Keys of the metadata: version, description, shared parameters, layouts and models.
const VERSION_KEY: &str = "weightspace.zoo";
const DESCRIPTION_KEY: &str = "weightspace.zoo.description";
const COMMON_KEY: &str = "weightspace.zoo.common";
const LAYOUTS_KEY: &str = "weightspace.zoo.layouts";
const MODELS_KEY: &str = "weightspace.zoo.models";

/// Names of the tensors.
const WEIGHTS: &str = "weights";
const METRICS: &str = "metrics";
const EPOCHS: &str = "epochs";

/// Metrics of one epoch.
const METRIC_COUNT: usize = 6;

/// A model as it stands in the metadata; its parameters are parsed when they are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: String,
    #[serde(default)]
    layout: usize,
    params: Box<RawValue>,
}

/// An opened file: names and shapes are known, weights and metrics are read from the map.
pub(super) struct Packed {
    file: Checkpoint,
    epochs: Vec<u32>,
    parameters: usize,
    layouts: Vec<RowLayout>,
    common: Params,
    models: Vec<Record>,
    /// Positions of weights and metrics in the file.
    tensors: [usize; 2],
}

impl Packed {
    /// Opens a file and checks everything but the parameters of single models.
    pub fn open(path: &Path) -> Result<Self, ZooError> {
        Packed::of(Checkpoint::open(path)?)
    }

    /// The same of an opened checkpoint.
    pub fn of(file: Checkpoint) -> Result<Self, ZooError> {
        let path = file.path().to_owned();
        Packed::check(file).map_err(|reason| match reason {
            Refusal::Reason(reason) => ZooError::malformed(&path, reason),
            Refusal::Checkpoint(error) => error.into(),
        })
    }

    fn check(file: Checkpoint) -> Result<Self, Refusal> {
        let version = file.metadata().get(VERSION_KEY).ok_or_else(|| {
            format!("no packed zoo: the metadata have no {VERSION_KEY} (weightspace zoo import makes one)")
        })?;
        if version != VERSION {
            return Err(
                format!("version {} of packed zoos, expected {VERSION}", quoted(version)).into()
            );
        }
        let weights = find(&file, WEIGHTS, DType::F32)?;
        let metrics = find(&file, METRICS, DType::F32)?;
        let epochs = find(&file, EPOCHS, DType::I64)?;
        if let Some(other) =
            file.tensors().iter().enumerate().find(|(i, _)| ![weights, metrics, epochs].contains(i))
        {
            return Err(format!("tensor {} belongs to no zoo", quoted(&other.1.name)).into());
        }
        let &[models, epoch_count, parameters] = &file.tensors()[weights].shape[..] else {
            return Err(shape_error(&file, weights, "[models, epochs, parameters]").into());
        };
        if models == 0 || epoch_count == 0 || parameters == 0 {
            return Err(shape_error(&file, weights, "at least one of each").into());
        }
        if file.tensors()[metrics].shape != [models, epoch_count, METRIC_COUNT] {
            let expected = format!("[{models}, {epoch_count}, {METRIC_COUNT}]");
            return Err(shape_error(&file, metrics, &expected).into());
        }
        if file.tensors()[epochs].shape != [epoch_count] {
            return Err(shape_error(&file, epochs, &format!("[{epoch_count}]")).into());
        }
        let layouts: Vec<Vec<TensorEntry>> = parse(&file, LAYOUTS_KEY)?;
        let layouts = layouts.into_iter().map(|entries| layout(entries, parameters));
        let layouts = layouts.collect::<Result<Vec<_>, _>>()?;
        let records: Vec<Record> = parse(&file, MODELS_KEY)?;
        check_records(&records, models, layouts.len())?;
        let common = file.metadata().get(COMMON_KEY).map_or("{}", String::as_str);
        let common =
            params::parse(common).map_err(|error| format!("metadata {COMMON_KEY}: {error}"))?;
        let epochs = read_epochs(&file, epochs)?;
        let tensors = [weights, metrics];
        Ok(Packed { file, epochs, parameters, layouts, common, models: records, tensors })
    }

    pub fn len(&self) -> usize {
        self.models.len()
    }

    pub fn name(&self, position: usize) -> &str {
        &self.models[position].name
    }

    pub fn description(&self) -> Option<&str> {
        self.file.metadata().get(DESCRIPTION_KEY).map(String::as_str)
    }

    pub fn tensors(&self, position: usize) -> &[TensorInfo] {
        &self.layouts[self.models[position].layout].0
    }

    pub fn model(&self, position: usize) -> Result<Model, ZooError> {
        let record = &self.models[position];
        let mut params = self.common.clone();
        let own = params::parse(record.params.get()).map_err(|reason| {
            ZooError::malformed(
                self.file.path(),
                format!("model {}: {reason}", quoted(&record.name)),
            )
        })?;
        params.extend(own);
        let count = self.epochs.len() * METRIC_COUNT;
        let values =
            self.file.read_elements(self.tensors[1], position * count..(position + 1) * count)?;
        let values = values.to_f32();
        let (rows, _) = values.as_chunks::<METRIC_COUNT>();
        let metrics = self.epochs.iter().zip(rows);
        let metrics = metrics.map(|(&epoch, &row)| EpochMetrics::from_values(epoch, row)).collect();
        Ok(Model { name: record.name.clone(), params, epochs: self.epochs.clone(), metrics })
    }

    pub fn row(&self, position: usize, epoch: u32) -> Result<Vec<f32>, ZooError> {
        let bytes = self.row_bytes(position, epoch)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    /// The row of an epoch as it stands in the map, little-endian `f32`.
    pub fn row_bytes(&self, position: usize, epoch: u32) -> Result<Cow<'_, [u8]>, ZooError> {
        let place = self.epochs.binary_search(&epoch).map_err(|_| {
            ZooError::malformed(self.file.path(), format!("no weights of epoch {epoch}"))
        })?;
        let start = (position * self.epochs.len() + place) * self.parameters;
        Ok(self.file.element_bytes(self.tensors[0], start..start + self.parameters)?)
    }

    pub fn weights(&self, position: usize, epoch: u32) -> Result<StateDict, ZooError> {
        let layout = &self.layouts[self.models[position].layout];
        let tensors = layout.state_dict(&self.row(position, epoch)?);
        tensors.map_err(|reason| {
            let name = &self.models[position].name;
            ZooError::malformed(self.file.path(), format!("{name}, epoch {epoch}: {reason}"))
        })
    }
}

/// Why a file is refused.
enum Refusal {
    Reason(String),
    Checkpoint(weightspace_core::CheckpointError),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Reason(reason)
    }
}

fn find(file: &Checkpoint, name: &str, dtype: DType) -> Result<usize, String> {
    let index = file.tensors().iter().position(|info| info.name == name);
    let index = index.ok_or_else(|| format!("no tensor {name}, which every packed zoo has"))?;
    match file.tensors()[index].dtype {
        found if found == dtype => Ok(index),
        found => Err(format!("tensor {name} is of type {found}, expected {dtype}")),
    }
}

fn shape_error(file: &Checkpoint, index: usize, expected: &str) -> String {
    let TensorInfo { name, shape, .. } = &file.tensors()[index];
    format!("tensor {name} has shape {shape:?}, expected {expected}")
}

fn parse<'a, T: Deserialize<'a>>(file: &'a Checkpoint, key: &str) -> Result<T, String> {
    let text = file.metadata().get(key).ok_or_else(|| format!("the metadata have no {key}"))?;
    serde_json::from_str(text).map_err(|error| {
        let error: String = error.to_string().chars().take(200).collect();
        format!("metadata {key}: {}", error.escape_debug())
    })
}

fn layout(entries: Vec<TensorEntry>, parameters: usize) -> Result<RowLayout, String> {
    let layout = RowLayout::from_entries(entries)
        .map_err(|reason| format!("metadata {LAYOUTS_KEY}: tensor {reason}"))?;
    if layout.checked_len() != Some(parameters) {
        return Err(format!(
            "metadata {LAYOUTS_KEY}: the tensors have not the {parameters} elements of a row of {WEIGHTS}"
        ));
    }
    let mut names = HashSet::new();
    match layout.0.iter().find(|info| !names.insert(info.name.as_str())) {
        Some(twice) => {
            Err(format!("metadata {LAYOUTS_KEY}: two tensors are named {}", quoted(&twice.name)))
        }
        None => Ok(layout),
    }
}

fn check_records(records: &[Record], models: usize, layouts: usize) -> Result<(), String> {
    if records.len() != models {
        return Err(format!(
            "metadata {MODELS_KEY}: {} models, {WEIGHTS} has {models}",
            records.len()
        ));
    }
    for (i, Record { name, layout, .. }) in records.iter().enumerate() {
        check_name(name).map_err(|reason| format!("metadata {MODELS_KEY}: {reason}"))?;
        if *layout >= layouts {
            return Err(format!(
                "metadata {MODELS_KEY}: {} has layout {layout} of {layouts}",
                quoted(name)
            ));
        }
        if i > 0 && records[i - 1].name >= *name {
            return Err(format!(
                "metadata {MODELS_KEY}: {} is not behind its predecessor",
                quoted(name)
            ));
        }
    }
    Ok(())
}

fn read_epochs(file: &Checkpoint, index: usize) -> Result<Vec<u32>, Refusal> {
    let tensor = file.read(index).map_err(Refusal::Checkpoint)?;
    let epochs: Option<Vec<u32>> = tensor
        .bytes()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u32::try_from(i64::from_le_bytes(*bytes)).ok())
        .collect();
    let epochs = epochs.filter(|epochs| epochs.is_sorted_by(|a, b| a < b));
    Ok(epochs.ok_or_else(|| format!("tensor {EPOCHS}: expected ascending numbers from 0 on"))?)
}
