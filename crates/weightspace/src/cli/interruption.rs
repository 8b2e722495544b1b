//! Ctrl-C while something is trained.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether somebody wants the work to stop.
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// From now on the first Ctrl-C only asks to stop; the second ends the process.
    pub fn listen() -> anyhow::Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let flag = || Arc::clone(&wanted);
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag())
                .and_then(|_| signal_hook::flag::register(signal, flag()))
                .context("cannot listen for signals")?;
        }
        Ok(Interruption(wanted))
    }

    /// True from the first Ctrl-C on.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
