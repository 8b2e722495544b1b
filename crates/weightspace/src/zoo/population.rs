//! A zoo on disk, of any layout, read model by model.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weightspace_core::{Checkpoint, StateDict, TensorInfo, quoted};
use weightspace_nn::data::split_train_validation;

use super::description::ZooDescription;
use super::metrics::EpochMetrics;
use super::packed::Packed;
use super::params::{self, Params, text};
use super::row::RowLayout;
use super::spec::{ARCH, ModelSpec};
use super::weights::ModelWeights;
use super::{ZooError, tree};

/// The models of a zoo, or some of them, in the order of their names' bytes. Names are known; parameters, metrics
/// and weights are read when they are asked for, and not kept.
#[derive(Clone)]
pub struct Population {
    path: PathBuf,
    source: Source,
    /// Which models of the source.
    positions: Vec<usize>,
}

#[derive(Clone)]
enum Source {
    /// Names of the folders.
    Tree(Arc<[String]>),
    Packed(Arc<Packed>),
    /// Several zoos, and of which of them each model is which.
    Joined(Arc<[Population]>, Arc<[(usize, usize)]>),
}

/// What is known about a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Name; that of its folder in a tree.
    pub name: String,
    /// What it was made with: all keys, whether known here or not.
    pub params: Params,
    /// Epochs of which there are weights, ascending.
    pub epochs: Vec<u32>,
    /// Metrics of these epochs.
    pub metrics: Vec<EpochMetrics>,
}

impl Model {
    /// Architecture of a checkpoint of which nothing else is known; `None` if it does not state one, or there are other
    /// parameters.
    pub fn stated_arch(&self) -> Option<&str> {
        text(&self.params, ARCH).filter(|_| !self.has_settings())
    }

    /// Whether it is known how it was made.
    pub fn has_settings(&self) -> bool {
        params::have_settings(&self.params)
    }

    /// Name of the data set that it was trained on, where its parameters say so.
    pub fn data(&self) -> Option<&str> {
        text(&self.params, params::DATA)
    }

    /// What was done to the images, where its parameters say so.
    pub fn preprocessing(&self) -> Option<&str> {
        text(&self.params, params::PREPROCESSING)
    }

    /// Its parameters as something that can be trained.
    ///
    /// # Errors
    /// As [`ModelSpec::from_params`].
    pub fn spec(&self) -> Result<ModelSpec, ZooError> {
        ModelSpec::from_params(&self.params)
    }
}

/// A population in three parts, no model in two of them.
#[derive(Clone)]
pub struct Parts {
    /// 70 %.
    pub train: Population,
    /// 15 %.
    pub validation: Population,
    /// The rest.
    pub test: Population,
}

impl Population {
    /// Opens a zoo: a folder of models, or a packed file.
    ///
    /// # Errors
    /// What is neither, or has no models.
    pub fn open(path: &Path) -> Result<Self, ZooError> {
        let (source, models) = match path.is_dir() {
            true => {
                let names = tree::names(path)?;
                let count = names.len();
                (Source::Tree(names.into()), count)
            }
            false => {
                let packed = Packed::open(path)?;
                let count = packed.len();
                (Source::Packed(packed.into()), count)
            }
        };
        if models == 0 {
            let reason = "no models: no folder in it has a params.json or a result.json, and there are no checkpoints";
            return Err(ZooError::malformed(path, reason));
        }
        Ok(Population { path: path.to_owned(), source, positions: (0..models).collect() })
    }

