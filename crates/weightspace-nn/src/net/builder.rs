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
            Shape::Vector(n) => panic!("feature maps expected, found a vector of {n}"),
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
        let (in_channels, height, width) = self.maps_of(input);
        let shape = Shape::Maps {
            channels: out_channels,
            height: window.output_size(height),
            width: window.output_size(width),
        };
        self.push(name, Op::Conv2d { out_channels, in_channels, window, bias }, &[input], shape)
    }

    /// Linear layer with bias; a conv before it must have been flattened.
    pub fn linear(
        &mut self,
        name: impl Into<String>,
        input: NodeId,
        out_features: usize,
    ) -> NodeId {
        let Shape::Vector(in_features) = self.shape(input) else {
            panic!("linear layer on feature maps: flatten them first")
        };
        let op = Op::Linear { out_features, in_features, bias: true };
        self.push(name, op, &[input], Shape::Vector(out_features))
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

    /// Feature maps to a vector.
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
