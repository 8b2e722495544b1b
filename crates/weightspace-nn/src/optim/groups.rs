//! Where the tensors lie in the flat vector, and what is particular to each of them.

use std::ops::Range;

use weightspace_core::Layout;

use super::OptimizerError;

/// One tensor of the flat vector, and how it departs from the optimiser's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Positions in the flat vector.
    pub range: Range<usize>,
    /// Dimensions, outermost first: outputs, then the inputs of one output. Muon orthogonalises what has
    /// two or more, gradient centralisation takes the mean of every output from it; a tensor that they
    /// should leave alone (an embedding) is declared as one dimension.
    pub shape: Vec<usize>,
    /// Factor of the learning rate.
    pub learning_rate_scale: f64,
    /// Factor of the weight decay.
    pub weight_decay_scale: f64,
}

impl ParameterGroup {
    /// A tensor that follows the optimiser's settings.
    pub fn new(start: usize, shape: Vec<usize>) -> Self {
        let len: usize = shape.iter().product();
        let range = start..start + len;
        ParameterGroup { range, shape, learning_rate_scale: 1.0, weight_decay_scale: 1.0 }
    }

    /// Outputs, and inputs of one output; `None` for scalars and vectors.
    pub fn matrix(&self) -> Option<(usize, usize)> {
        (self.shape.len() >= 2).then(|| (self.shape[0], self.shape[1..].iter().product()))
    }
}

/// The tensors of a flat vector: in order, without overlap. Positions of no group never change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterGroups(Vec<ParameterGroup>);

impl ParameterGroups {
    /// Groups as given.
    ///
    /// # Errors
    /// Groups that overlap, are not in order, or whose range is not as long as their shape takes.
    pub fn new(groups: Vec<ParameterGroup>) -> Result<Self, OptimizerError> {
        let mut end = 0;
        for (index, group) in groups.iter().enumerate() {
            let range = &group.range;
            let count = group.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if count.is_none() || range.end.checked_sub(range.start) != count {
                return Err(OptimizerError::GroupShape {
                    index,
                    start: range.start,
                    end: range.end,
                    shape: group.shape.clone(),
                });
            }
            if range.start < end {
                return Err(OptimizerError::GroupOrder { index, start: range.start, end });
            }
            end = range.end;
        }
        Ok(ParameterGroups(groups))
    }

    /// One group per tensor of a network.
    pub fn from_layout(layout: &Layout) -> Self {
        let group =
            |e: &weightspace_core::LayoutEntry| ParameterGroup::new(e.offset, e.shape.clone());
        ParameterGroups(layout.entries().iter().map(group).collect())
    }

    /// One vector without structure, as the coefficients of a method.
    pub fn vector(len: usize) -> Self {
        ParameterGroups(vec![ParameterGroup::new(0, vec![len])])
    }

    /// The same with weight decay on matrices and filters only: biases and normalisations have none.
    pub fn without_decay_on_vectors(mut self) -> Self {
        for group in self.0.iter_mut().filter(|g| g.matrix().is_none()) {
            group.weight_decay_scale = 0.0;
        }
        self
    }

    /// The groups in order.
    pub fn as_slice(&self) -> &[ParameterGroup] {
        &self.0
    }

    /// Length of the flat vector: the end of the last group.
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |g| g.range.end)
    }

    /// True when there is nothing to train.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
