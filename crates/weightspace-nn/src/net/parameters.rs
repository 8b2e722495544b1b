//! Names and shapes of the state dict, and the flat layout, derived from the graph.

use weightspace_core::{DType, Layout};

use super::{Net, NodeId, Op};

/// What role a tensor of the state dict plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Weight of a convolution or linear layer, or the table of an embedding.
    Weight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// Scale of a normalisation.
    NormWeight,
    /// Shift of a normalisation.
    NormBias,
    /// Running mean of a batch normalisation: a buffer.
    RunningMean,
    /// Running variance of a batch normalisation: a buffer.
    RunningVar,
    /// Counter of a batch normalisation: a buffer, `i64`, absent from old files.
    NumBatchesTracked,
}

impl ParameterKind {
    /// True for what training changes by gradients; false for buffers.
    pub fn is_trainable(self) -> bool {
        use ParameterKind::*;
        matches!(self, Weight | Bias | NormWeight | NormBias)
    }
}

/// One tensor of a network's state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Name in the state dict.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Role.
    pub kind: ParameterKind,
    /// The node it belongs to.
    pub node: NodeId,
    /// Inputs of one output unit of the layer (1 for normalisations); a bias has its weight's.
    pub fan_in: usize,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Element type in PyTorch.
    pub fn dtype(&self) -> DType {
        match self.kind {
            ParameterKind::NumBatchesTracked => DType::I64,
            _ => DType::F32,
        }
    }
}

impl Net {
    /// Every tensor of the state dict, in PyTorch's order.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        self.state_order.iter().flat_map(|&id| self.parameters_of(id)).collect()
    }

    /// The layer that tells classes apart: the last linear one, if there is any.
    pub fn classifier(&self) -> Option<NodeId> {
        let is_linear = |&id: &NodeId| matches!(self.node(id).op, Op::Linear { .. });
        self.state_order.iter().copied().rfind(is_linear)
    }

    /// The tensors of one node, in PyTorch's order; none for operations without parameters.
    pub fn parameters_of(&self, node: NodeId) -> Vec<ParameterSpec> {
        use ParameterKind::*;
        type Tensors = Vec<(&'static str, Vec<usize>, ParameterKind)>;
        let n = self.node(node);
        let (fan_in, list): (usize, Tensors) = match n.op {
            Op::Conv2d { out_channels, in_channels, groups, window, bias } => {
                let in_channels = in_channels / groups;
                let shape = vec![out_channels, in_channels, window.size, window.size];
                let mut list = vec![("weight", shape, Weight)];
                if bias {
                    list.push(("bias", vec![out_channels], Bias));
                }
                (in_channels * window.size * window.size, list)
            }
            Op::Linear { out_features, in_features, bias } => {
                let mut list = vec![("weight", vec![out_features, in_features], Weight)];
                if bias {
                    list.push(("bias", vec![out_features], Bias));
                }
                (in_features, list)
            }
            Op::BatchNorm { channels, .. } => (
                1,
                vec![
                    ("weight", vec![channels], NormWeight),
                    ("bias", vec![channels], NormBias),
                    ("running_mean", vec![channels], RunningMean),
                    ("running_var", vec![channels], RunningVar),
                    ("num_batches_tracked", vec![], NumBatchesTracked),
                ],
            ),
            Op::GroupNorm { channels, .. } => (
                1,
                vec![("weight", vec![channels], NormWeight), ("bias", vec![channels], NormBias)],
            ),
            Op::LayerNorm { width, bias, .. } => {
                let mut list = vec![("weight", vec![width], NormWeight)];
                if bias {
                    list.push(("bias", vec![width], NormBias));
                }
                (1, list)
            }
            // One row is read at a time, so that the scale of a row is that of its values.
            Op::Embedding { count, width } => (1, vec![("weight", vec![count, width], Weight)]),
            _ => (0, Vec::new()),
        };
        let spec = |(suffix, shape, kind): (&str, Vec<usize>, ParameterKind)| ParameterSpec {
            name: format!("{}.{suffix}", n.name),
            shape,
            kind,
            node,
            fan_in,
        };
        list.into_iter().map(spec).collect()
    }

    /// The trainable tensors end to end in the state dict's order: the flat vector that methods see.
    pub fn layout(&self) -> Layout {
        let mut layout = Layout::new();
        for p in self.parameters().into_iter().filter(|p| p.kind.is_trainable()) {
            layout.push(p.name, p.shape, p.fan_in);
        }
        layout
    }

    /// Number of trainable values.
    pub fn parameter_count(&self) -> usize {
        self.layout().len()
    }
}
