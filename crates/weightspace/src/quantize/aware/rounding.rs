//! Rounding of what is trained: parts of a vector on grids, and the price of the bits of their integers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::coder;
use super::rate::Rate;

/// How fast the price of a bit rises with the excess over the target: e-fold for every 1/50 of it.
const URGENCY: f64 = 50.0;

/// At most by so many e-folds.
const MOST_FOLDS: f64 = 4.0;

/// How fast the price of a bit follows an excess that lasts: e-fold for every 100 steps of 1/50 of it.
const IMPATIENCE: f64 = 0.5;

/// At most by so many e-folds: what a bit is worth differs by orders of magnitude from task to task.
const MOST_LASTING_FOLDS: f64 = 6.0;

/// Steps of training between two measurements of what the file's coder makes of the integers.
const MEASURED_EVERY: u64 = 100;

/// Times that another price of a bit is tried to meet a target: for a file, and in training.
const ROUNDS: usize = 12;
const TRAINING_ROUNDS: usize = 8;

/// Ratio of two prices that are tried one after the other in training.
const PRICE_STEP: f64 = 1.1;

/// With a price below this one rounding is to nearest, and a lower one changes nothing.
const LEAST_PRICE: f64 = 1e-3;

/// Part of a vector that is rounded, of rows of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundedPart {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub range: Range<usize>,
    /// The tensor's shape, by which the file's coder knows its neighbours.
    pub shape: Vec<usize>,
    /// The step of every row; one step is that of the whole part.
    pub steps: Vec<f32>,
    /// Largest magnitude of an integer.
    pub limit: f32,
}

impl RoundedPart {
    /// Its rows of the vector, with their steps.
    fn rows<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = (&'a [f32], f32)> {
        vector[self.range.clone()].chunks(self.row_len()).zip(self.steps.iter().copied())
    }

    fn row_len(&self) -> usize {
        (self.range.len() / self.steps.len().max(1)).max(1)
    }
}

/// What bits are to cost in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePrices {
    /// Price of a bit, in squared steps, when a value is rounded: that of the beginning, at which the excess over
    /// the target is measured.
    pub rounding: f64,
    /// Price in the loss of one bit for every value, where all parts together cost the target.
    pub loss: f64,
    /// What all parts are to cost together in the file.
    pub target_bits: f64,
    /// What they may cost at least and at most: beyond it the price when a value is rounded falls or rises.
    pub allowed_bits: [f64; 2],
}

impl RatePrices {
    /// Bits cost nothing: rounding is to nearest.
    pub const NONE: RatePrices =
        RatePrices { rounding: 0.0, loss: 0.0, target_bits: 1.0, allowed_bits: [1.0; 2] };
}

/// Rounds parts of a vector to whole steps.
///
/// An integer is chosen for the least of squared error and price of its bits. That price rises where all integers together are
/// larger than they may be, so that what is trained is what the file will hold, and falls where they are smaller; that of
/// bits in the loss rises and falls with the distance to the target at the price of the beginning, at once and in the long run.
#[derive(Clone, Debug)]
pub struct Rounding {
    parts: Vec<RoundedPart>,
    /// What each part's integers cost, since it was last rounded.
    rates: Vec<Rate>,
    prices: RatePrices,
    /// Steps of training so far.
    steps: u64,
    /// Bits in the file for each bit by frequencies, when that was last measured: the coder also knows neighbours.
    coded_share: f64,
    /// Price of a bit, in squared steps, at which the integers had the target's size when that was last measured.
    price: f64,
    /// E-folds by which the price in the loss follows the excess of all steps so far.
    folds: f64,
}

impl Rounding {
    /// Of these parts.
    pub fn new(parts: Vec<RoundedPart>, prices: RatePrices) -> Self {
        let rates = parts.iter().map(|_| Rate::new([].into_iter())).collect();
        Rounding {
            parts,
            rates,
            prices,
            steps: 0,
            coded_share: 1.0,
            price: prices.rounding,
            folds: 0.0,
        }
    }

