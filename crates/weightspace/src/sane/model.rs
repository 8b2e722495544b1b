//! The autoencoder (SANE, section 3.2): a transformer that maps every token of a window to a vector and back.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weightspace_core::random::{Key, Stream};
use weightspace_nn::net::{Activation, Net, NetBuilder, NodeId, ParameterKind, Shape};

use super::{SaneError, TokenConfig, TokenLayout};

/// Standard deviation of weights to begin with.
const DEVIATION: f32 = 0.02;

/// Largest size in an autoencoder, and most blocks on each side.
const LARGEST: usize = 1 << 16;
const MOST_BLOCKS: usize = 256;

/// Most positions that are learnt: the longest network that `f32` can number.
const LONGEST_TABLE: usize = 1 << 24;

/// Size of an autoencoder, and what it sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaneConfig {
    /// How networks are cut into tokens.
    pub tokens: TokenConfig,
    /// Tokens of a training window.
    pub window: usize,
    /// Elements of a token within the transformer.
    pub width: usize,
    /// Blocks of the encoder, and of the decoder.
    pub blocks: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Elements of a token's embedding.
    pub latent: usize,
    /// Outputs of the projection head, whose contrast is learnt.
    pub head: usize,
    /// How it knows where a token stands.
    pub positions: Positions,
}

/// How the autoencoder knows where a token stands: its number n in the network, its layer l, and its number k there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Learned tables: `[a[n] + b[l], c[k]]`. No network may be longer than those it was trained on.
    #[default]
    Learned,
    /// The same with sines and cosines in place of tables, for networks of any length.
    Sinusoidal,
}

impl Default for SaneConfig {
    /// A small one, for zoos of small CNNs on a machine of few cores.
    fn default() -> Self {
        SaneConfig {
            tokens: TokenConfig { size: 201, normalisations: false },
            window: 32,
            width: 128,
            blocks: 4,
            heads: 4,
            latent: 32,
            head: 30,
            positions: Positions::Learned,
        }
    }
}

impl SaneConfig {
    /// # Errors
    /// Sizes that make no network.
    pub fn check(&self) -> Result<(), SaneError> {
        let positive = [
            ("token size", self.tokens.size),
            ("window", self.window),
            ("width", self.width),
            ("blocks", self.blocks),
            ("heads", self.heads),
            ("latent", self.latent),
            ("head", self.head),
        ];
        let fail = |setting, value: usize, expected: String| {
            Err(SaneError::Setting { setting, value: value.to_string(), expected })
        };
        for (setting, value) in positive {
            if value == 0 || value > LARGEST {
                return fail(setting, value, format!("1 to {LARGEST}"));
            }
        }
        if self.blocks > MOST_BLOCKS {
            return fail("blocks", self.blocks, format!("1 to {MOST_BLOCKS}"));
        }
        match self.width % (2 * self.heads) {
            0 => Ok(()),
            _ => fail("width", self.width, format!("a multiple of {}", 2 * self.heads)),
        }
    }
}

/// An autoencoder without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder {
    config: SaneConfig,
    tables: [usize; 3],
}

/// The network that is trained, and where its reconstruction is.
#[derive(Clone, Debug)]
pub struct TrainingNet {
    /// Its output is that of the projection head.
    pub net: Net,
    /// The tokens that the decoder makes.
    pub reconstruction: NodeId,
}

