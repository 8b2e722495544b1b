//! Where the phases of a recipe are kept, so that one that was interrupted goes on where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weightspace_core::AtomicFile;
use weightspace_nn::train::{CheckpointPolicy, Ending, Observer, RunFolder, Silent, Trainer};

use super::RecipeError;

const RECORD: &str = "recipe.json";
/// What every folder of a phase has.
const METRICS: &str = "metrics.jsonl";

/// Watches the phases of a recipe.
pub trait PhaseObserver: Observer {
    /// A phase begins, or continues after so many steps.
    fn phase(&mut self, _name: &str, _step: u64) {}
}

impl PhaseObserver for Silent {}

/// A folder with `recipe.json`, which says what is made there, and a folder of metrics and the newest checkpoint for
/// every phase.
#[derive(Clone, Debug)]
pub struct Workplace {
    path: PathBuf,
    anew: bool,
}

impl Workplace {
    /// A folder that is created when the work begins. With `anew` the
    /// work of another recipe that is there is forgotten.
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
    pub fn remove(&self) -> Result<(), RecipeError> {
        self.clear()?;
        // What else may be there is not ours.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    /// Removes the record and the folders of phases.
    fn clear(&self) -> Result<(), RecipeError> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries {
            let path = entry.map_err(|error| self.failed(&error))?.path();
            let removed = if path.join(METRICS).is_file() {
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

    fn foreign(&self, reason: &str) -> RecipeError {
        let reason = format!("{reason}; -f begins anew");
        RecipeError::Workplace { path: self.path.clone(), reason }
    }

    fn failed(&self, error: &io::Error) -> RecipeError {
        RecipeError::Workplace { path: self.path.clone(), reason: error.to_string() }
    }

    /// Claims the folder for the work of this record.
    pub(super) fn claim(&self, record: &Value) -> Result<(), RecipeError> {
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
            Some(None) => return Err(self.foreign("holds a damaged recipe.json")),
            None if !is_empty() => {
                return Err(self.foreign("holds something else than a recipe's work"));
            }
            None => {}
        }
        fs::create_dir_all(&self.path).map_err(|error| self.failed(&error))?;
        let text = serde_json::to_vec_pretty(record).expect("a record is plain JSON");
        AtomicFile::write_bytes(&file, &text).map_err(|error| self.failed(&error))
    }

    /// Runs a phase from where it was to its end.
    pub(super) fn run(
        place: Option<&Workplace>,
        name: &str,
        trainer: &mut Trainer<'_>,
        observer: &mut dyn PhaseObserver,
    ) -> Result<(), RecipeError> {
        let ending = match place {
            None => {
                observer.phase(name, 0);
                trainer.run(observer)?
            }
            Some(place) => {
                let path = place.path.join(name);
                let mut folder = RunFolder::open(&path, CheckpointPolicy::default())?;
                folder.restore(trainer)?;
                observer.phase(name, trainer.step_count());
                trainer.run_in(&mut folder, observer)?
            }
        };
        match ending {
            Ending::Finished => Ok(()),
            Ending::Interrupted => Err(RecipeError::Interrupted {
                phase: name.to_owned(),
                step: trainer.step_count(),
                total: trainer.total_steps(),
            }),
        }
    }
}