    /// The parts.
    pub fn parts(&self) -> &[RoundedPart] {
        &self.parts
    }

    /// Writes the rounded parts of a vector, and leaves the rest of the other as it is.
    ///
    /// # Panics
    /// If a vector is shorter than it should be.
    pub fn round(&mut self, values: &[f32], rounded: &mut [f32]) {
        for (part, rate) in self.parts.iter().zip(&mut self.rates) {
            let own = &mut rounded[part.range.clone()];
            *rate = integers(part, values, self.price as f32, own);
            let rows = own.chunks_mut(part.row_len()).zip(&part.steps);
            rows.for_each(|(row, step)| row.iter_mut().for_each(|value| *value *= step));
        }
    }

    /// The integers of all parts by name, at another price of a bit in squared steps.
    ///
    /// # Panics
    /// If the vector is shorter than it should be.
    pub fn integers(&self, values: &[f32], price: f64) -> BTreeMap<String, Vec<i32>> {
        let of = |part: &RoundedPart| {
            let mut rounded = vec![0.0; part.range.len()];
            integers(part, values, price as f32, &mut rounded);
            (part.name.clone(), rounded.iter().map(|&integer| integer as i32).collect())
        };
        self.parts.iter().map(of).collect()
    }

    /// Bits of all integers by their frequencies when the vector was last rounded.
    fn bits(&self, values: &[f32]) -> f64 {
        let price = self.prices.rounding as f32;
        let of = |(part, rate): (&RoundedPart, &Rate)| -> f64 {
            let bits = part.rows(values).flat_map(|(row, step)| {
                row.iter().map(move |value| {
                    let integer = rate.round(value / step, price).abs().min(part.limit);
                    f64::from(rate.of(integer))
                })
            });
            bits.sum()
        };
        self.parts.iter().zip(&self.rates).map(of).sum()
    }

    /// The price of a bit, in squared steps, of a [`memory`](Self::memory); with an empty one the least.
    pub fn price_of(memory: &[f64], least: f64) -> f64 {
        memory.get(2).copied().unwrap_or(least)
    }

    /// What [`remember`](Self::remember) takes: steps so far, and what was measured.
    pub fn memory(&self) -> Vec<f64> {
        vec![self.steps as f64, self.coded_share, self.price, self.folds]
    }

    /// Continues where another left off.
    pub fn remember(&mut self, memory: &[f64]) {
        if let &[steps, coded_share, price, folds] = memory {
            (self.steps, self.coded_share) = (steps as u64, coded_share);
            (self.price, self.folds) = (price, folds);
        }
    }

    /// Adds the gradient of what the bits of the vector last rounded cost in the loss: once for every step.
    pub fn add_gradient(&mut self, values: &[f32], gradient: &mut [f32]) {
        if self.prices == RatePrices::NONE {
            return;
        }
        let count: usize = self.parts.iter().map(|part| part.range.len()).sum();
        let bits = self.bits(values);
        if self.steps.is_multiple_of(MEASURED_EVERY) {
            let coded = |price| coder::bits(&self.parts, self.integers(values, price));
            let share = coded(self.prices.rounding) / bits.max(1.0);
            (self.coded_share, self.price) =
                (share, price_for(self.price, self.prices.allowed_bits, coded));
        }
        self.steps += 1;
        let excess = self.coded_share * bits / self.prices.target_bits - 1.0;
        self.folds =
            (self.folds + IMPATIENCE * excess).clamp(-MOST_LASTING_FOLDS, MOST_LASTING_FOLDS);
        let folds = self.folds + (URGENCY * excess).clamp(-MOST_FOLDS, MOST_FOLDS);
        let price = self.prices.loss / count.max(1) as f64 * folds.exp();
        for (part, rate) in self.parts.iter().zip(&self.rates) {
            let own = gradient[part.range.clone()].chunks_mut(part.row_len());
            for (gradient, (row, step)) in own.zip(part.rows(values)) {
                let per_step = step.recip();
                let price = price as f32 * per_step;
                for (gradient, value) in gradient.iter_mut().zip(row) {
                    let value = value * per_step;
                    *gradient += (price * rate.slope(value.abs())).copysign(value);
                }
            }
        }
    }
}

