//! Ctrl-C while something is trained.

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
