//! Room for the values of the samples that run together.

use super::kernels::Choice;
use super::plan::{Pass, Plan};
use super::{LANES, Vector, zeros};

/// Values and gradients of one chunk of samples, one sample after the other.
pub(super) struct Workspace {
    /// Value i of the plan.
    pub values: Vec<Vec<Vector>>,
    /// Their gradients; a value has that of the elementwise pass behind it in common with it.
    pub gradients: Vec<Vec<Vector>>,
    /// For every value its place in `gradients`.
    pub slots: Vec<usize>,
    /// Per pass: which outputs were the largest, of products with a maximum.
    pub choices: Vec<Vec<Choice>>,
    /// Per pass: factors of dropouts.
    pub factors: Vec<Vec<Vector>>,
    /// Gradients of one sample's outputs before a maximum, where they are expanded.
    pub expanded: Vec<Vector>,
    /// Labels of the samples.
    pub labels: Vec<[u16; LANES]>,
}

impl Workspace {
    /// For a plan; without gradients if it only runs forward.
    pub fn new(plan: &Plan, trains: bool) -> Self {
        let chunk = plan.chunk;
        let (mut slots, mut gradients) = (Vec::new(), Vec::new());
        for (value, &len) in plan.lengths.iter().enumerate() {
            let shared = value > 0 && plan.passes[value - 1].is_elementwise();
            if !shared {
                // Nobody wants the gradient of the image.
                let needed = trains && !slots.is_empty();
                gradients.push(zeros(if needed { chunk * len } else { 0 }));
            }
            slots.push(gradients.len() - 1);
        }
        let choices = |(pass, &len): (&Pass, &usize)| match pass {
            Pass::Product(product) if product.pooled.is_some() => {
                vec![Choice::default(); chunk * len]
            }
            _ => Vec::new(),
        };
        let factors = |(pass, &len): (&Pass, &usize)| match pass {
            Pass::Dropout(_) if trains => zeros(chunk * len),
            _ => Vec::new(),
        };
        let expanded = |pass: &Pass| match pass {
            Pass::Product(p) if p.pooled.is_some() && !p.is_sparse() => p.unpooled_len(),
            _ => 0,
        };
        let passes = || plan.passes.iter().zip(&plan.lengths[1..]);
        let expanded = plan.passes.iter().map(expanded).max().unwrap_or(0);
        Workspace {
            values: plan.lengths.iter().map(|len| zeros(chunk * len)).collect(),
            gradients,
            slots,
            choices: passes().map(choices).collect(),
            factors: passes().map(factors).collect(),
            expanded: zeros(if trains { expanded } else { 0 }),
            labels: vec![[0; LANES]; chunk],
        }
    }
}
