//! Whether sampled networks are new: how far they are from known ones, and whose errors they make.

use serde::Serialize;
use weightspace_core::StateDict;
use weightspace_core::random::Stream;

use super::{SaneError, Standardisation, TokenLayout};

/// Tokens of networks, standardised, so that distances count all layers alike.
pub struct Auditor<'a> {
    layout: &'a TokenLayout,
    standardisation: &'a Standardisation,
    /// Tokens of every prompt.
    prompts: Vec<Vec<f32>>,
    /// Their mean.
    mean: Vec<f32>,
}

/// The prompt that is nearest to another network.
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
    /// Of the images that either has wrong, the share that both have wrong; 1 if neither has any.
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
        let errors = if either == 0 { 1.0 } else { share(both, either) };
        Agreement { errors, classes: share(same, both) }
    }
}

impl<'a> Auditor<'a> {
    /// With the networks that others were sampled from, all with their units in one order.
    ///
    /// # Errors
    /// A network of other tensors.
    ///
    /// # Panics
    /// If there is no prompt.
    pub fn new(
        (layout, standardisation): (&'a TokenLayout, &'a Standardisation),
        prompts: &[StateDict],
    ) -> Result<Self, SaneError> {
        let mut auditor =
            Auditor { layout, standardisation, prompts: Vec::new(), mean: Vec::new() };
        let prompts = prompts.iter().map(|network| auditor.tokens(network));
        let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
        let mean = (0..prompts[0].len()).map(|i| {
            let sum: f64 = prompts.iter().map(|tokens| f64::from(tokens[i])).sum();
            (sum / prompts.len() as f64) as f32
        });
        auditor.mean = mean.collect();
        auditor.prompts = prompts;
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

    /// Tokens of a prompt.
    ///
    /// # Panics
    /// If there is no such prompt.
    pub fn prompt(&self, index: usize) -> &[f32] {
        &self.prompts[index]
    }

    /// The prompt that is nearest to a network.
    pub fn nearest(&self, tokens: &[f32]) -> Nearest {
        let all = self.prompts.iter().enumerate();
        let distances =
            all.map(|(index, prompt)| Nearest { index, distance: distance(tokens, prompt) });
        distances.min_by(|a, b| a.distance.total_cmp(&b.distance)).expect("a prompt")
    }

    /// The mean distance of a prompt to the prompt that is nearest to it; nothing for a single one.
    pub fn spread(&self) -> Option<f64> {
        let prompts = self.prompts.len();
        let nearest = (0..prompts).map(|one| {
            let others = (0..prompts).filter(|&other| other != one);
            others.map(|other| distance(&self.prompts[one], &self.prompts[other])).reduce(f64::min)
        });
        let nearest: Option<Vec<f64>> = nearest.collect();
        nearest.map(|all| all.iter().sum::<f64>() / prompts as f64)
    }

    /// How far from the first prompt one that has nothing to do with it would be, of the same size and at right angles to it.
    pub fn unrelated(&self) -> f64 {
        let squares = self.prompts[0].iter().map(|&value| f64::from(value).powi(2));
        (2.0 * squares.sum::<f64>()).sqrt()
    }

    /// A network of these tokens with noise: as far from it as `away` says. What is no token is as in the reference.
    ///
    /// # Errors
    /// A reference of other tensors.
    pub fn with_noise(
        &self,
        tokens: &[f32],
        away: f64,
        mut random: Stream,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let mut noise = vec![0.0; tokens.len()];
        random.fill_normal(&mut noise);
        let mut mask = vec![0.0; tokens.len()];
        self.layout.mask(0..self.layout.token_count(), &mut mask);
        noise.iter_mut().zip(&mask).for_each(|(noise, mask)| *noise *= mask);
        let length = noise.iter().map(|&n| f64::from(n).powi(2)).sum::<f64>().sqrt();
        self.moved(tokens, &noise, away / length.max(f64::MIN_POSITIVE), reference)
    }

    /// A network of these tokens moved towards the mean of the prompts, as far as `away` says, but no farther than the mean.
    ///
    /// # Errors
    /// A reference of other tensors.
    pub fn towards_mean(
        &self,
        tokens: &[f32],
        away: f64,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let way: Vec<f32> = self.mean.iter().zip(tokens).map(|(mean, own)| mean - own).collect();
        let length = way.iter().map(|&n| f64::from(n).powi(2)).sum::<f64>().sqrt();
        let share = if length > 0.0 { (away / length).min(1.0) } else { 0.0 };
        self.moved(tokens, &way, share, reference)
    }

    fn moved(
        &self,
        tokens: &[f32],
        direction: &[f32],
        factor: f64,
        reference: &StateDict,
    ) -> Result<StateDict, SaneError> {
        let pairs = tokens.iter().zip(direction);
        let mut tokens: Vec<f32> =
            pairs.map(|(&k, &d)| (f64::from(k) + factor * f64::from(d)) as f32).collect();
        self.standardisation.undo_all(self.layout, &mut tokens);
        self.layout.detokenise(&tokens, reference)
    }
}

/// Euclidean distance of the tokens of two networks.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use weightspace_core::Tensor;
    use weightspace_core::random::Key;

    use super::super::TokenConfig;
    use super::*;

    #[test]
    fn errors_agree_where_both_are_wrong() {
        let labels = [0, 0, 0, 0, 1];
        let found = Agreement::of(&[0, 1, 2, 1, 1], &[0, 1, 1, 0, 1], &labels);
        assert_eq!(found, Agreement { errors: 2.0 / 3.0, classes: 0.5 });
        let perfect = Agreement::of(&labels, &labels, &labels);
        assert_eq!(perfect, Agreement { errors: 1.0, classes: 0.0 });
    }

    fn network(values: [f32; 4]) -> StateDict {
        [("w.weight".to_owned(), Tensor::from_f32(vec![2, 2], &values))].into_iter().collect()
    }

    #[test]
    fn moved_networks_are_as_far_as_they_should_be() {
        let prompts = [network([0.0; 4]), network([4.0, 0.0, 0.0, 0.0])];
        let config = TokenConfig { size: 3, normalisations: false };
        let layout = TokenLayout::new(&prompts[0].infos(), config).unwrap();
        let standard = Standardisation { mean: vec![0.5], deviation: vec![2.0] };
        let auditor = Auditor::new((&layout, &standard), &prompts).unwrap();
        assert_eq!(auditor.spread(), Some(2.0));
        let (first, reference) = (auditor.prompt(0), &prompts[0]);
        let far = |network: &StateDict| distance(&auditor.tokens(network).unwrap(), first);
        assert_eq!(far(&prompts[1]), 2.0);
        let noisy = |seed| {
            let random = Stream::new(Key::for_purpose(seed, "audit"), 0);
            auditor.with_noise(first, 0.3, random, reference).unwrap()
        };
        assert!((far(&noisy(1)) - 0.3).abs() < 1e-6);
        assert_ne!(noisy(1), noisy(2));
        let towards = |away| auditor.towards_mean(first, away, reference).unwrap();
        assert_eq!(towards(0.25), network([0.5, 0.0, 0.0, 0.0]));
        assert_eq!(towards(9.0), network([2.0, 0.0, 0.0, 0.0]));
        let found = auditor.nearest(&auditor.tokens(&noisy(1)).unwrap());
        assert_eq!(found.index, 0);
        let found = auditor.nearest(&auditor.tokens(&network([3.0, 0.0, 0.0, 0.0])).unwrap());
        assert_eq!(found, Nearest { index: 1, distance: 0.5 });
    }
}
