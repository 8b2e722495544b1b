//! The method `quantize`: weights rounded to a grid and entropy coded; the baseline that every
//! other method must beat.
//!
//! Works on any checkpoint. With a known architecture batch normalisations are folded; with a few
//! hundred unlabelled images rounding is second order (GPTQ) and biases are corrected, and a target
//! for bytes or accuracy is met by sharing the bits out by measured sensitivity.

mod allocate;
pub(crate) mod codings;
pub(crate) mod fold;
pub(crate) mod grid;
pub(crate) mod layer;
pub(crate) mod layerwise;
pub(crate) mod search;
pub(crate) mod second_order;
pub(crate) mod statistics;

use std::collections::BTreeMap;

use weightspace_core::StateDict;
use weightspace_core::container::{self, Coding, Header, WspError};
use weightspace_nn::data::{Dataset, Preprocessing, split_train_validation};
use weightspace_nn::engine::EngineError;
use weightspace_nn::evaluate::{self, EvaluateError};
use weightspace_nn::net::Net;
use weightspace_nn::{Engine, NodeId};

use allocate::Allocation;
use fold::{Folded, Layer, fold};
use grid::Grid;
use layer::{LayerChoice, QuantizedLayer};
use layerwise::{quantize_calibrated, quantize_plain, store};

/// Price of one bit in units of the loss of an error of one step, with and without second-order
/// rounding: chosen on held-out training images (docs/results.md).
const PRICE: f64 = 0.05;

/// Training images held out to measure sensitivity and accuracy.
const HELD_OUT: usize = 1024;

/// Times a step is sought for a target of bytes.
const MOST_ROUNDS: u32 = 7;

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

/// Quantises a state dict into the tensors of a `.wsp` file, in the state dict's order.
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
    if let Target::Bits(bits) = options.target
        && !(2..=8).contains(&bits)
    {
        return Err(QuantizeError::Bits(bits));
    }
    let folded = layers(net, weights, options.fold)?;
    let calibration = match (net, images) {
        (Some(net), Some(images)) if options.calibrate > 0 || needs_held_out(options) => {
            Some(Calibration::new(net, images, options)?)
        }
        (None, _) if options.calibrate > 0 => {
            return Err(QuantizeError::Needs("calibration needs a known architecture (--arch)"));
        }
        (_, None) if options.calibrate > 0 => {
            return Err(QuantizeError::Needs("calibration needs images (--data)"));
        }
        _ => None,
    };
    let job =
        Job { header, original: weights, net, folded: &folded, calibration, options, progress };
    job.run()
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
        if !tensor.to_f32().iter().all(|v| v.is_finite()) {
            return Err(QuantizeError::NotFinite(name.to_string()));
        }
    }
    match net {
        Some(net) => Ok(fold(net, weights, folds)?),
        None => Ok(unknown_layers(weights)),
    }
}

fn needs_held_out(options: &Options) -> bool {
    matches!(options.target, Target::Accuracy(_))
}

/// Without an architecture: every floating-point tensor of two or more dimensions is a layer.
fn unknown_layers(weights: &StateDict) -> Folded {
    let layers = weights
        .iter()
        .filter(|(_, t)| t.dtype().is_float() && t.shape().len() >= 2 && t.element_count() > 0)
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

/// Images as the network reads them.
struct Calibration<'a> {
    net: &'a Net,
    source: Images<'a>,
    /// Unlabelled images for statistics, channel-major; empty without second-order rounding.
    images: Vec<f32>,
    /// Indices of held-out training images.
    held_out: Vec<usize>,
}

impl<'a> Calibration<'a> {
    fn new(net: &'a Net, source: Images<'a>, options: &Options) -> Result<Self, QuantizeError> {
        let n = source.train.len();
        let (pool, held_out) = split_train_validation(n, HELD_OUT.min(n / 2), options.seed);
        let pool = &pool[..options.calibrate.min(pool.len())];
        let images = read(source, pool)?;
        if images.len() != pool.len() * net.input_shape().element_count() {
            let found = images.len() / pool.len().max(1);
            let expected = net.input_shape().element_count();
            return Err(EngineError::WrongInput { found, expected }.into());
        }
        Ok(Calibration { net, source, images, held_out })
    }

    fn accuracy(&self, weights: &StateDict) -> Result<f64, QuantizeError> {
        let engine = Engine::new(self.net, weights)?;
        let Images { train, preprocessing } = self.source;
        let indices = Some(self.held_out.as_slice());
        Ok(evaluate::accuracy(&engine, train, indices, preprocessing, &|_| ())?.accuracy())
    }
}

/// Training images as the network reads them.
pub(crate) fn read(source: Images<'_>, indices: &[usize]) -> Result<Vec<f32>, QuantizeError> {
    let shape =
        source.preprocessing.output_shape(source.train.shape()).map_err(EvaluateError::from)?;
    let mut images = vec![0.0; indices.len() * shape.iter().product::<usize>()];
    source.train.fill(indices, source.preprocessing, &mut images).map_err(EvaluateError::from)?;
    Ok(images)
}

struct Job<'a> {
    header: &'a Header,
    original: &'a StateDict,
    net: Option<&'a Net>,
    folded: &'a Folded,
    calibration: Option<Calibration<'a>>,
    options: &'a Options,
    progress: Progress<'a>,
}

