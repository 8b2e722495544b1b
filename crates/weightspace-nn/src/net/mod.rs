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
    /// A vector.
    Vector(usize),
}

impl Shape {
    /// Number of elements.
    pub fn element_count(self) -> usize {
        match self {
            Shape::Maps { channels, height, width } => channels * height * width,
            Shape::Vector(n) => n,
        }
    }

    /// Channels of feature maps, elements of a vector: the units a layer computes.
    pub fn channels(self) -> usize {
        match self {
            Shape::Maps { channels, .. } => channels,
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
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 4] =
        [Activation::Relu, Activation::Gelu, Activation::Tanh, Activation::Sigmoid];

    /// The name in specifications and listings, for instance `relu`.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Gelu => "gelu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
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
    /// Convolution: `weight [out_channels, in_channels, k, k]`, optional `bias [out_channels]`.
    Conv2d {
        /// Filters.
        out_channels: usize,
        /// Channels of the input.
        in_channels: usize,
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
    /// Feature maps to a vector, channel-major (C, H, W).
    Flatten,
}

/// One node of a [`Net`].
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Path of the module in PyTorch's naming, for instance `layer1.0.conv1`; empty for operations
    /// without parameters.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The values it reads: two for [`Op::Add`], none for [`Op::Input`], else one.
    pub inputs: Vec<NodeId>,
    /// Shape of its value.
    pub shape: Shape,
}

/// A network: nodes in topological order, the first is the input, the last gives the logits.
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

    /// Shape of the input.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
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
            Op::Conv2d { in_channels, window, .. } => {
                2 * node.shape.element_count() * in_channels * window.size * window.size
            }
            Op::Linear { in_features, out_features, .. } => 2 * in_features * out_features,
            _ => 0,
        };
        self.nodes.iter().map(|n| of(n) as u64).sum()
    }
}