impl Autoencoder {
    /// One with tables of so many tokens, layers, and tokens of a layer; sines need none.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn new(config: SaneConfig, tables: [usize; 3]) -> Result<Self, SaneError> {
        config.check()?;
        match tables.into_iter().find(|&len| len > LONGEST_TABLE) {
            Some(len) => Err(SaneError::Setting {
                setting: "positions",
                value: len.to_string(),
                expected: format!("at most {LONGEST_TABLE}"),
            }),
            None => Ok(Autoencoder { config, tables }),
        }
    }

    /// One whose tables are as long as networks of this layout need.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn of(config: SaneConfig, layout: &TokenLayout) -> Result<Self, SaneError> {
        let tables = [layout.token_count(), layout.layers().len(), layout.longest_layer()];
        Self::new(config, tables)
    }

    /// Its size.
    pub fn config(&self) -> &SaneConfig {
        &self.config
    }

    /// Tokens, layers, and tokens of a layer that its tables have.
    pub fn tables(&self) -> [usize; 3] {
        self.tables
    }

    /// Whether it knows all positions of networks of this layout.
    ///
    /// # Errors
    /// If its tables are too short.
    pub fn check(&self, layout: &TokenLayout) -> Result<(), SaneError> {
        let needed = [layout.token_count(), layout.layers().len(), layout.longest_layer()];
        let names = ["tokens", "layers", "tokens of a layer"];
        let short = (0..3).find(|&i| needed[i] > self.tables[i]);
        match (self.config.positions, short) {
            (Positions::Sinusoidal, _) | (_, None) => Ok(()),
            (Positions::Learned, Some(i)) => Err(SaneError::Setting {
                setting: names[i],
                value: needed[i].to_string(),
                expected: format!(
                    "at most {}, as it was trained with learned positions",
                    self.tables[i]
                ),
            }),
        }
    }

    /// What is trained: tokens and positions of a window go in, the projection head comes out.
    pub fn training_net(&self) -> TrainingNet {
        let mut draft = Draft::new(self, self.config.window, self.config.tokens.size);
        let latent = draft.encode(draft.input);
        let reconstruction = draft.decode(latent);
        draft.project(latent);
        TrainingNet { net: draft.builder.finish("sane"), reconstruction }
    }

    /// Tokens and positions of a window to embeddings.
    pub fn encoder(&self, window: usize) -> Net {
        let mut draft = Draft::new(self, window, self.config.tokens.size);
        draft.encode(draft.input);
        draft.builder.finish("sane-encoder")
    }

    /// Embeddings and positions of a window to tokens.
    pub fn decoder(&self, window: usize) -> Net {
        let mut draft = Draft::new(self, window, self.config.latent);
        draft.decode(draft.input);
        draft.builder.finish("sane-decoder")
    }

    /// Tokens and positions of a window to tokens.
    pub fn reconstructor(&self, window: usize) -> Net {
        let mut draft = Draft::new(self, window, self.config.tokens.size);
        let latent = draft.encode(draft.input);
        draft.decode(latent);
        draft.builder.finish("sane-reconstructor")
    }

    /// Inputs that positions of a window of so many tokens are.
    pub fn position_len(&self, window: usize) -> usize {
        match self.config.positions {
            Positions::Learned => 3 * window,
            Positions::Sinusoidal => self.config.width * window,
        }
    }

    /// Writes the positions of these tokens as the networks read them.
    ///
    /// # Panics
    /// If there are no such tokens, or `out` has another length.
    pub fn write_positions(&self, layout: &TokenLayout, tokens: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), self.position_len(tokens.len()), "positions of the tokens");
        let window = tokens.len();
        for (i, token) in tokens.enumerate() {
            let position = layout.position(token);
            let numbers = [token, position.layer, position.place];
            match self.config.positions {
                Positions::Learned => {
                    (0..3).for_each(|axis| out[axis * window + i] = numbers[axis] as f32);
                }
                Positions::Sinusoidal => {
                    let own = &mut out[i * self.config.width..][..self.config.width];
                    let (first, second) = own.split_at_mut(self.config.width / 2);
                    first.fill(0.0);
                    second.fill(0.0);
                    add_sines(numbers[0], first);
                    add_sines(numbers[1], first);
                    add_sines(numbers[2], second);
                }
            }
        }
    }

    /// Weights of the training network to begin with: N(0, 0.02), what is added to the stream of a block
    /// N(0, 0.02 / sqrt(2 blocks)), biases 0, scales 1.
    pub fn initial(&self, net: &Net, seed: u64) -> Vec<f32> {
        let layout = net.layout();
        let key = Key::for_purpose(seed, "initialisation");
        let mut weights = vec![0.0; layout.len()];
        let kinds = net.parameters().into_iter().map(|p| p.kind).filter(|kind| kind.is_trainable());
        for (index, (entry, kind)) in layout.entries().iter().zip(kinds).enumerate() {
            let values = &mut weights[entry.range()];
            match kind {
                ParameterKind::NormWeight => values.fill(1.0),
                ParameterKind::Weight => {
                    let residual = [".projection.weight", ".contract.weight"];
                    let deviation = match residual.iter().any(|end| entry.name.ends_with(end)) {
                        true => DEVIATION / (2.0 * self.config.blocks as f32).sqrt(),
                        false => DEVIATION,
                    };
                    Stream::new(key, index as u64).fill_normal(values);
                    values.iter_mut().for_each(|value| *value *= deviation);
                }
                _ => {}
            }
        }
        weights
    }
}

