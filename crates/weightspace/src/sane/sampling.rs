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
    /// All tokens of a network have one prompt and one vector of noise, as the published program has it.
    Joint,
}

/// How networks are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// How embeddings are drawn.
    pub method: Method,
    /// What is added to those of prompts.
    pub noise: Noise,
    /// Deviation of a kernel.
    pub bandwidth: f32,
    /// Networks to make.
    pub count: usize,
    /// Draws of which the best are kept.
    pub candidates: usize,
    /// Rounds of bootstrapping.
    pub rounds: usize,
    /// Deviation of embeddings that know nothing of prompts.
    pub prior: f32,
    /// How long networks are decoded.
    pub halo: Halo,
}

impl SamplingConfig {
    /// The published settings: bandwidth 0.2, the best 10 of 50, a prior of deviation 10.
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
        match self.method != Method::Gaussian && prompts == 0 {
            true => fail("number of prompts", "0".to_owned(), "at least 1"),
            false => Ok(()),
        }
    }
}

impl Default for SamplingConfig {
    fn default() -> Self {
        SamplingConfig {
            method: Method::Subsample,
            noise: Noise::Token,
            bandwidth: 0.2,
            count: 10,
            candidates: 50,
            rounds: 3,
            prior: 10.0,
            halo: Halo::of_window(32),
        }
    }
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
    reference: &'a StateDict,
    coder: Coder<'a>,
    latent: usize,
    config: SamplingConfig,
    key: Key,
    drawn: u64,
}

impl<'a> Sampler<'a> {
    /// Of networks of this layout; what is no token is the reference's.
    pub fn new(
        model: &'a SaneModel,
        (layout, standardisation, reference): (&'a TokenLayout, &'a Standardisation, &'a StateDict),
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
            reference,
            config,
        }
    }

    /// The embeddings of a prompt.
    ///
    /// # Errors
    /// If it is another network.
    pub fn embed(&mut self, prompt: &StateDict) -> Result<Vec<f32>, SaneError> {
        let mut tokens = self.layout.tokenise(prompt)?;
        self.standardisation.apply_all(self.layout, &mut tokens);
        self.coder.encode(self.layout, &tokens)
    }

    /// The network that embeddings stand for.
    ///
    /// # Errors
    /// If it is beyond the positions that the autoencoder knows.
    pub fn decode(&mut self, embedding: &[f32]) -> Result<StateDict, SaneError> {
        let mut tokens = self.coder.decode(self.layout, embedding)?;
        self.standardisation.undo_all(self.layout, &mut tokens);
        self.layout.detokenise(&tokens, self.reference)
    }

    /// Samples networks. The judge may change a network, as by estimating statistics of its normalisations, and says how good
    /// it is: more is better.
    ///
    /// # Errors
    /// Settings out of their ranges, and what the judge says.
    pub fn sample<E: From<SaneError>>(
        &mut self,
        prompts: &[Vec<f32>],
        mut judge: impl FnMut(StateDict) -> Result<(StateDict, f64), E>,
    ) -> Result<Vec<Sampled>, E> {
        self.config.check(prompts.len())?;
        let SamplingConfig { method, count, candidates, rounds, .. } = self.config;
        if method == Method::Kde {
            return (0..count).map(|_| self.one(prompts, &mut judge)).collect();
        }
        let prior = method == Method::Gaussian;
        let rounds = if method == Method::Subsample { 1 } else { rounds.max(1) };
        let mut prompts = if prior { Vec::new() } else { prompts.to_vec() };
        let mut best: Vec<Sampled> = Vec::new();
        for _ in 0..rounds {
            for _ in 0..candidates {
                best.push(self.one(&prompts, &mut judge)?);
            }
            // The best of earlier rounds stay as long as nothing is better; no number is worse than any.
            let order = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
            best.sort_by(|a, b| order(b.score).total_cmp(&order(a.score)));
            best.truncate(count);
            prompts = best.iter().map(|sampled| sampled.embedding.clone()).collect();
        }
        Ok(best)
    }

    fn one<E: From<SaneError>>(
        &mut self,
        prompts: &[Vec<f32>],
        judge: &mut impl FnMut(StateDict) -> Result<(StateDict, f64), E>,
    ) -> Result<Sampled, E> {
        let embedding = self.draw(prompts);
        let (weights, score) = judge(self.decode(&embedding)?)?;
        Ok(Sampled { embedding, weights, score })
    }

    /// Embeddings of a network: of the prior where there are no prompts.
    fn draw(&mut self, prompts: &[Vec<f32>]) -> Vec<f32> {
        let mut stream = Stream::new(self.key, self.drawn);
        self.drawn += 1;
        let mut embedding = vec![0.0; self.layout.token_count() * self.latent];
        if prompts.is_empty() {
            stream.fill_normal(&mut embedding);
            embedding.iter_mut().for_each(|value| *value *= self.config.prior);
            return embedding;
        }
        kernel_density(prompts, self.latent, &self.config, &mut stream, &mut embedding);
        embedding
    }
}

/// A draw of the estimate of a density by Gaussian kernels on prompts.
fn kernel_density(
    prompts: &[Vec<f32>],
    latent: usize,
    config: &SamplingConfig,
    stream: &mut Stream,
    out: &mut [f32],
) {
    let mut noise = vec![0.0; latent];
    let mut prompt = stream.below(prompts.len() as u32) as usize;
    stream.fill_normal(&mut noise);
    for (token, out) in out.chunks_exact_mut(latent).enumerate() {
        if config.noise == Noise::Token && token > 0 {
            prompt = stream.below(prompts.len() as u32) as usize;
            stream.fill_normal(&mut noise);
        }
        let known = &prompts[prompt][token * latent..][..latent];
        for ((out, known), noise) in out.iter_mut().zip(known).zip(&noise) {
            *out = known + config.bandwidth * noise;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(noise: Noise) -> Vec<Vec<f32>> {
        let prompts = [vec![0.0; 8], vec![100.0; 8]];
        let config = SamplingConfig { noise, ..SamplingConfig::default() };
        let draw = |number| {
            let mut out = vec![f32::NAN; 8];
            let mut stream = Stream::new(Key::from_seed(1), number);
            kernel_density(&prompts, 2, &config, &mut stream, &mut out);
            out
        };
        (0..2000).map(draw).collect()
    }

    #[test]
    fn kernels_have_the_bandwidth() {
        for noise in [Noise::Token, Noise::Joint] {
            let all = draws(noise);
            let values = all.iter().flatten().map(|&value| {
                let near = if value > 50.0 { value - 100.0 } else { value };
                f64::from(near)
            });
            let square: f64 = values.clone().map(|v| v * v).sum();
            let count = values.count() as f64;
            assert!(((square / count).sqrt() - 0.2).abs() < 0.01, "{noise:?}");
            let first = all.iter().filter(|draw| draw[0] > 50.0).count();
            assert!((900..1100).contains(&first), "{noise:?}: {first} of the second prompt");
        }
    }

    #[test]
    fn joint_noise_is_one_vector_and_one_prompt() {
        for draw in draws(Noise::Joint) {
            assert!(draw.chunks(2).all(|token| (token[0] - draw[0]).abs() < 1e-4));
        }
        let mixed =
            draws(Noise::Token).iter().filter(|draw| (draw[0] - draw[6]).abs() > 50.0).count();
        assert!((900..1100).contains(&mixed), "{mixed} draws of both prompts");
    }
}
