//! Long work as trainings one after the other, each in a folder of its own, from which an interrupted one goes on.

use std::path::Path;

use weightspace_nn::train::{
    CheckpointPolicy, Ending, Observer, Progress, RunFolder, Silent, TrainError, Trainer,
};

/// Watches the phases of long work.
pub trait PhaseObserver: Observer {
    /// A phase begins, or continues after so many steps.
    fn phase(&mut self, _name: &str, _step: u64) {}
}

impl PhaseObserver for Silent {}

/// The observer wanted training to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted in {phase} after step {step} of {total}")]
pub struct Interrupted {
    /// The phase.
    pub phase: String,
    /// Steps of it that are done.
    pub step: u64,
    /// Steps that it has.
    pub total: u64,
}

/// Why a phase has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhaseError {
    /// It was to stop.
    #[error(transparent)]
    Interrupted(Interrupted),
    /// Training diverged, or its folder cannot be used.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Where the folders of phases are.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhasePlace<'a> {
    /// None: nothing is kept, and what is interrupted begins anew.
    pub folder: Option<&'a Path>,
    /// What the names of folders begin with, so that several works have their phases in one folder.
    pub prefix: &'a str,
}

/// Runs a phase from where it was to its end; what is done is kept in the folder of its name.
pub(crate) fn run_phase(
    place: PhasePlace<'_>,
    name: &str,
    trainer: &mut Trainer<'_>,
    observer: &mut dyn PhaseObserver,
) -> Result<(), PhaseError> {
    let PhasePlace { folder, prefix } = place;
    let ending = match folder {
        None => {
            observer.phase(name, 0);
            trainer.run(observer)?
        }
        Some(folder) => {
            let path = folder.join(format!("{prefix}{name}"));
            let mut folder = RunFolder::open(&path, CheckpointPolicy::default())?;
            folder.restore(trainer)?;
            observer.phase(name, trainer.step_count());
            trainer.run_in(&mut folder, observer)?
        }
    };
    match ending {
        Ending::Finished => Ok(()),
        Ending::Interrupted => Err(PhaseError::Interrupted(Interrupted {
            phase: name.to_owned(),
            step: trainer.step_count(),
            total: trainer.total_steps(),
        })),
    }
}

/// Says how far phases are, and asks whether they are to stop.
pub(crate) struct Reporting<'a> {
    /// Name of the phase, steps that are done, all steps.
    pub progress: &'a dyn Fn(&str, usize, usize),
    /// Whether training is to stop.
    pub should_stop: &'a dyn Fn() -> bool,
    phase: String,
}

impl<'a> Reporting<'a> {
    pub fn new(
        progress: &'a dyn Fn(&str, usize, usize),
        should_stop: &'a dyn Fn() -> bool,
    ) -> Self {
        Reporting { progress, should_stop, phase: String::new() }
    }
}

impl Observer for Reporting<'_> {
    fn step(&mut self, progress: &Progress) {
        (self.progress)(&self.phase, progress.step as usize, progress.total_steps as usize);
    }

    fn should_stop(&self) -> bool {
        (self.should_stop)()
    }
}

impl PhaseObserver for Reporting<'_> {
    fn phase(&mut self, name: &str, _step: u64) {
        name.clone_into(&mut self.phase);
    }
}
