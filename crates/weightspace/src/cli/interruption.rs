//! Ctrl-C while something is trained.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

/// What signals do, for the whole process: listening is set up once, as it cannot be taken back.
static SIGNALS: Mutex<Option<Signals>> = Mutex::new(None);

struct Signals {
    /// The next signal ends the process; a signal sets it.
    wanted: Arc<AtomicBool>,
    /// How many [`Interruption`]s there are.
    listeners: usize,
}

/// Whether somebody wants the work to stop. As long as there is one, the first Ctrl-C only asks for that; the second, or the
/// first when there is none any more, ends the process.
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// From now on the first Ctrl-C only asks to stop.
    pub fn listen() -> anyhow::Result<Self> {
        let mut signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = match &mut *signals {
            Some(signals) => signals,
            none => none.insert(Signals::new()?),
        };
        if signals.listeners == 0 {
            signals.wanted.store(false, Ordering::Relaxed);
        }
        signals.listeners += 1;
        Ok(Interruption(Arc::clone(&signals.wanted)))
    }

    /// True from the first Ctrl-C on.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        let mut signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = &mut *signals {
            signals.listeners -= 1;
            if signals.listeners == 0 {
                signals.wanted.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let flag = || Arc::clone(&wanted);
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag())
                .and_then(|_| signal_hook::flag::register(signal, flag()))
                .context("cannot listen for signals")?;
        }
        Ok(Signals { wanted, listeners: 0 })
    }
}

/// Somebody wanted the work to stop: an error in that there is no result, but one that says how to get it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reached}; {remedy}", folder.display())]
pub struct Stopped {
    folder: PathBuf,
    reached: String,
    remedy: &'static str,
}

impl Stopped {
    /// The work is kept in `folder`; `reached` says how far it came, as "interrupted after step 3 of 10".
    pub fn new(folder: &Path, reached: impl Display) -> Self {
        let (folder, reached) = (folder.to_owned(), reached.to_string());
        Stopped { folder, reached, remedy: "the same command continues" }
    }

    /// The work in `folder` is too short to go on where it was.
    pub fn to_begin_anew(folder: &Path) -> Self {
        Stopped { remedy: "-f begins anew", ..Stopped::new(folder, "interrupted") }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn a_signal_asks_work_to_stop_and_ends_the_process_when_there_is_none() {
        for _ in 0..2 {
            let (outer, inner) = (Interruption::listen().unwrap(), Interruption::listen().unwrap());
            assert!(!outer.is_wanted());
            raise(SIGINT).unwrap();
            assert!(outer.is_wanted() && inner.is_wanted());
        }
        let first = Interruption::listen().unwrap();
        let ends_at_once = Arc::clone(&first.0);
        let second = Interruption::listen().unwrap();
        drop(first);
        assert!(!second.is_wanted());
        drop(second);
        assert!(ends_at_once.load(Ordering::Relaxed));
    }
}