    /// A packed file that is in memory; errors call it `name`.
    ///
    /// # Errors
    /// What is no packed zoo.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, ZooError> {
        let packed = Packed::of(Checkpoint::from_bytes(name, bytes)?)?;
        let positions = (0..packed.len()).collect();
        Ok(Population { path: name.into(), source: Source::Packed(packed.into()), positions })
    }

    /// Several zoos as one, for instance the parts that several machines have trained.
    ///
    /// # Errors
    /// Models of the same name, or no zoo.
    pub fn join(parts: Vec<Population>) -> Result<Self, ZooError> {
        let path = parts.first().map_or_else(PathBuf::new, |part| part.path.clone());
        let each = parts.iter().enumerate();
        let mut members: Vec<(usize, usize)> =
            each.flat_map(|(part, zoo)| (0..zoo.len()).map(move |index| (part, index))).collect();
        let name = |&(part, index): &(usize, usize)| parts[part].name(index);
        members.sort_by(|a, b| name(a).cmp(name(b)));
        if let Some(pair) = members.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            let other = &parts[pair[1].0].path;
            let reason = format!("{} is in {} too", quoted(name(&pair[0])), other.display());
            return Err(ZooError::malformed(&parts[pair[0].0].path, reason));
        }
        let positions = (0..members.len()).collect();
        Ok(Population { path, source: Source::Joined(parts.into(), members.into()), positions })
    }

    /// Where the zoo is; the first one of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `tree`, `packed` or `joined`.
    pub fn layout(&self) -> &'static str {
        match self.source {
            Source::Tree(_) => "tree",
            Source::Packed(_) => "packed",
            Source::Joined(..) => "joined",
        }
    }

    /// The description (TOML) that the zoo was made from, if it says so; of several zoos one that
    /// [fits all](ZooDescription::joined), if there is one.
    pub fn description(&self) -> Option<Cow<'_, str>> {
        match &self.source {
            Source::Tree(_) => None,
            Source::Packed(packed) => packed.description().map(Cow::from),
            Source::Joined(parts, _) => {
                let texts =
                    parts.iter().map(Population::description).collect::<Option<Vec<_>>>()?;
                let first = texts.first()?;
                if texts.iter().all(|text| text == first) {
                    return Some(first.clone());
                }
                let parts = texts.iter().map(|text| ZooDescription::parse(text).ok());
                let joined = ZooDescription::joined(&parts.collect::<Option<Vec<_>>>()?)?;
                Some(joined.to_toml().into())
            }
        }
    }

    /// Number of models.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// True when there is no model.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Name of a model.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn name(&self, index: usize) -> &str {
        let position = self.positions[index];
        match &self.source {
            Source::Tree(names) => &names[position],
            Source::Packed(packed) => packed.name(position),
            Source::Joined(parts, members) => parts[members[position].0].name(members[position].1),
        }
    }

    /// All names, ascending.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.name(index))
    }

    /// The model that a user means: its name, its position, or a part of its name that no other has.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, text: &str) -> Result<usize, ZooError> {
        if let Some(index) = self.names().position(|name| name == text) {
            return Ok(index);
        }
        if let Some(index) = text.parse().ok().filter(|index| *index < self.len()) {
            return Ok(index);
        }
        let named = |(index, name): (usize, &str)| name.contains(text).then_some(index);
        let mut found = self.names().enumerate().filter_map(named);
        let refuse = |reason| Err(ZooError::NoSuchModel { path: self.path.clone(), reason });
        let text = quoted(text);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(a), Some(b)) => {
                let names = [self.name(a), self.name(b)].map(quoted);
                refuse(format!("{text} is a part of {} and of {}", names[0], names[1]))
            }
            _ => refuse(format!(
                "none of its {} models is named {text}, and positions are 0 to {}",
                self.len(),
                self.len().saturating_sub(1)
            )),
        }
    }

    /// What is known about a model besides its weights.
    ///
    /// # Errors
    /// If its files are damaged.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn model(&self, index: usize) -> Result<Model, ZooError> {
        match &self.source {
            Source::Tree(_) => tree::model(&self.folder(index), self.name(index)),
            Source::Packed(packed) => packed.model(self.positions[index]),
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                parts[part].model(index)
            }
        }
    }

    /// Names, types and shapes of a model's tensors; the weights are not read.
    ///
    /// # Errors
    /// If there are no weights of this epoch, or if their file is damaged.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn tensors(&self, index: usize, epoch: u32) -> Result<Vec<TensorInfo>, ZooError> {
        match &self.source {
            Source::Tree(_) => Ok(tree::checkpoint(&self.folder(index), epoch)?.tensors().to_vec()),
            Source::Packed(packed) => Ok(packed.tensors(self.positions[index]).to_vec()),
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                parts[part].tensors(index, epoch)
            }
        }
    }

    /// The weights of a model after an epoch.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors).
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn weights(&self, index: usize, epoch: u32) -> Result<StateDict, ZooError> {
        match &self.source {
            Source::Tree(_) => Ok(tree::checkpoint(&self.folder(index), epoch)?.state_dict()?),
            Source::Packed(packed) => packed.weights(self.positions[index], epoch),
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                parts[part].weights(index, epoch)
            }
        }
    }

    /// The same as one row: all elements of all tensors, end to end.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors), and values that `f32` does not have.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn row(&self, index: usize, epoch: u32) -> Result<Vec<f32>, ZooError> {
        match &self.source {
            Source::Packed(packed) => return packed.row(self.positions[index], epoch),
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                return parts[part].row(index, epoch);
            }
            Source::Tree(_) => {}
        }
        let weights = self.weights(index, epoch)?;
        let row = RowLayout(weights.infos()).row(&weights);
        row.map_err(|reason| {
            ZooError::malformed(&self.folder(index), format!("epoch {epoch}: {reason}"))
        })
    }

    /// The weights of a model after an epoch, of which nothing is read yet.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors).
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn open_weights(&self, index: usize, epoch: u32) -> Result<ModelWeights<'_>, ZooError> {
        match &self.source {
            Source::Tree(_) => {
                Ok(ModelWeights::of_checkpoint(tree::checkpoint(&self.folder(index), epoch)?))
            }
            Source::Packed(packed) => {
                let position = self.positions[index];
                let row = packed.row_bytes(position, epoch)?;
                Ok(ModelWeights::of_row(row, packed.tensors(position)))
            }
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                parts[part].open_weights(index, epoch)
            }
        }
    }

    /// Some of the models.
    ///
    /// # Panics
    /// If there is no model of such an index.
    pub fn subset(&self, indices: impl IntoIterator<Item = usize>) -> Population {
        let positions = indices.into_iter().map(|index| self.positions[index]).collect();
        Population { positions, ..self.clone() }
    }

    /// The models in three parts: 70 % to train on, 15 % for validation, and the rest. All epochs of a model are
    /// in one part.
    ///
    /// Of n models in the order of their names, the numbers 0 to n - 1 are shuffled as
    /// [`split_train_validation`]`(n, 0, seed)` does. The first floor(70 n / 100) of these are the training models, the
    /// next floor(15 n / 100) those of validation; every part is in the order of the names.
    pub fn split(&self, seed: u64) -> Parts {
        let n = self.len();
        let order = split_train_validation(n, 0, seed).0;
        let (train, rest) = order.split_at(70 * n / 100);
        let (validation, test) = rest.split_at(15 * n / 100);
        let part = |indices: &[usize]| {
            let mut indices = indices.to_vec();
            indices.sort_unstable();
            self.subset(indices)
        };
        Parts { train: part(train), validation: part(validation), test: part(test) }
    }

    /// The models whose weights are finite at all their epochs, and the names of the others. Reads
    /// everything, row by row.
    ///
    /// # Errors
    /// If a file is damaged.
    pub fn without_nan(&self) -> Result<(Population, Vec<String>), ZooError> {
        let (mut finite, mut others) = (Vec::new(), Vec::new());
        for index in 0..self.len() {
            match self.is_finite(index)? {
                true => finite.push(index),
                false => others.push(self.name(index).to_owned()),
            }
        }
        Ok((self.subset(finite), others))
    }

    fn is_finite(&self, index: usize) -> Result<bool, ZooError> {
        for epoch in self.model(index)?.epochs {
            let finite = match &self.source {
                // Tensors of any type, as nothing of them is kept.
                Source::Tree(_) => {
                    let weights = self.weights(index, epoch)?;
                    weights.iter().all(|(_, tensor)| tensor.is_finite_as_f32())
                }
                _ => self.row(index, epoch)?.iter().all(|value| value.is_finite()),
            };
            if !finite {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a model is, as messages say it: its name in the zoo that it comes from.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn place(&self, index: usize) -> PathBuf {
        match &self.source {
            Source::Joined(parts, members) => {
                let (part, index) = members[self.positions[index]];
                parts[part].place(index)
            }
            _ => self.path.join(self.name(index)),
        }
    }

    /// The folder of a model of a tree.
    fn folder(&self, index: usize) -> PathBuf {
        self.path.join(self.name(index))
    }
}

impl std::fmt::Debug for Population {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Population")
            .field("path", &self.path)
            .field("layout", &self.layout())
            .field("models", &self.len())
            .finish_non_exhaustive()
    }
}
