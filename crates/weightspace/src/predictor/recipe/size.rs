//! What makes a file as small as it is to be.

use weightspace_core::{StateDict, WspFile};
use weightspace_nn::Net;

use super::{Original, Recipe, RecipeError};
use crate::predictor::{Model, ModelConfig, Target, TuningConfig, TuningPlan, VECTOR_BITS};

/// Bits that a coefficient of the predictor has in a file of the size for which hidden units are chosen.
const FITTING_BITS: f64 = 6.0;

/// Bits with which a predictor is hopeless.
const FEWEST_BITS: f64 = 1.0;

/// Bytes of names, shapes and orders in such a file, of a small network.
const NAMES: f64 = 1000.0;

/// Fewest and most hidden units that are chosen for a size.
const FITTING_WIDTHS: (usize, usize) = (8, 1024);

/// Times that the interval of sizes is halved, by their logarithm, for an accuracy.
const HALVINGS: usize = 8;

/// The predictor of a recipe, with as many hidden units as the file's size has place for where these are to be
/// chosen.
pub fn model(net: &Net, target: &Target, recipe: &Recipe) -> Result<Model, RecipeError> {
    let model = |hidden: usize| {
        let config = ModelConfig { hidden, ..recipe.model };
        Model::new(target.grid(), target.head(), &config)
    };
    let Some(bytes) = recipe.target_bytes.filter(|_| recipe.fit_width) else {
        return Ok(model(recipe.model.hidden)?);
    };
    let others = (net.parameter_count() - target.element_count()) as f64 + NAMES;
    // A predictor with more coefficients than weights to predict is of no use.
    let most = target.element_count();
    let fits = |hidden: usize, bits: f64| -> Result<bool, RecipeError> {
        let count = model(hidden)?.coefficients().len();
        Ok(others + bits / 8.0 * count as f64 <= bytes as f64
            && (count <= most || hidden == FITTING_WIDTHS.0))
    };
    let (mut low, mut high) = FITTING_WIDTHS;
    // Known before anything is trained.
    if !fits(low, FEWEST_BITS)? {
        let text =
            format!("{bytes} bytes cannot be reached: {others:.0} are what is not predicted");
        return Err(RecipeError::OutOfReach(text));
    }
    while high - low > 1 {
        let middle = (low + high) / 2;
        match fits(middle, FITTING_BITS)? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(model(low)?)
}

/// How a predictor is rounded.
pub fn tuning(bits: u8, target_bytes: Option<u64>) -> TuningConfig {
    let config = TuningConfig { bits, target_bytes, ..TuningConfig::default() };
    match target_bytes {
        Some(_) => config,
        None => TuningConfig { vector_bits: VECTOR_BITS, ..config },
    }
}

/// The file of a predictor, without training, in so many bytes.
pub fn rounded(
    original: Original<'_>,
    file: &WspFile,
    target_bytes: Option<u64>,
) -> Result<Vec<u8>, RecipeError> {
    let Original { header, net, weights, .. } = original;
    let tuning = tuning(16, target_bytes);
    let plan = TuningPlan::new(net, header, weights, file, &tuning)?;
    Ok(plan.encode(net, header, &tuning, (&plan.predictor().coefficients, &[]))?)
}

/// The smallest file of a predictor, without further training, whose accuracy is at least so much.
pub fn for_accuracy(
    original: Original<'_>,
    bytes: Vec<u8>,
    wanted: f64,
    accuracy: impl Fn(&StateDict) -> Result<f64, RecipeError>,
) -> Result<Vec<u8>, RecipeError> {
    let file = WspFile::from_bytes("the predictor", bytes.clone())?;
    let whole = accuracy(&file.state_dict()?)?;
    if whole < wanted {
        return Err(RecipeError::OutOfReach(format!(
            "an accuracy of {wanted} cannot be reached: the predictor's is {whole:.4} before it is rounded"
        )));
    }
    let mut best = bytes;
    let (mut low, mut high) = (0.02 * best.len() as f64, best.len() as f64);
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        let smaller = match rounded(original, &file, Some(middle as u64)) {
            Ok(bytes) => bytes,
            Err(RecipeError::OutOfReach(_)) => {
                low = middle;
                continue;
            }
            Err(error) => return Err(error),
        };
        let weights = WspFile::from_bytes("the predictor", smaller.clone())?.state_dict()?;
        match accuracy(&weights)? >= wanted {
            true => (high, best) = (middle, smaller),
            false => low = middle,
        }
    }
    Ok(best)
}