/// Adds sin(n / 10000^(2 i / len)) and cos of the same, pair by pair.
fn add_sines(number: usize, out: &mut [f32]) {
    let len = out.len() as f64;
    for (i, pair) in out.chunks_mut(2).enumerate() {
        let angle = number as f64 / 10_000f64.powf(2.0 * i as f64 / len);
        let values = [angle.sin(), angle.cos()];
        pair.iter_mut().zip(values).for_each(|(out, value)| *out += value as f32);
    }
}

/// A network of a window in the making.
struct Draft<'a> {
    model: &'a Autoencoder,
    builder: NetBuilder,
    /// Tokens or embeddings.
    input: NodeId,
    positions: NodeId,
}

impl<'a> Draft<'a> {
    fn new(model: &'a Autoencoder, window: usize, width: usize) -> Self {
        let (mut builder, input) = NetBuilder::tokens(window, width);
        let config = &model.config;
        let positions = match config.positions {
            Positions::Sinusoidal => {
                builder.input(Shape::Tokens { count: window, width: config.width })
            }
            Positions::Learned => {
                let names = ["token", "layer", "place"];
                let inputs =
                    [0; 3].map(|_| builder.input(Shape::Tokens { count: window, width: 1 }));
                let mut table = |axis: usize| {
                    let name = format!("positions.{}", names[axis]);
                    builder.embedding(name, inputs[axis], model.tables[axis], config.width / 2)
                };
                let [token, layer, place] = [table(0), table(1), table(2)];
                let first = builder.add(token, layer);
                builder.concat(first, place)
            }
        };
        Draft { model, builder, input, positions }
    }

    fn encode(&mut self, tokens: NodeId) -> NodeId {
        self.transform("encoder", tokens, self.model.config.latent)
    }

    fn decode(&mut self, latent: NodeId) -> NodeId {
        self.transform("decoder", latent, self.model.config.tokens.size)
    }

    fn transform(&mut self, name: &str, input: NodeId, outputs: usize) -> NodeId {
        let SaneConfig { width, blocks, heads, .. } = self.model.config;
        let builder = &mut self.builder;
        let stream = builder.linear(format!("{name}.input"), input, width);
        let mut stream = builder.add(stream, self.positions);
        for index in 0..blocks {
            stream = block(builder, &format!("{name}.blocks.{index}"), stream, width, heads);
        }
        builder.linear(format!("{name}.output"), stream, outputs)
    }

    fn project(&mut self, latent: NodeId) {
        let builder = &mut self.builder;
        let mut value = builder.flatten(latent);
        for index in 0..2 {
            value = builder.linear(format!("head.{index}"), value, self.model.config.head);
            value = builder.layer_norm(format!("head.norm{index}"), value, false);
            value = builder.activation(value, Activation::Relu);
        }
    }
}

fn block(
    builder: &mut NetBuilder,
    name: &str,
    stream: NodeId,
    width: usize,
    heads: usize,
) -> NodeId {
    let normal = builder.layer_norm(format!("{name}.norm1"), stream, false);
    let queries = builder.projection(format!("{name}.queries"), normal, 3 * width, false);
    let attention = builder.attention(queries, heads);
    let projected = builder.projection(format!("{name}.projection"), attention, width, false);
    let stream = builder.add(stream, projected);
    let normal = builder.layer_norm(format!("{name}.norm2"), stream, false);
    let hidden = builder.projection(format!("{name}.expand"), normal, 4 * width, false);
    let hidden = builder.activation(hidden, Activation::Gelu);
    let hidden = builder.projection(format!("{name}.contract"), hidden, width, false);
    builder.add(stream, hidden)
}
