//! The model that a training leaves, and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use weightspace::quantize::aware::{AwareConfig, AwarePlan};
use weightspace::subspace::{self, FileOptions, SubspaceConfig};
use weightspace::zoo::stated::{ARCH_KEY, PREPROCESSING_KEY};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::container::{Header, Method};
use weightspace_core::{AtomicFile, DecodeOptions, StateDict, WspFile};
use weightspace_nn::train::Trainer;

use super::config::RunConfig;
use super::inputs::Inputs;
use super::record::{self, COMPRESSED_MODEL, MODEL, MODEL_CONFIG};
use crate::cli::subspace::key;

/// What a training leaves.
pub struct Product {
    /// The model; if there is a file of it, exactly what that decodes to.
    pub model: StateDict,
    /// A `.wsp` file, for methods that have one.
    file: Option<Vec<u8>>,
}

impl Product {
    /// The model that a training selects.
    pub fn new(inputs: &Inputs, trainer: &mut Trainer<'_>) -> anyhow::Result<Self> {
        let model = trainer.result().to_state_dict(&inputs.net);
        let RunConfig { subspace, quantize, .. } = &inputs.config;
        if let Some(config) = subspace {
            return Self::of_subspace(inputs, config, trainer.result_coefficients(), model);
        }
        if let (Some(plan), Some(config)) = (&inputs.tuning, &inputs.config.predictor) {
            let header = inputs.header(Method::Predictor);
            let trained = (trainer.result_coefficients(), &trainer.memory()[..]);
            return Self::of_file(plan.encode(&inputs.net, &header, config, trained)?);
        }
        match (&inputs.aware, quantize) {
            (Some(plan), Some(config)) => Self::of_rounded(inputs, plan, config, trainer),
            _ => Ok(Product { model, file: None }),
        }
    }

    fn of_rounded(
        inputs: &Inputs,
        plan: &AwarePlan,
        config: &AwareConfig,
        trainer: &mut Trainer<'_>,
    ) -> anyhow::Result<Self> {
        let running = trainer.result().running;
        let header = inputs.header(Method::Quantize);
        let trained = (trainer.result_coefficients(), &trainer.memory()[..]);
        let bytes = plan.encode(&inputs.net, &header, config, trained, &running)?;
        Self::of_file(bytes)
    }

    /// A file that needs nothing else to be decoded.
    fn of_file(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let model = WspFile::from_bytes(COMPRESSED_MODEL, bytes.clone())?.state_dict()?;
        Ok(Product { model, file: Some(bytes) })
    }

    fn of_subspace(
        inputs: &Inputs,
        config: &SubspaceConfig,
        trained: &[f32],
        model: StateDict,
    ) -> anyhow::Result<Self> {
        let Inputs { net, config: run, .. } = inputs;
        let (key, in_file) = key(config, run.key_file.as_deref(), run.training.seed)?;
        let base = run.base.is_some().then(|| inputs.init()).flatten();
        let projection = subspace::projection(net, config, key, config.start(base.is_some()))?;
        let options = FileOptions {
            header: Header {
                // There is no original: this is what a file of all weights would have.
                source_bytes: model.infos().iter().map(|info| info.byte_count() as u64).sum(),
                source_hash: [0; 16],
                ..inputs.header(Method::Subspace)
            },
            key: in_file,
            base,
        };
        let coefficients = &trained[..projection.coefficient_count()];
        let bytes = subspace::encode(net, &projection, config, coefficients, &model, &options)?;
        let file = WspFile::from_bytes(COMPRESSED_MODEL, bytes.clone())?;
        let model =
            file.decoder(DecodeOptions { base, key: Some(key), planes: None })?.state_dict()?;
        Ok(Product { model, file: Some(bytes) })
    }

    /// Writes all files, model.safetensors last: it is there when the run is finished. Returns the one
    /// that counts.
    pub fn write(&self, inputs: &Inputs, folder: &Path) -> anyhow::Result<PathBuf> {
        let (arch, preprocessing) = (inputs.net.arch(), inputs.stated_preprocessing());
        let config = json!({
            "arch": arch,
            "preprocessing": preprocessing,
            "data": inputs.data(),
            "classes": inputs.images.class_names(),
        });
        record::write_json(&folder.join(MODEL_CONFIG), &config)?;
        let compressed = folder.join(COMPRESSED_MODEL);
        if let Some(bytes) = &self.file {
            let written = AtomicFile::write_bytes(&compressed, bytes);
            written.with_context(|| compressed.display().to_string())?;
        }
        let mut metadata = BTreeMap::from([(ARCH_KEY.to_owned(), arch.to_owned())]);
        metadata.extend(preprocessing.map(|text| (PREPROCESSING_KEY.to_owned(), text)));
        let model = folder.join(MODEL);
        write_safetensors(&model, &self.model, &metadata)?;
        Ok(if self.file.is_some() { compressed } else { model })
    }
}
