//! Embeddings of many networks.

use faer::Mat;
use weightspace_core::permutation::PermutationGroup;
use weightspace_core::{StateDict, Tensor, quoted};

use super::coder::{self, Coder};
use super::halo::Halo;
use super::pretraining::Samples;
use super::{Arranger, SaneError, SaneModel, Standardisation, TokenLayout, Windows};
use crate::zoo::names::{renamed, same_network};
use crate::zoo::{EpochMetrics, ModelWeights};

/// The embedding of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Tokens x latent elements.
    pub values: Vec<f32>,
    /// The mean over all tokens.
    pub mean: Vec<f64>,
    /// Of every layer how far its tokens spread ([`coder::layer_spread`]).
    pub spread: Vec<f64>,
}

/// The embedding of a model of a zoo.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// Name of the model.
    pub model: String,
    /// Its epoch.
    pub epoch: u32,
    /// Fraction of the test images that are right, if that is known.
    pub test_accuracy: Option<f32>,
    /// Accuracy of the training images above that, if it is known.
    pub generalisation_gap: Option<f32>,
    /// The embedding.
    pub embedding: Embedding,
}

/// Makes embeddings of networks of one layout.
pub struct Embedder<'a> {
    layout: &'a TokenLayout,
    arranger: Arranger,
    windows: Windows<'a>,
    coder: Coder<'a>,
    latent: usize,
}

impl<'a> Embedder<'a> {
    /// Of networks with these units and tokens, standardised in this way.
    pub fn new(
        model: &'a SaneModel,
        groups: Vec<PermutationGroup>,
        (layout, standardisation): (&'a TokenLayout, &'a Standardisation),
        halo: Halo,
    ) -> Self {
        Embedder {
            windows: Windows::new(layout, standardisation),
            coder: Coder::new(model, halo),
            latent: model.autoencoder.config().latent,
            arranger: Arranger::new(layout, groups),
            layout,
        }
    }

    /// The embedding of a network, with units in the order of `aligned` if it is given.
    ///
    /// # Errors
    /// If its weights cannot be read, or it is beyond the positions that the autoencoder knows.
    pub fn embed(
        &mut self,
        weights: &ModelWeights<'_>,
        aligned: Option<&[Vec<usize>]>,
    ) -> Result<Embedding, SaneError> {
        let count = self.layout.token_count();
        let mut tokens = vec![0.0; count * self.layout.token_size()];
        let arrangement =
            self.arranger.aligned(self.layout, 0..self.layout.layers().len(), aligned);
        self.windows.read(weights, &arrangement, 0..count, &mut tokens)?;
        let values = self.coder.encode(self.layout, &tokens)?;
        let mean = coder::mean(&values, self.latent);
        let spread = coder::layer_spread(self.layout, &values, self.latent);
        Ok(Embedding { values, mean, spread })
    }
}

/// The embeddings of all samples of a zoo, one after the other; aligned, if the autoencoder has learnt such and they are of
/// its architecture.
///
/// # Errors
/// If a model cannot be read or is another network than the first.
pub fn embed_all(
    model: &SaneModel,
    mut samples: Samples,
    halo: Halo,
    mut take: impl FnMut(Embedded) -> Result<(), SaneError>,
) -> Result<(), SaneError> {
    let Some(first) = (!samples.is_empty()).then(|| samples.tensors(0)).transpose()? else {
        return Ok(());
    };
    let config = model.autoencoder.config();
    let known = model.layout.fits(&first);
    let layout = match known {
        true => model.layout.clone(),
        false => TokenLayout::new(&first, config.tokens)?,
    };
    let all = (0..samples.len()).map(|sample| samples.open(&layout, sample));
    let standardisation = model.standardisation_for(&layout, all)?;
    let groups = if known { model.groups()? } else { Vec::new() };
    if known {
        samples = model.align_samples(samples)?;
    }
    let mut embedder = Embedder::new(model, groups, (&layout, &standardisation), halo);
    for sample in 0..samples.len() {
        let embedding = embedder.embed(&samples.open(&layout, sample)?, samples.aligned(sample))?;
        let (name, epoch) = samples.name(sample);
        let (_, metrics) = samples.known(sample)?;
        let known = |value: f32| (!value.is_nan()).then_some(value);
        let EpochMetrics { test_accuracy, .. } = metrics;
        take(Embedded {
            model: name.to_owned(),
            epoch,
            test_accuracy: known(test_accuracy),
            generalisation_gap: known(metrics.generalisation_gap()),
            embedding,
        })?;
    }
    Ok(())
}

