//! What the files of all targets have in common: the folded network, the images, and how sensitive
//! the layers are, which takes longer than everything else and is found only once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use weightspace_core::StateDict;
use weightspace_core::container::{self, Coding, Header};
use weightspace_nn::Engine;
use weightspace_nn::data::split_train_validation;
use weightspace_nn::engine::EngineError;
use weightspace_nn::evaluate;
use weightspace_nn::net::Net;
use weightspace_nn::train::HELD_OUT_SEED;

use super::allocate::Allocation;
use super::estimate::Estimate;
use super::fold::Folded;
use super::grid::Grid;
use super::layer::{LayerChoice, QuantizedLayer};
use super::layerwise::{quantize_calibrated, quantize_plain, store};
use super::{Images, Preparation, Progress, QuantizeError, Target, codings, layers, read, search};

/// Price of one bit in units of the loss of an error of one step, with and without second-order
/// rounding: chosen on held-out training images (docs/results.md).
const PRICE: f64 = 0.05;

/// Training images held out to measure sensitivity and accuracy.
const HELD_OUT: usize = 1024;

/// Times a step is sought for a target of bytes.
const MOST_ROUNDS: u32 = 7;

/// Weights from which on a file is estimated before it is coded.
const LARGE: f64 = 1e6;

/// Factors of the layers' steps that are tried.
const STEPS: (f64, f64) = (1e-4, 16.0);

/// A network ready to be compressed, to as many targets as are wanted.
pub struct Prepared<'a> {
    original: &'a StateDict,
    net: Option<&'a Net>,
    folded: Folded,
    calibration: Option<Calibration<'a>>,
    /// Measured when it is first needed.
    allocation: OnceLock<Allocation>,
}

/// Images as the network reads them.
struct Calibration<'a> {
    net: &'a Net,
    source: Images<'a>,
    /// Unlabelled images for statistics, channel-major; empty if none are wanted.
    images: Vec<f32>,
    /// Indices of held-out training images.
    held_out: Vec<usize>,
}

impl<'a> Calibration<'a> {
    fn new(
        net: &'a Net,
        source: Images<'a>,
        preparation: Preparation,
    ) -> Result<Self, QuantizeError> {
        let n = source.train.len();
        let (pool, held_out) = split_train_validation(n, HELD_OUT.min(n / 2), HELD_OUT_SEED);
        let pool = match preparation.seed {
            HELD_OUT_SEED => pool,
            seed => {
                let (order, _) = split_train_validation(pool.len(), 0, seed);
                order.into_iter().map(|index| pool[index]).collect()
            }
        };
        let pool = &pool[..preparation.calibrate.min(pool.len())];
        let images = read(source, pool)?;
        if images.len() != pool.len() * net.input_shape().element_count() {
            let found = images.len() / pool.len().max(1);
            let expected = net.input_shape().element_count();
            return Err(EngineError::WrongInput { found, expected }.into());
        }
        Ok(Calibration { net, source, images, held_out })
    }
}

impl<'a> Prepared<'a> {
    /// Folds the network, and reads the images for calibration.
    ///
    /// # Errors
    /// If the settings, the architecture and the images do not fit together.
    pub fn new(
        original: &'a StateDict,
        net: Option<&'a Net>,
        images: Option<Images<'a>>,
        preparation: Preparation,
    ) -> Result<Self, QuantizeError> {
        let folded = layers(net, original, preparation.fold)?;
        let calibration = match (net, images) {
            (Some(net), Some(images)) => Some(Calibration::new(net, images, preparation)?),
            _ if preparation.calibrate == 0 => None,
            (None, _) => {
                let what = "calibration needs a known architecture (--arch)";
                return Err(QuantizeError::Needs(what));
            }
            (_, None) => return Err(QuantizeError::Needs("calibration needs images (--data)")),
        };
        Ok(Prepared { original, net, folded, calibration, allocation: OnceLock::new() })
    }

    /// The tensors of a `.wsp` file, in the state dict's order.
    ///
    /// # Errors
    /// If the target cannot be met, or needs images or an architecture that are not there.
    pub fn compress(
        &self,
        header: &Header,
        target: Target,
        progress: Progress<'_>,
    ) -> Result<Vec<(String, Coding)>, QuantizeError> {
        Ok(self.codings(self.layers(header, target, progress)?))
    }

