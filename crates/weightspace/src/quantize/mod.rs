//! The method `quantize`: weights rounded to a grid and entropy coded; the baseline that every
//! other method must beat.
//!
//! Works on any checkpoint. With a known architecture batch normalisations are folded; with a few
//! hundred unlabelled images rounding is second order (GPTQ) and biases are corrected, and a target
//! for bytes or accuracy is met by sharing the bits out by measured sensitivity.

mod allocate;
pub mod aware;
pub(crate) mod codings;
mod estimate;
pub(crate) mod fold;
pub(crate) mod grid;
pub(crate) mod layer;
pub(crate) mod layerwise;
mod prepared;
mod prices;
pub(crate) mod search;
pub(crate) mod second_order;
pub(crate) mod statistics;

use std::collections::BTreeMap;

use weightspace_core::container::{Coding, Header, WspError};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::NodeId;
use weightspace_nn::data::{Dataset, Preprocessing};
use weightspace_nn::engine::EngineError;
use weightspace_nn::evaluate::EvaluateError;
use weightspace_nn::net::Net;

use fold::{Folded, Layer, fold};
pub use prepared::Prepared;

/// What to aim for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The same number of bits, 2 to 8, for every weight.
    Bits(u8),
    /// The best file of at most this many bytes.
    Bytes(u64),
    /// The smallest file whose accuracy on held-out training images is at least this fraction.
    Accuracy(f64),
}

/// Settings of [`compress`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What to aim for.
    pub target: Target,
    /// Fold batch normalisations (with a known architecture).
    pub fold: bool,
    /// Unlabelled training images for second-order rounding and bias correction; 0 for none.
    pub calibrate: usize,
    /// Chooses the images.
    pub seed: u64,
}

/// What is done before a target matters.
#[derive(Clone, Copy, Debug)]
pub struct Preparation {
    /// Fold batch normalisations (with a known architecture).
    pub fold: bool,
    /// Unlabelled training images for what is calibrated; 0 for none.
    pub calibrate: usize,
    /// Chooses the images.
    pub seed: u64,
}

impl Options {
    fn preparation(&self) -> Preparation {
        let Options { fold, calibrate, seed, .. } = *self;
        Preparation { fold, calibrate, seed }
    }
}

/// Training images of the network's data set.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// The training split.
    pub train: &'a Dataset,
    /// From pixels to inputs.
    pub preprocessing: &'a Preprocessing,
}

/// Why a network cannot be quantised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The number of bits is out of range.
    #[error("{0} bits per weight, expected 2 to 8")]
    Bits(u8),
    /// Images are needed, but there is no architecture or no data set to use them with.
    #[error("{0}")]
    Needs(&'static str),
    /// No step meets the target.
    #[error("{0}")]
    OutOfReach(String),
    /// A tensor holds a value that is not finite.
    #[error("tensor {0} holds NaN or infinite values")]
    NotFinite(String),
    /// The weights do not fit the architecture.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The images do not fit the network.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The file cannot be made.
    #[error(transparent)]
    Container(#[from] WspError),
}

/// Hears what is being done: phase, steps done, steps in all (0 if unknown).
pub type Progress<'a> = &'a dyn Fn(&str, usize, usize);

/// Quantises a state dict into the tensors of a `.wsp` file, in the state dict's order. For files of
/// several targets use [`Prepared`].
///
/// # Errors
/// If the settings, the architecture and the images do not fit together, or a target cannot be met.
pub fn compress(
    header: &Header,
    weights: &StateDict,
    net: Option<&Net>,
    images: Option<Images<'_>>,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<(String, Coding)>, QuantizeError> {
    let prepared = Prepared::new(weights, net, images, options.preparation())?;
    prepared.compress(header, options.target, progress)
}

/// The layers of a state dict of finite numbers; with a known architecture its batch normalisations
/// are folded, if they are to be.
///
/// # Errors
/// If a value is not finite or the state dict lacks a tensor of the network.
pub(crate) fn layers(
    net: Option<&Net>,
    weights: &StateDict,
    folds: bool,
) -> Result<Folded, QuantizeError> {
    for (name, tensor) in weights.iter().filter(|(_, t)| t.dtype().is_float()) {
        if !tensor.is_finite_as_f32() && (net.is_some() || !is_mask(tensor)) {
            return Err(QuantizeError::NotFinite(name.to_string()));
        }
    }
    match net {
        Some(net) => Ok(fold(net, weights, folds)?),
        None => Ok(unknown_layers(weights)),
    }
}

/// Whether a tensor is added to what attention looks at rather than a weight: every value is 0 or as good as infinite. It
/// is stored as it is.
pub(crate) fn is_mask(tensor: &Tensor) -> bool {
    const AS_GOOD_AS_INFINITE: f32 = 1e30;
    let values = tensor.to_f32();
    values.iter().all(|&value| value == 0.0 || value.abs() >= AS_GOOD_AS_INFINITE)
        && values.iter().any(|&value| value != 0.0)
}

/// Without an architecture: every floating-point tensor of two or more dimensions is a layer.
fn unknown_layers(weights: &StateDict) -> Folded {
    let layers = weights
        .iter()
        .filter(|(_, t)| t.dtype().is_float() && t.shape().len() >= 2 && t.element_count() > 0)
        .filter(|(_, t)| !is_mask(t))
        .enumerate()
        .map(|(i, (name, tensor))| Layer {
            node: NodeId::from_index(i),
            weight: name.to_string(),
            bias: None,
            rows: tensor.shape()[0],
            columns: tensor.element_count() / tensor.shape()[0],
        })
        .collect();
    Folded { weights: weights.clone(), constants: BTreeMap::new(), layers }
}

/// Training images as the network reads them.
pub(crate) fn read(source: Images<'_>, indices: &[usize]) -> Result<Vec<f32>, QuantizeError> {
    let shape =
        source.preprocessing.output_shape(source.train.shape()).map_err(EvaluateError::from)?;
    let mut images = vec![0.0; indices.len() * shape.iter().product::<usize>()];
    source.train.fill(indices, source.preprocessing, &mut images).map_err(EvaluateError::from)?;
    Ok(images)
}
