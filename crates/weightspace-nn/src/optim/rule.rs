//! What an optimiser is to the code around it, and the walk over all values.

use super::{OptimizerError, ParameterGroup};

/// Values that one task works on. A quarter of a million values take some 100 us, which is worth another
/// thread; fewer are not.
const PIECE: usize = 1 << 18;

/// One way to change weights by gradients.
///
/// A rule keeps no vectors itself: it names at most two, each as long as the weights, that are kept for it.
pub(crate) trait Rule: Send + Sync {
    /// Checks the settings.
    fn check(&self) -> Result<(), OptimizerError>;

    /// Names of the vectors that it keeps.
    fn state_names(&self) -> &'static [&'static str];

    /// Replaces momentum, or the factor of the first running average.
    fn set_momentum(&mut self, momentum: f64);

    /// Changes a piece of a tensor, value by value.
    fn update(&self, step: &Step, piece: Piece<'_>);

    /// True if the tensor cannot be changed piece by piece: [`Rule::update_tensor`] does it instead.
    fn takes_whole(&self, _group: &ParameterGroup) -> bool {
        false
    }

    /// Changes a whole tensor for which [`Rule::takes_whole`] is true.
    fn update_tensor(&mut self, _step: &Step, _group: &ParameterGroup, _tensor: Piece<'_>) {
        unreachable!("only called for tensors that are taken whole")
    }
}

/// What holds for one tensor at one step.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// Number of this step, from 1.
    pub count: u64,
    /// Learning rate of this tensor.
    pub learning_rate: f64,
    /// Factor of the weight decay of this tensor.
    pub weight_decay_scale: f64,
}

impl Step {
    /// The step as it is for one tensor, `self` being the one for all.
    pub fn of(self, group: &ParameterGroup) -> Self {
        Step {
            count: self.count,
            learning_rate: self.learning_rate * group.learning_rate_scale,
            weight_decay_scale: group.weight_decay_scale,
        }
    }
}

/// The same positions of all vectors; state that a rule does not keep is empty.
pub(crate) struct Piece<'a> {
    pub weights: &'a mut [f32],
    pub gradient: &'a [f32],
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
}

impl<'a> Piece<'a> {
    fn split_at(self, position: usize) -> (Piece<'a>, Piece<'a>) {
        fn split(slice: &mut [f32], position: usize) -> (&mut [f32], &mut [f32]) {
            slice.split_at_mut(position.min(slice.len()))
        }
        let (weights, weights_after) = self.weights.split_at_mut(position);
        let (gradient, gradient_after) = self.gradient.split_at(position);
        let (first, first_after) = split(self.first, position);
        let (second, second_after) = split(self.second, position);
        let after = Piece {
            weights: weights_after,
            gradient: gradient_after,
            first: first_after,
            second: second_after,
        };
        (Piece { weights, gradient, first, second }, after)
    }

    /// The positions `start..end` alone.
    pub fn part(self, start: usize, end: usize) -> Piece<'a> {
        self.split_at(end).0.split_at(start).1
    }

    /// The same piece for a shorter time.
    pub fn reborrow(&mut self) -> Piece<'_> {
        Piece {
            weights: self.weights,
            gradient: self.gradient,
            first: self.first,
            second: self.second,
        }
    }
}

/// Lets `rule` change everything that is changed value by value, in `piece`, which begins at `offset` of
/// the flat vector.
pub(super) fn update_elementwise(
    rule: &dyn Rule,
    groups: &[ParameterGroup],
    step: Step,
    offset: usize,
    mut piece: Piece<'_>,
) {
    let len = piece.weights.len();
    if len > PIECE {
        let middle = len / 2;
        let (left, right) = piece.split_at(middle);
        rayon::join(
            || update_elementwise(rule, groups, step, offset, left),
            || update_elementwise(rule, groups, step, offset + middle, right),
        );
        return;
    }
    let end = offset + len;
    let begin = groups.partition_point(|g| g.range.end <= offset);
    for group in groups[begin..].iter().take_while(|g| g.range.start < end) {
        if !rule.takes_whole(group) {
            let from = group.range.start.max(offset) - offset;
            let to = group.range.end.min(end) - offset;
            rule.update(&step.of(group), piece.reborrow().part(from, to));
        }
    }
}
