//! A zoo in one safetensors file; docs/format.md says what is in it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weightspace_core::checkpoint::SafetensorsWriter;
use weightspace_core::{Checkpoint, DType, StateDict, TensorInfo};

use super::ZooError;
use super::error::quoted;
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
        let file = Checkpoint::open(path)?;
        Packed::check(file).map_err(|reason| match reason {
            Refusal::Reason(reason) => ZooError::malformed(path, reason),
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
        let place = self.epochs.binary_search(&epoch).map_err(|_| {
            ZooError::malformed(self.file.path(), format!("no weights of epoch {epoch}"))
        })?;
        let start = (position * self.epochs.len() + place) * self.parameters;
        let row = self.file.read_elements(self.tensors[0], start..start + self.parameters)?;
        Ok(row.to_f32().into_owned())
    }

    pub fn weights(&self, position: usize, epoch: u32) -> Result<StateDict, ZooError> {
        let layout = &self.layouts[self.models[position].layout];
        Ok(layout.state_dict(&self.row(position, epoch)?))
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

/// A model that will be in a packed file.
#[derive(Clone, Debug)]
pub struct PackedModel {
    /// Name; that of its folder in a tree.
    pub name: String,
    /// Everything that is known about it.
    pub params: Params,
    /// Names, types and shapes of its tensors, in the order of its rows.
    pub tensors: Vec<TensorInfo>,
    /// Metrics; of epochs that are not here nothing is known, others than the file's do not count.
    pub metrics: Vec<EpochMetrics>,
}

/// Writes a packed file, row by row: the weights of one model at one epoch are in memory.
///
/// The file appears at its path when [`finish`](Self::finish) succeeds; a writer that is dropped before leaves nothing
/// behind.
#[derive(Debug)]
pub struct PackedWriter {
    writer: SafetensorsWriter,
    layouts: Vec<RowLayout>,
    /// Layout of each model.
    layout_of: Vec<usize>,
    metrics: Vec<u8>,
    epochs: Vec<u32>,
    rows: usize,
    path: std::path::PathBuf,
}

impl PackedWriter {
    /// Starts a file for these models, by ascending name, at these epochs, ascending. `description` is the
    /// text of the [`ZooDescription`](super::ZooDescription) that the zoo was made from, if it is known.
    ///
    /// # Errors
    /// If there are no models or epochs, names are not ascending, models have different numbers of elements, or the
    /// metadata are larger than readers accept; and what the system says.
    pub fn create(
        path: &Path,
        description: Option<&str>,
        epochs: &[u32],
        models: &[PackedModel],
    ) -> Result<Self, ZooError> {
        let refuse = |reason: String| ZooError::malformed(path, reason);
        let first = models.first().ok_or_else(|| refuse("no models to write".into()))?;
        if epochs.is_empty() || !epochs.is_sorted_by(|a, b| a < b) {
            return Err(refuse(format!("epochs {epochs:?} to write, expected ascending ones")));
        }
        let mut layouts: Vec<RowLayout> = Vec::new();
        let mut layout_of = Vec::with_capacity(models.len());
        let parameters = RowLayout(first.tensors.clone()).len();
        for (i, model) in models.iter().enumerate() {
            check_name(&model.name).map_err(&refuse)?;
            if i > 0 && models[i - 1].name >= model.name {
                return Err(refuse(format!(
                    "{} is not behind its predecessor",
                    quoted(&model.name)
                )));
            }
            let known = layouts.iter().position(|layout| layout.0 == model.tensors);
            layout_of.push(known.unwrap_or(layouts.len()));
            if known.is_none() {
                layouts.push(RowLayout(model.tensors.clone()));
            }
            let count = layouts[layout_of[i]].len();
            if count != parameters {
                return Err(refuse(different_size(&model.name, count, &first.name, parameters)));
            }
        }
        let metadata = metadata(description, &layouts, &layout_of, models).map_err(refuse)?;
        let tensor = |name: &str, dtype, shape| TensorInfo { name: name.into(), dtype, shape };
        let (m, e) = (models.len(), epochs.len());
        let tensors = [
            tensor(WEIGHTS, DType::F32, vec![m, e, parameters]),
            tensor(METRICS, DType::F32, vec![m, e, METRIC_COUNT]),
            tensor(EPOCHS, DType::I64, vec![e]),
        ];
        let writer = SafetensorsWriter::create(path, &tensors, &metadata)?;
        let metrics = models.iter().flat_map(|model| metrics_of(model, epochs));
        let metrics = metrics.flat_map(|m| m.values().map(f32::to_le_bytes).concat()).collect();
        let (epochs, path) = (epochs.to_vec(), path.to_owned());
        Ok(PackedWriter { writer, layouts, layout_of, metrics, epochs, rows: 0, path })
    }

    /// Writes the next row: all epochs of the first model, then those of the second, and so on.
    ///
    /// # Errors
    /// If the tensors are not as announced or hold values that are none of `f32`; what the system says.
    pub fn write(&mut self, weights: &StateDict) -> Result<(), ZooError> {
        let layout = self.layout()?;
        if weights.infos() != layout.0 {
            return Err(self.refuse("the tensors are not those that were announced"));
        }
        let row = layout.row(weights).map_err(|reason| self.refuse(&reason))?;
        self.write_row(&row)
    }

    /// Writes the next row as the tensors' elements end to end.
    ///
    /// # Errors
    /// If there are more or fewer than announced; what the system says.
    pub fn write_row(&mut self, row: &[f32]) -> Result<(), ZooError> {
        let expected = self.layout()?.len();
        if row.len() != expected {
            return Err(
                self.refuse(&format!("a row of {} elements, expected {expected}", row.len()))
            );
        }
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.writer.write_part(&bytes)?;
        self.rows += 1;
        Ok(())
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// If rows are missing; what the system says.
    pub fn finish(mut self) -> Result<(), ZooError> {
        let expected = self.layout_of.len() * self.epochs.len();
        if self.rows != expected {
            return Err(self.refuse(&format!("{} rows, expected {expected}", self.rows)));
        }
        self.writer.write_part(&self.metrics)?;
        let epochs = self.epochs.iter().flat_map(|&epoch| i64::from(epoch).to_le_bytes());
        self.writer.write_part(&epochs.collect::<Vec<u8>>())?;
        Ok(self.writer.finish()?)
    }

    fn layout(&self) -> Result<&RowLayout, ZooError> {
        let model = self.layout_of.get(self.rows / self.epochs.len());
        let model = model.ok_or_else(|| self.refuse("all rows are written"))?;
        Ok(&self.layouts[*model])
    }

    fn refuse(&self, reason: &str) -> ZooError {
        ZooError::malformed(&self.path, reason)
    }
}

/// Says that two models cannot be in one file.
pub(super) fn different_size(name: &str, count: usize, other: &str, expected: usize) -> String {
    let (name, other) = (quoted(name), quoted(other));
    format!(
        "model {name} has {count} elements, {other} has {expected}: they need files of their own"
    )
}

fn metrics_of<'a>(model: &'a PackedModel, epochs: &'a [u32]) -> impl Iterator<Item = EpochMetrics> {
    epochs.iter().map(|&epoch| {
        let known = model.metrics.iter().find(|metrics| metrics.epoch == epoch);
        known.copied().unwrap_or(EpochMetrics::unknown(epoch))
    })
}

fn metadata(
    description: Option<&str>,
    layouts: &[RowLayout],
    layout_of: &[usize],
    models: &[PackedModel],
) -> Result<BTreeMap<String, String>, String> {
    #[derive(Serialize)]
    struct Entry<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "is_zero")]
        layout: usize,
        params: Params,
    }
    let mut common = models.first().map_or_else(Params::new, |model| model.params.clone());
    for model in models {
        common.retain(|key, value| model.params.get(key) == Some(value));
    }
    let own = |params: &Params| {
        let own = params.iter().filter(|(key, _)| !common.contains_key(*key));
        own.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let entries = models.iter().zip(layout_of);
    let entries: Vec<Entry> = entries
        .map(|(model, &layout)| Entry { name: &model.name, layout, params: own(&model.params) })
        .collect();
    let layouts: Vec<_> = layouts.iter().map(RowLayout::entries).collect();
    let text = |result: serde_json::Result<String>| result.map_err(|error| error.to_string());
    let mut metadata = BTreeMap::from([
        (VERSION_KEY.to_owned(), VERSION.to_owned()),
        (LAYOUTS_KEY.to_owned(), text(serde_json::to_string(&layouts))?),
        (COMMON_KEY.to_owned(), text(serde_json::to_string(&common))?),
        (MODELS_KEY.to_owned(), text(serde_json::to_string(&entries))?),
    ]);
    if let Some(description) = description {
        metadata.insert(DESCRIPTION_KEY.to_owned(), description.to_owned());
    }
    Ok(metadata)
}

fn is_zero(layout: &usize) -> bool {
    *layout == 0
}
