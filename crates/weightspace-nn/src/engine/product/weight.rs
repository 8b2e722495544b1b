//! The weight tensor of a convolution or a linear layer.

use crate::net::{Op, Window};

/// The weight tensor `[out_channels, in_channels / groups, k, k]` of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Filters, or output features.
    pub out_channels: usize,
    /// Channels, or input features.
    pub in_channels: usize,
    /// Groups.
    pub groups: usize,
    /// Kernel, stride and padding; 1 x 1 for a linear layer.
    pub window: Window,
}

impl Weight {
    /// The weight of a node's operation, if it is a convolution or a linear layer.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Conv2d { out_channels, in_channels, groups, window, .. } => {
                Some(Weight { out_channels, in_channels, groups, window })
            }
            Op::Linear { out_features, in_features, .. } => Some(Weight {
                out_channels: out_features,
                in_channels: in_features,
                groups: 1,
                window: Window { size: 1, stride: 1, padding: 0 },
            }),
            _ => None,
        }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.out_channels * self.in_channels / self.groups * self.taps()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn taps(&self) -> usize {
        self.window.size * self.window.size
    }

    /// Position in the tensor; `None` where the channels are of different groups or do not exist.
    #[inline(always)]
    pub(super) fn position(&self, output: usize, input: usize, tap: usize) -> Option<usize> {
        if self.groups == 1 {
            return Some((output * self.in_channels + input) * self.taps() + tap);
        }
        let (outputs, inputs) = (self.out_channels / self.groups, self.in_channels / self.groups);
        let group = output / outputs;
        let inside = input / inputs == group && input < self.in_channels;
        inside.then(|| (output * inputs + input % inputs) * self.taps() + tap)
    }
}

/// Border of zeros that the gradient of a convolution's output needs.
pub fn gradient_border(window: Window, input: usize, output: usize) -> usize {
    let Window { size, stride, padding } = window;
    let before = (size - 1).saturating_sub(padding).div_ceil(stride);
    // The last input pixel reads output (input - 1 + padding) / stride at most.
    let after = ((input - 1 + padding) / stride).saturating_sub(output - 1);
    before.max(after)
}
