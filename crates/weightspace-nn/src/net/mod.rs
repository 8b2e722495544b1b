//! `Net`: a network as a graph of standard layers with named parameters.
//!
//! Everything else about a network is derived from this graph: names and shapes of the state dict
//! ([`Net::parameters`]), the flat [`Layout`](weightspace_core::Layout) of trainable weights
//! ([`Net::layout`]), the cost ([`Net::flops`]) and the units that may be permuted without changing
//! the function ([`permutation`]).

mod builder;
mod parameters;
pub mod permutation;

pub use builder::NetBuilder;
pub use parameters::{ParameterKind, ParameterSpec};

/// Index of a node, and of the value that it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The node at that position of [`Net::nodes`].
    pub fn from_index(index: usize) -> Self {
        NodeId(index)
    }

    /// Position in [`Net::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Shape of one sample's value (the batch dimension is left out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Feature maps: channels, height, width.
    Maps {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A sequence of tokens: `count` vectors of `width` elements, one after the other.
    Tokens {
        /// Tokens.
        count: usize,
        /// Elements of one token.
        width: usize,
    },
    /// A vector.
    Vector(usize),
}

impl Shape {
    /// Number of elements.
    pub fn element_count(self) -> usize {
        match self {
            Shape::Maps { channels, height, width } => channels * height * width,
            Shape::Tokens { count, width } => count * width,
            Shape::Vector(n) => n,
        }
    }

    /// Channels of feature maps, elements of a token or a vector: the units a layer computes.
    pub fn channels(self) -> usize {
        match self {
            Shape::Maps { channels, .. } => channels,
            Shape::Tokens { width, .. } => width,
            Shape::Vector(n) => n,
        }
    }
}

/// Elementwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x Phi(x) with the exact normal distribution function.
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// sin(x).
    Sine,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 5] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Sine,
    ];

    /// The name in specifications and listings, for instance `relu`.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Gelu => "gelu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Sine => "sine",
        }
    }
}

/// Kernel, stride and zero padding of a window that slides over feature maps, equal in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub size: usize,
    /// Step.
    pub stride: usize,
    /// Zeros added on every side (for pooling: positions that do not count).
    pub padding: usize,
}

impl Window {
    /// An odd window that keeps the number of rows and columns.
    pub const fn same(size: usize) -> Self {
        Window::strided(size, 1)
    }

    /// An odd window around every `stride`-th row and column.
    pub const fn strided(size: usize, stride: usize) -> Self {
        Window { size, stride, padding: size / 2 }
    }

    /// Output rows (columns) for an input of `n` rows (columns), rounded down as PyTorch does.
    pub fn output_size(self, n: usize) -> usize {
        (n + 2 * self.padding - self.size) / self.stride + 1
    }
}

