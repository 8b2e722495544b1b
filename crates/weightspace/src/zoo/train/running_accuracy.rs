//! The accuracy of the steps of an epoch, each before its update.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use weightspace_core::AtomicFile;
use weightspace_nn::evaluate::argmax;
use weightspace_nn::loss::{CrossEntropy, Loss};

use crate::zoo::ZooError;

/// File in which counts within an epoch are kept.
pub const TALLY: &str = "tally";

/// What was seen and what was right since an epoch began.
#[derive(Debug, Default)]
pub struct Tally {
    correct: AtomicUsize,
    seen: AtomicUsize,
}

impl Tally {
    fn add(&self, correct: usize, seen: usize) {
        self.correct.fetch_add(correct, Ordering::Relaxed);
        self.seen.fetch_add(seen, Ordering::Relaxed);
    }

    /// The accuracy, and from zero again.
    pub fn take_accuracy(&self) -> f32 {
        let [correct, seen] =
            [&self.correct, &self.seen].map(|count| count.swap(0, Ordering::Relaxed));
        (correct as f64 / seen as f64) as f32
    }

    /// Writes the counts of a training that is at this step.
    pub fn save(&self, path: &Path, step: u64) -> Result<(), ZooError> {
        let [correct, seen] = [&self.correct, &self.seen].map(|n| n.load(Ordering::Relaxed));
        let text = format!("{step} {correct} {seen}\n");
        AtomicFile::write_bytes(path, text.as_bytes()).map_err(ZooError::io(path))
    }

    /// Reads the counts; those of another step are of no use, and the rest of the epoch stands for the whole.
    pub fn restore(&self, path: &Path, step: u64) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
        let (correct, seen) = match numbers[..] {
            [at, correct, seen] if at == step => (correct as usize, seen as usize),
            _ => (0, 0),
        };
        self.correct.store(correct, Ordering::Relaxed);
        self.seen.store(seen, Ordering::Relaxed);
    }
}

/// Cross-entropy that counts what is right.
pub struct Counted<'a> {
    pub loss: CrossEntropy<'a>,
    pub labels: &'a [u16],
    pub classes: usize,
    pub tally: &'a Tally,
}

impl Loss for Counted<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let right = outputs
            .chunks_exact(self.classes)
            .zip(&self.labels[first_sample..])
            .filter(|(logits, label)| argmax(logits) == usize::from(**label));
        self.tally.add(right.count(), outputs.len() / self.classes);
        self.loss.evaluate(first_sample, outputs, gradient)
    }
}
