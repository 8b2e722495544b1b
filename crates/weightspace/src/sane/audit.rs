//! Whether sampled networks are new: how far they are from known ones, and whose errors they make.

use serde::Serialize;
use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};

use super::{SaneError, Standardisation, TokenLayout};

/// Tokens of networks, standardised, so that distances count all layers alike.
pub struct Auditor<'a> {
    layout: &'a TokenLayout,
    standardisation: &'a Standardisation,
    /// Tokens of every known network.
    known: Vec<Vec<f32>>,
    /// The mean of those that are prompts.
    mean: Vec<f32>,
}

/// The known network that is nearest to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// Its number.
    pub index: usize,
    /// Euclidean distance of standardised weights.
    pub distance: f64,
}

/// How the errors of two networks on the same images go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Of the images that either has wrong, the share that both have wrong.
    pub errors: f64,
    /// Of the images that both have wrong, the share to which both give the same class.
    pub classes: f64,
}

impl Agreement {
    /// Of the predictions of two networks.
    ///
    /// # Panics
    /// If there are not as many predictions as labels.
    pub fn of(a: &[u16], b: &[u16], labels: &[u16]) -> Self {
        assert!(a.len() == labels.len() && b.len() == labels.len(), "predictions of all images");
        let (mut either, mut both, mut same) = (0usize, 0usize, 0usize);
        for ((a, b), label) in a.iter().zip(b).zip(labels) {
            either += usize::from(a != label || b != label);
            both += usize::from(a != label && b != label);
            same += usize::from(a != label && a == b);
        }
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        Agreement { errors: share(both, either), classes: share(same, both) }
    }
}

impl<'a> Auditor<'a> {
    /// With known networks, of which the first `prompts` are what others were sampled from. All have their units in one
    /// order.
    ///
    /// # Errors
    /// A network of other tensors.
    ///
    /// # Panics
    /// If there is no prompt, or fewer networks than these.
    pub fn new(
        (layout, standardisation): (&'a TokenLayout, &'a Standardisation),
        known: &[StateDict],
        prompts: usize,
    ) -> Result<Self, SaneError> {
        assert!((1..=known.len()).contains(&prompts), "prompts among the known networks");
        let mut auditor = Auditor { layout, standardisation, known: Vec::new(), mean: Vec::new() };
        let known = known.iter().map(|network| auditor.tokens(network));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let mean = (0..known[0].len()).map(|i| {
            let sum: f64 = known[..prompts].iter().map(|tokens| f64::from(tokens[i])).sum();
            (sum / prompts as f64) as f32
        });
        auditor.mean = mean.collect();
        auditor.known = known;
        Ok(auditor)
    }

    /// Standardised tokens of a network.
    ///
    /// # Errors
    /// A network of other tensors.
    pub fn tokens(&self, network: &StateDict) -> Result<Vec<f32>, SaneError> {
        let mut tokens = self.layout.tokenise(network)?;
        self.standardisation.apply_all(self.layout, &mut tokens);
        Ok(tokens)
    }

    /// The nearest of some of the known networks.
    ///
    /// # Panics
    /// If there is none.
    pub fn nearest(&self, tokens: &[f32], among: std::ops::Range<usize>) -> Nearest {
        let distances = among.map(|index| {
            let distance = distance(tokens, &self.known[index]);
            Nearest { index, distance }
        });
        distances.min_by(|a, b| a.distance.total_cmp(&b.distance)).expect("a known network")
    }

    /// The mean distance of a prompt to the prompt that is nearest to it; nothing for a single one.
    pub fn spread(&self, prompts: usize) -> Option<f64> {
        let nearest = (0..prompts).map(|one| {
            let others = (0..prompts).filter(|&other| other != one);
            others.map(|other| distance(&self.known[one], &self.known[other])).reduce(f64::min)
        });
        let nearest: Option<Vec<f64>> = nearest.collect();
        nearest.map(|all| all.iter().sum::<f64>() / all.len().max(1) as f64)
    }

    /// How far from a known network one that has nothing to do with it would be, of the same size and at right angles to it.
    ///
    /// # Panics
    /// If there is no such network.
    pub fn unrelated(&self, index: usize) -> f64 {
        let squares = self.known[index].iter().map(|&value| f64::from(value).powi(2));
        (2.0 * squares.sum::<f64>()).sqrt()
    }