impl Job<'_> {
    fn run(&self) -> Result<Vec<(String, Coding)>, QuantizeError> {
        let layers = match self.options.target {
            Target::Bits(bits) => {
                let price = if self.images().is_some() { PRICE } else { 0.0 };
                let choice = LayerChoice { grid: Grid::Levels((1 << (bits - 1)) - 1), price };
                self.quantize(&vec![choice; self.folded.layers.len()])?
            }
            Target::Bytes(bytes) => self.for_bytes(bytes)?,
            Target::Accuracy(accuracy) => self.for_accuracy(accuracy)?,
        };
        Ok(self.codings(layers))
    }

    /// The images for statistics, if there are any.
    fn images(&self) -> Option<(&Net, &[f32])> {
        let calibration = self.calibration.as_ref().filter(|c| !c.images.is_empty())?;
        Some((calibration.net, &calibration.images))
    }

    fn quantize(&self, choices: &[LayerChoice]) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let total = self.folded.layers.len();
        Ok(match self.images() {
            Some((net, images)) => {
                let progress = |done| (self.progress)("quantising", done, total);
                quantize_calibrated(net, self.folded, images, choices, &progress)?
            }
            None => quantize_plain(self.folded, choices)?,
        })
    }

    fn allocation(&self) -> Result<Allocation, QuantizeError> {
        let total = self.folded.layers.len();
        match (self.images(), &self.calibration) {
            (Some((net, images)), Some(calibration)) => {
                let held_out = read(calibration.source, &calibration.held_out)?;
                let progress = |done| (self.progress)("measuring sensitivity", done, total);
                let folded = self.folded;
                Ok(Allocation::measured(net, folded, images, &held_out, PRICE, &progress)?)
            }
            _ => Ok(Allocation::uniform(self.folded)),
        }
    }

    fn weight_count(&self) -> f64 {
        self.folded.layers.iter().map(|l| (l.rows * l.columns) as f64).sum::<f64>().max(1.0)
    }

    fn byte_count(&self, layers: &[QuantizedLayer]) -> Result<u64, QuantizeError> {
        Ok(container::encode(self.header, &self.codings(layers.to_vec()))?.len() as u64)
    }

    /// Rounding without images is cheap and its size differs from that of second-order rounding by
    /// a factor that hardly depends on the step: so the step is sought with the former, the factor
    /// measured with the latter, and again.
    fn for_bytes(&self, target: u64) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let allocation = self.allocation()?;
        let weights = self.weight_count();
        // A Laplacian source with root mean square 1 and step t costs about 2 - log2 t bits.
        let mut t = (1.7 - target as f64 * 8.0 / weights).exp2();
        let plain =
            |t: f64| self.byte_count(&quantize_plain(self.folded, &allocation.choices(t, PRICE))?);
        let mut factor = 1.0;
        let mut best: Option<(u64, Vec<QuantizedLayer>)> = None;
        let mut smallest = u64::MAX;
        for round in 0..MOST_ROUNDS {
            // Each round aims a little lower, so that the last ones surely fit.
            let aim = target as f64 * (1.0 - 1e-3 * f64::from(1 << round)) / factor;
            t = search::for_bytes(aim as u64, t, (1e-4, 16.0), weights, plain)?.unwrap_or(16.0);
            let layers = self.quantize(&allocation.choices(t, PRICE))?;
            let bytes = self.byte_count(&layers)?;
            smallest = smallest.min(bytes);
            if bytes <= target && best.as_ref().is_none_or(|(most, _)| bytes > *most) {
                best = Some((bytes, layers));
            }
            if (bytes <= target && bytes as f64 > 0.997 * target as f64) || self.images().is_none()
            {
                break;
            }
            factor = bytes as f64 / plain(t)? as f64;
        }
        best.map(|(_, layers)| layers).ok_or_else(|| {
            QuantizeError::OutOfReach(format!(
                "{target} bytes cannot be reached: the smallest file tried has {smallest} bytes"
            ))
        })
    }

    fn for_accuracy(&self, target: f64) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let Some(calibration) = &self.calibration else {
            return Err(QuantizeError::Needs(
                "--target-accuracy needs a known architecture and images (--data)",
            ));
        };
        let original = calibration.accuracy(self.original)?;
        let allocation = self.allocation()?;
        let mut best = None;
        search::largest((0.05, 4.0), |t| {
            let layers = self.quantize(&allocation.choices(t, PRICE))?;
            let mut weights = self.folded.weights.clone();
            for (layer, quantized) in self.folded.layers.iter().zip(&layers) {
                store(&mut weights, layer, quantized);
            }
            let accepted = calibration.accuracy(&weights)? >= target;
            if accepted {
                best = Some(layers);
            }
            Ok::<_, QuantizeError>(accepted)
        })?;
        best.ok_or_else(|| {
            QuantizeError::OutOfReach(format!(
                "accuracy {target} cannot be reached: the original has {original:.4} on the {} \
                 held-out training images",
                calibration.held_out.len()
            ))
        })
    }

    /// Every tensor of the state dict with its coding.
    fn codings(&self, layers: Vec<QuantizedLayer>) -> Vec<(String, Coding)> {
        let mut of_layers = BTreeMap::new();
        for (layer, result) in self.folded.layers.iter().zip(layers) {
            if let (Some(name), Some(bias)) = (&layer.bias, result.bias) {
                of_layers.insert(name.clone(), Coding::Quantized(bias));
            }
            of_layers.insert(layer.weight.clone(), Coding::Quantized(result.weight));
        }
        codings::all(self.original, self.net, self.folded, of_layers)
    }
}
