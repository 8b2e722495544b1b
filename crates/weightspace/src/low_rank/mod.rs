//! The method `low-rank`: every weight as a matrix of output channels, cut to its largest singular
//! values and stored as two factors; a baseline that other methods must beat.
//!
//! One threshold of energy per byte chooses the ranks of all layers. A layer whose factors would be
//! larger than its weights at 8 bits is rounded instead. With a few hundred unlabelled images the
//! energy is that of the layer's outputs (singular values in the metric of the inputs' covariance),
//! and biases are corrected.

mod decomposition;
mod ranks;

use std::collections::BTreeMap;

use rayon::prelude::*;
use weightspace_core::container::{self, Coding, Header, Quantized, WspError};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::Net;
use weightspace_nn::data::split_train_validation;

use crate::quantize::codings::{self, VECTOR_LEVELS};
use crate::quantize::fold::{Folded, Layer};
use crate::quantize::grid::{Grid, round_vector, step_for_levels};
use crate::quantize::layer::{LayerChoice, quantize_layer};
use crate::quantize::{Images, Progress, QuantizeError, layers, layerwise, read};
use decomposition::{Decomposition, Factors};
use ranks::Ranks;

/// Levels of factors and weights of 8 bits.
const LEVELS: i32 = 127;

/// How the elements of factors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorType {
    /// Half precision.
    F16,
    /// Integers of 8 bits with a scale for each row, entropy-coded.
    Int8,
}

impl FactorType {
    /// Bytes of an element, without what entropy coding saves.
    const fn bytes(self) -> usize {
        match self {
            FactorType::F16 => 2,
            FactorType::Int8 => 1,
        }
    }
}

/// What to aim for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// This share, above 0 and at most 1, of the singular values of all layers.
    RankFraction(f64),
    /// The best file of at most this many bytes.
    Bytes(u64),
}

/// Settings of [`compress`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What to aim for.
    pub target: Target,
    /// How factors are stored.
    pub factors: FactorType,
    /// Fold batch normalisations (with a known architecture).
    pub fold: bool,
    /// Unlabelled training images that the energy is measured with; 0 for that of the weights.
    pub calibrate: usize,
    /// Chooses the images.
    pub seed: u64,
}

/// Why a network cannot be stored as factors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LowRankError {
    /// The share of singular values is out of range.
    #[error("a share {0} of the singular values, expected above 0 and at most 1")]
    RankFraction(f64),
    /// Even the smallest ranks are too large.
    #[error("{target} bytes cannot be reached: rank 1 everywhere takes {smallest}")]
    OutOfReach {
        /// What was asked for.
        target: u64,
        /// Bytes of the smallest file.
        smallest: u64,
    },
    /// A weight has no singular values that can be computed.
    #[error("the singular values of {0} do not converge")]
    Diverged(String),
    /// The weights, the architecture and the images do not fit together.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The file cannot be made.
    #[error(transparent)]
    Container(#[from] WspError),
}

/// Turns a state dict into the tensors of a `.wsp` file, in the state dict's order.
///
/// # Errors
/// If the settings, the architecture and the images do not fit together, or the target cannot be met.
pub fn compress(
    header: &Header,
    weights: &StateDict,
    net: Option<&Net>,
    images: Option<Images<'_>>,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<(String, Coding)>, LowRankError> {
    if let Target::RankFraction(fraction) = options.target
        && !(fraction > 0.0 && fraction <= 1.0)
    {
        return Err(LowRankError::RankFraction(fraction));
    }
    let folded = layers(net, weights, options.fold)?;
    let images = match (net, images) {
        _ if options.calibrate == 0 => None,
        (Some(net), Some(images)) => {
            let pool = split_train_validation(images.train.len(), 0, options.seed).0;
            let pool = &pool[..options.calibrate.min(pool.len())];
            Some((net, read(images, pool)?))
        }
        (None, _) => {
            let what = "calibration needs a known architecture (--arch)";
            return Err(QuantizeError::Needs(what).into());
        }
        (_, None) => return Err(QuantizeError::Needs("calibration needs images (--data)").into()),
    };
    let decompositions = match &images {
        Some((net, images)) => decompose_calibrated(net, &folded, images, progress)?,
        None => decompose(&folded)?,
    };
    let job = Job { header, original: weights, net, folded: &folded, decompositions, options };
    job.run(progress)
}

fn decompose(folded: &Folded) -> Result<Vec<Decomposition>, LowRankError> {
    let one = |layer: &Layer| Decomposition::new(&values(folded, layer), layer.rows, None);
    let all = folded.layers.par_iter().map(|layer| one(layer).ok_or_else(|| diverged(layer)));
    all.collect()
}

fn decompose_calibrated(
    net: &Net,
    folded: &Folded,
    images: &[f32],
    progress: Progress<'_>,
) -> Result<Vec<Decomposition>, LowRankError> {
    let total = folded.layers.len();
    let mut found: Vec<Option<Decomposition>> = vec![None; total];
    let visit = |index: usize, statistics: &_| {
        let layer = &folded.layers[index];
        found[index] = Decomposition::new(&values(folded, layer), layer.rows, Some(statistics));
        progress("decomposing", index + 1, total);
    };
    layerwise::for_each_layer(net, folded, images, visit).map_err(QuantizeError::from)?;
    let layers = folded.layers.iter();
    found.into_iter().zip(layers).map(|(d, layer)| d.ok_or_else(|| diverged(layer))).collect()
}

fn diverged(layer: &Layer) -> LowRankError {
    LowRankError::Diverged(layer.weight.clone())
}

fn values(folded: &Folded, layer: &Layer) -> Vec<f32> {
    folded.weights.get(&layer.weight).map_or_else(Vec::new, |t| t.to_f32().into_owned())
}

