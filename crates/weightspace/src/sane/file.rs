//! A trained autoencoder on disk: `model.safetensors` and `config.json`, which need nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use weightspace_core::align::{AlignOptions, Aligner};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::permutation::{self, PermutationGroup};
use weightspace_core::{AtomicFile, Checkpoint, CheckpointError, DType, StateDict, TensorInfo};
use weightspace_nn::ModelState;
use weightspace_nn::arch;

use super::model::Autoencoder;
use super::pretraining::Samples;
use super::{SaneConfig, SaneError, Standardisation, TokenLayout};
use crate::zoo::ModelWeights;

/// File names within a folder.
const MODEL: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// What tensors of the reference begin with in the file of weights.
const REFERENCE: &str = "reference.";

/// Largest configuration: that of a network of a hundred thousand tensors.
const LARGEST_CONFIG: u64 = 1 << 26;

/// A trained autoencoder, and all that is needed to use it.
#[derive(Clone, Debug, PartialEq)]
pub struct SaneModel {
    /// The autoencoder.
    pub autoencoder: Autoencoder,
    /// Its weights.
    pub weights: StateDict,
    /// Architecture of the models that it was trained on; empty if it is none that is known.
    pub arch: String,
    /// How their tensors are tokens.
    pub layout: TokenLayout,
    /// Mean and deviation of their layers.
    pub standardisation: Standardisation,
    /// One of these models, which stands for all.
    pub reference: StateDict,
    /// Seed by which its zoo was divided.
    pub split_seed: u64,
    /// Whether it learnt models whose units are in the order of the reference's.
    pub aligned: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Of this file.
    version: u32,
    arch: String,
    model: SaneConfig,
    tables: [usize; 3],
    split_seed: u64,
    aligned: bool,
    standardisation: Standardisation,
    tensors: Vec<SavedTensor>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

const VERSION: u32 = 1;

impl SaneModel {
    /// The units of its networks that are brought into the order of the reference's; none if it learnt models as they
    /// are.
    ///
    /// # Errors
    /// A reference that is no known network.
    pub fn groups(&self) -> Result<Vec<PermutationGroup>, SaneError> {
        if !self.aligned {
            return Ok(Vec::new());
        }
        let net = arch::recognise(&self.reference.infos()).map_err(|error| SaneError::Model {
            model: self.arch.clone(),
            reason: error.to_string(),
        })?;
        Ok(net.permutation_groups())
    }

    /// How networks of a layout are standardised: by what it learnt if they are of its architecture, else by their own
    /// statistics.
    ///
    /// # Errors
    /// If these cannot be read.
    pub fn standardisation_for<'a>(
        &self,
        layout: &TokenLayout,
        networks: impl Iterator<Item = Result<ModelWeights<'a>, SaneError>>,
    ) -> Result<Standardisation, SaneError> {
        match self.layout.fits(layout.tensors()) {
            true => Ok(self.standardisation.clone()),
            false => Standardisation::of(layout, networks),
        }
    }

    /// Samples with how their models are aligned, if that is what it learnt; others as they are. Every model is aligned by its
    /// last epoch, whichever of its epochs are samples.
    ///
    /// # Errors
    /// If a model cannot be read or is another network.
    pub fn align_samples(&self, samples: Samples) -> Result<Samples, SaneError> {
        let groups = self.groups()?;
        if groups.is_empty() {
            return Ok(samples);
        }
        let aligner = Aligner::new(&groups, &self.reference, AlignOptions::default())?;
        samples.aligned_by(&aligner, &self.layout, |samples, model| {
            Ok(samples.population().model(model)?.epochs.last().copied())
        })
    }