    /// Share of the held-out training images that the network with these weights gets right.
    ///
    /// # Errors
    /// Without architecture or images, or if the weights do not fit the network.
    pub fn held_out_accuracy(&self, weights: &StateDict) -> Result<f64, QuantizeError> {
        let Some(Calibration { net, source, held_out, .. }) = &self.calibration else {
            return Err(QuantizeError::Needs(
                "--target-accuracy needs a known architecture and images (--data)",
            ));
        };
        let engine = Engine::new(net, weights)?;
        let Images { train, preprocessing } = *source;
        let indices = Some(held_out.as_slice());
        Ok(evaluate::accuracy(&engine, train, indices, preprocessing, &|_| ())?.accuracy())
    }

    /// Number of held-out training images; no layer is rounded with them, but sensitivities are
    /// measured and accuracies compared.
    pub fn held_out_count(&self) -> usize {
        self.calibration.as_ref().map_or(0, |calibration| calibration.held_out.len())
    }

    /// The weights before compression.
    pub fn original(&self) -> &StateDict {
        self.original
    }

    /// The network with its training images, if there are any.
    pub(crate) fn source(&self) -> Option<(&'a Net, Images<'a>)> {
        self.calibration.as_ref().map(|calibration| (calibration.net, calibration.source))
    }

    pub(crate) fn folded(&self) -> &Folded {
        &self.folded
    }

    /// The images for statistics with their network, if there are any.
    pub(crate) fn images(&self) -> Option<(&Net, &[f32])> {
        let calibration = self.calibration.as_ref().filter(|c| !c.images.is_empty())?;
        Some((calibration.net, &calibration.images))
    }

    /// Every tensor of the state dict with its coding, given those of layers by name.
    pub(crate) fn with_others(&self, layers: BTreeMap<String, Coding>) -> Vec<(String, Coding)> {
        codings::all(self.original, self.net, &self.folded, layers)
    }

