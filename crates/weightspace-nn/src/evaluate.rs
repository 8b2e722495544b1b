//! Accuracy of a network on a data set.

use crate::data::{Dataset, Preprocessing, PreprocessingError};
use crate::engine::{Engine, EngineError};

/// Images that are prepared and run at a time.
const BATCH: usize = 512;

/// Why an evaluation cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The preprocessing does not fit the images.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// The network cannot run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Images whose largest logit is their label's.
    pub correct: usize,
    /// Images looked at.
    pub total: usize,
}

impl Evaluation {
    /// Fraction of correct images; 0 for no images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.total.max(1) as f64
    }
}

/// Index of the largest value, the first of equals; 0 for an empty slice. NaN is never the largest.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[best] || values[best].is_nan() {
            best = i;
        }
    }
    best
}

/// Runs the network over images of a data set (all of them for `None`) and hands every batch of
/// logits `[n, classes]`, with the indices of its images, to `each`.
///
/// # Errors
/// If the images do not fit the preprocessing or the network.
pub fn for_each_batch(
    engine: &Engine,
    dataset: &Dataset,
    indices: Option<&[usize]>,
    preprocessing: &Preprocessing,
    mut each: impl FnMut(&[usize], &[f32]),
) -> Result<(), EvaluateError> {
    let all: Vec<usize>;
    let indices = match indices {
        Some(indices) => indices,
        None => {
            all = (0..dataset.len()).collect();
            &all
        }
    };
    let len: usize = preprocessing.output_shape(dataset.shape())?.iter().product();
    if len != engine.input_len() {
        return Err(EngineError::WrongInput { found: len, expected: engine.input_len() }.into());
    }
    let batch = BATCH.min(indices.len().max(1));
    let mut images = vec![0.0; batch * len];
    let mut logits = vec![0.0; batch * engine.class_count()];
    for indices in indices.chunks(batch) {
        let images = &mut images[..indices.len() * len];
        let logits = &mut logits[..indices.len() * engine.class_count()];
        dataset.fill(indices, preprocessing, images)?;
        engine.forward(images, logits)?;
        each(indices, logits);
    }
    Ok(())
}

/// Counts the images whose label has the largest logit. `progress` hears the number of images
/// done after every batch.
///
/// # Errors
/// If the images do not fit the preprocessing or the network.
pub fn accuracy(
    engine: &Engine,
    dataset: &Dataset,
    indices: Option<&[usize]>,
    preprocessing: &Preprocessing,
    progress: &dyn Fn(usize),
) -> Result<Evaluation, EvaluateError> {
    let mut result = Evaluation::default();
    let labels = dataset.labels();
    for_each_batch(engine, dataset, indices, preprocessing, |indices, logits| {
        for (&index, logits) in indices.iter().zip(logits.chunks_exact(engine.class_count())) {
            result.correct += usize::from(argmax(logits) == usize::from(labels[index]));
            result.total += 1;
        }
        progress(result.total);
    })?;
    Ok(result)
}
