//! The tensors of a network as a sequence of tokens (SANE, section 3.1), and back.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weightspace_core::{DType, StateDict, Tensor, TensorInfo, quoted};

use super::SaneError;
use crate::zoo::names::{renamed, same_network};

/// How tensors are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Elements of a token.
    pub size: usize,
    /// Normalisations are tokens, too: their weights, biases and running statistics. Otherwise whoever makes tensors
    /// of tokens takes them from a reference.
    pub normalisations: bool,
}

impl Default for TokenConfig {
    /// 288 elements, which 32 kernels of 3 x 3 fill, without normalisations.
    fn default() -> Self {
        TokenConfig { size: 288, normalisations: false }
    }
}

/// A tensor, with its bias, as rows that are cut into tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLayer {
    /// Position of the tensor among those of the network, and its name.
    pub tensor: usize,
    /// Its name.
    pub name: String,
    /// Position of its bias, which is the last column.
    pub bias: Option<usize>,
    /// Rows: the first axis of the tensor.
    pub rows: usize,
    /// Elements of a row without the bias.
    pub columns: usize,
    /// Consecutive columns that belong to one element of the tensor's second axis.
    pub inner: usize,
    /// Number of its first token.
    pub first: usize,
    /// Tokens of a row.
    pub chunks: usize,
}

impl TokenLayer {
    /// Its tokens, numbered in the network.
    pub fn tokens(&self) -> Range<usize> {
        self.first..self.first + self.rows * self.chunks
    }

    /// Elements of a row, with the bias.
    pub fn width(&self) -> usize {
        self.columns + usize::from(self.bias.is_some())
    }
}

/// Where a token stands: its layer, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Layer.
    pub layer: usize,
    /// Number within the layer.
    pub place: usize,
}

/// How the tensors of a network are tokens: every weight is a layer, in the order of the state dict, with its bias as
/// last column; a row is cut into tokens and filled up with zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    config: TokenConfig,
    tensors: Vec<TensorInfo>,
    layers: Vec<TokenLayer>,
}

impl TokenLayout {
    /// The layout of these tensors.
    ///
    /// # Errors
    /// If tokens have no elements, or nothing becomes a token.
    pub fn new(tensors: &[TensorInfo], config: TokenConfig) -> Result<Self, SaneError> {
        if config.size == 0 {
            return Err(SaneError::TokenSize);
        }
        let mut layers: Vec<TokenLayer> = Vec::new();
        let mut first = 0;
        for (index, info) in tensors.iter().enumerate() {
            let Some(mut layer) = layer(tensors, index, info, config) else { continue };
            layer.first = first;
            layer.chunks = layer.width().div_ceil(config.size);
            first += layer.rows * layer.chunks;
            layers.push(layer);
        }
        if first == 0 {
            return Err(SaneError::NoTokens);
        }
        Ok(TokenLayout { config, tensors: tensors.to_vec(), layers })
    }

    /// Whether these tensors are those of its networks, but for their order and the names of modules.
    pub fn fits(&self, tensors: &[TensorInfo]) -> bool {
        same_network(&self.tensors, tensors)
    }

    /// Tensors under the names and in the order that it knows, if they [fit](Self::fits); others as they are.
    pub fn renamed(&self, tensors: StateDict) -> StateDict {
        renamed(tensors, &self.tensors)
    }

    /// How tensors are cut.
    pub fn config(&self) -> TokenConfig {
        self.config
    }

    /// Elements of a token.
    pub fn token_size(&self) -> usize {
        self.config.size
    }

    /// The tensors of the network, tokens or not.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The layers, in the order of their tokens.
    pub fn layers(&self) -> &[TokenLayer] {
        &self.layers
    }