    /// Every layer, quantised to a target.
    pub(super) fn layers(
        &self,
        header: &Header,
        target: Target,
        progress: Progress<'_>,
    ) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        match target {
            Target::Bits(bits @ 2..=8) => {
                let price = if self.images().is_some() { PRICE } else { 0.0 };
                let choice = LayerChoice { grid: Grid::Levels((1 << (bits - 1)) - 1), price };
                self.quantize(&vec![choice; self.folded.layers.len()], progress)
            }
            Target::Bits(bits) => Err(QuantizeError::Bits(bits)),
            Target::Bytes(bytes) => self.for_bytes(header, bytes, progress),
            Target::Accuracy(accuracy) => self.for_accuracy(accuracy, progress),
        }
    }

    fn quantize(
        &self,
        choices: &[LayerChoice],
        progress: Progress<'_>,
    ) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let total = self.folded.layers.len();
        Ok(match self.images() {
            Some((net, images)) => {
                let progress = |done| progress("quantising", done, total);
                quantize_calibrated(net, &self.folded, images, choices, &progress)?
            }
            None => quantize_plain(&self.folded, choices)?,
        })
    }

    fn allocation(&self, progress: Progress<'_>) -> Result<&Allocation, QuantizeError> {
        if let Some(allocation) = self.allocation.get() {
            return Ok(allocation);
        }
        let total = self.folded.layers.len();
        let allocation = match (self.images(), &self.calibration) {
            (Some((net, images)), Some(calibration)) => {
                let held_out = read(calibration.source, &calibration.held_out)?;
                let progress = |done| progress("measuring sensitivity", done, total);
                Allocation::measured(net, &self.folded, images, &held_out, PRICE, &progress)?
            }
            _ => Allocation::uniform(&self.folded),
        };
        Ok(self.allocation.get_or_init(|| allocation))
    }

    fn weight_count(&self) -> f64 {
        self.folded.layers.iter().map(|l| (l.rows * l.columns) as f64).sum::<f64>().max(1.0)
    }

    /// Rounding without images is cheap and its size differs from that of second-order rounding by
    /// a factor that hardly depends on the step: so the step is sought with the former, the factor
    /// measured with the latter, and again.
    fn for_bytes(
        &self,
        header: &Header,
        target: u64,
        progress: Progress<'_>,
    ) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let allocation = self.allocation(progress)?;
        let weights = self.weight_count();
        let byte_count = |layers: &[QuantizedLayer]| {
            let tensors = self.codings(layers.to_vec());
            Ok::<_, QuantizeError>(container::encode(header, &tensors)?.len() as u64)
        };
        if self.images().is_none() && weights >= LARGE {
            let found = self.for_bytes_estimated(target, allocation, byte_count, progress)?;
            if let Some(layers) = found {
                return Ok(layers);
            }
        }
        // A Laplacian source with root mean square 1 and step t costs about 2 - log2 t bits.
        let mut t = (1.7 - target as f64 * 8.0 / weights).exp2();
        let plain =
            |t: f64| byte_count(&quantize_plain(&self.folded, &allocation.choices(t, PRICE))?);
        let mut factor = 1.0;
        let mut best: Option<(u64, Vec<QuantizedLayer>)> = None;
        let mut smallest = u64::MAX;
        for round in 0..MOST_ROUNDS {
            // Each round aims a little lower, so that the last ones surely fit.
            let aim = target as f64 * (1.0 - 1e-3 * f64::from(1 << round));
            t = search::for_bytes((aim / factor) as u64, t, STEPS, weights, plain)?
                .unwrap_or(STEPS.1);
            let layers = self.quantize(&allocation.choices(t, PRICE), progress)?;
            let bytes = byte_count(&layers)?;
            smallest = smallest.min(bytes);
            if bytes <= target && best.as_ref().is_none_or(|(most, _)| bytes > *most) {
                best = Some((bytes, layers));
            }
            // The next ones will hardly be larger.
            let used = bytes <= target && bytes as f64 > aim - 2e-3 * target as f64;
            if used || self.images().is_none() {
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

    /// Rounding without images, of a network that takes long to code: its size is what the frequencies of integers say,
    /// times a factor that hardly depends on the step. `None` where that does not help, as most of the file is
    /// something else.
    fn for_bytes_estimated(
        &self,
        target: u64,
        allocation: &Allocation,
        byte_count: impl Fn(&[QuantizedLayer]) -> Result<u64, QuantizeError>,
        progress: Progress<'_>,
    ) -> Result<Option<Vec<QuantizedLayer>>, QuantizeError> {
        let estimate = Estimate::new(&self.folded, allocation);
        let mut factor = 0.9;
        for round in 0..MOST_ROUNDS as usize {
            progress("looking for the step", round, 0);
            // Each round aims a little lower, so that the last ones surely fit.
            let aim = target as f64 * (1.0 - 3e-4 * f64::from(1 << round));
            let t = estimate.factor_for(aim / factor, STEPS);
            let layers = quantize_plain(&self.folded, &allocation.choices(t, PRICE))?;
            let bytes = byte_count(&layers)?;
            if bytes <= target && bytes as f64 > aim - 2e-3 * target as f64 {
                return Ok(Some(layers));
            }
            factor = bytes as f64 / estimate.byte_count(t).max(1.0);
        }
        Ok(None)
    }

    fn for_accuracy(
        &self,
        target: f64,
        progress: Progress<'_>,
    ) -> Result<Vec<QuantizedLayer>, QuantizeError> {
        let original = self.held_out_accuracy(self.original)?;
        let allocation = self.allocation(progress)?;
        let mut best = None;
        search::largest((0.05, 4.0), |t| {
            let layers = self.quantize(&allocation.choices(t, PRICE), progress)?;
            let mut weights = self.folded.weights.clone();
            for (layer, quantized) in self.folded.layers.iter().zip(&layers) {
                store(&mut weights, layer, quantized);
            }
            let accepted = self.held_out_accuracy(&weights)? >= target;
            if accepted {
                best = Some(layers);
            }
            Ok::<_, QuantizeError>(accepted)
        })?;
        best.ok_or_else(|| {
            QuantizeError::OutOfReach(format!(
                "accuracy {target} cannot be reached: the original has {original:.4} on the {} \
                 held-out training images",
                self.held_out_count()
            ))
        })
    }

    /// Every tensor of the state dict with its coding.
    pub(super) fn codings(&self, layers: Vec<QuantizedLayer>) -> Vec<(String, Coding)> {
        let mut of_layers = BTreeMap::new();
        for (layer, result) in self.folded.layers.iter().zip(layers) {
            if let (Some(name), Some(bias)) = (&layer.bias, result.bias) {
                of_layers.insert(name.clone(), Coding::Quantized(bias));
            }
            of_layers.insert(layer.weight.clone(), Coding::Quantized(result.weight));
        }
        self.with_others(of_layers)
    }
}
