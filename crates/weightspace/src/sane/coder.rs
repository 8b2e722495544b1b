//! Tokens to embeddings and back, for networks of any length.

use std::collections::HashMap;

use weightspace_nn::Engine;
use weightspace_nn::train::TrainError;

use super::halo::{Halo, Snippet};
use super::{SaneError, SaneModel, TokenLayout};

/// Snippets that run together.
const BATCH: usize = 32;

/// Encoder and decoder of a trained autoencoder.
pub struct Coder<'a> {
    model: &'a SaneModel,
    halo: Halo,
    /// By the length of snippets.
    encoders: HashMap<usize, Engine>,
    decoders: HashMap<usize, Engine>,
}

impl<'a> Coder<'a> {
    /// Of a model, which sees long networks in these snippets.
    pub fn new(model: &'a SaneModel, halo: Halo) -> Self {
        Coder { model, halo, encoders: HashMap::new(), decoders: HashMap::new() }
    }

    /// The embeddings of all tokens of a network, row by row.
    ///
    /// # Errors
    /// A network beyond the positions that the autoencoder knows.
    ///
    /// # Panics
    /// If there are not as many elements as the network's tokens have.
    pub fn encode(&mut self, layout: &TokenLayout, tokens: &[f32]) -> Result<Vec<f32>, SaneError> {
        let config = self.model.autoencoder.config();
        let (size, latent) = (layout.token_size(), config.latent);
        assert_eq!(tokens.len(), layout.token_count() * size, "elements of all tokens");
        let len = self.halo.len(layout.token_count());
        if !self.encoders.contains_key(&len) {
            let net = self.model.autoencoder.encoder(len);
            let engine = Engine::new(&net, &self.model.weights).map_err(TrainError::from)?;
            self.encoders.insert(len, engine);
        }
        self.run(&self.encoders[&len], layout, (tokens, size), latent)
    }

    /// All tokens of a network, given their embeddings.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    ///
    /// # Panics
    /// If there are not as many embeddings as the network has tokens.
    pub fn decode(
        &mut self,
        layout: &TokenLayout,
        embeddings: &[f32],
    ) -> Result<Vec<f32>, SaneError> {
        let latent = self.model.autoencoder.config().latent;
        assert_eq!(embeddings.len(), layout.token_count() * latent, "embeddings of all tokens");
        let len = self.halo.len(layout.token_count());
        if !self.decoders.contains_key(&len) {
            let net = self.model.autoencoder.decoder(len);
            let engine = Engine::new(&net, &self.model.weights).map_err(TrainError::from)?;
            self.decoders.insert(len, engine);
        }
        self.run(&self.decoders[&len], layout, (embeddings, latent), layout.token_size())
    }

    /// Runs all snippets, and puts together what counts.
    fn run(
        &self,
        engine: &Engine,
        layout: &TokenLayout,
        (values, width): (&[f32], usize),
        outputs: usize,
    ) -> Result<Vec<f32>, SaneError> {
        let autoencoder = &self.model.autoencoder;
        autoencoder.check(layout)?;
        let mut all = vec![0.0; layout.token_count() * outputs];
        let snippets: Vec<Snippet> = self.halo.snippets(layout.token_count()).collect();
        for snippets in snippets.chunks(BATCH) {
            let mut inputs = Vec::with_capacity(snippets.len() * engine.input_len());
            for Snippet { tokens, .. } in snippets {
                inputs.extend_from_slice(&values[tokens.start * width..tokens.end * width]);
                let at = inputs.len();
                inputs.resize(at + autoencoder.position_len(tokens.len()), 0.0);
                autoencoder.write_positions(layout, tokens.clone(), &mut inputs[at..]);
            }
            let mut found = vec![0.0; snippets.len() * engine.class_count()];
            engine.forward(&inputs, &mut found).map_err(TrainError::from)?;
            for (found, Snippet { tokens, content }) in
                found.chunks_exact(engine.class_count()).zip(snippets)
            {
                let inner = content.start - tokens.start..content.end - tokens.start;
                all[content.start * outputs..content.end * outputs]
                    .copy_from_slice(&found[inner.start * outputs..inner.end * outputs]);
            }
        }
        Ok(all)
    }
}

/// The mean of embeddings.
///
/// # Panics
/// If they are not whole rows.
pub fn mean(embeddings: &[f32], latent: usize) -> Vec<f64> {
    assert!(embeddings.len().is_multiple_of(latent), "whole embeddings");
    let count = (embeddings.len() / latent).max(1) as f64;
    let mut mean = vec![0.0; latent];
    for row in embeddings.chunks_exact(latent) {
        mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value));
    }
    mean.iter_mut().for_each(|mean| *mean /= count);
    mean
}

/// Of every layer how far the embeddings of its tokens spread: the mean over elements of their standard deviation.
pub fn layer_spread(layout: &TokenLayout, embeddings: &[f32], latent: usize) -> Vec<f64> {
    let spread = |layer: &super::TokenLayer| {
        let tokens = layer.tokens();
        let own = &embeddings[tokens.start * latent..tokens.end * latent];
        let mean = mean(own, latent);
        let count = tokens.len().max(1) as f64;
        let deviation = (0..latent).map(|i| {
            let column = own.iter().skip(i).step_by(latent);
            let square: f64 = column.map(|&v| (f64::from(v) - mean[i]).powi(2)).sum();
            (square / count).sqrt()
        });
        deviation.sum::<f64>() / latent as f64
    };
    layout.layers().iter().map(spread).collect()
}
