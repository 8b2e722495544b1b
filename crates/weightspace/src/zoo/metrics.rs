//! Losses and accuracies of a model after each epoch, and `result.json`, which holds them.

use std::fmt::Write as _;
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde_json::Value;

use super::json;

/// Losses and accuracies of one model after one epoch; NaN where unknown.
#[derive(Clone, Copy, Debug)]
pub struct EpochMetrics {
    /// Finished epochs; 0 is the untrained model.
    pub epoch: u32,
    /// Mean loss of the training images.
    pub train_loss: f32,
    /// Fraction of the training images that are right.
    pub train_accuracy: f32,
    /// Mean loss of the validation images.
    pub validation_loss: f32,
    /// Fraction of the validation images that are right.
    pub validation_accuracy: f32,
    /// Mean loss of the test images.
    pub test_loss: f32,
    /// Fraction of the test images that are right.
    pub test_accuracy: f32,
}

/// Names of the six values in `result.json`, in the order of [`EpochMetrics::values`].
const KEYS: [&str; 6] = ["train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc"];

/// What published zoos write where nothing was measured.
const NOT_MEASURED: f32 = -999.0;

/// Most bytes of one line of `result.json`, and most lines.
const LONGEST_LINE: u64 = 1 << 20;
const MOST_LINES: usize = 1 << 16;

impl EpochMetrics {
    /// An epoch of which nothing is known.
    pub fn unknown(epoch: u32) -> Self {
        EpochMetrics::from_values(epoch, [f32::NAN; 6])
    }

    /// Training loss and accuracy, those of validation, and those of the test, in the order of packed files.
    pub fn values(&self) -> [f32; 6] {
        [
            self.train_loss,
            self.train_accuracy,
            self.validation_loss,
            self.validation_accuracy,
            self.test_loss,
            self.test_accuracy,
        ]
    }

    /// The inverse of [`values`](Self::values).
    pub fn from_values(epoch: u32, values: [f32; 6]) -> Self {
        let [
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            test_loss,
            test_accuracy,
        ] = values;
        EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            test_loss,
            test_accuracy,
        }
    }

    /// Accuracy of the training images above that of the test images.
    pub fn generalisation_gap(&self) -> f32 {
        self.train_accuracy - self.test_accuracy
    }

    /// A line of `result.json`, without its end; unknown values are left out, infinite ones are written
    /// as Python does.
    pub fn to_line(&self) -> String {
        let mut line = String::from("{");
        for (key, value) in KEYS.iter().zip(self.values()).filter(|(_, value)| !value.is_nan()) {
            // Writing to a text cannot fail.
            let _ = match value {
                f32::INFINITY => write!(line, "\"{key}\": Infinity, "),
                f32::NEG_INFINITY => write!(line, "\"{key}\": -Infinity, "),
                value => write!(line, "\"{key}\": {value:?}, "),
            };
        }
        let _ = write!(line, "\"training_iteration\": {}}}", self.epoch);
        line
    }
}

/// Equal if the numbers are, or both are unknown.
impl PartialEq for EpochMetrics {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (f32, f32)| a == b || (a.is_nan() && b.is_nan());
        self.epoch == other.epoch && self.values().into_iter().zip(other.values()).all(same)
    }
}

/// A line of `result.json`, of which nothing else is looked at.
#[derive(Deserialize)]
struct Line {
    training_iteration: Option<u32>,
    train_loss: Option<Value>,
    train_acc: Option<Value>,
    #[serde(alias = "validation_loss")]
    val_loss: Option<Value>,
    #[serde(alias = "validation_acc")]
    val_acc: Option<Value>,
    test_loss: Option<Value>,
    test_acc: Option<Value>,
}

impl Line {
    fn metrics(&self, epoch: u32) -> EpochMetrics {
        let values = [
            &self.train_loss,
            &self.train_acc,
            &self.val_loss,
            &self.val_acc,
            &self.test_loss,
            &self.test_acc,
        ];
        let value = |value: &Option<Value>| {
            let number = value.as_ref().and_then(json::number).map_or(f32::NAN, |v| v as f32);
            if number == NOT_MEASURED { f32::NAN } else { number }
        };
        EpochMetrics::from_values(epoch, values.map(value))
    }
}

