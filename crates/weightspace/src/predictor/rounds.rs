//! Progressive rounds: a reconstruction is smoother than what it reconstructs, and sometimes better; then
//! it becomes the next target (Choi et al., section 3.2).

use super::Target;

/// The best reconstruction of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// How good it is: higher is better.
    pub score: f64,
    /// Its distance from the target of its round (root mean square).
    pub error: f64,
    /// Which of the seeds it had.
    pub seed: u64,
    /// The predictor's coefficients.
    pub coefficients: Vec<f32>,
    /// The network's weights.
    pub weights: Vec<f32>,
}

/// A trained predictor: its coefficients and the weights that it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconstructed {
    /// The predictor's coefficients.
    pub coefficients: Vec<f32>,
    /// The network's weights.
    pub weights: Vec<f32>,
}

/// Reconstructs a target, with every seed, and then the best reconstruction, and so on, as long as the best of
/// a round is better than that of the round before it; for so many rounds at most. Returns the rounds
/// that were, of which the last one was not better than the one before unless the rounds ran out.
///
/// `reconstruct` trains for a target with a seed, `score` says how good weights are: their accuracy on
/// data held out.
///
/// # Errors
/// Those of `reconstruct` and `score`.
///
/// # Panics
/// If there are no seeds.
pub fn progressive<E>(
    target: &Target,
    seeds: &[u64],
    most_rounds: usize,
    mut reconstruct: impl FnMut(&Target, u64) -> Result<Reconstructed, E>,
    mut score: impl FnMut(&[f32]) -> Result<f64, E>,
) -> Result<Vec<Round>, E> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut target = target.clone();
    for _ in 0..most_rounds {
        let mut best: Option<Round> = None;
        for &seed in seeds {
            let Reconstructed { coefficients, weights } = reconstruct(&target, seed)?;
            let (score, error) = (score(&weights)?, target.rmse(&weights));
            if best.as_ref().is_none_or(|best| score > best.score) {
                best = Some(Round { score, error, seed, coefficients, weights });
            }
        }
        let best = best.expect("at least one seed");
        let better = rounds.last().is_none_or(|last| best.score > last.score);
        target = target.with_weights(best.weights.clone());
        rounds.push(best);
        if !better {
            break;
        }
    }
    Ok(rounds)
}
