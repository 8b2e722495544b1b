//! Vectors that stand for a network, to compare embeddings with.

use serde::Serialize;
use weightspace_core::permutation::PermutationGroup;
use weightspace_nn::ModelState;

use super::coder::{self, Coder};
use super::halo::Halo;
use super::statistics::weight_statistics;
use super::{Arranger, SaneError, SaneModel, TokenLayout, Windows};
use crate::zoo::ModelWeights;

/// What stands for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// All weights, standardised.
    Weights,
    /// [`weight_statistics`].
    Statistics,
    /// The mean embedding of an autoencoder that has learnt nothing.
    RandomMean,
    /// The mean of the embeddings of all tokens.
    Mean,
    /// The embeddings of all tokens.
    Full,
}

impl Features {
    /// All of them, from the simplest.
    pub const ALL: [Features; 5] = [
        Features::Weights,
        Features::Statistics,
        Features::RandomMean,
        Features::Mean,
        Features::Full,
    ];

    /// How tables name them.
    pub const fn name(self) -> &'static str {
        match self {
            Features::Weights => "weights",
            Features::Statistics => "statistics",
            Features::RandomMean => "untrained, mean",
            Features::Mean => "embedding, mean",
            Features::Full => "embedding, all",
        }
    }
}

/// The autoencoder as it was before training, from a seed.
pub fn untrained(model: &SaneModel, seed: u64) -> SaneModel {
    let net = model.autoencoder.training_net().net;
    let weights = model.autoencoder.initial(&net, seed);
    let state = ModelState { weights, running: Default::default() };
    SaneModel { weights: state.to_state_dict(&net), ..model.clone() }
}

/// Makes features of networks of one layout.
pub struct Extractor<'a> {
    layout: &'a TokenLayout,
    windows: Windows<'a>,
    trained: Coder<'a>,
    random: Coder<'a>,
    latent: usize,
    mask: Vec<f32>,
    arranger: Arranger,
}

impl<'a> Extractor<'a> {
    /// Of a trained autoencoder and one that has learnt nothing, for the networks that the former was trained on, with
    /// these units.
    pub fn new(
        model: &'a SaneModel,
        untrained: &'a SaneModel,
        groups: Vec<PermutationGroup>,
        halo: Halo,
    ) -> Self {
        let layout = &model.layout;
        let mut mask = vec![0.0; layout.token_count() * layout.token_size()];
        layout.mask(0..layout.token_count(), &mut mask);
        Extractor {
            windows: Windows::new(layout, &model.standardisation),
            trained: Coder::new(model, halo),
            random: Coder::new(untrained, halo),
            latent: model.autoencoder.config().latent,
            arranger: Arranger::new(layout, groups),
            layout,
            mask,
        }
    }

    /// Features of a network, in the order of those that are wanted, with units in the order of `aligned` if it is
    /// given.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn features(
        &mut self,
        model: &ModelWeights<'_>,
        aligned: Option<&[Vec<usize>]>,
        wanted: &[Features],
    ) -> Result<Vec<Vec<f64>>, SaneError> {
        let (count, layers) = (self.layout.token_count(), 0..self.layout.layers().len());
        let mut tokens = vec![0.0; count * self.layout.token_size()];
        let arrangement = self.arranger.aligned(self.layout, layers, aligned);
        self.windows.read(model, &arrangement, 0..count, &mut tokens)?;
        let embedded = self.trained.encode(self.layout, &tokens)?;
        let widen = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let of = |features: &Features| match features {
            Features::Weights => {
                let pairs = tokens.iter().zip(&self.mask).filter(|(_, mask)| **mask > 0.0);
                Ok(pairs.map(|(&value, _)| f64::from(value)).collect())
            }
            Features::Statistics => weight_statistics(self.layout, model),
            Features::RandomMean => {
                let embedded = self.random.encode(self.layout, &tokens)?;
                Ok(coder::mean(&embedded, self.latent))
            }
            Features::Mean => Ok(coder::mean(&embedded, self.latent)),
            Features::Full => Ok(widen(&embedded)),
        };
        wanted.iter().map(of).collect()
    }
}