    /// A known network with noise: as far from it as `distance` says.
    ///
    /// # Errors
    /// A reference of other tensors.
    pub fn with_noise(
        &self,
        index: usize,
        away: f64,
        seed: u64,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let known = &self.known[index];
        let mut noise = vec![0.0; known.len()];
        let key = Key::for_purpose(seed, "audit");
        Stream::new(key, index as u64).fill_normal(&mut noise);
        let mut mask = vec![0.0; known.len()];
        self.layout.mask(0..self.layout.token_count(), &mut mask);
        noise.iter_mut().zip(&mask).for_each(|(noise, mask)| *noise *= mask);
        let length = noise.iter().map(|&n| f64::from(n).powi(2)).sum::<f64>().sqrt();
        self.moved(index, &noise, away / length.max(f64::MIN_POSITIVE), reference)
    }

    /// A known network moved towards the mean of the prompts, as far as `distance` says, but no farther than the mean.
    ///
    /// # Errors
    /// A reference of other tensors.
    pub fn towards_mean(
        &self,
        index: usize,
        away: f64,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let known = &self.known[index];
        let way: Vec<f32> = self.mean.iter().zip(known).map(|(mean, known)| mean - known).collect();
        let length = way.iter().map(|&n| f64::from(n).powi(2)).sum::<f64>().sqrt();
        let share = if length > 0.0 { (away / length).min(1.0) } else { 0.0 };
        self.moved(index, &way, share, reference)
    }

    fn moved(
        &self,
        index: usize,
        direction: &[f32],
        factor: f64,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let pairs = self.known[index].iter().zip(direction);
        let mut tokens: Vec<f32> =
            pairs.map(|(&k, &d)| (f64::from(k) + factor * f64::from(d)) as f32).collect();
        self.standardisation.undo_all(self.layout, &mut tokens);
        self.layout.detokenise(&tokens, reference)
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use weightspace_core::Tensor;

    use super::super::TokenConfig;
    use super::*;

    #[test]
    fn errors_agree_where_both_are_wrong() {
        let labels = [0, 0, 0, 0, 1];
        let found = Agreement::of(&[0, 1, 2, 1, 1], &[0, 1, 1, 0, 1], &labels);
        assert_eq!(found, Agreement { errors: 2.0 / 3.0, classes: 0.5 });
        assert_eq!(Agreement::of(&labels, &labels, &labels), Agreement::default());
    }

    fn network(values: [f32; 4]) -> StateDict {
        [("w.weight".to_owned(), Tensor::from_f32(vec![2, 2], &values))].into_iter().collect()
    }

    #[test]
    fn moved_networks_are_as_far_as_they_should_be() {
        let known = [network([0.0; 4]), network([4.0, 0.0, 0.0, 0.0]), network([1.0; 4])];
        let config = TokenConfig { size: 3, normalisations: false };
        let layout = TokenLayout::new(&known[0].infos(), config).unwrap();
        let standard = Standardisation { mean: vec![0.5], deviation: vec![2.0] };
        let auditor = Auditor::new((&layout, &standard), &known, 2).unwrap();
        assert_eq!(auditor.spread(2), Some(2.0));
        let far = |network: &StateDict| {
            let tokens = auditor.tokens(network).unwrap();
            distance(&tokens, &auditor.known[0])
        };
        assert_eq!(far(&known[1]), 2.0);
        let noisy = auditor.with_noise(0, 0.3, 1, &known[0]).unwrap();
        assert!((far(&noisy) - 0.3).abs() < 1e-6);
        assert_ne!(noisy, auditor.with_noise(0, 0.3, 2, &known[0]).unwrap());
        let nearer = auditor.towards_mean(0, 0.25, &known[0]).unwrap();
        assert_eq!(nearer, network([0.5, 0.0, 0.0, 0.0]));
        assert_eq!(auditor.towards_mean(0, 9.0, &known[0]).unwrap(), network([2.0, 0.0, 0.0, 0.0]));
        let tokens = auditor.tokens(&noisy).unwrap();
        assert_eq!(auditor.nearest(&tokens, 0..3).index, 0);
        assert_eq!(auditor.nearest(&tokens, 1..3).index, 2);
    }
}
