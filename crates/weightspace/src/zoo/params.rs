//! The flat keys of `params.json`: what a model was made with, known keys and others.

use serde_json::Value;

/// Keys and values of a model's `params.json`, all of them, also those that nobody here knows.
///
/// Keys are flat, with the group before two colons: `model::nlin`, `optim::lr`, `training::batchsize`, `seed`.
pub type Params = serde_json::Map<String, Value>;

/// Key of the data set that a model was trained on.
pub(super) const DATA: &str = "weightspace::data";
/// Key of what was done to its images.
pub(super) const PREPROCESSING: &str = "weightspace::preprocessing";

/// Most bytes of the parameters of one model.
pub(super) const MOST_BYTES: usize = 1 << 16;

/// Parses the parameters of one model.
pub(super) fn parse(text: &str) -> Result<Params, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("parameters of {} bytes, more than {MOST_BYTES}", text.len()));
    }
    serde_json::from_str(&super::json::quote_numbers(text))
        .map_err(|error| format!("parameters are no JSON object: {error}"))
}

/// Whether it is known how a model was made: a checkpoint of which nothing else is known has no such keys.
pub(super) fn have_settings(params: &Params) -> bool {
    params.keys().any(|key| !key.starts_with("weightspace::"))
}

/// The value of a key as a number, if it is one.
pub(super) fn number(params: &Params, key: &str) -> Option<f64> {
    params.get(key).and_then(super::json::number)
}

/// The value of a key as a text, if it is one.
pub(super) fn text<'a>(params: &'a Params, key: &str) -> Option<&'a str> {
    params.get(key)?.as_str()
}
