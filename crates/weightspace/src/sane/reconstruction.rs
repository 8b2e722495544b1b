//! How much of networks is lost between encoder and decoder.

use serde::Serialize;

use super::coder::Coder;
use super::halo::Halo;
use super::pretraining::Samples;
use super::{Arranger, SaneError, SaneModel, Windows};

/// Mean squared errors of reconstructed networks; the unit is the variance of a layer's weights over the training models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconstruction {
    /// Networks.
    pub networks: usize,
    /// Of all weights.
    pub error: f64,
    /// Of all elements of tokens, with what these are filled up with.
    pub error_with_padding: f64,
    /// Of the weights of every layer.
    pub layers: Vec<f64>,
}

/// Squared errors and how many they are, layer by layer.
struct Sums {
    squares: Vec<f64>,
    counts: Vec<f64>,
    padding: f64,
    padded: f64,
}

/// Encodes and decodes all samples, aligned as they are ([`SaneModel::align_samples`]).
///
/// # Errors
/// If a model cannot be read, or is another network than those that the autoencoder was trained on.
pub fn reconstruct(
    model: &SaneModel,
    samples: &Samples,
    halo: Halo,
    mut progress: impl FnMut(usize, usize),
) -> Result<Reconstruction, SaneError> {
    let layout = &model.layout;
    let arranger = Arranger::new(layout, model.groups()?);
    let (count, size) = (layout.token_count(), layout.token_size());
    let (mut windows, mut coder) =
        (Windows::new(layout, &model.standardisation), Coder::new(model, halo));
    let (mut tokens, mut mask) = (vec![0.0; count * size], vec![0.0; count * size]);
    layout.mask(0..count, &mut mask);
    let layers = layout.layers().len();
    let mut sums =
        Sums { squares: vec![0.0; layers], counts: vec![0.0; layers], padding: 0.0, padded: 0.0 };
    for sample in 0..samples.len() {
        let arrangement = arranger.aligned(layout, 0..layers, samples.aligned(sample));
        windows.read(&samples.open(layout, sample)?, &arrangement, 0..count, &mut tokens)?;
        let embedded = coder.encode(layout, &tokens)?;
        let found = coder.decode(layout, &embedded)?;
        for (index, layer) in layout.layers().iter().enumerate() {
            let own = layer.first * size..layer.tokens().end * size;
            sums.add(index, &tokens[own.clone()], &found[own.clone()], &mask[own]);
        }
        progress(sample + 1, samples.len());
    }
    Ok(sums.means(samples.len()))
}

impl Sums {
    fn add(&mut self, layer: usize, tokens: &[f32], found: &[f32], mask: &[f32]) {
        for ((token, found), mask) in tokens.iter().zip(found).zip(mask) {
            let square = (f64::from(*found) - f64::from(*token)).powi(2);
            if *mask > 0.0 {
                self.squares[layer] += square;
                self.counts[layer] += 1.0;
            } else {
                self.padding += square;
                self.padded += 1.0;
            }
        }
    }

    fn means(&self, networks: usize) -> Reconstruction {
        let (square, count): (f64, f64) = (self.squares.iter().sum(), self.counts.iter().sum());
        let mean = |square: f64, count: f64| square / count.max(1.0);
        let layers = self.squares.iter().zip(&self.counts);
        Reconstruction {
            networks,
            error: mean(square, count),
            error_with_padding: mean(square + self.padding, count + self.padded),
            layers: layers.map(|(&square, &count)| mean(square, count)).collect(),
        }
    }
}
