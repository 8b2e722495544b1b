//! Coefficients as the training loop sees them.

use std::ops::Range;
use std::sync::Arc;

use weightspace_core::basis::{Projection, Start};
use weightspace_core::random::{Key, Stream};
use weightspace_nn::Net;
use weightspace_nn::comm::Communicator;
use weightspace_nn::optim::{ParameterGroup, ParameterGroups};
use weightspace_nn::train::Parameterization;

use super::map::Map;
use super::tensors::is_projected;
use super::{Norms, Quantizer, SubspaceConfig, SubspaceError, projection};

/// Weights of a network as start + basis x coefficients (PRANC, eq. 1). The trained vector holds the
/// coefficients, then the dense weights of normalisations.
pub struct Subspace {
    map: Map,
    tensors: Vec<Placed>,
    /// Tensors that are trained as they are.
    dense: Vec<DenseTensor>,
    /// Tensors that stay as they are, and their values.
    fixed: Vec<(DenseTensor, Vec<f32>)>,
    /// What the coefficients are added to.
    start: Vec<f32>,
    initial: Vec<f32>,
    rounding: Option<Quantizer>,
    /// Rounded coefficients.
    rounded: Vec<f32>,
    /// Basis x coefficients; or, on the way back, the gradient of projected weights.
    projected: Vec<f32>,
}

/// Number of coefficients for which a learning rate is meant.
const REFERENCE_COUNT: f64 = 10_000.0;

/// A projected tensor.
struct Placed {
    /// In the network's weights.
    weights: Range<usize>,
    /// Among all projected weights.
    projected: Range<usize>,
}

impl Subspace {
    /// A subspace of a network, around the weights that `key` draws, or, for a delta, around `weights`
    /// (in the order of [`Net::layout`]), which are at any rate those with which normalisations begin.
    /// Around nothing for a hash, whose coefficients are drawn instead.
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
        let start = config.start(is_delta);
        let projection = projection(net, config, key, start)?;
        let (tensors, mut dense) = places(net);
        let mut fixed = Vec::new();
        if config.norms == Norms::Base {
            let values = |tensor: DenseTensor| {
                let values = weights[tensor.weights.clone()].to_vec();
                (tensor, values)
            };
            fixed.extend(dense.drain(..).map(values));
        }
        let map = Map::new(projection);
        let projection = map.projection();
        let mut begin = vec![0.0; projection.weight_count()];
        for (index, tensor) in tensors.iter().enumerate() {
            let target = &mut begin[tensor.projected.clone()];
            target.copy_from_slice(&weights[tensor.weights.clone()]);
            projection.write_start(index, 0..target.len(), target);
        }
        let mut initial = vec![0.0; map.gains().len()];
        if start == Start::Zero {
            draw(key, map.gains(), &mut initial);
        }
        for tensor in &dense {
            initial.extend_from_slice(&weights[tensor.weights.clone()]);
        }
        Ok(Subspace {
            rounding: Some(Quantizer::new(config.bits)).filter(|q| q.rounds_in_training()),
            rounded: vec![0.0; map.gains().len()],
            projected: vec![0.0; begin.len()],
            start: begin,
            map,
            tensors,
            dense,
            fixed,
            initial,
        })
    }

    /// The projection.
    pub fn projection(&self) -> &Projection {
        self.map.projection()
    }

    /// Number of coefficients, with which the trained vector begins.
    pub fn coefficient_count(&self) -> usize {
        self.map.gains().len()
    }
}

/// A tensor that is not projected.
struct DenseTensor {
    /// In the network's weights.
    weights: Range<usize>,
    shape: Vec<usize>,
}

/// Where projected and dense tensors are.
fn places(net: &Net) -> (Vec<Placed>, Vec<DenseTensor>) {
    let (mut tensors, mut dense) = (Vec::new(), Vec::new());
    let layout = net.layout();
    let kinds = net.parameters().into_iter().map(|p| p.kind).filter(|kind| kind.is_trainable());
    let mut end = 0;
    for (entry, kind) in layout.entries().iter().zip(kinds) {
        if is_projected(kind) {
            let projected = end..end + entry.element_count();
            end = projected.end;
            tensors.push(Placed { weights: entry.range(), projected });
        } else {
            dense.push(DenseTensor { weights: entry.range(), shape: entry.shape.clone() });
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
    fn attach(&mut self, comm: Arc<dyn Communicator>) {
        self.map.attach(comm);
    }

    fn initial(&self) -> Vec<f32> {
        self.initial.clone()
    }

    /// Adam moves every coefficient by about the learning rate, and so weights by the rate times the root
    /// of the number of coefficients that they share. The rate is understood as that of 10,000, with which
    /// the paper's 0.001 fits; others are corrected, so that one rate suits every k.
    fn groups(&self) -> ParameterGroups {
        let (mut groups, mut end) = (Vec::new(), 0);
        for segment in self.map.projection().segments() {
            let mut group = ParameterGroup::new(end, vec![segment.coefficients]);
            end = group.range.end;
            group.learning_rate_scale = (REFERENCE_COUNT / segment.coefficients as f64).sqrt();
            groups.push(group);
        }
        for tensor in &self.dense {
            groups.push(ParameterGroup::new(end, tensor.shape.clone()));
            end += tensor.weights.len();
        }
        ParameterGroups::new(groups).expect("tensors one behind the other")
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        let (mut own, mut dense) = coefficients.split_at(self.coefficient_count());
        if let Some(quantizer) = self.rounding {
            let step = quantizer.steady_step(own);
            for (rounded, &a) in self.rounded.iter_mut().zip(own) {
                *rounded = quantizer.integer(a, step) as f32 * step;
            }
            own = &self.rounded;
        }
        self.map.apply(own, &mut self.projected);
        for Placed { weights: range, projected } in &self.tensors {
            let terms =
                self.start[projected.clone()].iter().zip(&self.projected[projected.clone()]);
            let weights = weights[range.clone()].iter_mut();
            weights.zip(terms).for_each(|(weight, (start, moved))| *weight = start + moved);
        }
        for DenseTensor { weights: range, .. } in &self.dense {
            let (values, rest) = dense.split_at(range.len());
            weights[range.clone()].copy_from_slice(values);
            dense = rest;
        }
        for (tensor, values) in &self.fixed {
            weights[tensor.weights.clone()].copy_from_slice(values);
        }
    }

    /// Rounded coefficients have the gradient of those before rounding (Bengio et al. 2013).
    fn pullback(&mut self, _: &[f32], weight_gradient: &[f32], coefficient_gradient: &mut [f32]) {
        for Placed { weights: range, projected } in &self.tensors {
            let own = &weight_gradient[range.clone()];
            self.projected[projected.clone()].copy_from_slice(own);
        }
        let (own, mut dense) = coefficient_gradient.split_at_mut(self.coefficient_count());
        self.map.apply_adjoint(&mut self.projected, own);
        for DenseTensor { weights: range, .. } in &self.dense {
            let (values, rest) = dense.split_at_mut(range.len());
            values.copy_from_slice(&weight_gradient[range.clone()]);
            dense = rest;
        }
    }
}
