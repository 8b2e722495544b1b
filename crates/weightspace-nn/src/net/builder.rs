//! Building a [`Net`] layer by layer; shapes are inferred and checked on the way.

use super::{Activation, Net, Node, NodeId, Op, Shape, Window};

/// Builds a [`Net`]. Every method adds one node and returns its id.
///
/// Layers with parameters enter the state dict in the order in which they are added, unless
/// [`finish_ordered`](Self::finish_ordered) gives another.
///
/// # Panics
/// When a layer does not fit its input: an architecture is code, so that is a mistake in the code.
pub struct NetBuilder {
    nodes: Vec<Node>,
}

impl NetBuilder {
    /// Starts a network that reads feature maps.
    pub fn maps(channels: usize, height: usize, width: usize) -> (Self, NodeId) {
        Self::start(Shape::Maps { channels, height, width })
    }

    /// Starts a network that reads a vector.
    pub fn vector(len: usize) -> (Self, NodeId) {
        Self::start(Shape::Vector(len))
    }

    /// Starts a network that reads a sequence of tokens.
    pub fn tokens(count: usize, width: usize) -> (Self, NodeId) {
        Self::start(Shape::Tokens { count, width })
    }

    /// A further input; its values stand behind those of the inputs before.
    pub fn input(&mut self, shape: Shape) -> NodeId {
        self.push("", Op::Input, &[], shape)
    }

    fn start(shape: Shape) -> (Self, NodeId) {
        let node = Node { name: String::new(), op: Op::Input, inputs: Vec::new(), shape };
        (NetBuilder { nodes: vec![node] }, NodeId(0))
    }

