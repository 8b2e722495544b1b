//! The method subspace on a trained network: the coefficients whose weights are nearest.

use anyhow::{Context, ensure};
use clap::Args;
use weightspace::subspace::{self, FileOptions, Map, Norms, Regression, SubspaceConfig};
use weightspace_core::basis::Start;
use weightspace_core::container::Header;
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::Net;

use crate::cli::Global;
use crate::cli::model::Model;
use crate::cli::subspace::{SubspaceArgs, key};

/// What a subspace is.
#[derive(Args)]
pub struct RegressionArgs {
    #[command(flatten)]
    subspace: SubspaceArgs,
}

impl RegressionArgs {
    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        self.subspace.first_given()
    }

    fn config(&self) -> SubspaceConfig {
        let mut config = SubspaceConfig::default();
        self.subspace.apply(&mut config);
        config
    }

    /// Bytes of the file that these options lead to, without what entropy coding saves.
    pub fn estimated_bytes(&self, net: Option<&Net>) -> u64 {
        let config = self.config();
        let norms = net.map_or(0, |net| {
            let specs = net.parameters().into_iter();
            specs.filter(|s| s.name.ends_with("running_mean")).map(|s| 2 * s.element_count()).sum()
        });
        let bits =
            config.coefficients * usize::from(config.bits) + norms * usize::from(config.norm_bits);
        bits as u64 / 8 + 500
    }

    /// The bytes of a file, and how near its weights are.
    pub fn encode(
        &self,
        header: &Header,
        net: &Net,
        tensors: &StateDict,
        global: &Global,
    ) -> anyhow::Result<(Vec<u8>, Regression)> {
        let config = self.config();
        let (key, in_file) = key(&config, self.subspace.key_file.as_deref(), global.seed())?;
        let base = self.subspace.base.as_deref();
        let base = base.map(|path| Model::open(path)?.state_dict()).transpose()?;
        ensure!(config.norms == Norms::Trained || base.is_some(), "--norms base needs a --base");
        // Around nothing: weights that are drawn are as far from trained ones as any.
        let start = if base.is_some() { Start::Base } else { Start::Zero };
        let mut map = Map::new(subspace::projection(net, &config, key, start)?);
        let target = differences(net, tensors, base.as_ref())?;
        let regression = subspace::regress(&mut map, &target);
        let options = FileOptions { header: header.clone(), key: in_file, base: base.as_ref() };
        let coefficients = &regression.coefficients;
        let bytes =
            subspace::encode(net, map.projection(), &config, coefficients, tensors, &options)?;
        Ok((bytes, regression))
    }
}

/// Weights of all projected tensors end to end, less those of the base.
fn differences(
    net: &Net,
    tensors: &StateDict,
    base: Option<&StateDict>,
) -> anyhow::Result<Vec<f32>> {
    let mut differences = Vec::new();
    for spec in net.parameters().iter().filter(|spec| subspace::is_projected(spec.kind)) {
        let of = |dict: &StateDict, what: &str| -> anyhow::Result<Vec<f32>> {
            let fits = |tensor: &&Tensor| tensor.shape() == spec.shape;
            let tensor = dict.get(&spec.name).filter(fits);
            let tensor = tensor.with_context(|| {
                format!("{what} has no tensor {} of shape {:?}", spec.name, spec.shape)
            })?;
            Ok(tensor.to_f32().into_owned())
        };
        let mut own = of(tensors, "the model")?;
        if let Some(base) = base {
            let base = of(base, "the base")?;
            own.iter_mut().zip(base).for_each(|(own, base)| *own -= base);
        }
        differences.extend(own);
    }
    Ok(differences)
}
