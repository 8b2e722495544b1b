//! The ranks of all layers by one threshold: greedily the terms of the most energy per byte.

use super::decomposition::Decomposition;

/// The singular values of all layers, those first that are worth most.
pub(super) struct Ranks {
    /// For each layer, most terms that are no larger than the weight itself at 8 bits.
    most: Vec<usize>,
    /// The layer that each singular value, but the first of each layer, belongs to.
    order: Vec<usize>,
}

impl Ranks {
    /// Orders the terms of all layers; `bytes` is the size of an element of a factor.
    pub(super) fn new(decompositions: &[Decomposition], bytes: usize) -> Self {
        let most = decompositions.iter().map(|d| {
            let term = (d.elements_per_rank() * bytes).max(1);
            // A product as large as the weight is not worth it.
            d.element_count().div_ceil(term).saturating_sub(1)
        });
        let worth =
            |d: &Decomposition, energy: f64| energy / (d.elements_per_rank() * bytes) as f64;
        let mut terms: Vec<(f64, usize)> = Vec::new();
        for (layer, d) in decompositions.iter().enumerate() {
            terms.extend(d.energies().iter().skip(1).map(|&energy| (worth(d, energy), layer)));
        }
        // Stable: equal terms stay in the order of the layers.
        terms.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ranks { most: most.collect(), order: terms.into_iter().map(|(_, layer)| layer).collect() }
    }

    /// Number of all singular values, without the first of each layer, which is always kept.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// The rank of each layer when the first `kept` terms are kept beside the first of each layer; none
    /// for layers that are smaller as they are.
    pub(super) fn keeping(&self, kept: usize) -> Vec<Option<usize>> {
        let mut ranks = vec![1; self.most.len()];
        self.order[..kept.min(self.order.len())].iter().for_each(|&layer| ranks[layer] += 1);
        ranks.iter().zip(&self.most).map(|(&rank, &most)| (rank <= most).then_some(rank)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A diagonal weight of these singular values.
    fn diagonal(singular: &[f32]) -> Decomposition {
        let n = singular.len();
        let weight: Vec<f32> =
            (0..n * n).map(|i| if i % (n + 1) == 0 { singular[i / n] } else { 0.0 }).collect();
        Decomposition::new(&weight, n, None).unwrap()
    }

    #[test]
    fn terms_are_kept_by_energy_per_byte_and_large_factors_not_at_all() {
        let sharp = diagonal(&[10.0, 5.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]);
        let flat = diagonal(&[1.0; 12]);
        let ranks = Ranks::new(&[sharp, flat], 1);
        assert_eq!(ranks.count(), 18);
        assert_eq!(ranks.keeping(0), [Some(1), Some(1)]);
        // 25 / 125 of the energy in 16 bytes, against 1 / 12 in 24.
        assert_eq!(ranks.keeping(1), [Some(2), Some(1)]);
        assert_eq!(ranks.keeping(3), [Some(2), Some(3)]);
        // Rank 6 of 12 takes as many elements as the matrix.
        assert_eq!(ranks.keeping(6), [Some(2), None]);
        assert_eq!(ranks.keeping(99), [None, None]);
    }
}
