//! What a user sees while a network trains, and how it is interrupted.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weightspace_nn::train::{Metrics, Observer, Progress};

use crate::cli::Global;
use crate::cli::interruption::Interruption;

/// Shows a bar on terminals and a line for every evaluation; stops when Ctrl-C is pressed.
pub struct Watch {
    bar: ProgressBar,
    quiet: bool,
    epochs: u32,
    samples: &'static str,
    interrupted: Interruption,
}

impl Watch {
    /// A bar that appears with the first step. From now on the first Ctrl-C only asks to stop; the
    /// second ends the process. Without options it shows nothing.
    pub fn new(epochs: u32, global: Option<&Global>) -> anyhow::Result<Self> {
        let target = match global.is_some_and(Global::shows_progress) {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
        let interrupted = Interruption::listen()?;
        let quiet = global.is_none_or(Global::is_quiet);
        Ok(Watch { bar, quiet, epochs, samples: "images", interrupted })
    }

    /// For what has no accuracy: samples of this name, and errors.
    pub fn of_errors(mut self, samples: &'static str) -> Self {
        self.samples = samples;
        self
    }

    /// Begins at a step other than the first.
    pub fn continue_at(&self, step: u64) {
        self.bar.set_position(step);
        self.bar.reset_eta();
        self.say(&format!("continues after step {step}"));
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| {
                // Nothing is left to be done when stderr is closed.
                let _ = writeln!(io::stderr(), "{line}");
            });
        }
    }
}

impl Observer for Watch {
    fn step(&mut self, progress: &Progress) {
        let Progress { epoch, epochs, loss, images_per_second, .. } = progress;
        self.bar.set_length(progress.total_steps);
        if !self.bar.is_hidden() {
            let samples = self.samples;
            self.bar.set_message(format!(
                "epoch {epoch}/{epochs}  loss {loss:.3}  {images_per_second:.0} {samples}/s"
            ));
        }
        self.bar.set_position(progress.step);
    }

    fn evaluation(&mut self, metrics: &Metrics) {
        let mut line = format!("epoch {}/{}", metrics.epoch, self.epochs);
        if let Some(loss) = metrics.train_loss {
            line += &match loss < 1e4 {
                true => format!("  loss {loss:.4}"),
                false => format!("  loss {loss:.3e}"),
            };
        }
        match (self.samples, metrics.accuracy, metrics.loss) {
            ("images", Some(accuracy), _) => {
                line += &format!("  held-out {:.2} %", 100.0 * accuracy)
            }
            ("images", ..) | (_, _, None) => {}
            (_, _, Some(error)) => line += &format!("  held-out error {error:.4}"),
        }
        if let Some(rate) = metrics.images_per_second {
            line += &format!("  {rate:.0} {}/s", self.samples);
        }
        self.say(&line);
    }

    fn should_stop(&self) -> bool {
        self.interrupted.is_wanted()
    }
}

/// The bar leaves the terminal as it was.
impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
