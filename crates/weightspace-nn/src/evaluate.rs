//! Accuracy of a network on a data set.

use crate::data::{Dataset, Preprocessing, PreprocessingError};
use crate::engine::{Engine, EngineError, StreamingEngine};

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

/// What computes logits from images.
pub trait Classifier {
    /// Values of one image.
    fn input_len(&self) -> usize;

    /// Number of logits of one image.
    fn class_count(&self) -> usize;

    /// Images to run at a time.
    fn batch(&self) -> usize {
        BATCH
    }

    /// Computes the logits `[n, classes]` of `n` images.
    ///
    /// # Errors
    /// If it cannot run on images of this size or has not got its weights.
    fn forward(&mut self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError>;
}

impl Classifier for &Engine {
    fn input_len(&self) -> usize {
        Engine::input_len(self)
    }

    fn class_count(&self) -> usize {
        Engine::class_count(self)
    }

    fn forward(&mut self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
        Engine::forward(self, images, logits)
    }
}

impl Classifier for &mut StreamingEngine<'_> {
    fn input_len(&self) -> usize {
        StreamingEngine::input_len(self)
    }

    fn class_count(&self) -> usize {
        StreamingEngine::class_count(self)
    }

    fn batch(&self) -> usize {
        StreamingEngine::batch(self)
    }

    fn forward(&mut self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
        StreamingEngine::forward(self, images, logits)
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
    mut classifier: impl Classifier,
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
    let (expected, classes) = (classifier.input_len(), classifier.class_count());
    if len != expected {
        return Err(EngineError::WrongInput { found: len, expected }.into());
    }
    let batch = classifier.batch().min(indices.len().max(1));
    let mut images = vec![0.0; batch * len];
    let mut logits = vec![0.0; batch * classes];
    for indices in indices.chunks(batch) {
        let images = &mut images[..indices.len() * len];
        let logits = &mut logits[..indices.len() * classes];
        dataset.fill(indices, preprocessing, images)?;
        classifier.forward(images, logits)?;
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
    classifier: impl Classifier,
    dataset: &Dataset,
    indices: Option<&[usize]>,
    preprocessing: &Preprocessing,
    progress: &dyn Fn(usize),
) -> Result<Evaluation, EvaluateError> {
    let mut result = Evaluation::default();
    let (labels, classes) = (dataset.labels(), classifier.class_count());
    for_each_batch(classifier, dataset, indices, preprocessing, |indices, logits| {
        for (&index, logits) in indices.iter().zip(logits.chunks_exact(classes)) {
            result.correct += usize::from(argmax(logits) == usize::from(labels[index]));
            result.total += 1;
        }
        progress(result.total);
    })?;
    Ok(result)
}
