//! The state of batch normalisations between the phases of a step.

use super::plan::Norm;
use crate::kernels::batch_norm::ChannelSums;
use crate::kernels::maps::BLOCK;
use crate::net::{Net, Op, ParameterKind};

/// Running statistics of all batch normalisations, in the order of their nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningStatistics {
    /// One entry per batch normalisation.
    pub layers: Vec<RunningLayer>,
}

/// Running statistics of one batch normalisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningLayer {
    /// Name of the layer.
    pub name: String,
    /// Running mean of every channel.
    pub mean: Vec<f32>,
    /// Running variance (unbiased) of every channel.
    pub variance: Vec<f32>,
    /// Number of batches seen.
    pub batches: i64,
}

impl RunningStatistics {
    /// Means of 0 and variances of 1, as PyTorch starts.
    pub fn new(net: &Net) -> Self {
        let norms = net.nodes().iter().filter_map(|node| match node.op {
            Op::BatchNorm { channels, .. } => Some(RunningLayer {
                name: node.name.clone(),
                mean: vec![0.0; channels],
                variance: vec![1.0; channels],
                batches: 0,
            }),
            _ => None,
        });
        RunningStatistics { layers: norms.collect() }
    }

    /// The layer and the values of a buffer of the state dict, if it is one of these.
    pub fn values(&self, name: &str, kind: ParameterKind) -> Option<Vec<f32>> {
        let layer = name.rsplit_once('.')?.0;
        let layer = self.layers.iter().find(|l| l.name == layer)?;
        match kind {
            ParameterKind::RunningMean => Some(layer.mean.clone()),
            ParameterKind::RunningVar => Some(layer.variance.clone()),
            _ => None,
        }
    }
}

/// How batch normalisations treat a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormMode {
    /// Normalise by the batch's own statistics and move the running ones by `momentum` towards
    /// them (0.1 in PyTorch); `None` averages all batches equally.
    Batch {
        /// Share of the new batch.
        momentum: Option<f32>,
    },
    /// Normalise by the running statistics, which stay as they are.
    Running,
}

impl NormMode {
    /// What PyTorch does in training.
    pub const TRAINING: NormMode = NormMode::Batch { momentum: Some(0.1) };
}

/// One batch normalisation within a step; vectors are padded to whole blocks.
#[derive(Clone, Debug, Default)]
pub struct NormState {
    /// y = scale x + shift.
    pub scale: Vec<f32>,
    /// y = scale x + shift.
    pub shift: Vec<f32>,
    /// Mean by which it normalises.
    pub mean: Vec<f32>,
    /// dx = a dy + b (x - mean) + c.
    pub coefficients: [Vec<f32>; 3],
    /// Gradient of the scale's parameter.
    pub weight_gradient: Vec<f32>,
    /// Gradient of the shift's parameter.
    pub bias_gradient: Vec<f32>,
    inverse: Vec<f64>,
}

impl NormState {
    /// Zeros for the channels of a layer.
    pub fn new(channels: usize) -> Self {
        let zeros = vec![0.0; channels.next_multiple_of(BLOCK)];
        NormState {
            scale: zeros.clone(),
            shift: zeros.clone(),
            mean: zeros.clone(),
            coefficients: [zeros.clone(), zeros.clone(), zeros],
            weight_gradient: vec![0.0; channels],
            bias_gradient: vec![0.0; channels],
            inverse: vec![0.0; channels],
        }
    }

    /// Before the first phase, where the running statistics are used.
    pub fn start(
        &mut self,
        norm: &Norm,
        mode: NormMode,
        running: &RunningLayer,
        (weight, bias): (&[f32], &[f32]),
    ) {
        if mode == NormMode::Running {
            for c in 0..running.mean.len() {
                let (mean, variance) = (running.mean[c], running.variance[c]);
                self.set(c, norm.eps, f64::from(mean), f64::from(variance), weight[c], bias[c]);
            }
        }
    }

    fn set(&mut self, c: usize, eps: f32, mean: f64, variance: f64, weight: f32, bias: f32) {
        let inverse = 1.0 / (variance + f64::from(eps)).sqrt();
        let scale = f64::from(weight) * inverse;
        self.inverse[c] = inverse;
        self.mean[c] = mean as f32;
        self.scale[c] = scale as f32;
        self.shift[c] = (f64::from(bias) - mean * scale) as f32;
    }

    /// When the input of the whole batch is there: mean and variance from the `moments` of each part
    /// of the batch ([`Exchange::moments`](super::exchange::Exchange::moments)), added in their order
    /// (Chan et al., 1979).
    pub fn finish_statistics(
        &mut self,
        norm: &Norm,
        mode: NormMode,
        moments: &[f64],
        running: &mut RunningLayer,
        (weight, bias): (&[f32], &[f32]),
    ) {
        let NormMode::Batch { momentum } = mode else { return };
        running.batches += 1;
        let share = momentum.unwrap_or(1.0 / running.batches as f32);
        for c in 0..running.mean.len() {
            let (mut count, mut mean, mut spread) = (0.0, 0.0, 0.0);
            let parts = moments.chunks_exact(1 + 3 * running.mean.len());
            for part in parts.filter(|part| part[0] > 0.0) {
                let (values, of_channels) = (part[0], part[1..].as_chunks().0);
                let [pivot, sum, squares] = of_channels[c];
                let offset = sum / values;
                let distance = pivot + offset - mean;
                let total = count + values;
                spread += squares - sum * offset + distance * distance * count * values / total;
                mean += distance * values / total;
                count = total;
            }
            // Not `max`, which would turn NaN into 0.
            let variance = spread / count;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            self.set(c, norm.eps, mean, variance, weight[c], bias[c]);
            let unbiased = if count > 1.0 { variance * count / (count - 1.0) } else { variance };
            let blend = |old: f32, new: f64| (1.0 - share) * old + share * new as f32;
            running.mean[c] = blend(running.mean[c], mean);
            running.variance[c] = blend(running.variance[c], unbiased);
        }
    }

    /// When the gradient of the whole batch is there: `sums` holds the sums of dy and dy (x - mean).
    pub fn finish_gradient(&mut self, mode: NormMode, (sums, count): (&ChannelSums, f64)) {
        for c in 0..self.inverse.len() {
            let [sum, product] = sums.sums[c];
            let inverse = self.inverse[c];
            let scale = f64::from(self.scale[c]);
            self.weight_gradient[c] = (product * inverse) as f32;
            self.bias_gradient[c] = sum as f32;
            let [a, b, d] = &mut self.coefficients;
            a[c] = scale as f32;
            if mode == NormMode::Running {
                (b[c], d[c]) = (0.0, 0.0);
            } else {
                let slope = -scale * inverse * inverse * product / count;
                b[c] = slope as f32;
                d[c] = (-scale * sum / count) as f32;
            }
        }
    }
}