    /// A network with its units in the order of the reference's, if that is what it learnt, and its tensors under the
    /// reference's names; other networks stay as they are.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn align(&self, network: StateDict) -> Result<StateDict, SaneError> {
        let (mut network, groups) = (self.layout.renamed(network), self.groups()?);
        if groups.is_empty() || !self.layout.fits(&network.infos()) {
            return Ok(network);
        }
        let aligner = Aligner::new(&groups, &self.reference, AlignOptions::default())?;
        let found = aligner.align(&network)?;
        permutation::apply(&groups, &found.permutations, &mut network).map_err(|error| {
            SaneError::Model { model: self.arch.clone(), reason: error.to_string() }
        })?;
        Ok(network)
    }

    /// Writes both files, the weights last.
    ///
    /// # Errors
    /// If the system fails.
    pub fn write(&self, folder: &Path) -> Result<(), SaneError> {
        let tensors = self.layout.tensors().iter().map(|info| SavedTensor {
            name: info.name.clone(),
            dtype: info.dtype.name().to_owned(),
            shape: info.shape.clone(),
        });
        let saved = Saved {
            version: VERSION,
            arch: self.arch.clone(),
            model: self.autoencoder.config().clone(),
            tables: self.autoencoder.tables(),
            split_seed: self.split_seed,
            aligned: self.aligned,
            standardisation: self.standardisation.clone(),
            tensors: tensors.collect(),
        };
        let path = folder.join(CONFIG);
        let mut text = serde_json::to_vec_pretty(&saved).map_err(|e| malformed(&path, e))?;
        text.write_all(b"\n").map_err(|e| malformed(&path, e))?;
        AtomicFile::write_bytes(&path, &text).map_err(|e| malformed(&path, e))?;
        let mut all = self.weights.clone();
        for (name, tensor) in self.reference.iter() {
            all.insert(format!("{REFERENCE}{name}"), tensor.clone());
        }
        let metadata = BTreeMap::from([("weightspace.sane".to_owned(), VERSION.to_string())]);
        let path = folder.join(MODEL);
        Ok(write_safetensors(&path, &all, &metadata)?)
    }

    /// Reads both files.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not belong together.
    pub fn read(folder: &Path) -> Result<Self, SaneError> {
        let config = folder.join(CONFIG);
        let text = read_config(&config)?;
        Self::from_parts(&config, &text, || Checkpoint::open(&folder.join(MODEL)))
    }

    /// The same from the text of `config.json`, which errors call `path`, and what opens the weights.
    ///
    /// # Errors
    /// Parts that are damaged, or do not belong together.
    pub fn from_parts(
        path: &Path,
        config: &str,
        open: impl FnOnce() -> Result<Checkpoint, CheckpointError>,
    ) -> Result<Self, SaneError> {
        let saved = parse_config(path, config)?;
        let infos = saved.tensors.iter().map(|tensor| {
            let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == tensor.dtype);
            let dtype = dtype.ok_or_else(|| malformed(path, "a tensor of an unknown type"))?;
            Ok(TensorInfo { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() })
        });
        let infos = infos.collect::<Result<Vec<_>, SaneError>>()?;
        if infos.iter().any(|info| checked_count(info).is_none()) {
            return Err(malformed(path, "a tensor of an impossible shape"));
        }
        let layout = TokenLayout::new(&infos, saved.model.tokens)?;
        let standardisation = saved.standardisation.clone();
        let layers = layout.layers().len();
        let finite =
            |values: &[f64]| values.len() == layers && values.iter().all(|v| v.is_finite());
        if !finite(&standardisation.mean) || !finite(&standardisation.deviation) {
            return Err(malformed(
                path,
                format!("no mean and deviation for each of {layers} layers"),
            ));
        }
        let autoencoder = Autoencoder::new(saved.model.clone(), saved.tables)?;
        autoencoder.check(&layout)?;
        let checkpoint = open().map_err(SaneError::Checkpoint)?;
        let file = checkpoint.path().to_owned();
        let all = checkpoint.state_dict().map_err(SaneError::Checkpoint)?;
        let (mut weights, mut reference) = (StateDict::new(), StateDict::new());
        for (name, tensor) in all.iter() {
            match name.strip_prefix(REFERENCE) {
                Some(name) => reference.insert(name, tensor.clone()),
                None => weights.insert(name, tensor.clone()),
            }
        }
        let net = autoencoder.training_net().net;
        ModelState::from_state_dict(&net, &weights).map_err(|e| malformed(&file, e))?;
        layout.tokenise(&reference).map_err(|e| malformed(&file, format!("{REFERENCE}: {e}")))?;
        let Saved { arch, split_seed, aligned, .. } = saved;
        Ok(SaneModel {
            autoencoder,
            weights,
            arch,
            layout,
            standardisation,
            reference,
            split_seed,
            aligned,
        })
    }
}

fn read_config(path: &Path) -> Result<String, SaneError> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| malformed(path, e))?;
    let read = file.take(LARGEST_CONFIG).read_to_string(&mut text);
    read.map_err(|e| malformed(path, e))?;
    Ok(text)
}

fn parse_config(path: &Path, text: &str) -> Result<Saved, SaneError> {
    let saved: Saved = serde_json::from_str(text).map_err(|e| malformed(path, e))?;
    match saved.version {
        VERSION => Ok(saved),
        version => Err(malformed(path, format!("version {version}, expected {VERSION}"))),
    }
}

/// Elements of a tensor that a machine can hold.
fn checked_count(info: &TensorInfo) -> Option<usize> {
    let count = info.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    (count <= 1 << 40).then_some(count)
}

fn malformed(path: &Path, reason: impl ToString) -> SaneError {
    SaneError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}
