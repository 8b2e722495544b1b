//! What happens on the straight line between two networks: the loss barrier that alignment is to
//! remove, and the statistics of batch normalisations there.
//!
//! The alignment itself is [`weightspace_core::align`].

use serde::Serialize;
use weightspace_core::StateDict;
use weightspace_nn::data::{Dataset, Preprocessing, split_train_validation};
use weightspace_nn::engine::EngineError;
use weightspace_nn::engine::training::{
    Batch, NormMode, RunningStatistics, TrainingEngine, TrainingOptions,
};
use weightspace_nn::evaluate::EvaluateError;
use weightspace_nn::{ModelState, Net};

use crate::analyze::{self, AnalyzeError, Sample};

/// Images of a batch by which normalisations are estimated.
const BATCH: usize = 128;

/// Images, and what is done to them before a network sees them.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// The data set.
    pub dataset: &'a Dataset,
    /// Which of its images; `None` for all.
    pub indices: Option<&'a [usize]>,
    /// What is done to them.
    pub preprocessing: &'a Preprocessing,
}

/// A network on the straight line (1 - position) A + position B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Largest excess of the loss over what a straight line between the losses of A and B would
    /// give; at least 0, its value at the ends.
    pub barrier: f64,
    /// The places that were looked at, from A to B.
    pub samples: Vec<Sample>,
}

impl Line {
    /// Evaluates the network at `points` places, both ends among them. With `training` images the statistics of
    /// batch normalisations are estimated anew at every place ([`estimate_statistics`]): those of A and B do not
    /// fit weights between them. `progress` hears how many places are done.
    ///
    /// # Errors
    /// If weights or images do not fit the network.
    ///
    /// # Panics
    /// If `points` is less than 2.
    pub fn new(
        net: &Net,
        [a, b]: [&StateDict; 2],
        points: usize,
        images: Images<'_>,
        training: Option<Images<'_>>,
        progress: &dyn Fn(usize),
    ) -> Result<Self, AnalyzeError> {
        assert!(points >= 2, "both ends");
        let Images { dataset, indices, preprocessing } = images;
        let mut samples = Vec::with_capacity(points);
        for point in 0..points {
            let position = point as f64 / (points - 1) as f64;
            let mut weights = analyze::between(a, b, position);
            if let Some(training) = training {
                weights = estimate_statistics(net, &weights, training)?;
            }
            let images = (dataset, indices);
            samples.push(analyze::evaluate(net, &weights, position, images, preprocessing)?);
            progress(point + 1);
        }
        Ok(Line { barrier: barrier(&samples), samples })
    }
}

/// Largest excess of the loss over the straight line between those at the ends.
fn barrier(samples: &[Sample]) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0.0 };
    let straight = |at: f64| (1.0 - at) * first.loss + at * last.loss;
    let excess = samples.iter().map(|sample| sample.loss - straight(sample.position));
    // Not f64::max, which would hide a loss that is not a number.
    excess.fold(0.0, |most, excess| if excess > most || excess.is_nan() { excess } else { most })
}

/// The network with the statistics of its batch normalisations estimated anew: each is the mean over all
/// batches of about 128 images, in random order if none are chosen, which pass through normalised by their own statistics, as in training. A network without
/// batch normalisation stays as it is.
///
/// # Errors
/// If weights or images do not fit the network, or there are fewer than two images.
pub fn estimate_statistics(
    net: &Net,
    weights: &StateDict,
    images: Images<'_>,
) -> Result<StateDict, AnalyzeError> {
    let mut state = ModelState::from_state_dict(net, weights)
        .map_err(|error| AnalyzeError::Different(error.to_string()))?;
    let fresh = RunningStatistics::new(net);
    if fresh.layers.is_empty() {
        return Ok(weights.clone());
    }
    let Images { dataset, indices, preprocessing } = images;
    // A batch has to have all classes, which data sets may have one after the other.
    let (all, _) = split_train_validation(dataset.len(), 0, 0);
    let indices = indices.unwrap_or(&all);
    if indices.len() < 2 {
        let message = "the statistics of batch normalisations need at least two images";
        return Err(AnalyzeError::Different(message.into()));
    }
    let shape = preprocessing.output_shape(dataset.shape()).map_err(EvaluateError::from)?;
    let (input, classes) = (shape.iter().product::<usize>(), net.class_count());
    let expected = net.input_shape().element_count();
    if input != expected {
        return Err(EvaluateError::from(EngineError::WrongInput { found: input, expected }).into());
    }
    // Batches of one size that leave out hardly an image: what is left over for a smaller one would weigh more.
    let batches = ((indices.len() + BATCH / 2) / BATCH).max(1);
    let batch = indices.len() / batches;
    let options = TrainingOptions::new(batch, rayon::current_num_threads());
    let mut engine = TrainingEngine::new(net, options);
    engine.set_running(fresh);
    let mut inputs = vec![0.0; batch * input];
    let mut outputs = vec![0.0; batch * classes];
    for indices in indices.chunks_exact(batch) {
        let inputs = &mut inputs[..indices.len() * input];
        let outputs = &mut outputs[..indices.len() * classes];
        dataset.fill(indices, preprocessing, inputs).map_err(EvaluateError::from)?;
        let mode = NormMode::Batch { momentum: None };
        engine.forward(&state.weights, Batch { inputs, first: 0, mode, dropout: None }, outputs);
    }
    state.running = engine.running().clone();
    Ok(state.to_state_dict(net))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_barrier_is_what_stands_above_the_straight_line() {
        let line = |losses: &[f64]| {
            let last = (losses.len() - 1) as f64;
            let sample = |(i, &loss): (usize, &f64)| Sample {
                position: i as f64 / last,
                loss,
                accuracy: 0.0,
            };
            barrier(&losses.iter().enumerate().map(sample).collect::<Vec<_>>())
        };
        assert_eq!(line(&[1.0, 1.0]), 0.0);
        assert_eq!(line(&[1.0, 0.5, 2.0]), 0.0);
        assert_eq!(line(&[1.0, 4.0, 2.0]), 2.5);
        assert_eq!(line(&[0.0, 3.0, 0.0, 5.0, 0.0]), 5.0);
        assert!(line(&[0.0, f64::NAN, 0.0]).is_nan());
    }
}
