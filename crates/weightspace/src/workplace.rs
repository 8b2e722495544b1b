//! Where long work is kept, so that what was interrupted goes on where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weightspace_core::AtomicFile;

const RECORD: &str = "work.json";

/// Files by one of which a part of the work is known: those of a training and of a group of models.
const MARKS: [&str; 2] = ["metrics.jsonl", "epoch-000000.safetensors"];

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct WorkplaceError {
    /// The folder.
    pub path: PathBuf,
    /// What is there, or what the system says.
    pub reason: String,
}

/// A folder with `work.json`, which says what is made there, and a folder for every part of the work.
#[derive(Clone, Debug)]
pub struct Workplace {
    path: PathBuf,
    anew: bool,
}

impl Workplace {
    /// A folder that is created when the work begins. With `anew` other work that is there is forgotten.
    pub fn new(path: PathBuf, anew: bool) -> Self {
        Workplace { path, anew }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was kept; other files stay.
    ///
    /// # Errors
    /// If the system fails.
    pub fn remove(&self) -> Result<(), WorkplaceError> {
        self.clear()?;
        // What else may be there is not ours.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    /// Removes the parts of the work and the record; nothing where there is no record.
    fn clear(&self) -> Result<(), WorkplaceError> {
        if !self.path.join(RECORD).exists() {
            return Ok(());
        }
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries {
            let path = entry.map_err(|error| self.failed(&error))?.path();
            let removed = if MARKS.iter().any(|mark| path.join(mark).is_file()) {
                fs::remove_dir_all(&path)
            } else if path.ends_with(RECORD) {
                fs::remove_file(&path)
            } else {
                Ok(())
            };
            removed.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn foreign(&self, reason: &str) -> WorkplaceError {
        let reason = format!("{reason}; -f begins anew");
        WorkplaceError { path: self.path.clone(), reason }
    }

    fn failed(&self, error: &io::Error) -> WorkplaceError {
        WorkplaceError { path: self.path.clone(), reason: error.to_string() }
    }

    /// Claims the folder for the work of this record.
    ///
    /// # Errors
    /// If other work is there that is not to be forgotten, or the system fails.
    pub fn claim(&self, record: &Value) -> Result<(), WorkplaceError> {
        let file = self.path.join(RECORD);
        let found = match fs::read(&file) {
            Ok(bytes) => Some(serde_json::from_slice::<Value>(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed(&error)),
        };
        let is_empty = || fs::read_dir(&self.path).map_or(true, |mut all| all.next().is_none());
        match found {
            Some(Some(found)) if found == *record => return Ok(()),
            _ if self.anew => self.clear()?,
            Some(Some(_)) => {
                return Err(self.foreign("was begun for another model or with other settings"));
            }
            Some(None) => return Err(self.foreign("holds a damaged work.json")),
            None if !is_empty() => {
                return Err(self.foreign("holds something else than such work"));
            }
            None => {}
        }
        fs::create_dir_all(&self.path).map_err(|error| self.failed(&error))?;
        let text = serde_json::to_vec_pretty(record).expect("a record is plain JSON");
        AtomicFile::write_bytes(&file, &text).map_err(|error| self.failed(&error))
    }
}
