//! New networks from embeddings of known ones (SANE, section 3.4 and algorithm 3).

use serde::{Deserialize, Serialize};
use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};

use super::coder::Coder;
use super::halo::Halo;
use super::{SaneError, SaneModel, Standardisation, TokenLayout};

/// How embeddings are drawn and which of the networks that they make are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Kernel density estimate of the prompts' embeddings; nothing is chosen.
    Kde,
    /// Of many such draws the best.
    Subsample,
    /// Again and again: the best are the prompts of the next round.
    Bootstrap,
    /// The same, from embeddings that know nothing of prompts.
    Gaussian,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 4] =
        [Method::Kde, Method::Subsample, Method::Bootstrap, Method::Gaussian];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Kde => "kde",
            Method::Subsample => "subsample",
            Method::Bootstrap => "bootstrap",
            Method::Gaussian => "gaussian",
        }
    }
}

/// What the kernels of a density estimate add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noise {
    /// Every token has a prompt and noise of its own, as published.
    Token,
    /// All tokens of a network have one prompt, and each has noise of its own.
    Prompt,
    /// All tokens of a network have one prompt and one vector of noise, as the published program has it.
    Joint,
}

impl Noise {
    /// Every kind.
    pub const ALL: [Noise; 3] = [Noise::Token, Noise::Prompt, Noise::Joint];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Noise::Token => "token",
            Noise::Prompt => "prompt",
            Noise::Joint => "joint",
        }
    }
}

/// How networks are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// How embeddings are drawn.
    pub method: Method,
    /// What is added to those of prompts.
    pub noise: Noise,
    /// Deviation of a kernel, in units of the deviation of the embeddings of a layer's tokens.
    pub bandwidth: f32,
    /// Networks to make.
    pub count: usize,
    /// Draws of which the best are kept.
    pub candidates: usize,
    /// Rounds of bootstrapping.
    pub rounds: usize,
    /// Deviation of embeddings that know nothing of prompts but this: it is in units of the deviation of the embeddings of a
    /// layer's tokens.
    pub prior: f32,
    /// How long networks are decoded.
    pub halo: Halo,
}

impl SamplingConfig {
    /// Bandwidth 0.2 and the best 10 of 50, as published, and a prior as wide as the embeddings. (The published deviation of 10 is
    /// absolute; where embeddings deviate by 1 it makes networks that do not learn.)
    pub fn new(method: Method, halo: Halo) -> Self {
        SamplingConfig { method, halo, ..SamplingConfig::default() }
    }

    fn check(&self, prompts: usize) -> Result<(), SaneError> {
        let fail = |setting, value: String, expected: &str| {
            Err(SaneError::Setting { setting, value, expected: expected.to_owned() })
        };
        if self.count == 0 {
            return fail("count", "0".to_owned(), "at least 1");
        }
        if self.method != Method::Kde && self.candidates < self.count {
            let expected = format!("at least the {} networks to make", self.count);
            return fail("candidates", self.candidates.to_string(), &expected);
        }
        if !(self.bandwidth.is_finite() && self.bandwidth >= 0.0) {
            return fail("bandwidth", self.bandwidth.to_string(), "a finite number from 0 on");
        }
        if !(self.prior.is_finite() && self.prior > 0.0) {
            return fail("prior", self.prior.to_string(), "a finite number above 0");
        }
        match prompts {
            0 => fail("number of prompts", "0".to_owned(), "at least 1"),
            _ => Ok(()),
        }
    }
}

impl Default for SamplingConfig {
    fn default() -> Self {
        SamplingConfig {
            method: Method::Subsample,
            noise: Noise::Joint,
            bandwidth: 0.2,
            count: 10,
            candidates: 50,
            rounds: 3,
            prior: 1.0,
            halo: Halo::of_window(32),
        }
    }
}

/// A known network, around which others are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Embeddings of its tokens.
    pub embedding: Vec<f32>,
    /// Its tensors; those that are no tokens are taken over.
    pub weights: StateDict,
}

/// A sampled network.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Embeddings of its tokens.
    pub embedding: Vec<f32>,
    /// Its tensors.
    pub weights: StateDict,
    /// What its judge said.
    pub score: f64,
}

/// Makes networks of one layout from embeddings.
pub struct Sampler<'a> {
    layout: &'a TokenLayout,
    standardisation: &'a Standardisation,
    coder: Coder<'a>,
    latent: usize,
    config: SamplingConfig,
    key: Key,
    drawn: u64,
}

impl<'a> Sampler<'a> {
    /// Of networks of this layout.
    pub fn new(
        model: &'a SaneModel,
        (layout, standardisation): (&'a TokenLayout, &'a Standardisation),
        config: SamplingConfig,
        seed: u64,
    ) -> Self {
        Sampler {
            coder: Coder::new(model, config.halo),
            latent: model.autoencoder.config().latent,
            key: Key::for_purpose(seed, "samples"),
            drawn: 0,
            layout,
            standardisation,
            config,
        }
    }

