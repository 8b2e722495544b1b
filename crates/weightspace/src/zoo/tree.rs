//! The layout of the published zoos: a folder for every model.
//!
//! ```text
//! zoo/NN_tune_trainable_<id>_seed=.../params.json             flat keys, `model::*`, `optim::*`, `training::*`
//!                                    /result.json             a line per epoch
//!                                    /checkpoint_000000/checkpoints               of torch.save, or
//!                                                      /checkpoints.safetensors   as it is written here
//! ```
//!
//! A folder is a model's if it has a file `params.json` or `result.json`; everything else is passed over, as is a
//! `checkpoint_N` without a checkpoint. N is the epoch, with any number of zeros in front.
//!
//! A folder without such folders, but with checkpoints, is a zoo, too: every file is a model at epoch 0, of which
//! nothing is known but what it states itself.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{AtomicFile, Checkpoint, StateDict, quoted};

use super::ZooError;
use super::metrics::{self, EpochMetrics};
use super::params::{self, Params};
use super::population::Model;

/// File of a model's parameters.
const PARAMS: &str = "params.json";
/// File of a model's metrics.
const RESULT: &str = "result.json";
/// What the name of a checkpoint's folder begins with.
const CHECKPOINT: &str = "checkpoint_";
/// File of the weights as they are published, and as they are written here.
const WEIGHTS: [&str; 2] = ["checkpoints", "checkpoints.safetensors"];

/// Endings of checkpoints that are models by themselves.
const CHECKPOINTS: [&str; 7] = ["safetensors", "pt", "pth", "th", "bin", "ckpt", "npz"];
/// What says that files are parts of one checkpoint.
const INDEX: &str = ".index.json";

/// Most bytes of a `result.json`; published ones have a hundred thousand.
const MOST_RESULT_BYTES: u64 = 1 << 26;

/// Names of the models' folders, or, if there are none, of checkpoints, in the order of their bytes.
pub(super) fn names(zoo: &Path) -> Result<Vec<String>, ZooError> {
    let (mut folders, mut files, mut is_parts) = (Vec::new(), Vec::new(), false);
    for entry in fs::read_dir(zoo).map_err(ZooError::io(zoo))? {
        let path = entry.map_err(ZooError::io(zoo))?.path();
        let is_model = path.join(PARAMS).is_file() || path.join(RESULT).is_file();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_file = CHECKPOINTS.contains(&ending) && path.is_file();
        is_parts |= path.to_string_lossy().ends_with(INDEX);
        if !is_model && !is_file {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| ZooError::malformed(&path, "the name is no UTF-8"))?;
        if is_model { &mut folders } else { &mut files }.push(name.to_owned());
    }
    let mut names = if folders.is_empty() && !is_parts { files } else { folders };
    names.sort_unstable();
    Ok(names)
}

/// Parameters and metrics of a model, and at which epochs there are weights.
pub(super) fn model(folder: &Path, name: &str) -> Result<Model, ZooError> {
    if folder.is_file() {
        let (params, metrics) = (stated(folder)?, vec![EpochMetrics::unknown(0)]);
        return Ok(Model { name: name.to_owned(), params, epochs: vec![0], metrics });
    }
    let epochs: Vec<u32> = checkpoints(folder)?.into_iter().map(|(epoch, _)| epoch).collect();
    let all = read_metrics(&folder.join(RESULT))?;
    let of_epoch = |&epoch: &u32| {
        let found = all.binary_search_by_key(&epoch, |metrics| metrics.epoch);
        found.map_or_else(|_| EpochMetrics::unknown(epoch), |index| all[index])
    };
    let params = read_params(&folder.join(PARAMS))?;
    let metrics = epochs.iter().map(of_epoch).collect();
    Ok(Model { name: name.to_owned(), params, epochs, metrics })
}

/// What a checkpoint says of itself, as parameters.
fn stated(file: &Path) -> Result<Params, ZooError> {
    let file = Checkpoint::open(file)?;
    let own = file.metadata().iter().filter_map(|(key, text)| {
        let key = key.strip_prefix("weightspace.")?;
        Some((format!("weightspace::{key}"), text.clone().into()))
    });
    Ok(own.collect())
}

