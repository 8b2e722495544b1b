//! A progress bar on stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weightspace::Progress;

use super::Global;

/// A progress bar, which is not there unless stderr is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that appears with its first stage.
    pub fn new(global: &Global) -> Self {
        let target = match global.shows_progress() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(ProgressBar::with_draw_target(None, target).with_style(style))
    }

    /// That many steps of the stage are done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Progress for Bar {
    fn start(&self, stage: &str, steps: u64) {
        self.0.reset();
        self.0.set_length(steps);
        self.0.set_message(stage.to_owned());
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }
}

/// The bar leaves the terminal as it was.
impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
