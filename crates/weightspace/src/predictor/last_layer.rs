//! The last layer in closed form: it is linear in what it gives.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};

use super::{Model, Target};

/// Rows whose activations are in memory at a time.
const BLOCK: usize = 4096;

/// The ridge, as a share of the mean square of the activations.
const RIDGE: f64 = 1e-6;

impl Model {
    /// Replaces the last layer's weight and bias by those of the least squares over all rows, given the
    /// layers before it; a small ridge keeps them bounded. With importances squares count as much.
    ///
    /// # Panics
    /// If coefficients, target or importances are not this model's.
    pub fn fit_last_layer(
        &self,
        target: &Target,
        importance: Option<&[f32]>,
        coefficients: &mut [f32],
        threads: usize,
    ) {
        let (rows, head) = (target.rows(), target.head());
        let importances = target.row_importances(importance);
        let column = |j: usize| importances.iter().skip(j).step_by(head);
        let mut columns: Vec<Vec<usize>> = Vec::new();
        for j in 0..head {
            match columns.iter_mut().find(|group| column(group[0]).eq(column(j))) {
                Some(group) => group.push(j),
                None => columns.push(vec![j]),
            }
        }
        let width = self.hidden() + 1;
        let mut sums: Vec<_> = columns
            .iter()
            .map(|group| (Mat::<f64>::zeros(width, width), Mat::<f64>::zeros(width, group.len())))
            .collect();
        self.for_each_activation(coefficients, threads, |first, activations| {
            let count = activations.len() / self.hidden();
            let value = |i: usize, j: usize| match j + 1 == width {
                true => 1.0,
                false => f64::from(activations[i * self.hidden() + j]),
            };
            let matrix = Mat::from_fn(count, width, value);
            for (group, (gram, products)) in columns.iter().zip(&mut sums) {
                let importance = |i: usize| f64::from(importances[(first + i) * head + group[0]]);
                let weighted = Mat::from_fn(count, width, |i, j| importance(i) * matrix[(i, j)]);
                let values = Mat::from_fn(count, group.len(), |i, j| {
                    f64::from(rows[(first + i) * head + group[j]])
                });
                *gram += weighted.transpose() * &matrix;
                *products += weighted.transpose() * values;
            }
        });
        let last = self.layers() - 1;
        let weight = self.range(&format!("layers.{last}.weight"));
        let bias = self.range(&format!("layers.{last}.bias"));
        for (group, (mut gram, products)) in columns.iter().zip(sums) {
            let mean = (0..width).map(|i| gram[(i, i)]).sum::<f64>() / width as f64;
            (0..width).for_each(|i| gram[(i, i)] += RIDGE * mean.max(f64::MIN_POSITIVE));
            let Ok(factor) = gram.llt(Side::Lower) else { continue };
            let found = factor.solve(&products);
            for (i, &output) in group.iter().enumerate() {
                let own = &mut coefficients[weight.start + output * self.hidden()..];
                (0..self.hidden()).for_each(|j| own[j] = found[(j, i)] as f32);
                coefficients[bias.start + output] = found[(width - 1, i)] as f32;
            }
        }
    }

    /// Calls `f` with the inputs of the last layer, some rows at a time, and the number of the first.
    fn for_each_activation(
        &self,
        coefficients: &[f32],
        threads: usize,
        mut f: impl FnMut(usize, &[f32]),
    ) {
        let net = self.hidden_network();
        let mut weights = vec![0.0; self.net().parameter_count()];
        self.expand(coefficients, &mut weights);
        let weights = &weights[..net.parameter_count()];
        let mut engine = TrainingEngine::new(&net, TrainingOptions::new(BLOCK, threads));
        for (block, inputs) in self.inputs().chunks(3 * BLOCK).enumerate() {
            let mut activations = vec![0.0; inputs.len() / 3 * self.hidden()];
            let batch = Batch { inputs, first: 0, mode: NormMode::Running, dropout: None };
            engine.forward(weights, batch, &mut activations);
            f(block * BLOCK, &activations);
        }
    }
}