    /// Number of tokens.
    pub fn token_count(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.tokens().end)
    }

    /// Most tokens of a layer.
    pub fn longest_layer(&self) -> usize {
        self.layers.iter().map(|layer| layer.tokens().len()).max().unwrap_or(0)
    }

    /// Elements of the tensors that are in tokens.
    pub fn element_count(&self) -> usize {
        self.layers.iter().map(|layer| layer.rows * layer.width()).sum()
    }

    /// Where a token stands.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn position(&self, token: usize) -> Position {
        let layer = self.layers.partition_point(|layer| layer.tokens().end <= token);
        Position { layer, place: token - self.layers[layer].first }
    }

    /// The layers of which there are tokens among these.
    pub fn layers_of(&self, tokens: &Range<usize>) -> Range<usize> {
        let start = self.layers.partition_point(|layer| layer.tokens().end <= tokens.start);
        let end = self.layers.partition_point(|layer| layer.first < tokens.end);
        start..end.max(start)
    }

    /// Writes 1 where tokens hold elements and 0 where they are filled up.
    ///
    /// # Panics
    /// If `mask` has not the elements of so many tokens.
    pub fn mask(&self, tokens: Range<usize>, mask: &mut [f32]) {
        assert_eq!(mask.len(), tokens.len() * self.config.size, "elements of the tokens");
        for (token, mask) in tokens.zip(mask.chunks_exact_mut(self.config.size)) {
            let Position { layer, place } = self.position(token);
            let layer = &self.layers[layer];
            let done = place % layer.chunks * self.config.size;
            let filled = (layer.width() - done).min(self.config.size);
            mask[..filled].fill(1.0);
            mask[filled..].fill(0.0);
        }
    }

    /// All tokens of a network's tensors.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn tokenise(&self, tensors: &StateDict) -> Result<Vec<f32>, SaneError> {
        let mut tokens = vec![0.0; self.token_count() * self.config.size];
        for layer in &self.layers {
            let weight = self.find(tensors, layer.tensor)?.to_f32();
            let bias = layer.bias.map(|bias| self.find(tensors, bias)).transpose()?;
            let bias = bias.map(Tensor::to_f32);
            for row in 0..layer.rows {
                let own = self.row_mut(&mut tokens, layer, row);
                own[..layer.columns]
                    .copy_from_slice(&weight[row * layer.columns..][..layer.columns]);
                if let Some(bias) = &bias {
                    own[layer.columns] = bias[row];
                }
            }
        }
        Ok(tokens)
    }

    /// The tensors of these tokens; what is no token is the reference's. The inverse of [`tokenise`](Self::tokenise).
    ///
    /// # Errors
    /// A tensor that the reference lacks or has in another shape.
    ///
    /// # Panics
    /// If there are not as many elements as tokens have.
    pub fn detokenise(
        &self,
        tokens: &[f32],
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        assert_eq!(tokens.len(), self.token_count() * self.config.size, "elements of all tokens");
        let mut tensors = reference.clone();
        for layer in &self.layers {
            let rows = (0..layer.rows).map(|row| self.row(tokens, layer, row));
            let weight: Vec<f32> =
                rows.clone().flat_map(|row| &row[..layer.columns]).copied().collect();
            self.put(&mut tensors, layer.tensor, &weight)?;
            if let Some(bias) = layer.bias {
                let bias_values: Vec<f32> = rows.map(|row| row[layer.columns]).collect();
                self.put(&mut tensors, bias, &bias_values)?;
            }
        }
        Ok(tensors)
    }

    /// The elements of a row's tokens.
    fn place(&self, layer: &TokenLayer, row: usize) -> Range<usize> {
        let start = (layer.first + row * layer.chunks) * self.config.size;
        start..start + layer.chunks * self.config.size
    }

    fn row<'a>(&self, tokens: &'a [f32], layer: &TokenLayer, row: usize) -> &'a [f32] {
        &tokens[self.place(layer, row)]
    }

    fn row_mut<'a>(&self, tokens: &'a mut [f32], layer: &TokenLayer, row: usize) -> &'a mut [f32] {
        &mut tokens[self.place(layer, row)]
    }

    fn find<'a>(&self, tensors: &'a StateDict, index: usize) -> Result<&'a Tensor, SaneError> {
        let info = &self.tensors[index];
        let found = tensors.get(&info.name);
        let found = found.ok_or_else(|| SaneError::Missing { name: quoted(&info.name) })?;
        match found.shape() == info.shape {
            true => Ok(found),
            false => Err(SaneError::Shape {
                name: quoted(&info.name),
                found: found.shape().to_vec(),
                expected: info.shape.clone(),
            }),
        }
    }

    fn put(&self, tensors: &mut StateDict, index: usize, values: &[f32]) -> Result<(), SaneError> {
        let dtype = self.find(tensors, index)?.dtype();
        let info = &self.tensors[index];
        let tensor = Tensor::from_f32(info.shape.clone(), values);
        let tensor = if dtype == DType::F32 { tensor } else { tensor.cast_float(dtype) };
        tensors.insert(info.name.clone(), tensor);
        Ok(())
    }
}

/// The layer that begins with a tensor, without its place; nothing for what is no token or another's bias.
fn layer(
    tensors: &[TensorInfo],
    index: usize,
    info: &TensorInfo,
    config: TokenConfig,
) -> Option<TokenLayer> {
    let (prefix, suffix) = match info.name.rsplit_once('.') {
        Some((prefix, suffix)) => (Some(prefix), suffix),
        None => (None, info.name.as_str()),
    };
    let sibling = |suffix: &str| {
        let name = prefix.map_or(suffix.to_owned(), |prefix| format!("{prefix}.{suffix}"));
        tensors.iter().position(|info| info.name == name && info.dtype.is_float())
    };
    let matrix = info.shape.len() > 1;
    let normalisation = match suffix {
        "weight" => !matrix,
        "running_mean" | "running_var" => true,
        "bias" if sibling("weight").is_some() => return None,
        _ => false,
    };
    if !info.dtype.is_float()
        || info.element_count() == 0
        || normalisation && !config.normalisations
    {
        return None;
    }
    let rows = info.shape.first().copied().unwrap_or(1);
    let bias = sibling("bias").filter(|&bias| suffix == "weight" && tensors[bias].shape == [rows]);
    let columns = info.element_count() / rows;
    let inner = info.shape.iter().skip(2).product();
    let (name, first, chunks) = (info.name.clone(), 0, 0);
    Some(TokenLayer { tensor: index, name, bias, rows, columns, inner, first, chunks })
}
