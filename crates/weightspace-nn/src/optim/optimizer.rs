//! An optimiser at work: its state, and the step.

use super::centralization::centralize;
use super::rule::{Piece, Rule, Step, update_elementwise};
use super::{Lookahead, OptimizerConfig, OptimizerError, ParameterGroups};

const SLOW_WEIGHTS: &str = "slow_weights";

/// An optimiser with its state, for one flat vector of weights.
pub struct Optimizer {
    groups: ParameterGroups,
    rule: Box<dyn Rule>,
    step_count: u64,
    /// Vectors that the rule names: at most two; those that it does not keep are empty.
    vectors: [Vec<f32>; 2],
    /// Settings and slow weights.
    lookahead: Option<(Lookahead, Vec<f32>)>,
    /// Room for the centralised gradient, if it is centralised.
    centralized: Option<Vec<f32>>,
}

impl Optimizer {
    /// An optimiser before its first step. Everything it will ever need is allocated here.
    ///
    /// # Errors
    /// Settings out of their ranges.
    pub fn new(config: &OptimizerConfig, groups: ParameterGroups) -> Result<Self, OptimizerError> {
        let rule = config.rule(groups.as_slice());
        rule.check()?;
        let mut vectors = [Vec::new(), Vec::new()];
        for (vector, _) in vectors.iter_mut().zip(rule.state_names()) {
            vector.resize(groups.len(), 0.0);
        }
        let optimizer =
            Optimizer { groups, rule, step_count: 0, vectors, lookahead: None, centralized: None };
        match config {
            OptimizerConfig::Ranger(ranger) => {
                let optimizer = optimizer.with_lookahead(ranger.lookahead)?;
                Ok(match ranger.centralize {
                    true => optimizer.with_gradient_centralization(),
                    false => optimizer,
                })
            }
            _ => Ok(optimizer),
        }
    }

    /// The same inside Lookahead; before the first step.
    ///
    /// # Errors
    /// Settings out of their ranges.
    pub fn with_lookahead(mut self, lookahead: Lookahead) -> Result<Self, OptimizerError> {
        lookahead.check()?;
        self.lookahead = Some((lookahead, vec![0.0; self.groups.len()]));
        Ok(self)
    }

    /// The same on centralised gradients: every output's gradient without its mean; vectors stay as they are.
    pub fn with_gradient_centralization(mut self) -> Self {
        self.centralized = Some(vec![0.0; self.groups.len()]);
        self
    }

    /// The tensors that it changes.
    pub fn groups(&self) -> &ParameterGroups {
        &self.groups
    }

    /// Steps taken so far.
    pub fn step_count(&self) -> u64 {
        self.step_count
    }

    /// Replaces the momentum of SGD and Muon, or the first beta of the others, from the next step on: what
    /// one-cycle schedules ask for. SGD made without momentum stays without.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.rule.set_momentum(momentum);
    }

    /// Changes `weights` by `gradient`; positions that belong to no group stay as they are.
    ///
    /// # Panics
    /// If a slice does not have the length that the groups span.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f64) {
        let len = self.groups.len();
        assert_eq!(weights.len(), len, "weights of the optimizer");
        assert_eq!(gradient.len(), len, "gradient of the optimizer");
        if let (Some((_, slow)), 0) = (&mut self.lookahead, self.step_count) {
            slow.copy_from_slice(weights);
        }
        self.step_count += 1;

        let groups = self.groups.as_slice();
        let gradient = match &mut self.centralized {
            Some(centralized) => {
                centralize(groups, gradient, centralized);
                centralized
            }
            None => gradient,
        };
        let step = Step { count: self.step_count, learning_rate, weight_decay_scale: 1.0 };
        let [first, second] = &mut self.vectors;
        let mut piece = Piece { weights: &mut *weights, gradient, first, second };
        update_elementwise(&*self.rule, groups, step, 0, piece.reborrow());
        for group in groups {
            if self.rule.takes_whole(group) {
                let tensor = piece.reborrow().part(group.range.start, group.range.end);
                self.rule.update_tensor(&step.of(group), group, tensor);
            }
        }
        if let Some((lookahead, slow)) = &mut self.lookahead {
            lookahead.follow(self.step_count, weights, slow);
        }
    }

    /// Vectors that must be stored for an exact continuation, together with [`Optimizer::step_count`]: names
    /// in a fixed order, each as long as the weights.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        let vectors = self.vectors.iter().map(Vec::as_slice);
        let mut state: Vec<_> = self.rule.state_names().iter().copied().zip(vectors).collect();
        state.extend(self.lookahead.as_ref().map(|(_, slow)| (SLOW_WEIGHTS, slow.as_slice())));
        state
    }

    /// Continues where an optimiser with the same settings was when it gave this state.
    ///
    /// # Errors
    /// A vector that is missing, unknown or of another length; the optimiser is as before then.
    pub fn load_state(
        &mut self,
        step_count: u64,
        state: &[(&str, &[f32])],
    ) -> Result<(), OptimizerError> {
        let expected = self.groups.len();
        let own: Vec<_> = self.state().iter().map(|&(name, _)| name).collect();
        for (name, values) in state {
            if !own.contains(name) {
                return Err(OptimizerError::StateUnknown { name: (*name).into() });
            }
            if values.len() != expected {
                let (name, found) = ((*name).into(), values.len());
                return Err(OptimizerError::StateLength { name, found, expected });
            }
        }
        let find = |name: &'static str| {
            let found = state.iter().find(|(other, _)| *other == name).map(|(_, values)| *values);
            found.ok_or(OptimizerError::StateMissing { name })
        };
        let values = own.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;

        let slow = self.lookahead.iter_mut().map(|(_, slow)| slow);
        let vectors = self.vectors.iter_mut().take(self.rule.state_names().len());
        vectors.chain(slow).zip(values).for_each(|(own, values)| own.copy_from_slice(values));
        self.step_count = step_count;
        Ok(())
    }
}
