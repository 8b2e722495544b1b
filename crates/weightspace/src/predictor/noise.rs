//! Distillation without data: the teacher is asked about noise (Choi et al., appendix B).

use std::ops::Range;

use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::comm::Part;
use weightspace_nn::loss::Distillation;
use weightspace_nn::train::{
    Classification, DistillationConfig, Prepared, Score, Task, TrainError,
};
use weightspace_nn::{Engine, Net};

/// Inputs drawn uniformly, with the teacher's logits on them. Where images are given they are what the
/// network is evaluated on, and nothing else.
pub struct NoiseInputs<'a> {
    net: &'a Net,
    teacher: &'a Engine,
    config: DistillationConfig,
    /// Samples of an epoch.
    samples: usize,
    /// Inputs are within -range and range.
    range: f32,
    key: Key,
    evaluation: Option<Classification<'a>>,
    inputs: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> NoiseInputs<'a> {
    /// Samples of an epoch, within -1 and 1 as the network sees them.
    ///
    /// # Errors
    /// If the teacher reads other inputs or knows other classes.
    pub fn new(
        net: &'a Net,
        teacher: &'a Engine,
        config: DistillationConfig,
        samples: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let pairs = [
            (teacher.input_len(), net.input_len(), "values in an image"),
            (teacher.class_count(), net.class_count(), "classes"),
        ];
        for (found, expected, of) in pairs {
            if found != expected {
                let (what, other) = ("the teacher".to_owned(), net.arch().to_owned());
                return Err(TrainError::Mismatch { what, found, of, other, expected });
            }
        }
        Ok(NoiseInputs {
            net,
            teacher,
            config,
            samples,
            range: 1.0,
            key: Key::for_purpose(seed, "noise inputs"),
            evaluation: None,
            inputs: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Sets the range of the inputs, on both sides of 0.
    pub fn with_range(self, range: f32) -> Self {
        NoiseInputs { range, ..self }
    }

    /// Evaluates on the held-out images of another task.
    pub fn with_evaluation(self, images: Classification<'a>) -> Self {
        NoiseInputs { evaluation: Some(images), ..self }
    }
}

impl Task for NoiseInputs<'_> {
    fn net(&self) -> &Net {
        self.net
    }

    fn sample_count(&self) -> usize {
        self.samples
    }

    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError> {
        let (len, classes) = (self.net.input_len(), self.net.class_count());
        self.inputs.resize(share.len() * len, 0.0);
        for (&sample, input) in samples[share.clone()].iter().zip(self.inputs.chunks_mut(len)) {
            let number = u64::from(epoch) << 32 | sample as u64;
            Stream::new(self.key, number).fill_uniform(input);
            input.iter_mut().for_each(|value| *value = self.range * (2.0 * *value - 1.0));
        }
        self.logits.resize(samples.len() * classes, 0.0);
        let own = share.start * classes..share.end * classes;
        self.teacher.forward(&self.inputs, &mut self.logits[own])?;
        let loss = Distillation::new(&self.logits, classes);
        let loss = loss.with_temperature(self.config.temperature).with_alpha(self.config.alpha);
        Ok(Prepared { inputs: &self.inputs, loss: Box::new(loss), taps: Vec::new() })
    }

    fn evaluate(&self, weights: &StateDict, part: Part) -> Result<Option<Score>, TrainError> {
        self.evaluation.as_ref().map_or(Ok(None), |images| images.evaluate(weights, part))
    }
}