/// Passes of [`integers`] at most.
const PASSES: usize = 8;

/// Writes a part's integers, and returns what they cost. That follows from how often they occur, and this from
/// what they cost: pass by pass, until none changes.
pub(super) fn integers(
    part: &RoundedPart,
    values: &[f32],
    price: f32,
    rounded: &mut [f32],
) -> Rate {
    let in_steps: Vec<f32> = part
        .rows(values)
        .flat_map(|(row, step)| {
            let per_step = step.recip();
            row.iter().map(move |value| value * per_step)
        })
        .collect();
    let mut rate = Rate::new(in_steps.iter().map(|value| value.round() as i32));
    for pass in 0..PASSES {
        let mut changed = pass == 0;
        for (rounded, &value) in rounded.iter_mut().zip(&in_steps) {
            let integer = rate.round(value, price).clamp(-part.limit, part.limit);
            changed |= *rounded != integer;
            *rounded = integer;
        }
        if !changed {
            break;
        }
        rate = Rate::new(rounded.iter().map(|&integer| integer as i32));
    }
    rate
}

/// A price at which values cost what is allowed, near to one that was right the last time, or as far towards it as a
/// few steps lead.
fn price_for(near: f64, [least, most]: [f64; 2], cost: impl Fn(f64) -> f64) -> f64 {
    let (mut too_low, mut too_high, mut price) = (None, None, near);
    for _ in 0..TRAINING_ROUNDS {
        match cost(price) {
            bits if bits > most => too_low = Some(price),
            bits if bits < least && price > LEAST_PRICE => too_high = Some(price),
            _ => return price,
        }
        price = match (too_low, too_high) {
            (Some(low), Some(high)) => 0.5 * (low + high),
            // Prices change little from one measurement to the next.
            (Some(low), None) => PRICE_STEP * low + LEAST_PRICE,
            (None, Some(high)) => high / PRICE_STEP,
            (None, None) => unreachable!("one of both was just set"),
        };
    }
    // Rather too small than too large.
    too_high.unwrap_or(price)
}

/// The first file of at most so many bytes, by the price of a bit in squared steps at which `file` rounds: from
/// `price` on upwards, as little as is needed. `None` if no price is high enough.
///
/// # Errors
/// The first of `file`.
pub fn smallest_price<E>(
    price: f64,
    most_bytes: u64,
    mut file: impl FnMut(f64) -> Result<Vec<u8>, E>,
) -> Result<Option<Vec<u8>>, E> {
    let fits = |file: &[u8]| file.len() as u64 <= most_bytes;
    let mut best = file(price)?;
    if fits(&best) {
        return Ok(Some(best));
    }
    let (mut low, mut high) = (price, None);
    for _ in 0..ROUNDS {
        let price = high.map_or(2.0 * low + 0.01, |high| 0.5 * (low + high));
        let found = file(price)?;
        match fits(&found) {
            true => (best, high) = (found, Some(price)),
            false => low = price,
        }
    }
    Ok(fits(&best).then_some(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_goes_where_the_size_is_allowed() {
        let cost = |price: f64| 100.0 / (1.0 + price);
        for (near, allowed) in [(0.1, [80.0, 81.0]), (1.0, [80.0, 81.0]), (0.24, [80.0, 81.0])] {
            let price = price_for(near, allowed, cost);
            // From far away some measurements are needed.
            let price = (0..8).fold(price, |price, _| price_for(price, allowed, cost));
            assert!((80.0..=81.0).contains(&cost(price)), "from {near}: {price}");
        }
        assert_eq!(price_for(0.24, [80.0, 81.0], cost), 0.24);
        assert!(price_for(0.0, [0.0, 90.0], cost) > 0.0);
        // What is smaller with any price stays at a small one.
        let price = (0..80).fold(0.1, |price, _| price_for(price, [200.0, 300.0], cost));
        assert!((1e-4..2e-3).contains(&price), "{price}");
    }
}