struct Job<'a> {
    header: &'a Header,
    original: &'a StateDict,
    net: Option<&'a Net>,
    folded: &'a Folded,
    decompositions: Vec<Decomposition>,
    options: &'a Options,
}

impl Job<'_> {
    fn run(&self, progress: Progress<'_>) -> Result<Vec<(String, Coding)>, LowRankError> {
        let ranks = Ranks::new(&self.decompositions, self.options.factors.bytes());
        let target = match self.options.target {
            Target::RankFraction(fraction) => {
                let kept = (fraction * ranks.count() as f64).round() as usize;
                return Ok(self.codings(&ranks.keeping(kept)));
            }
            Target::Bytes(target) => target,
        };
        // The largest number of singular values whose file fits: sizes grow with it.
        let (mut fits, mut low, mut high) = (None, 0, ranks.count());
        let mut smallest = u64::MAX;
        let rounds = high.max(1).ilog2() as usize + 2;
        for round in 0..rounds {
            let kept = if round == 0 { low } else { (low + high).div_ceil(2) };
            let tensors = self.codings(&ranks.keeping(kept));
            let bytes = container::encode(self.header, &tensors)?.len() as u64;
            smallest = smallest.min(bytes);
            progress("choosing ranks", round + 1, rounds);
            match bytes <= target {
                true => (low, fits) = (kept, Some(tensors)),
                false if kept == 0 => break,
                false => high = kept - 1,
            }
            if low >= high {
                break;
            }
        }
        fits.ok_or(LowRankError::OutOfReach { target, smallest })
    }

    /// Every tensor of the state dict with its coding, given the rank of each layer; none for those
    /// that are rounded.
    fn codings(&self, ranks: &[Option<usize>]) -> Vec<(String, Coding)> {
        let layers = self.folded.layers.par_iter().zip(&self.decompositions).zip(ranks);
        let of_layers: Vec<_> = layers
            .flat_map_iter(|((layer, decomposition), &rank)| {
                let [weight, bias] = self.layer(layer, decomposition, rank);
                let bias = layer.bias.clone().zip(bias);
                [weight.map(|weight| (layer.weight.clone(), weight)), bias].into_iter().flatten()
            })
            .collect();
        let of_layers: BTreeMap<String, Coding> = of_layers.into_iter().collect();
        codings::all(self.original, self.net, self.folded, of_layers)
    }

    /// Weight and bias of a layer.
    fn layer(
        &self,
        layer: &Layer,
        decomposition: &Decomposition,
        rank: Option<usize>,
    ) -> [Option<Coding>; 2] {
        let Some(weight) = self.folded.weights.get(&layer.weight) else { return [None, None] };
        let shape = weight.shape();
        let bias = layer.bias.as_ref().and_then(|name| self.folded.weights.get(name));
        let bias = bias.map(Tensor::to_f32);
        if let Some(rank) = rank
            && let Some(stored) =
                StoredFactors::new(decomposition.factors(rank), self.options.factors)
        {
            let bias = bias.map(|mut bias| {
                decomposition.correct(bias.to_mut(), &weight.to_f32(), &stored.product());
                let step = step_for_levels(&bias, VECTOR_LEVELS);
                Coding::Quantized(round_vector(&bias, &[bias.len()], step))
            });
            let StoredFactors { left, right, .. } = stored;
            let (left, right) = (Box::new(left), Box::new(right));
            return [Some(Coding::Product { shape: shape.to_vec(), left, right }), bias];
        }
        let choice = LayerChoice { grid: Grid::Levels(LEVELS), price: 0.0 };
        let rounded = quantize_layer(layer, shape, &weight.to_f32(), bias.as_deref(), None, choice);
        [Some(Coding::Quantized(rounded.weight)), rounded.bias.map(Coding::Quantized)]
    }
}

/// Factors as they are stored.
struct StoredFactors {
    left: Coding,
    right: Coding,
    /// Of what they decode to.
    values: Factors,
}

impl StoredFactors {
    /// `None` if the type cannot hold them.
    fn new(factors: Factors, as_type: FactorType) -> Option<Self> {
        let Factors { rows, rank, columns, .. } = factors;
        let stored = |values: &[f32], rows: usize, columns: usize| match as_type {
            FactorType::F16 => {
                let tensor = Tensor::from_f32(vec![rows, columns], values);
                let half = tensor.cast_float(weightspace_core::DType::F16);
                let values = half.to_f32().into_owned();
                let finite = values.iter().all(|value| value.is_finite());
                finite.then_some((Coding::Raw(half), values))
            }
            FactorType::Int8 => {
                let quantized = round_rows(values, rows, columns);
                let values = quantized.dequantize();
                Some((Coding::Quantized(quantized), values))
            }
        };
        let (left, left_values) = stored(&factors.left, rows, rank)?;
        let (right, right_values) = stored(&factors.right, rank, columns)?;
        let values = Factors { left: left_values, right: right_values, ..factors };
        Some(StoredFactors { left, right, values })
    }

    fn product(&self) -> Vec<f32> {
        self.values.product()
    }
}

/// A matrix as integers of 8 bits, each row with its scale.
fn round_rows(values: &[f32], rows: usize, columns: usize) -> Quantized {
    let scales = Grid::Levels(LEVELS).scales(values, rows);
    let steps = values.chunks_exact(columns).zip(&scales.rows);
    let rounded = steps.flat_map(|(row, &step)| {
        row.iter().map(move |value| ((value / step).round() as i32).clamp(-LEVELS, LEVELS))
    });
    Quantized {
        shape: vec![rows, columns],
        scale: scales.base,
        values: rounded.collect(),
        channel_exponents: scales.exponents,
    }
}