    /// A prompt of these weights.
    ///
    /// # Errors
    /// If it is another network.
    pub fn prompt(&mut self, weights: StateDict) -> Result<Prompt, SaneError> {
        let mut tokens = self.layout.tokenise(&weights)?;
        self.standardisation.apply_all(self.layout, &mut tokens);
        Ok(Prompt { embedding: self.coder.encode(self.layout, &tokens)?, weights })
    }

    /// The network that embeddings stand for; what is no token is `reference`'s.
    ///
    /// # Errors
    /// If it is beyond the positions that the autoencoder knows.
    pub fn decode(
        &mut self,
        embedding: &[f32],
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let mut tokens = self.coder.decode(self.layout, embedding)?;
        self.standardisation.undo_all(self.layout, &mut tokens);
        self.layout.detokenise(&tokens, reference)
    }

    /// Samples networks. The judge may change a network, as by estimating statistics of its normalisations, and says how good
    /// it is: more is better. Where embeddings know nothing of prompts, these only lend what is no token.
    ///
    /// # Errors
    /// Settings out of their ranges, no prompt, and what the judge says.
    pub fn sample<E: From<SaneError>>(
        &mut self,
        prompts: Vec<Prompt>,
        mut judge: impl FnMut(StateDict) -> Result<(StateDict, f64), E>,
    ) -> Result<Vec<Sampled>, E> {
        self.config.check(prompts.len())?;
        let SamplingConfig { method, count, candidates, rounds, .. } = self.config;
        if method == Method::Kde {
            let density = Density::of(prompts, self.layout, self.latent);
            return (0..count).map(|_| self.one(&density, &mut judge)).collect();
        }
        let rounds = if method == Method::Subsample { 1 } else { rounds.max(1) };
        let mut density = match method {
            Method::Gaussian => {
                Density { prior: true, ..Density::of(prompts, self.layout, self.latent) }
            }
            _ => Density::of(prompts, self.layout, self.latent),
        };
        let mut best: Vec<Sampled> = Vec::new();
        for _ in 0..rounds {
            for _ in 0..candidates {
                best.push(self.one(&density, &mut judge)?);
            }
            // The best of earlier rounds stay as long as nothing is better; no number is worse than any.
            let order = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
            best.sort_by(|a, b| order(b.score).total_cmp(&order(a.score)));
            best.truncate(count);
            let kept = best.iter().map(|Sampled { embedding, weights, .. }| Prompt {
                embedding: embedding.clone(),
                weights: weights.clone(),
            });
            density = Density::of(kept.collect(), self.layout, self.latent);
        }
        Ok(best)
    }

    fn one<E: From<SaneError>>(
        &mut self,
        density: &Density,
        judge: &mut impl FnMut(StateDict) -> Result<(StateDict, f64), E>,
    ) -> Result<Sampled, E> {
        let mut stream = Stream::new(self.key, self.drawn);
        self.drawn += 1;
        let mut embedding = vec![0.0; self.layout.token_count() * self.latent];
        let anchor = density.draw(&self.config, &mut stream, &mut embedding);
        let decoded = self.decode(&embedding, &density.prompts[anchor].weights)?;
        let (weights, score) = judge(decoded)?;
        Ok(Sampled { embedding, weights, score })
    }
}

/// The estimate of a density by Gaussian kernels on prompts.
struct Density {
    prompts: Vec<Prompt>,
    /// Of every token the deviation of the embeddings of its layer.
    deviations: Vec<f32>,
    latent: usize,
    /// Draws know nothing of the prompts.
    prior: bool,
}

impl Density {
    fn of(prompts: Vec<Prompt>, layout: &TokenLayout, latent: usize) -> Self {
        let mut deviations = vec![0.0; layout.token_count()];
        for layer in layout.layers() {
            let own = layer.first * latent..layer.tokens().end * latent;
            let embeddings = prompts.iter().map(|prompt| &prompt.embedding[own.clone()]);
            deviations[layer.tokens()].fill(deviation(embeddings, latent));
        }
        Density { prompts, deviations, latent, prior: false }
    }

    /// Draws embeddings; says which prompt is that of the first token.
    fn draw(&self, config: &SamplingConfig, stream: &mut Stream, out: &mut [f32]) -> usize {
        if self.prior {
            stream.fill_normal(out);
            for (out, deviation) in out.chunks_exact_mut(self.latent).zip(&self.deviations) {
                out.iter_mut().for_each(|value| *value *= config.prior * deviation);
            }
            return 0;
        }
        let mut noise = vec![0.0; self.latent];
        let first = stream.below(self.prompts.len() as u32) as usize;
        let mut anchor = first;
        stream.fill_normal(&mut noise);
        for (token, out) in out.chunks_exact_mut(self.latent).enumerate() {
            if config.noise == Noise::Token && token > 0 {
                anchor = stream.below(self.prompts.len() as u32) as usize;
            }
            if config.noise != Noise::Joint && token > 0 {
                stream.fill_normal(&mut noise);
            }
            let factor = config.bandwidth * self.deviations[token];
            let known = &self.prompts[anchor].embedding[token * self.latent..][..self.latent];
            for ((out, known), noise) in out.iter_mut().zip(known).zip(&noise) {
                *out = known + factor * noise;
            }
        }
        first
    }
}

