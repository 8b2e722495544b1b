//! `run.json`: what a run is, by which it is recognised when the same command is given again.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;
use weightspace_core::AtomicFile;
use weightspace_nn::train::{CheckpointPolicy, RunFolder};

use super::config::{RunConfig, read_text};

/// File names within a run's folder.
pub const RUN: &str = "run.json";
pub const MODEL: &str = "model.safetensors";
pub const COMPRESSED_MODEL: &str = "model.wsp";
pub const MODEL_CONFIG: &str = "config.json";

/// Parts of a record that may differ in a continuation: files are compared by their contents.
const FREE: [&str; 5] =
    [".version", ".config.init", ".config.teacher", ".config.base", ".config.predictor_file"];

/// What a run is.
#[derive(Serialize)]
pub struct Record<'a> {
    /// Of the program.
    pub version: &'static str,
    /// What was asked for, with everything decided.
    pub config: &'a RunConfig,
    /// Of the processor, as used.
    pub instruction_set: String,
    /// Of the training images and labels.
    pub train_data_sha256: String,
    /// Of the test images and labels, if there are such.
    pub test_data_sha256: Option<String>,
    /// Of the tensors that training begins with.
    pub init_sha256: Option<String>,
    /// Of the teacher's tensors.
    pub teacher_sha256: Option<String>,
    /// Of the tensors that the predictor's file decodes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_sha256: Option<String>,
}

/// Finds out before anything is read whether `folder` may be written to.
pub fn check(folder: &Path, force: bool) -> anyhow::Result<()> {
    let shown = folder.display();
    let Ok(mut entries) = fs::read_dir(folder) else {
        match fs::symlink_metadata(folder) {
            Ok(_) => bail!("{shown}: exists and is not a folder that can be read"),
            Err(_) => return Ok(()),
        }
    };
    if force || entries.next().is_none() {
        return Ok(());
    }
    if folder.join(MODEL).exists() && folder.join(RUN).exists() {
        bail!("{shown}: this training is finished; -f starts it anew");
    }
    if !folder.join(RUN).exists() {
        bail!("{shown}: exists and holds something else than a training; -f trains there anyway");
    }
    Ok(())
}

/// Opens the folder of a run with this record: a new one, that of a run to continue, or with `force` one in
/// which another run is forgotten.
pub fn open(
    record: &impl Serialize,
    folder: &Path,
    policy: CheckpointPolicy,
    force: bool,
) -> anyhow::Result<RunFolder> {
    check(folder, force)?;
    let file = folder.join(RUN);
    let known = file.exists() && !force;
    if known {
        compare(record, &file)?;
    }
    let mut run = RunFolder::open(folder, policy)?;
    if !known {
        // The model first: a folder with a model and a record counts as finished.
        for name in [MODEL, COMPRESSED_MODEL, MODEL_CONFIG, RUN] {
            remove(&folder.join(name))?;
        }
        run.clear()?;
        write_json(&file, record)?;
    }
    Ok(run)
}

/// Fails if the record in `file` is of another run.
fn compare(record: &impl Serialize, file: &Path) -> anyhow::Result<()> {
    let parse = |text: &str| serde_json::from_str::<Value>(text);
    let shown = file.display();
    let found = parse(&read_text(file)?).with_context(|| shown.to_string())?;
    // Through text, as what was read.
    let own = parse(&serde_json::to_string(record)?)?;
    match first_difference("", &found, &own) {
        None => Ok(()),
        Some((key, found, own)) => {
            bail!("{shown}: the training was begun with {key} {found}, now {own}; -f starts anew")
        }
    }
}

/// The first place where two documents differ, and what is there.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    if a == b || FREE.contains(&path) {
        return None;
    }
    let (Value::Object(first), Value::Object(second)) = (a, b) else {
        let key = path.trim_start_matches('.').trim_start_matches("config.").to_owned();
        return Some((key, a.to_string(), b.to_string()));
    };
    let keys = first.keys().chain(second.keys().filter(|key| !first.contains_key(*key)));
    let value = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned();
    keys.into_iter().find_map(|key| {
        let (a, b) = (value(first, key), value(second, key));
        let (a, b) = (a.unwrap_or(Value::Null), b.unwrap_or(Value::Null));
        first_difference(&format!("{path}.{key}"), &a, &b)
    })
}

/// Writes a JSON document, whole or not at all.
pub fn write_json(path: &Path, document: &impl Serialize) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let mut file = AtomicFile::create(path)?;
        serde_json::to_writer_pretty(&mut file, document)?;
        file.write_all(b"\n")?;
        Ok(file.commit()?)
    };
    write().with_context(|| path.display().to_string())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}
