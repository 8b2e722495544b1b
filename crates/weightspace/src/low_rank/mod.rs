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
use weightspace_core::container::{self, Coding, Header, Quantized, WspError, WspFile};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::Net;

use crate::quantize::codings::VECTOR_LEVELS;
use crate::quantize::fold::{Folded, Layer};
use crate::quantize::grid::{Grid, round_vector, step_for_levels};
use crate::quantize::layer::{LayerChoice, quantize_layer};
use crate::quantize::{Images, Preparation, Prepared, Progress, QuantizeError};
use crate::quantize::{layerwise, search};
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
    /// The smallest file whose accuracy on held-out training images is at least this fraction.
    Accuracy(f64),
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
    /// Not even all singular values are enough.
    #[error(
        "accuracy {target} cannot be reached: all singular values give {best:.4} on held-out training images"
    )]
    Inaccurate {
        /// What was asked for.
        target: f64,
        /// The accuracy of the largest file.
        best: f64,
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

/// Turns a state dict into the tensors of a `.wsp` file, in the state dict's order. For files of
/// several targets use [`Decomposed`].
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
    let Options { fold, calibrate, seed, .. } = *options;
    let preparation = Preparation { fold, calibrate, seed };
    let network = Prepared::new(weights, net, images, preparation)?;
    Decomposed::new(&network, progress)?.compress(header, options.target, options.factors, progress)
}

/// A network with the singular values and vectors of all its layers, of which every file takes as many
/// as its target allows.
pub struct Decomposed<'a> {
    network: &'a Prepared<'a>,
    layers: Vec<Decomposition>,
}

impl<'a> Decomposed<'a> {
    /// Decomposes every layer, for the inputs that the images for calibration give if there are any.
    ///
    /// # Errors
    /// If singular values do not converge, or the weights do not fit the network.
    pub fn new(network: &'a Prepared<'a>, progress: Progress<'_>) -> Result<Self, LowRankError> {
        let layers = match network.images() {
            Some((net, images)) => decompose_calibrated(net, network.folded(), images, progress)?,
            None => decompose(network.folded())?,
        };
        Ok(Decomposed { network, layers })
    }

    /// The tensors of a `.wsp` file, in the state dict's order.
    ///
    /// # Errors
    /// If the target cannot be met, or needs images or an architecture that are not there.
    pub fn compress(
        &self,
        header: &Header,
        target: Target,
        factors: FactorType,
        progress: Progress<'_>,
    ) -> Result<Vec<(String, Coding)>, LowRankError> {
        let ranks = Ranks::new(&self.layers, factors.bytes());
        let count = ranks.count();
        let tensors = |kept: usize| self.codings(&ranks.keeping(kept), factors);
        let encoded = |kept: usize| container::encode(header, &tensors(kept));
        let mut round = 0;
        let rounds = count.max(1).ilog2() as usize + 2;
        let mut begin_round = || {
            round += 1;
            progress("choosing ranks", round.min(rounds), rounds);
        };
        match target {
            Target::RankFraction(fraction) if fraction > 0.0 && fraction <= 1.0 => {
                Ok(tensors((fraction * count as f64).round() as usize))
            }
            Target::RankFraction(fraction) => Err(LowRankError::RankFraction(fraction)),
            Target::Bytes(target) => {
                let too_many = search::first(count, |kept| {
                    begin_round();
                    Ok::<_, LowRankError>(encoded(kept)?.len() as u64 > target)
                })?;
                match too_many.checked_sub(1) {
                    Some(kept) => Ok(tensors(kept)),
                    None => {
                        let smallest = encoded(0)?.len() as u64;
                        Err(LowRankError::OutOfReach { target, smallest })
                    }
                }
            }
            Target::Accuracy(target) => {
                let accuracy = |kept: usize| {
                    let file = WspFile::from_bytes("low-rank", encoded(kept)?)?;
                    Ok::<_, LowRankError>(self.network.held_out_accuracy(&file.state_dict()?)?)
                };
                let enough = search::first(count, |kept| {
                    begin_round();
                    Ok::<_, LowRankError>(accuracy(kept)? >= target)
                })?;
                match enough <= count {
                    true => Ok(tensors(enough)),
                    false => Err(LowRankError::Inaccurate { target, best: accuracy(count)? }),
                }
            }
        }
    }

    /// Every tensor of the state dict with its coding, given the rank of each layer; none for those
    /// that are rounded.
    fn codings(&self, ranks: &[Option<usize>], factors: FactorType) -> Vec<(String, Coding)> {
        let layers = self.network.folded().layers.par_iter().zip(&self.layers).zip(ranks);
        let of_layers: Vec<_> = layers
            .flat_map_iter(|((layer, decomposition), &rank)| {
                let [weight, bias] = self.layer(layer, decomposition, rank.map(|r| (r, factors)));
                let bias = layer.bias.clone().zip(bias);
                [weight.map(|weight| (layer.weight.clone(), weight)), bias].into_iter().flatten()
            })
            .collect();
        let of_layers: BTreeMap<String, Coding> = of_layers.into_iter().collect();
        self.network.with_others(of_layers)
    }

    /// Weight and bias of a layer, as factors of this rank if there is one.
    fn layer(
        &self,
        layer: &Layer,
        decomposition: &Decomposition,
        rank: Option<(usize, FactorType)>,
    ) -> [Option<Coding>; 2] {
        let weights = &self.network.folded().weights;
        let Some((weight, bias)) = layerwise::tensors(weights, layer) else { return [None, None] };
        let shape = weight.shape();
        let bias = bias.map(Tensor::to_f32);
        if let Some((rank, factors)) = rank
            && let Some(stored) = StoredFactors::new(decomposition.factors(rank), factors)
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