/// The checkpoint of an epoch, of which only the header is read.
pub(super) fn checkpoint(folder: &Path, epoch: u32) -> Result<Checkpoint, ZooError> {
    if folder.is_file() {
        let missing = || ZooError::malformed(folder, format!("no checkpoint of epoch {epoch}"));
        return if epoch == 0 { Ok(Checkpoint::open(folder)?) } else { Err(missing()) };
    }
    // Almost always it is where its number says, and the folder need not be searched.
    let usual = [format!("{CHECKPOINT}{epoch:06}"), format!("{CHECKPOINT}{epoch}")];
    let usual = usual.iter().flat_map(|name| WEIGHTS.map(|file| folder.join(name).join(file)));
    let usual = usual.into_iter().find(|file| file.is_file());
    let search = || -> Result<PathBuf, ZooError> {
        let found = checkpoints(folder)?.into_iter().find(|(found, _)| *found == epoch);
        let missing = || ZooError::malformed(folder, format!("no checkpoint of epoch {epoch}"));
        found.map(|(_, path)| path).ok_or_else(missing)
    };
    Ok(Checkpoint::open(&usual.map_or_else(search, Ok)?)?)
}

/// Epochs with a checkpoint and its file, ascending.
fn checkpoints(folder: &Path) -> Result<Vec<(u32, PathBuf)>, ZooError> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(ZooError::io(folder))? {
        let entry = entry.map_err(ZooError::io(folder))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(CHECKPOINT));
        let Some(epoch) = number.and_then(|number| number.parse().ok()) else { continue };
        let files = WEIGHTS.map(|file| entry.path().join(file));
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            found.push((epoch, file));
        }
    }
    found.sort_unstable();
    match found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(ZooError::malformed(folder, format!("two checkpoints of epoch {}", pair[0].0)))
        }
        None => Ok(found),
    }
}

fn read_params(path: &Path) -> Result<Params, ZooError> {
    let mut text = String::new();
    // One byte more than allowed: parsing says that it is too long.
    let file = File::open(path).map_err(ZooError::io(path))?;
    let limit = params::MOST_BYTES as u64 + 1;
    file.take(limit).read_to_string(&mut text).map_err(ZooError::io(path))?;
    params::parse(&text).map_err(|reason| ZooError::malformed(path, reason))
}

/// All metrics of a model; none if nobody wrote any.
fn read_metrics(path: &Path) -> Result<Vec<EpochMetrics>, ZooError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(ZooError::io(path))?,
    };
    let bytes = file.metadata().map_err(ZooError::io(path))?.len();
    if bytes > MOST_RESULT_BYTES {
        let reason = format!("{bytes} bytes of results, more than {MOST_RESULT_BYTES}");
        return Err(ZooError::malformed(path, reason));
    }
    metrics::read(BufReader::new(file)).map_err(|reason| ZooError::malformed(path, reason))
}

/// Writes one model of a tree. Every file appears whole or not at all; what is there is replaced.
#[derive(Debug)]
pub struct ModelWriter {
    folder: PathBuf,
    params: Params,
}

impl ModelWriter {
    /// Makes the folder of a model with its parameters.
    ///
    /// # Errors
    /// If the name cannot be that of a folder, or what the system says.
    pub fn create(zoo: &Path, name: &str, params: &Params) -> Result<Self, ZooError> {
        check_name(name).map_err(|reason| ZooError::malformed(zoo, reason))?;
        let folder = zoo.join(name);
        fs::create_dir_all(&folder).map_err(ZooError::io(&folder))?;
        let path = folder.join(PARAMS);
        let text = serde_json::to_string_pretty(params);
        let text = text.map_err(|error| ZooError::malformed(&path, error))? + "\n";
        AtomicFile::write_bytes(&path, text.as_bytes()).map_err(ZooError::io(&path))?;
        Ok(ModelWriter { folder, params: params.clone() })
    }

    /// Writes the weights of an epoch, with what of the parameters their file has to say to be used alone.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_checkpoint(&self, epoch: u32, weights: &StateDict) -> Result<(), ZooError> {
        let folder = self.folder.join(format!("{CHECKPOINT}{epoch:06}"));
        fs::create_dir_all(&folder).map_err(ZooError::io(&folder))?;
        let metadata = super::stated::metadata(&self.params, &weights.infos());
        Ok(write_safetensors(&folder.join(WEIGHTS[1]), weights, &metadata)?)
    }

    /// Writes the metrics of all epochs so far.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_metrics(&self, metrics: &[EpochMetrics]) -> Result<(), ZooError> {
        let path = self.folder.join(RESULT);
        let lines: String = metrics.iter().map(|metrics| metrics.to_line() + "\n").collect();
        AtomicFile::write_bytes(&path, lines.as_bytes()).map_err(ZooError::io(&path))
    }
}

/// Refuses names that would lead out of the zoo's folder, or that some system cannot have.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || name.contains(odd) {
        return Err(format!("{} cannot be the name of a model", quoted(name)));
    }
    Ok(())
}
