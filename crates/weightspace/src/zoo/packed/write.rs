//! Writing a packed zoo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weightspace_core::checkpoint::SafetensorsWriter;
use weightspace_core::{DType, StateDict, TensorInfo, quoted};

use super::super::ZooError;
use super::super::metrics::EpochMetrics;
use super::super::params::Params;
use super::super::row::RowLayout;
use super::super::tree::check_name;
use super::{
    COMMON_KEY, DESCRIPTION_KEY, EPOCHS, LAYOUTS_KEY, METRIC_COUNT, METRICS, MODELS_KEY, VERSION,
    VERSION_KEY, WEIGHTS,
};

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
    path: PathBuf,
}

impl PackedWriter {
    /// Starts a file for these models, by ascending name, at these epochs, ascending. `description` is the
    /// text of the [`ZooDescription`](crate::zoo::ZooDescription) that the zoo was made from, if it is known.
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
pub(in crate::zoo) fn different_size(
    name: &str,
    count: usize,
    other: &str,
    expected: usize,
) -> String {
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
