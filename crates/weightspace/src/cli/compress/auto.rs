//! `compress --method auto`: every method, those that train if that is asked for, and the best of their files.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use weightspace::auto::{self, AutoError, Goal, Measured, Session, Trial};
use weightspace::quantize::{Images, Prepared};
use weightspace_core::StateDict;
use weightspace_core::container::{Header, Method};
use weightspace_nn::Net;

use super::shared::{DEFAULT_CALIBRATION, SharedArgs};
use crate::cli::progress::Bar;
use crate::cli::table::{Align, Table};
use crate::cli::training::Lessons;
use crate::cli::{Global, text};

/// The key `auto` of what `--json` prints: what was tried, and how to go on.
#[derive(Serialize)]
pub struct Choice {
    #[serde(flatten)]
    pub trials: Trials,
    /// The command that goes on from here, if nothing was trained: training on the grid of a file of this size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_further: Option<String>,
}

/// What was tried, and how the choice was made.
#[derive(Serialize)]
pub struct Trials {
    /// Name of the candidate whose file was written.
    pub chosen: &'static str,
    /// Every candidate, in the order of the table.
    pub tried: Vec<Tried>,
    /// Training images on which accuracies were compared.
    pub held_out_images: usize,
    /// The original's accuracy on these, as a fraction.
    pub original_held_out_accuracy: f64,
}

/// A candidate and its file.
#[derive(Serialize)]
pub struct Tried {
    /// Name of the candidate.
    pub name: &'static str,
    /// The options of `weightspace` that make such a file, but for the target.
    pub options: &'static str,
    /// Size of the whole file; none if the target is out of reach.
    pub bytes: Option<u64>,
    /// Accuracy on the held-out training images, as a fraction.
    pub held_out_accuracy: Option<f64>,
    /// Why there is no file.
    pub out_of_reach: Option<String>,
}

impl Tried {
    fn new(trial: &Trial) -> Self {
        let made = trial.outcome.as_ref().ok();
        Tried {
            name: trial.candidate.name,
            options: trial.candidate.options,
            bytes: made.map(|made| made.bytes.len() as u64),
            held_out_accuracy: made.map(|made| made.accuracy),
            out_of_reach: trial.outcome.as_ref().err().cloned(),
        }
    }
}

/// What the options aim for.
pub fn goal(shared: &SharedArgs) -> anyhow::Result<Goal> {
    match (shared.target_bytes, shared.target_accuracy) {
        (Some(bytes), _) => Ok(Goal::Bytes(bytes)),
        (None, Some(accuracy)) => Ok(Goal::Accuracy(accuracy)),
        (None, None) => bail!("--method auto needs --target-bytes or --target-accuracy"),
    }
}

/// The search for the best file.
pub struct Search<'a> {
    pub shared: &'a SharedArgs,
    /// What the file will say about the network.
    pub header: &'a Header,
    pub weights: &'a StateDict,
    /// What methods that train need, if these are to take part.
    pub lessons: Option<Lessons>,
}

impl Search<'_> {
    /// The method and the bytes of the best file.
    pub fn run(
        self,
        (net, images): (&Net, Images<'_>),
        global: &Global,
    ) -> anyhow::Result<(Method, Vec<u8>, Trials)> {
        let Search { shared, header, weights, lessons } = self;
        let goal = goal(shared)?;
        let bar = Bar::new(global);
        let progress = |phase: &str, done, total| bar.report(phase, done, total);
        let preparation = shared.preparation(Some(DEFAULT_CALIBRATION), global);
        let network = Prepared::new(weights, Some(net), Some(images), preparation)?;
        let should_stop = || lessons.as_ref().is_some_and(Lessons::is_stopped);
        let mut session = Session::new(&network);
        if let Some(lessons) = &lessons {
            session = session.with_training(lessons.training(&should_stop));
        }
        let trials = session.trials(header, goal, &progress);
        let trials = match (trials, &lessons) {
            (Err(AutoError::Interrupted(interrupted)), Some(lessons)) => {
                drop(bar);
                return Err(lessons.stopped(interrupted).into());
            }
            (trials, _) => trials?,
        };
        let tried: Vec<Tried> = trials.iter().map(Tried::new).collect();
        let Some((index, Measured { bytes, .. })) = auto::best(&trials, goal) else {
            let reasons = tried.iter().filter_map(|t| Some((t.name, t.out_of_reach.as_ref()?)));
            let reasons: Vec<_> = reasons.map(|(name, why)| format!("{name}: {why}")).collect();
            let how = if lessons.is_some() { "" } else { " without training" };
            // Another try has another target, for which this work is of no use.
            lessons.map_or(Ok(()), Lessons::finish)?;
            bail!("no method gets there{how}: {}", reasons.join("; "));
        };
        let choice = Trials {
            chosen: tried[index].name,
            tried,
            held_out_images: network.held_out_count(),
            original_held_out_accuracy: network.held_out_accuracy(weights)?,
        };
        let found = (trials[index].candidate.method, bytes.clone(), choice);
        lessons.map_or(Ok(()), Lessons::finish)?;
        Ok(found)
    }
}

/// The words as a shell reads them again.
pub fn shell_line(words: &[impl AsRef<str>]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+".contains(c);
    let quoted = |word: &str| match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A path as a word of a command line, which is never taken for an option.
pub fn path_word(path: &Path) -> anyhow::Result<String> {
    let word = path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?;
    Ok(if word.starts_with('-') { format!("./{word}") } else { word.to_owned() })
}

impl Choice {
    /// As text.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Trials { chosen, tried, held_out_images, .. } = &self.trials;
        let images = text::grouped(*held_out_images as u64);
        let original = percent(self.trials.original_held_out_accuracy);
        writeln!(out, "\ntried, on {images} held-out training images (original {original}):\n")?;
        let mut table = Table::new([
            ("", Align::Left),
            ("method", Align::Left),
            ("bytes", Align::Right),
            ("accuracy", Align::Right),
            ("weightspace options", Align::Left),
        ]);
        for tried in tried {
            table.push([
                if tried.name == *chosen { "*" } else { "" }.to_owned(),
                tried.name.to_owned(),
                tried.bytes.map_or_else(|| "out of reach".to_owned(), text::grouped),
                tried.held_out_accuracy.map_or_else(String::new, percent),
                tried.options.to_owned(),
            ]);
        }
        table.write(out, "")?;
        match &self.train_further {
            Some(command) => {
                writeln!(out, "\nmore accuracy at this size, by training:\n  {command}")
            }
            None => Ok(()),
        }
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_as_they_were_meant() {
        let line = shell_line(&["train", "--init", "my model's.pt", "", "a/b-1.th"]);
        assert_eq!(line, r"train --init 'my model'\''s.pt' '' a/b-1.th");
        assert_eq!(path_word(Path::new("-o.pt")).unwrap(), "./-o.pt");
    }
}