/// The root of the mean over elements of their variance over all tokens of all networks.
fn deviation<'a>(networks: impl Iterator<Item = &'a [f32]> + Clone, latent: usize) -> f32 {
    let rows = || networks.clone().flat_map(|tokens| tokens.chunks_exact(latent));
    let count = rows().count().max(1) as f64;
    let mut mean = vec![0.0; latent];
    for row in rows() {
        mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value) / count);
    }
    let squares = |row: &[f32]| -> f64 {
        row.iter().zip(&mean).map(|(&value, mean)| (f64::from(value) - mean).powi(2)).sum()
    };
    let total: f64 = rows().map(squares).sum();
    (total / count / latent.max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use weightspace_core::{DType, TensorInfo};

    use super::*;
    use crate::sane::TokenConfig;

    /// Two layers of two tokens each, whose embeddings are further apart in the second.
    fn density() -> (Density, SamplingConfig) {
        let info =
            |name: &str| TensorInfo { name: name.to_owned(), dtype: DType::F32, shape: vec![2, 3] };
        let config = TokenConfig { size: 4, normalisations: false };
        let layout = TokenLayout::new(&[info("a.weight"), info("b.weight")], config).unwrap();
        let prompt = |value: f32| Prompt {
            embedding: [[value; 4], [3.0 * value; 4]].concat(),
            weights: StateDict::new(),
        };
        let density = Density::of(vec![prompt(0.0), prompt(100.0)], &layout, 2);
        (density, SamplingConfig { bandwidth: 0.02, ..SamplingConfig::default() })
    }

    fn draws(noise: Noise) -> Vec<Vec<f32>> {
        let (density, config) = density();
        let config = SamplingConfig { noise, ..config };
        let draw = |number| {
            let mut out = vec![f32::NAN; 8];
            density.draw(&config, &mut Stream::new(Key::from_seed(1), number), &mut out);
            out
        };
        (0..2000).map(draw).collect()
    }

    #[test]
    fn kernels_are_as_wide_as_the_layer_wants() {
        assert_eq!(density().0.deviations, [50.0, 50.0, 150.0, 150.0]);
        for noise in Noise::ALL {
            let all = draws(noise);
            for (tokens, size, expected) in [(0..4, 100.0, 1.0), (4..8, 300.0, 3.0)] {
                let values = all.iter().flat_map(|draw| &draw[tokens.clone()]);
                let near = values.map(|&v| f64::from(if v > size / 2.0 { v - size } else { v }));
                let count = near.clone().count() as f64;
                let found = (near.map(|v| v * v).sum::<f64>() / count).sqrt();
                assert!((found / expected - 1.0).abs() < 0.05, "{noise:?}: {found}");
            }
            let first = all.iter().filter(|draw| draw[0] > 50.0).count();
            assert!((900..1100).contains(&first), "{noise:?}: {first} of the second prompt");
        }
    }

    #[test]
    fn tokens_share_what_they_should() {
        let from =
            |draw: &[f32]| [draw[0] > 50.0, draw[2] > 50.0, draw[4] > 150.0, draw[6] > 150.0];
        let mixed = |noise| draws(noise).iter().filter(|d| from(d).contains(&!from(d)[0])).count();
        assert!((1650..1850).contains(&mixed(Noise::Token)), "{}", mixed(Noise::Token));
        assert_eq!((mixed(Noise::Prompt), mixed(Noise::Joint)), (0, 0));
        let same = |noise| draws(noise).iter().filter(|d| (d[0] - d[2]).abs() < 1e-4).count();
        assert_eq!(same(Noise::Joint), 2000);
        assert!(same(Noise::Prompt) < 10);
    }

    #[test]
    fn a_prior_knows_no_prompt() {
        let (density, config) = density();
        let density = Density { prior: true, ..density };
        let config = SamplingConfig { prior: 0.5, ..config };
        let mut out = vec![0.0; 8];
        let mut squares = [0.0; 2];
        for number in 0..500 {
            density.draw(&config, &mut Stream::new(Key::from_seed(2), number), &mut out);
            for (square, layer) in squares.iter_mut().zip(out.chunks_exact(4)) {
                *square += layer.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / (4.0 * 500.0);
            }
        }
        let [first, second] = squares.map(f64::sqrt);
        assert!((first / 25.0 - 1.0).abs() < 0.05 && (second / 75.0 - 1.0).abs() < 0.05);
    }
}
