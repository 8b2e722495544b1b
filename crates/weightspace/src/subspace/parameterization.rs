//! Coefficients as the training loop sees them.

use std::ops::Range;

use weightspace_core::basis::{Basis, Projection, Start};
use weightspace_core::random::{Key, Stream};
use weightspace_nn::Net;
use weightspace_nn::optim::{ParameterGroup, ParameterGroups};
use weightspace_nn::train::Parameterization;

use super::tensors::is_projected;
use super::{Quantizer, SubspaceConfig, SubspaceError, projection};

/// Weights of a network as start + basis x coefficients (PRANC, eq. 1). The trained vector holds the
/// coefficients, then the dense weights of normalisations.
pub struct Subspace {
    projection: Projection,
    tensors: Vec<Placed>,
    /// Dense tensors: where they are in the weights, and their shape.
    dense: Vec<(Range<usize>, Vec<usize>)>,
    /// The gain of every coefficient; see [`Projection`].
    gains: Vec<f32>,
    /// What the coefficients are added to.
    start: Vec<f32>,
    initial: Vec<f32>,
    rounding: Option<Quantizer>,
    scaled: Vec<f32>,
    /// Sums of a basis before they are scaled; or, on the way back, the scaled gradient.
    sums: Vec<f32>,
}

/// A projected tensor.
struct Placed {
    /// In the network's weights.
    weights: Range<usize>,
    /// Among all projected weights.
    projected: Range<usize>,
    /// 1 / sqrt(3 fan-in).
    scale: f32,
}

impl Subspace {
    /// A subspace of a network, around the weights that `key` draws, or, for a delta, around `weights`
    /// (in the order of [`Net::layout`]), which are at any rate those with which normalisations begin.
    /// Around nothing for [`Basis::Hash`], whose coefficients are drawn instead.
    ///
    /// # Errors
    /// If the numbers of coefficients do not fit the network.
    pub fn new(
        net: &Net,
        config: &SubspaceConfig,
        key: Key,
        weights: &[f32],
        is_delta: bool,
    ) -> Result<Self, SubspaceError> {
        let start = match config.basis {
            _ if is_delta => Start::Base,
            Basis::Hash => Start::Zero,
            _ => Start::Drawn,
        };
        let projection = projection(net, config, key, start)?;
        let (tensors, dense) = places(net);
        let gain = |column: f64| column as f32;
        let gains: Vec<f32> = projection
            .matrices()
            .iter()
            .flat_map(|m| (0..m.columns).map(move |j| gain(m.column_gain(j).factor())))
            .collect();
        let mut begin = vec![0.0; projection.weight_count()];
        for (index, tensor) in tensors.iter().enumerate() {
            let target = &mut begin[tensor.projected.clone()];
            target.copy_from_slice(&weights[tensor.weights.clone()]);
            projection.write_start(index, 0..target.len(), target);
        }
        let mut initial = vec![0.0; gains.len()];
        if start == Start::Zero {
            draw(key, &gains, &mut initial);
        }
        for (range, _) in &dense {
            initial.extend_from_slice(&weights[range.clone()]);
        }
        Ok(Subspace {
            rounding: (config.bits < 8).then(|| Quantizer::new(config.bits)),
            scaled: vec![0.0; gains.len()],
            sums: vec![0.0; begin.len()],
            start: begin,
            projection,
            tensors,
            dense,
            gains,
            initial,
        })
    }

    /// The projection.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Number of coefficients, with which the trained vector begins.
    pub fn coefficient_count(&self) -> usize {
        self.gains.len()
    }

    /// Coefficients times their gains, rounded where they are rounded in training.
    fn scale(&mut self, coefficients: &[f32]) {
        let scaled = self.scaled.iter_mut().zip(coefficients).zip(&self.gains);
        match self.rounding {
            None => scaled.for_each(|((scaled, a), gain)| *scaled = a * gain),
            Some(quantizer) => {
                let step = quantizer.steady_step(coefficients);
                scaled.for_each(|((scaled, &a), gain)| {
                    *scaled = quantizer.integer(a, step) as f32 * step * gain;
                });
            }
        }
    }
}