    /// Shape of a value.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.0].shape
    }

    fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape });
        NodeId(self.nodes.len() - 1)
    }

    fn maps_of(&self, id: NodeId) -> (usize, usize, usize) {
        match self.shape(id) {
            Shape::Maps { channels, height, width } => (channels, height, width),
            other => panic!("feature maps expected, found {other:?}"),
        }
    }

    /// Convolution with a square kernel.
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        input: NodeId,
        out_channels: usize,
        window: Window,
        bias: bool,
    ) -> NodeId {
        self.grouped_conv(name, input, out_channels, 1, window, bias)
    }

    /// Convolution in groups of channels; as many groups as input channels make it depthwise.
    pub fn grouped_conv(
        &mut self,
        name: impl Into<String>,
        input: NodeId,
        out_channels: usize,
        groups: usize,
        window: Window,
        bias: bool,
    ) -> NodeId {
        let (in_channels, height, width) = self.maps_of(input);
        assert!(in_channels % groups == 0 && out_channels % groups == 0, "whole groups");
        let shape = Shape::Maps {
            channels: out_channels,
            height: window.output_size(height),
            width: window.output_size(width),
        };
        self.push(
            name,
            Op::Conv2d { out_channels, in_channels, groups, window, bias },
            &[input],
            shape,
        )
    }

    /// Linear layer with bias; a conv before it must have been flattened.
    pub fn linear(
        &mut self,
        name: impl Into<String>,
        input: NodeId,
        out_features: usize,
    ) -> NodeId {
        self.projection(name, input, out_features, true)
    }

    /// Linear layer with or without bias, on a vector or on every token.
    pub fn projection(
        &mut self,
        name: impl Into<String>,
        input: NodeId,
        out_features: usize,
        bias: bool,
    ) -> NodeId {
        let (in_features, shape) = match self.shape(input) {
            Shape::Vector(width) => (width, Shape::Vector(out_features)),
            Shape::Tokens { count, width } => (width, Shape::Tokens { count, width: out_features }),
            Shape::Maps { .. } => panic!("linear layer on feature maps: flatten them first"),
        };
        self.push(name, Op::Linear { out_features, in_features, bias }, &[input], shape)
    }

    /// Layer normalisation of every token (or of a vector) with eps 1e-5.
    pub fn layer_norm(&mut self, name: impl Into<String>, input: NodeId, bias: bool) -> NodeId {
        let shape = self.shape(input);
        assert!(!matches!(shape, Shape::Maps { .. }), "layer norm of tokens or a vector");
        self.push(name, Op::LayerNorm { width: shape.channels(), eps: 1e-5, bias }, &[input], shape)
    }

    fn tokens_of(&self, id: NodeId) -> (usize, usize) {
        match self.shape(id) {
            Shape::Tokens { count, width } => (count, width),
            other => panic!("tokens expected, found {other:?}"),
        }
    }

    /// Rows of a learned table, looked up by tokens of one element.
    pub fn embedding(
        &mut self,
        name: impl Into<String>,
        indices: NodeId,
        count: usize,
        width: usize,
    ) -> NodeId {
        let (tokens, one) = self.tokens_of(indices);
        assert_eq!(one, 1, "an index is one element");
        let shape = Shape::Tokens { count: tokens, width };
        self.push(name, Op::Embedding { count, width }, &[indices], shape)
    }

    /// The elements of two sequences side by side.
    pub fn concat(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let ((count, first), (other, second)) = (self.tokens_of(a), self.tokens_of(b));
        assert_eq!(count, other, "sequences of equal length");
        self.push("", Op::Concat, &[a, b], Shape::Tokens { count, width: first + second })
    }

    /// Multi-head self-attention on query, key and value side by side.
    pub fn attention(&mut self, input: NodeId, heads: usize) -> NodeId {
        let (count, width) = self.tokens_of(input);
        assert_eq!(width % (3 * heads), 0, "query, key and value of {heads} heads in {width}");
        self.push("", Op::Attention { heads }, &[input], Shape::Tokens { count, width: width / 3 })
    }

    /// Batch normalisation with eps 1e-5.
    pub fn batch_norm(&mut self, name: impl Into<String>, input: NodeId) -> NodeId {
        let shape = self.shape(input);
        let op = Op::BatchNorm { channels: shape.channels(), eps: 1e-5 };
        self.push(name, op, &[input], shape)
    }

    /// Group normalisation with eps 1e-5.
    pub fn group_norm(&mut self, name: impl Into<String>, input: NodeId, groups: usize) -> NodeId {
        let shape = self.shape(input);
        let channels = shape.channels();
        assert_eq!(channels % groups, 0, "{channels} channels in {groups} groups");
        self.push(name, Op::GroupNorm { channels, groups, eps: 1e-5 }, &[input], shape)
    }

    /// Any operation without parameters that keeps the shape.
    fn same(&mut self, op: Op, input: NodeId) -> NodeId {
        let shape = self.shape(input);
        self.push("", op, &[input], shape)
    }

    /// Local response normalisation.
    pub fn local_response_norm(
        &mut self,
        input: NodeId,
        size: usize,
        alpha: f32,
        beta: f32,
        k: f32,
    ) -> NodeId {
        self.same(Op::LocalResponseNorm { size, alpha, beta, k }, input)
    }

    /// Elementwise non-linearity.
    pub fn activation(&mut self, input: NodeId, activation: Activation) -> NodeId {
        self.same(Op::Activation(activation), input)
    }

    /// max(x, 0).
    pub fn relu(&mut self, input: NodeId) -> NodeId {
        self.activation(input, Activation::Relu)
    }

    /// Dropout.
    pub fn dropout(&mut self, input: NodeId, probability: f32) -> NodeId {
        self.same(Op::Dropout { probability }, input)
    }

    fn pooled(&mut self, op: Op, window: Window, input: NodeId) -> NodeId {
        let (channels, height, width) = self.maps_of(input);
        let (height, width) = (window.output_size(height), window.output_size(width));
        self.push("", op, &[input], Shape::Maps { channels, height, width })
    }

    /// Maximum over windows.
    pub fn max_pool(&mut self, input: NodeId, window: Window) -> NodeId {
        self.pooled(Op::MaxPool(window), window, input)
    }

    /// Mean over windows.
    pub fn avg_pool(&mut self, input: NodeId, window: Window) -> NodeId {
        self.pooled(Op::AvgPool(window), window, input)
    }

    /// Mean over all positions.
    pub fn global_avg_pool(&mut self, input: NodeId) -> NodeId {
        let (channels, _, _) = self.maps_of(input);
        self.push("", Op::GlobalAvgPool, &[input], Shape::Vector(channels))
    }

    /// Means over `size` x `size` windows that cover the maps.
    pub fn adaptive_avg_pool(&mut self, input: NodeId, size: usize) -> NodeId {
        let (channels, _, _) = self.maps_of(input);
        let shape = Shape::Maps { channels, height: size, width: size };
        self.push("", Op::AdaptiveAvgPool { size }, &[input], shape)
    }

    /// Sum of two values.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let shape = self.shape(a);
        assert_eq!(shape, self.shape(b), "sum of two shapes");
        self.push("", Op::Add, &[a, b], shape)
    }

    /// The parameter-free shortcut of CIFAR ResNets.
    pub fn pad_shortcut(&mut self, input: NodeId, stride: usize, out_channels: usize) -> NodeId {
        let (_, height, width) = self.maps_of(input);
        let shape = Shape::Maps {
            channels: out_channels,
            height: height.div_ceil(stride),
            width: width.div_ceil(stride),
        };
        self.push("", Op::PadShortcut { stride, out_channels }, &[input], shape)
    }

    /// Feature maps or tokens to a vector.
    pub fn flatten(&mut self, input: NodeId) -> NodeId {
        let len = self.shape(input).element_count();
        self.push("", Op::Flatten, &[input], Shape::Vector(len))
    }

    /// The network; the last node gives the logits.
    pub fn finish(self, arch: impl Into<String>) -> Net {
        let order = (0..self.nodes.len()).filter(|&i| !self.nodes[i].name.is_empty()).map(NodeId);
        let order = order.collect();
        self.finish_ordered(arch, order)
    }

    /// The network, with the modules in the given order in the state dict: PyTorch lists modules as
    /// they are registered, which is not always the order in which they run.
    pub fn finish_ordered(self, arch: impl Into<String>, state_order: Vec<NodeId>) -> Net {
        let named = self.nodes.iter().filter(|n| !n.name.is_empty()).count();
        assert_eq!(named, state_order.len(), "every named module once in the state dict");
        Net { arch: arch.into(), nodes: self.nodes, state_order }
    }
}
