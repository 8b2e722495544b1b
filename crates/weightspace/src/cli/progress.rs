//! A progress bar on stderr.

use std::cell::RefCell;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;

/// A progress bar, which is not there unless stderr is a terminal.
pub struct Bar {
    bar: ProgressBar,
    phase: RefCell<String>,
}

impl Bar {
    /// A bar that appears with the first report.
    pub fn new(global: &Global) -> Self {
        let target = match global.shows_progress() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
        Bar { bar, phase: RefCell::default() }
    }

    /// So many steps of a phase are done.
    pub fn report(&self, phase: &str, done: usize, total: usize) {
        if *self.phase.borrow() != phase {
            self.phase.replace(phase.to_owned());
            self.bar.set_message(phase.to_owned());
            self.bar.reset();
        }
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }
}

/// The bar leaves the terminal as it was.
impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
