//! From one layout to another, model by model.

use std::borrow::Cow;
use std::path::Path;

use weightspace_core::StateDict;

use super::ZooError;
use super::packed::{PackedModel, PackedWriter, different_size};
use super::population::{Model, Population};
use super::row::RowLayout;
use super::tree::ModelWriter;

/// A model that cannot be read, or not with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What of a population goes into a packed file.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Epochs to take; those that more than half of the models have, if not given.
    pub epochs: Option<Vec<u32>>,
    /// Leave out models that are damaged, or lack an epoch, instead of giving up. All weights are then read twice.
    pub skip_damaged: bool,
    /// Description of the zoo; what the population says of itself, if not given.
    pub description: Option<String>,
}

/// What an import found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Models of the file, with what the file says about them.
    pub models: Vec<PackedModel>,
    /// Epochs of the file.
    pub epochs: Vec<u32>,
    /// Models that are left out.
    pub damaged: Vec<Damaged>,
    /// Which models of the population those of the file are.
    positions: Vec<usize>,
}

/// What is said about progress: what is being done, how much of it is, and of how much.
pub type Progress<'a> = &'a dyn Fn(&str, usize, usize);

impl Import {
    /// Writes a packed file of a population.
    ///
    /// # Errors
    /// What is damaged, unless it is to be skipped; no models, or ones of different sizes; what the system says.
    /// There is then no file.
    pub fn write(
        &self,
        population: &Population,
        path: &Path,
        progress: Progress<'_>,
    ) -> Result<Survey, ZooError> {
        self.write_changed(population, path, &|_, _| Ok(()), progress)
    }

    /// As [`write`](Self::write), with weights that `change` has worked on, which hears the index of their model in
    /// the population.
    pub(super) fn write_changed(
        &self,
        population: &Population,
        path: &Path,
        change: &dyn Fn(usize, &mut StateDict) -> Result<(), ZooError>,
        progress: Progress<'_>,
    ) -> Result<Survey, ZooError> {
        let survey = self.survey(population, progress)?;
        let description = self.description.as_deref().map(Cow::from);
        let description = description.or_else(|| population.description());
        let mut writer =
            PackedWriter::create(path, description.as_deref(), &survey.epochs, &survey.models)?;
        for (done, &index) in survey.positions.iter().enumerate() {
            for &epoch in &survey.epochs {
                let mut weights = population.weights(index, epoch)?;
                change(index, &mut weights)?;
                writer.write(&weights).map_err(|error| match error {
                    ZooError::Malformed { reason, .. } => {
                        let reason = format!("epoch {epoch}: {reason}");
                        ZooError::malformed(&population.place(index), reason)
                    }
                    error => error,
                })?;
            }
            progress("packing models", done + 1, survey.positions.len());
        }
        writer.finish()?;
        Ok(survey)
    }

    /// Finds out what of a population can be taken, without reading weights unless damaged models are to
    /// be skipped.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn survey(
        &self,
        population: &Population,
        progress: Progress<'_>,
    ) -> Result<Survey, ZooError> {
        let mut damaged = Vec::new();
        let mut skip = |index: usize, error: ZooError| match self.skip_damaged {
            false => Err(error),
            true => {
                let name = population.name(index).to_owned();
                damaged.push(Damaged { name, reason: error.to_string() });
                Ok(())
            }
        };
        let mut found: Vec<(usize, Model)> = Vec::new();
        for index in 0..population.len() {
            match population.model(index) {
                Ok(model) => found.push((index, model)),
                Err(error) => skip(index, error)?,
            }
            progress("reading parameters", index + 1, population.len());
        }
        let epochs = self.epochs.clone().unwrap_or_else(|| usual_epochs(&found));
        if epochs.is_empty() {
            return Err(ZooError::malformed(
                population.path(),
                "no epoch of which most models have weights",
            ));
        }
        let (mut models, mut positions): (Vec<PackedModel>, _) = (Vec::new(), Vec::new());
        let total = found.len();
        for (done, (index, model)) in found.into_iter().enumerate() {
            match self.packed(population, index, model, &epochs, models.first()) {
                Ok(model) => {
                    models.push(model);
                    positions.push(index);
                }
                Err(error) => skip(index, error)?,
            }
            progress("looking at checkpoints", done + 1, total);
        }
        Ok(Survey { models, epochs, damaged, positions })
    }

    /// A model as it will be in the file, if it has all that the file needs.
    fn packed(
        &self,
        population: &Population,
        index: usize,
        model: Model,
        epochs: &[u32],
        first: Option<&PackedModel>,
    ) -> Result<PackedModel, ZooError> {
        let refuse = |reason: String| ZooError::malformed(&population.place(index), reason);
        if let Some(epoch) = epochs.iter().find(|epoch| !model.epochs.contains(epoch)) {
            return Err(refuse(format!("no checkpoint of epoch {epoch}")));
        }
        let tensors = population.tensors(index, epochs[0])?;
        for &epoch in epochs {
            if population.tensors(index, epoch)? != tensors {
                return Err(refuse(format!(
                    "other tensors at epoch {epoch} than at {}",
                    epochs[0]
                )));
            }
            if self.skip_damaged {
                population.row(index, epoch)?;
            }
        }
        let count = RowLayout(tensors.clone()).len();
        if let Some(first) = first {
            let expected = RowLayout(first.tensors.clone()).len();
            if count != expected {
                return Err(refuse(different_size(&model.name, count, &first.name, expected)));
            }
        }
        let Model { name, params, metrics, .. } = model;
        Ok(PackedModel { name, params, tensors, metrics })
    }
}

/// Epochs that more than half of the models have, ascending.
fn usual_epochs(models: &[(usize, Model)]) -> Vec<u32> {
    let mut all: Vec<u32> = models.iter().flat_map(|(_, model)| model.epochs.clone()).collect();
    all.sort_unstable();
    let runs = all.chunk_by(|a, b| a == b);
    runs.filter(|run| 2 * run.len() > models.len()).map(|run| run[0]).collect()
}

/// Writes the tree of a population into a folder, which is made if it is not there.
///
/// # Errors
/// What is damaged; what the system says.
pub fn write_tree(
    population: &Population,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<(), ZooError> {
    std::fs::create_dir_all(folder).map_err(ZooError::io(folder))?;
    for index in 0..population.len() {
        let model = population.model(index)?;
        let writer = ModelWriter::create(folder, &model.name, &model.params)?;
        for &epoch in &model.epochs {
            writer.write_checkpoint(epoch, &population.weights(index, epoch)?)?;
        }
        writer.write_metrics(&model.metrics)?;
        progress("writing models", index + 1, population.len());
    }
    Ok(())
}