/// The embedding of a single network: standardised by the autoencoder's statistics if it is of the same architecture as
/// those that it was trained on, else by those of the networks that it is to be compared with, if it is like these, or by its own.
///
/// # Errors
/// A network that has no tokens, weights that are not finite, or is beyond the positions that the autoencoder knows.
pub fn embed_one(
    model: &SaneModel,
    tensors: StateDict,
    others: Option<&Samples>,
    halo: Halo,
) -> Result<Embedding, SaneError> {
    let infinite = |(_, tensor): &(&str, &Tensor)| {
        tensor.dtype().is_float() && !tensor.iter_f64().all(f64::is_finite)
    };
    if let Some((name, _)) = tensors.iter().find(infinite) {
        return Err(SaneError::NotFinite(quoted(name)));
    }
    let mut tensors = model.align(tensors)?;
    let mut like = None;
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        let first = others.tensors(0)?;
        if !model.layout.fits(&first) && same_network(&first, &tensors.infos()) {
            tensors = renamed(tensors, &first);
            like = Some(others);
        }
    }
    let layout = TokenLayout::new(&tensors.infos(), model.autoencoder.config().tokens)?;
    let weights = || ModelWeights::of_tensors(&tensors);
    let standardisation = match like {
        Some(others) => {
            let all = (0..others.len()).map(|sample| others.open(&layout, sample));
            Standardisation::of(&layout, all)?
        }
        None => model.standardisation_for(&layout, [Ok(weights())].into_iter())?,
    };
    let parts = (&layout, &standardisation);
    Embedder::new(model, Vec::new(), parts, halo).embed(&weights(), None)
}

/// The first two principal components of rows: places of every row on both, and the shares of the variance that these
/// have. Nothing if the rows are not finite or too few.
pub fn principal_components(rows: &[Vec<f64>]) -> Option<(Vec<[f64; 2]>, [f64; 2])> {
    let columns = rows.first()?.len();
    if rows.len() < 3 || columns < 2 {
        return None;
    }
    let mean = |j: usize| rows.iter().map(|row| row[j]).sum::<f64>() / rows.len() as f64;
    let means: Vec<f64> = (0..columns).map(mean).collect();
    let centred = Mat::from_fn(rows.len(), columns, |i, j| rows[i][j] - means[j]);
    if !rows.iter().flatten().all(|value| value.is_finite()) {
        return None;
    }
    let svd = centred.thin_svd().ok()?;
    let (left, values) = (svd.U(), svd.S().column_vector());
    let total: f64 = values.iter().map(|value| value * value).sum();
    let place = |i: usize| [0, 1].map(|j| left[(i, j)] * values[j]);
    let share = [0, 1].map(|j| values[j] * values[j] / total);
    Some(((0..rows.len()).map(place).collect(), share))
}

/// Euclidean distance of two mean embeddings.
///
/// # Panics
/// If they have different lengths.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "elements of embeddings");
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_where_rows_differ_most() {
        let rows: Vec<Vec<f64>> = (0..10)
            .map(|i| {
                let (x, y) = (f64::from(i), f64::from(i % 3));
                vec![5.0 + 3.0 * x, 1.0, 4.0 * x, y]
            })
            .collect();
        let (places, shares) = principal_components(&rows).unwrap();
        // The first two axes are one direction of length 5 i.
        let step = places[1][0] - places[0][0];
        assert!((step.abs() - 5.0).abs() < 0.1, "{step}");
        assert!(shares[0] > 0.95 && shares[0] + shares[1] > 0.999, "{shares:?}");
        assert!(principal_components(&rows[..2]).is_none());
        assert!(principal_components(&vec![vec![f64::NAN; 3]; 5]).is_none());
    }

    #[test]
    fn distances_are_euclidean() {
        assert_eq!(distance(&[0.0, 3.0], &[4.0, 0.0]), 5.0);
    }
}
