//! A zoo as one table: a row for every model and epoch.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use weightspace_core::AtomicFile;

use super::ZooError;
use super::import::Progress;
use super::params::{self, Params};
use super::parquet::ParquetTable;
use super::population::{Model, Population};
use super::spec::arch_of;

/// A model at an epoch. What is not known is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the model.
    pub model: String,
    /// Epoch, 0 being the untrained model.
    pub epoch: u32,
    /// Architecture, as it is called here if it is known here.
    pub arch: Option<String>,
    /// Non-linearity.
    pub activation: Option<String>,
    /// How weights were drawn.
    pub initialisation: Option<String>,
    /// Probability of dropout.
    pub dropout: Option<f64>,
    /// Optimiser.
    pub optimizer: Option<String>,
    /// Learning rate.
    pub learning_rate: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Seed.
    pub seed: Option<u64>,
    /// Mean loss of the training images.
    pub train_loss: Option<f32>,
    /// Fraction of the training images that are right.
    pub train_accuracy: Option<f32>,
    /// Mean loss of the validation images.
    pub validation_loss: Option<f32>,
    /// Fraction of the validation images that are right.
    pub validation_accuracy: Option<f32>,
    /// Mean loss of the test images.
    pub test_loss: Option<f32>,
    /// Fraction of the test images that are right.
    pub test_accuracy: Option<f32>,
    /// Accuracy of the training images above that of the test images.
    pub generalisation_gap: Option<f32>,
}

/// The axes of zoos: names in tables, and keys of `params.json`.
pub const AXES: [(&str, &str); 8] = [
    ("arch", "model::type"),
    ("activation", "model::nlin"),
    ("initialisation", "model::init_type"),
    ("dropout", "model::dropout"),
    ("optimizer", "optim::optimizer"),
    ("learning_rate", "optim::lr"),
    ("weight_decay", "optim::wd"),
    ("seed", "seed"),
];

/// Where a model stands on an axis of [`AXES`], as a text.
pub fn axis_value(params: &Params, axis: &str) -> Option<String> {
    let (_, key) = AXES.iter().find(|(name, _)| *name == axis)?;
    match (axis, params.get(*key)) {
        ("arch", _) => arch_of(params).map(str::to_owned),
        ("initialisation", Some(Value::String(text))) => Some(text.replace('_', "-")),
        // 0 and 0.0 are the same value, as are 0.01 and the text 1e-2, as some programs read that.
        (_, Some(value @ (Value::Number(_) | Value::String(_)))) => {
            let number = params::number(params, key);
            let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(number.map_or_else(text, |number| number.to_string()))
        }
        _ => None,
    }
}

/// The rows of a model.
pub fn rows(model: &Model) -> Vec<Row> {
    let params = &model.params;
    let text = |axis: &str| axis_value(params, axis);
    let number = |key: &str| params::number(params, key).filter(|value| !value.is_nan());
    let known = |value: f32| (!value.is_nan()).then_some(value);
    let row = |metrics: &super::EpochMetrics| Row {
        model: model.name.clone(),
        epoch: metrics.epoch,
        arch: text("arch"),
        activation: text("activation"),
        initialisation: text("initialisation"),
        dropout: number("model::dropout"),
        optimizer: text("optimizer"),
        learning_rate: number("optim::lr"),
        weight_decay: number("optim::wd"),
        seed: params.get("seed").and_then(Value::as_u64),
        train_loss: known(metrics.train_loss),
        train_accuracy: known(metrics.train_accuracy),
        validation_loss: known(metrics.validation_loss),
        validation_accuracy: known(metrics.validation_accuracy),
        test_loss: known(metrics.test_loss),
        test_accuracy: known(metrics.test_accuracy),
        generalisation_gap: known(metrics.generalisation_gap()),
    };
    model.metrics.iter().map(row).collect()
}

/// Writes the table as CSV with a header; what is not known is empty. Returns the number of rows.
///
/// # Errors
/// If a model's files are damaged; what the system says.
pub fn write_csv(
    population: &Population,
    path: &Path,
    progress: Progress<'_>,
) -> Result<usize, ZooError> {
    let file = AtomicFile::create(path).map_err(ZooError::io(path))?;
    let mut table = csv::Writer::from_writer(file);
    let count = each_model(population, progress, |rows| {
        let written = rows.iter().try_for_each(|row| table.serialize(row));
        written.map_err(|error| ZooError::malformed(path, error))
    })?;
    let file = table.into_inner().map_err(|error| ZooError::malformed(path, error.error()))?;
    file.commit().map_err(ZooError::io(path))?;
    Ok(count)
}

/// Writes the table as Parquet; what is not known is null. Returns the number of rows.
///
/// # Errors
/// As [`write_csv`].
pub fn write_parquet(
    population: &Population,
    path: &Path,
    progress: Progress<'_>,
) -> Result<usize, ZooError> {
    let refuse = |error| ZooError::malformed(path, error);
    let file = AtomicFile::create(path).map_err(ZooError::io(path))?;
    let mut table = ParquetTable::new(file).map_err(refuse)?;
    let count = each_model(population, progress, |rows| table.push(rows).map_err(refuse))?;
    table.finish().map_err(refuse)?.commit().map_err(ZooError::io(path))?;
    Ok(count)
}

fn each_model(
    population: &Population,
    progress: Progress<'_>,
    mut take: impl FnMut(Vec<Row>) -> Result<(), ZooError>,
) -> Result<usize, ZooError> {
    let mut count = 0;
    for index in 0..population.len() {
        let rows = rows(&population.model(index)?);
        count += rows.len();
        take(rows)?;
        progress("models", index + 1, population.len());
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        let value = |value: serde_json::Value| {
            let params = [("optim::lr".to_owned(), value)].into_iter().collect();
            axis_value(&params, "learning_rate")
        };
        for same in [json!(0.01), json!("1e-2"), json!("0.010")] {
            assert_eq!(value(same).as_deref(), Some("0.01"));
        }
        assert_eq!(value(json!("1e-2 cosine")).as_deref(), Some("1e-2 cosine"));
        assert_eq!(value(json!(null)), None);
    }
}