/// Where projected and dense tensors are.
fn places(net: &Net) -> (Vec<Placed>, Vec<(Range<usize>, Vec<usize>)>) {
    let (mut tensors, mut dense) = (Vec::new(), Vec::new());
    let layout = net.layout();
    let kinds = net.parameters().into_iter().map(|p| p.kind).filter(|kind| kind.is_trainable());
    let mut end = 0;
    for (entry, kind) in layout.entries().iter().zip(kinds) {
        if is_projected(kind) {
            let projected = end..end + entry.element_count();
            end = projected.end;
            let scale = (1.0 / (3 * entry.fan_in) as f64).sqrt() as f32;
            tensors.push(Placed { weights: entry.range(), projected, scale });
        } else {
            dense.push((entry.range(), entry.shape.clone()));
        }
    }
    (tensors, dense)
}

/// Coefficients with which weights of one coefficient each begin as PyTorch's.
fn draw(key: Key, gains: &[f32], coefficients: &mut [f32]) {
    Stream::new(key, u64::MAX).fill_uniform(coefficients);
    for (a, gain) in coefficients.iter_mut().zip(gains) {
        *a = (2.0 * *a - 1.0) * 3f32.sqrt() / gain;
    }
}

impl Parameterization for Subspace {
    fn initial(&self) -> Vec<f32> {
        self.initial.clone()
    }

    fn groups(&self) -> ParameterGroups {
        let mut groups = vec![ParameterGroup::new(0, vec![self.gains.len()])];
        let mut end = self.gains.len();
        for (range, shape) in &self.dense {
            groups.push(ParameterGroup::new(end, shape.clone()));
            end += range.len();
        }
        ParameterGroups::new(groups).expect("tensors one behind the other")
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        let (own, mut dense) = coefficients.split_at(self.gains.len());
        self.scale(own);
        let mut first = 0;
        for (segment, matrix) in self.projection.segments().iter().zip(self.projection.matrices()) {
            let sums = &mut self.sums[self.projection.weights_of(&segment.tensors)];
            let own = &self.scaled[first..first + matrix.columns];
            matrix.expand(0..matrix.columns, own, 0..matrix.rows, sums);
            first += matrix.columns;
        }
        for Placed { weights: range, projected, scale } in &self.tensors {
            let terms = self.start[projected.clone()].iter().zip(&self.sums[projected.clone()]);
            for (weight, (start, sum)) in weights[range.clone()].iter_mut().zip(terms) {
                *weight = start + scale * sum;
            }
        }
        for (range, _) in &self.dense {
            let (values, rest) = dense.split_at(range.len());
            weights[range.clone()].copy_from_slice(values);
            dense = rest;
        }
    }

    /// Rounded coefficients have the gradient of those before rounding (Bengio et al. 2013).
    fn pullback(&mut self, _: &[f32], weight_gradient: &[f32], coefficient_gradient: &mut [f32]) {
        for Placed { weights: range, projected, scale } in &self.tensors {
            let target = self.sums[projected.clone()].iter_mut();
            for (target, gradient) in target.zip(&weight_gradient[range.clone()]) {
                *target = scale * gradient;
            }
        }
        let (own, mut dense) = coefficient_gradient.split_at_mut(self.gains.len());
        let mut first = 0;
        for (segment, matrix) in self.projection.segments().iter().zip(self.projection.matrices()) {
            let gradient = &mut self.sums[self.projection.weights_of(&segment.tensors)];
            let own = &mut own[first..first + matrix.columns];
            matrix.pullback(0..matrix.columns, gradient, own);
            first += matrix.columns;
        }
        own.iter_mut().zip(&self.gains).for_each(|(gradient, gain)| *gradient *= gain);
        for (range, _) in &self.dense {
            let (values, rest) = dense.split_at_mut(range.len());
            values.copy_from_slice(&weight_gradient[range.clone()]);
            dense = rest;
        }
    }
}
