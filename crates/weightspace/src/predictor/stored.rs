//! From a `.wsp` file back to a predictor that can be trained on.

use weightspace_core::container::PredictorInfo;
use weightspace_core::predictor::PredictorError;
use weightspace_core::{DecodeOptions, StateDict, WspError, WspFile};
use weightspace_nn::Net;

use super::order::freely_ordered;
use super::target::Place;
use super::{Model, ModelConfig, Target, TargetError};

/// A predictor that a file holds, and what it is to give.
#[derive(Clone, Debug)]
pub struct StoredPredictor {
    /// The original's weights, in the order of the file.
    pub target: Target,
    /// The predictor.
    pub model: Model,
    /// Its coefficients.
    pub coefficients: Vec<f32>,
}

/// Why a file holds no predictor to be trained on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The file is of another method.
    #[error("a file of the method {0}, expected predictor")]
    Method(&'static str),
    /// Layers of unequal widths, or outputs that no tensor has.
    #[error("layers of {widths:?} outputs, expected equal ones and {head} of the last")]
    Widths {
        /// Outputs of every layer.
        widths: Vec<usize>,
        /// Elements of the largest tile.
        head: usize,
    },
    /// The network has no such weights.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Parameters beyond their limits.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
    /// The file does not decode.
    #[error(transparent)]
    Format(#[from] WspError),
}

impl StoredPredictor {
    /// The predictor of a file of the network with weights `original`. If hidden units of the file are in the
    /// free order, so are then those of the target.
    ///
    /// # Errors
    /// If the file has no predictor, or one of another network.
    pub fn read(file: &WspFile, net: &Net, original: &StateDict) -> Result<Self, StoredError> {
        let Some(info) = file.predictor() else {
            return Err(StoredError::Method(file.header().method.name()));
        };
        let decoder = file.decoder(DecodeOptions::default())?;
        let inner = decoder.inner_tensors()?;
        let masks = info.tensors.iter().filter(|tensor| tensor.masked).count();
        let mut masks = inner.iter().skip(inner.len() - masks).map(|(_, mask)| mask.to_f32());
        let places = decoder.predicted().zip(&info.tensors).map(|((name, tiling, order), info)| {
            let mask = if info.masked { masks.next() } else { None };
            let mask = mask.map(|mask| mask.into_owned());
            let (name, tiling, order) = (name.to_owned(), tiling.clone(), order.clone());
            Place { name, tiling, order, scale: info.scale, mask }
        });
        let places: Vec<Place> = places.collect();
        let coordinates = info.coordinates;
        let target = Target::at(net, original.clone(), places.clone(), coordinates)?;
        let names: Vec<_> = places.iter().map(|place| (&place.name[..], &place.tiling)).collect();
        let ordered = freely_ordered(net, &names, original);
        let decoded = decoder.state_dict()?;
        let target = match difference(&decoded, &ordered) < difference(&decoded, original) {
            true => Target::at(net, ordered, places, coordinates)?,
            false => target,
        };
        let model = Model::new(target.grid(), target.head(), &model_config(info, target.head())?)?;
        let values = inner.iter().flat_map(|(_, tensor)| tensor.to_f32().into_owned());
        let coefficients: Vec<f32> = values.take(model.coefficients().len()).collect();
        Ok(StoredPredictor { target, model, coefficients })
    }
}

fn model_config(info: &PredictorInfo, head: usize) -> Result<ModelConfig, StoredError> {
    let widths = &info.widths[1..];
    match widths {
        [hidden @ .., last] if hidden.iter().all(|&h| h == hidden[0]) && *last == head => {
            Ok(ModelConfig { encoding: info.encoding, hidden: hidden[0], layers: widths.len() })
        }
        _ => Err(StoredError::Widths { widths: widths.to_vec(), head }),
    }
}

/// Sum of the squared differences of all matrices: vectors of a file are not those of the original.
fn difference(a: &StateDict, b: &StateDict) -> f64 {
    let matrices = a.iter().filter(|(_, tensor)| tensor.shape().len() > 1);
    let squares = matrices.filter_map(|(name, tensor)| {
        let (own, other) = (tensor.to_f32(), b.get(name)?.to_f32());
        let pairs = own.iter().zip(other.iter());
        Some(pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>())
    });
    squares.sum()
}
