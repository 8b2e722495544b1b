//! Analyses of two versions of one network: its original and what was made of it.
//!
//! They compare weights of layers, so batch normalisations must be folded into them in both or in
//! none: [`Versions`] sees to it.

mod error;
mod interpolate;
mod spectral;

use weightspace_core::{StateDict, Tensor, TensorInfo};
use weightspace_nn::Net;
use weightspace_nn::engine::{EngineError, batch_norm_affine};
use weightspace_nn::evaluate::EvaluateError;
use weightspace_nn::net::{NodeId, Op};

use crate::quantize::fold::{self, Folded};

pub use error::{rmse, weights};
pub use interpolate::{Sample, between, evaluate};
pub use spectral::{LayerSpectrum, spectral};

/// Why versions cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzeError {
    /// Tensors differ in name or shape.
    #[error("{0}")]
    Different(String),
    /// Singular values do not converge, or a value is not finite.
    #[error("the singular values of {0} cannot be computed")]
    Diverged(String),
    /// The weights do not fit the architecture.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The images do not fit the network.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// Versions of one network in one form.
pub struct Versions {
    /// Their tensors, all floating-point ones `f32`.
    pub weights: Vec<StateDict>,
    /// True if normalisations were folded because one of them has them folded.
    pub folded: bool,
}

impl Versions {
    /// Brings versions into one form: where one has its batch normalisations folded (as `quantize`
    /// leaves them), the others' are folded in the same way; where one's only scale and shift (as `predictor` leaves them), the
    /// others' do, too.
    ///
    /// # Errors
    /// If they differ in names or shapes of their tensors, or do not fit the network.
    pub fn new(net: Option<&Net>, versions: &[StateDict]) -> Result<Self, AnalyzeError> {
        if let Some((first, others)) = versions.split_first() {
            others.iter().try_for_each(|other| same_tensors(first, other))?;
        }
        let Some(net) = net else {
            return Ok(Versions { weights: versions.iter().map(as_f32).collect(), folded: false });
        };
        let mut weights = Vec::new();
        let mut found = Vec::new();
        for version in versions {
            let plain = fold::fold(net, version, false)?.weights;
            let Folded { weights: folded, layers, constants } = fold::fold(net, version, true)?;
            let same = |name: &String| plain.get(name) == folded.get(name);
            let is_folded = !constants.is_empty() && layers.iter().all(|layer| same(&layer.weight));
            weights.push((plain, folded));
            found.push(is_folded);
        }
        let folded = found.contains(&true);
        let one = |(plain, all): (StateDict, StateDict)| if folded { all } else { plain };
        let mut weights: Vec<StateDict> = weights.into_iter().map(one).collect();
        if !folded && weights.iter().any(|version| is_affine(net, version)) {
            for version in &mut weights {
                *version = affine(net, version)?;
            }
        }
        Ok(Versions { weights, folded })
    }
}

/// Every batch normalisation of a network with its smallest variance, epsilon.
fn normalisations(net: &Net) -> impl Iterator<Item = (NodeId, f32)> + '_ {
    net.node_ids().filter_map(|node| match net.node(node).op {
        Op::BatchNorm { eps, .. } => Some((node, eps)),
        _ => None,
    })
}

/// Whether the normalisations have no statistics, but only scale and shift, as files of predictors hold them.
fn is_affine(net: &Net, weights: &StateDict) -> bool {
    let constant = |name: String, value: f32| {
        weights.get(&name).is_some_and(|tensor| tensor.to_f32().iter().all(|&found| found == value))
    };
    let without_statistics = |(node, eps): (NodeId, f32)| {
        let name = &net.node(node).name;
        constant(format!("{name}.running_mean"), 0.0)
            && constant(format!("{name}.running_var"), fold::unit_variance(eps))
    };
    normalisations(net).next().is_some() && normalisations(net).all(without_statistics)
}

/// The same network with normalisations that only scale and shift.
fn affine(net: &Net, weights: &StateDict) -> Result<StateDict, AnalyzeError> {
    let mut found = weights.clone();
    for (node, eps) in normalisations(net) {
        let pairs = batch_norm_affine(net, node, weights)?;
        let name = &net.node(node).name;
        let mut set = |part: &str, values: Vec<f32>| {
            found.insert(format!("{name}.{part}"), Tensor::from_f32(vec![values.len()], &values));
        };
        set("weight", pairs.iter().map(|(scale, _)| *scale as f32).collect());
        set("bias", pairs.iter().map(|(_, shift)| *shift as f32).collect());
        set("running_mean", vec![0.0; pairs.len()]);
        set("running_var", vec![fold::unit_variance(eps); pairs.len()]);
    }
    Ok(found)
}

fn as_f32(weights: &StateDict) -> StateDict {
    let convert = |tensor: &Tensor| match tensor.dtype().is_float() {
        true => Tensor::from_f32(tensor.shape().to_vec(), &tensor.to_f32()),
        false => tensor.clone(),
    };
    weights.iter().map(|(name, tensor)| (name.to_owned(), convert(tensor))).collect()
}

/// Refuses networks of other weights. Integers count batches, and old checkpoints have none.
fn same_tensors(a: &StateDict, b: &StateDict) -> Result<(), AnalyzeError> {
    let weights = a.infos().into_iter().filter(|info| info.dtype.is_float());
    for TensorInfo { name, shape, .. } in weights {
        match b.get(&name) {
            None => {
                return Err(AnalyzeError::Different(format!(
                    "tensor {name:?} is only in the first"
                )));
            }
            Some(other) if other.shape() != shape => {
                let found = other.shape();
                let message =
                    format!("tensor {name:?} is {shape:?} in the first, {found:?} in another");
                return Err(AnalyzeError::Different(message));
            }
            Some(_) => {}
        }
    }
    let unknown =
        |(name, tensor): &(&str, &Tensor)| tensor.dtype().is_float() && a.get(name).is_none();
    match b.iter().find(unknown) {
        Some((name, _)) => {
            Err(AnalyzeError::Different(format!("tensor {name:?} is not in the first")))
        }
        None => Ok(()),
    }
}

/// Names of the weights of layers: floating-point tensors of at least two dimensions.
fn layer_weights(weights: &StateDict) -> impl Iterator<Item = (&str, &Tensor)> {
    let is_weight = |tensor: &Tensor| {
        tensor.dtype().is_float() && tensor.shape().len() >= 2 && tensor.element_count() > 0
    };
    weights.iter().filter(move |(_, tensor)| is_weight(tensor))
}