/// Reads `result.json`: one JSON object per line, by ascending epoch. Of two lines of one epoch, which
/// continued trainings leave, the last counts; a last line that is cut, which stopped ones leave, does not.
pub(super) fn read(file: impl BufRead) -> Result<Vec<EpochMetrics>, String> {
    let mut all: Vec<EpochMetrics> = Vec::new();
    let (mut file, mut text) = (file, String::new());
    for number in 1.. {
        text.clear();
        let read = (&mut file).take(LONGEST_LINE + 1).read_line(&mut text);
        if read.map_err(|error| format!("line {number}: {error}"))? == 0 {
            break;
        }
        if text.len() as u64 > LONGEST_LINE || number > MOST_LINES {
            return Err(format!(
                "line {number}: more than {LONGEST_LINE} bytes, or than {MOST_LINES} lines"
            ));
        }
        if text.trim().is_empty() {
            continue;
        }
        let line: Line = match serde_json::from_str(&json::quote_numbers(&text)) {
            Ok(line) => line,
            // The training was stopped while it wrote this.
            Err(error) if error.is_eof() && number > 1 && !text.ends_with('\n') => break,
            Err(error) => return Err(format!("line {number} is no result of an epoch: {error}")),
        };
        let epoch = line
            .training_iteration
            .ok_or_else(|| format!("line {number} has no training_iteration"))?;
        all.push(line.metrics(epoch));
    }
    // Stable: of equal epochs the last line stays last, and is kept.
    all.sort_by_key(|metrics| metrics.epoch);
    all.reverse();
    all.dedup_by_key(|metrics| metrics.epoch);
    all.reverse();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_published_zoos_are_read() {
        let text = concat!(
            r#"{"train_loss": -999, "train_acc": -999, "test_loss": NaN, "test_acc": 0.0982, "training_iteration": 0, "config": {"seed": 1}}"#,
            "\n\n",
            r#"{"train_loss": 2.25, "test_loss": Infinity, "test_acc": 0.5, "training_iteration": 2}"#,
            "\n",
            r#"{"train_acc": 0.25, "val_acc": "nan", "val_loss": 1, "training_iteration": 1}"#,
            "\n",
            r#"{"train_loss": 2.5, "test_acc": 0.75, "training_iteration": 2}"#,
        );
        let all = read(text.as_bytes()).unwrap();
        assert_eq!(all.iter().map(|m| m.epoch).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(all[0].train_loss.is_nan() && all[0].train_accuracy.is_nan());
        assert!(all[0].test_loss.is_nan());
        assert_eq!(all[0].test_accuracy, 0.0982);
        assert_eq!((all[1].train_accuracy, all[1].validation_loss), (0.25, 1.0));
        assert!(all[1].validation_accuracy.is_nan());
        assert_eq!((all[2].train_loss, all[2].test_accuracy), (2.5, 0.75));
        assert!(all[2].test_loss.is_nan(), "the later line counts as a whole");
        let whole = "{\"train_loss\": 2.25, \"training_iteration\": 1}\n";
        for cut in ["{", "{\"train_loss\": 2.", "{\"train_loss\": NaN, \"trai"] {
            assert_eq!(read(format!("{whole}{cut}").as_bytes()).unwrap().len(), 1, "{cut}");
            assert!(read(format!("{whole}{cut}\n{whole}").as_bytes()).is_err(), "{cut}");
        }
        for (text, part) in [
            ("nonsense", "line 1 is no result"),
            ("{}\n", "line 1 has no training_iteration"),
            ("{\"training_iteration\": -1}", "line 1 is no result"),
            ("{\"training_iteration\": 1}\n{\"train_loss\n", "line 2"),
            ("{\"train_loss", "line 1"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(read(&[0xff, 0xfe][..]).is_err());
        assert!(read(vec![b' '; 2 << 20].as_slice()).unwrap_err().contains("bytes"));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let metrics = EpochMetrics::from_values(7, [f32::INFINITY, 0.1, f32::NAN, 1.0, 3e-12, 0.0]);
        let line = metrics.to_line();
        assert!(!line.contains("val_loss"), "{line}");
        assert_eq!(read(line.as_bytes()).unwrap(), [metrics]);
    }
}