/// One operation of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The network's input.
    Input,
    /// Convolution: `weight [out_channels, in_channels / groups, k, k]`, optional
    /// `bias [out_channels]`.
    Conv2d {
        /// Filters.
        out_channels: usize,
        /// Channels of the input.
        in_channels: usize,
        /// Groups of channels that do not see each other; 1 for an ordinary convolution, as many
        /// as input channels for a depthwise one.
        groups: usize,
        /// Kernel, stride, padding.
        window: Window,
        /// Whether there is a bias.
        bias: bool,
    },
    /// y = W x + b: `weight [out_features, in_features]`, optional `bias [out_features]`.
    Linear {
        /// Length of the output.
        out_features: usize,
        /// Length of the input.
        in_features: usize,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Batch normalisation over channels with `weight`, `bias`, `running_mean`, `running_var`,
    /// `num_batches_tracked`.
    BatchNorm {
        /// Channels.
        channels: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// Group normalisation with `weight` and `bias` per channel.
    GroupNorm {
        /// Channels.
        channels: usize,
        /// Groups of channels that share their statistics.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// Normalisation of every token or vector over its elements, with `weight` and optional `bias`.
    LayerNorm {
        /// Elements of a token.
        width: usize,
        /// Added to the variance.
        eps: f32,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Local response normalisation across channels, as `torch.nn.LocalResponseNorm`:
    /// x / (k + alpha / size * sum of squares over `size` channels)^beta.
    LocalResponseNorm {
        /// Channels in the sum.
        size: usize,
        /// Scale of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Offset.
        k: f32,
    },
    /// Elementwise non-linearity.
    Activation(Activation),
    /// Maximum over windows.
    MaxPool(Window),
    /// Mean over windows (padding counts, as in PyTorch).
    AvgPool(Window),
    /// Mean over all positions: maps to a vector of channels.
    GlobalAvgPool,
    /// Means over `size` x `size` windows that cover the maps, as `torch.nn.AdaptiveAvgPool2d`:
    /// window `i` has the rows from `floor(i * height / size)` to `ceil((i + 1) * height / size)`.
    AdaptiveAvgPool {
        /// Rows and columns of the output.
        size: usize,
    },
    /// Dropout; the identity at inference.
    Dropout {
        /// Probability of zeroing an element.
        probability: f32,
    },
    /// Sum of two values of one shape.
    Add,
    /// The parameter-free shortcut of CIFAR ResNets (option A): every `stride`-th row and column,
    /// new channels of zeros, `(out - in) / 2` of them before the old ones.
    PadShortcut {
        /// Step.
        stride: usize,
        /// Channels of the output.
        out_channels: usize,
    },
    /// Feature maps to a vector, channel-major (C, H, W); tokens to a vector, one after the other.
    Flatten,
    /// Rows of a table `weight [count, width]`: tokens of one element, the row's number, become
    /// tokens of `width` elements.
    Embedding {
        /// Rows of the table.
        count: usize,
        /// Elements of a row.
        width: usize,
    },
    /// The elements of two sequences of tokens of equal length side by side.
    Concat,
    /// Multi-head self-attention without its projections: tokens of 3 x `width` elements (query,
    /// key, value) become tokens of `width`; softmax(q k^T / sqrt(width / heads)) v for every head,
    /// no mask.
    Attention {
        /// Heads, a divisor of the width.
        heads: usize,
    },
}

/// One node of a [`Net`].
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Path of the module in PyTorch's naming, for instance `layer1.0.conv1`; empty for operations
    /// without parameters.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The values it reads: two for [`Op::Add`] and [`Op::Concat`], none for [`Op::Input`], else one.
    pub inputs: Vec<NodeId>,
    /// Shape of its value.
    pub shape: Shape,
}

/// A network: nodes in topological order, the first is an input, the last gives the logits.
///
/// A network may have several inputs, for instance tokens and their positions: one sample is then
/// the values of all input nodes, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    arch: String,
    nodes: Vec<Node>,
    /// Order of the modules in the state dict: node indices.
    state_order: Vec<NodeId>,
}

impl Net {
    /// Full name of the architecture, as `--arch` takes it.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The ids of the nodes in topological order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The node of that id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Shape of the (first) input.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// The input nodes, in the order of their values in a sample.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.node_ids().filter(|id| self.nodes[id.0].op == Op::Input)
    }

    /// Values of one sample: of all inputs together.
    pub fn input_len(&self) -> usize {
        self.inputs().map(|id| self.nodes[id.0].shape.element_count()).sum()
    }

    /// The last node, whose value is the logits.
    pub fn output(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// Number of logits.
    pub fn class_count(&self) -> usize {
        self.nodes[self.nodes.len() - 1].shape.element_count()
    }

    /// For every node, the nodes that read its value.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                consumers[input.0].push(NodeId(i));
            }
        }
        consumers
    }

    /// Multiply-adds of one forward pass of one sample, times two; convolutions and linear layers.
    pub fn flops(&self) -> u64 {
        let of = |node: &Node| match node.op {
            Op::Conv2d { in_channels, groups, window, .. } => {
                2 * node.shape.element_count() * in_channels / groups * window.size * window.size
            }
            Op::Linear { in_features, .. } => 2 * in_features * node.shape.element_count(),
            _ => 0,
        };
        self.nodes.iter().map(|n| of(n) as u64).sum()
    }
}
