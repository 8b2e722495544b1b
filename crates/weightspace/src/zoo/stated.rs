//! What the file of a single model says about it, so that it can be used without its zoo.

use std::collections::BTreeMap;

use weightspace_core::TensorInfo;
use weightspace_nn::arch::{self, ArchOptions};

use super::spec::ARCH;
use super::{ModelSpec, Params, params};

/// Key of a file's metadata: specification of the architecture.
pub const ARCH_KEY: &str = "weightspace.arch";

/// Key of a file's metadata: what is done to images before the network sees them.
pub const PREPROCESSING_KEY: &str = "weightspace.preprocessing";

/// Specification of the network that parameters and tensors are those of; `None` if it is none that is known.
pub fn arch_of(params: &Params, tensors: &[TensorInfo]) -> Option<String> {
    let recognised = arch::recognise(tensors).ok()?;
    let fitting = |text: &str, options: &ArchOptions| {
        arch::build(text, options).ok().filter(|net| arch::check(net, tensors).is_ok())
    };
    if let Some(stated) = params::text(params, ARCH).filter(|_| !params::have_settings(params)) {
        let net = fitting(stated, &ArchOptions::default()).unwrap_or(recognised);
        return Some(net.arch().to_owned());
    }
    let Ok(spec) = ModelSpec::from_params(params) else {
        return Some(recognised.arch().to_owned());
    };
    // What tensors do not tell, parameters do: activation and dropout.
    let options = ArchOptions {
        classes: Some(recognised.class_count()),
        in_channels: Some(recognised.input_shape().channels()),
        activation: Some(spec.activation),
        dropout: Some(spec.dropout),
        size: None,
    };
    Some(fitting(&spec.arch, &options).unwrap_or(recognised).arch().to_owned())
}

/// What the file of a model's weights says besides them.
pub fn metadata(params: &Params, tensors: &[TensorInfo]) -> BTreeMap<String, String> {
    let arch = arch_of(params, tensors);
    let preprocessing = params::text(params, params::PREPROCESSING).map(str::to_owned);
    let stated = [(ARCH_KEY, arch), (PREPROCESSING_KEY, preprocessing)];
    stated.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?))).collect()
}
