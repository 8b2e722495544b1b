//! What the values already coded tell of the next one: the contexts of its decisions.
//!
//! Magnitudes are in 1/256 of a quantisation step ("fine" units) wherever they are averaged.

use super::bit_length;
use super::statistics::{FINE_LEVELS, LEVELS, Mean, fine_level, level};

/// Kinds of contexts of a magnitude, and how many contexts each kind has.
pub(super) const KINDS: usize = 8;
pub(super) const MAGNITUDE_CONTEXTS: [usize; KINDS] = [
    1,
    LEVELS * LEVELS,
    LEVELS * LEVELS,
    FINE_LEVELS,
    32 * LEVELS,
    5 * 5 * 5 * 5,
    16 * LEVELS,
    25 * LEVELS,
];

/// Kinds of contexts of a sign.
pub(super) const SIGN_KINDS: usize = 3;
pub(super) const SIGN_CONTEXTS: [usize; SIGN_KINDS] = [27, 32, 32 * 16];

/// Most values of a kernel that predict the next one.
const TAPS: usize = 24;

/// Columns (and input channels) whose means are told apart.
const COLUMNS: usize = 1 << 16;

/// Largest magnitude that is told apart from larger ones.
const LARGEST: i32 = (1 << 20) - 1;

fn fine(value: i32) -> u32 {
    value.unsigned_abs().min(LARGEST as u32) << 8
}

/// Linear prediction of a value from those before it in its kernel, for every position in the
/// kernel, learnt by least mean squares; carries over from tensor to tensor.
pub(super) struct Filter {
    /// Of each position (the last stands for all beyond) the weights by distance, of 2^16.
    weights: [[i32; TAPS]; 32],
}

impl Filter {
    pub(super) fn new() -> Self {
        Filter { weights: [[0; TAPS]; 32] }
    }

    /// The prediction in fine units from the values before, the last at distance 1.
    #[inline(always)]
    fn predict(&self, position: usize, before: &[i32]) -> i64 {
        let weights = &self.weights[position.min(31)];
        let products =
            before.iter().rev().zip(weights).map(|(&value, &weight)| {
                i64::from(value.clamp(-LARGEST, LARGEST)) * i64::from(weight)
            });
        products.sum::<i64>() >> 8
    }

    /// Learns from the error of a prediction, in fine units.
    #[inline(always)]
    fn learn(&mut self, position: usize, before: &[i32], error: i64, origin: u32) {
        let relative = ((error * 2) >> origin).clamp(-4095, 4095);
        let gain = (relative * 200) >> origin;
        for (&value, weight) in before.iter().rev().zip(&mut self.weights[position.min(31)]) {
            let change = (gain * i64::from(value.clamp(-LARGEST, LARGEST))) >> 8;
            *weight = (i64::from(*weight) + change).clamp(-(1 << 20), 1 << 20) as i32;
        }
    }
}

/// Running means of the magnitudes in one tensor, by row, column, input channel and position.
///
/// A row holds the weights of one output channel, a column the same weight of all of them; input
/// channels are groups of columns, one per position in the kernel.
pub(super) struct Neighbourhood {
    origin: u32,
    columns: usize,
    area: usize,
    width: usize,
    column: usize,
    tensor_mean: Mean,
    row_mean: Mean,
    column_means: Vec<Option<Mean>>,
    input_means: Vec<Option<Mean>>,
    position_means: Vec<Option<Mean>>,
}

impl Neighbourhood {
    /// Before the value at `first` in the row-major order of a tensor that is not empty.
    pub(super) fn new(shape: &[usize], first: usize, origin: u32) -> Self {
        let (columns, area, width) = match shape {
            [] => (1, 1, 1),
            [length] => (*length, 1, 1),
            [_, inputs] => (*inputs, 1, 1),
            [_, inputs, kernel @ ..] => {
                let area = kernel.iter().product::<usize>();
                (inputs * area, area, kernel[kernel.len() - 1])
            }
        };
        let start = Mean::new(128 << origin, 4);
        Neighbourhood {
            origin,
            columns,
            area,
            width,
            column: first % columns,
            tensor_mean: start,
            row_mean: start,
            column_means: vec![None; columns.min(COLUMNS)],
            input_means: vec![None; (columns / area).min(COLUMNS)],
            position_means: vec![None; area.min(32)],
        }
    }

    /// What is known of the next value; `before` are the values of the tensor before it, as far as
    /// they are in the same section.
    #[inline(always)]
    pub(super) fn look(&mut self, before: &[i32], filter: &Filter) -> Place {
        let position = self.column % self.area;
        if self.column == 0 {
            self.row_mean = Mean::new(self.tensor_mean.value(), 4);
        }
        let start = Mean::new(self.tensor_mean.value(), 1);
        let input = &mut self.input_means[self.column / self.area % COLUMNS];
        let input = input.get_or_insert(start).value();
        let of_position = self.position_means[position.min(31)].get_or_insert(start).value();
        let column = self.column_means[self.column % COLUMNS]
            .get_or_insert(Mean::new(input.midpoint(of_position), 1))
            .value();
        let at = |distance: usize, inside: bool| match before.len().checked_sub(distance) {
            Some(index) if inside => before[index],
            _ => 0,
        };
        let kernel = &before[before.len() - position.min(TAPS).min(before.len())..];
        let kernel_sum: u64 = kernel.iter().map(|&value| u64::from(fine(value))).sum();
        Place {
            origin: self.origin,
            position,
            tensor: self.tensor_mean.value(),
            row: self.row_mean.value(),
            column,
            input,
            of_position,
            kernel_mean: kernel_sum.checked_div(kernel.len() as u64).map(|mean| mean as u32),
            kernel_length: kernel.len(),
            last: at(1, true),
            second_last: at(2, true),
            left: at(1, !position.is_multiple_of(self.width)),
            up: at(self.width, position >= self.width),
            last_input: at(self.area, self.column >= self.area),
            prediction: filter.predict(position, kernel),
        }
    }

    /// Takes in the value at the place that was looked at.
    #[inline(always)]
    pub(super) fn learn(&mut self, before: &[i32], place: &Place, value: i32, filter: &mut Filter) {
        if place.kernel_length > 0 {
            let kernel = &before[before.len() - place.kernel_length..];
            let error = i64::from(value.clamp(-LARGEST, LARGEST)) * 256 - place.prediction;
            filter.learn(place.position, kernel, error, place.origin);
        }
        let target = fine(value);
        self.tensor_mean.observe(target, 1_000);
        self.row_mean.observe(target, 255);
        let input = &mut self.input_means[self.column / self.area % COLUMNS];
        let of_position = &mut self.position_means[place.position.min(31)];
        let column = &mut self.column_means[self.column % COLUMNS];
        for (mean, most) in [(input, 100), (of_position, 1_000), (column, 20)] {
            if let Some(mean) = mean {
                mean.observe(target, most);
            }
        }
        self.column = (self.column + 1) % self.columns;
    }
}

/// What is known of one value before it is coded.
pub(super) struct Place {
    origin: u32,
    position: usize,
    /// Mean magnitudes.
    tensor: u32,
    row: u32,
    column: u32,
    input: u32,
    of_position: u32,
    /// Mean magnitude of the values before in the kernel, if there are any.
    kernel_mean: Option<u32>,
    kernel_length: usize,
    last: i32,
    second_last: i32,
    left: i32,
    up: i32,
    last_input: i32,
    prediction: i64,
}

impl Place {
    /// One context of each kind for the decisions about the magnitude.
    #[inline(always)]
    pub(super) fn contexts(&self) -> [usize; KINDS] {
        let level = |mean| level(mean, self.origin);
        let sum = u64::from(self.row) + u64::from(self.column) + u64::from(self.input);
        let mean = ((sum + u64::from(self.of_position)) / 4) as u32;
        let columns = (u64::from(self.column) + u64::from(self.input)) / 2;
        let product =
            (u64::from(self.row) * columns / u64::from(self.tensor.max(1))).min(1 << 28) as u32;
        let strength = (self.prediction.abs() >> (4 + self.origin)).min(15) as usize;
        let neighbours = [self.last, self.second_last, self.last_input, self.up];
        [
            0,
            level(self.column) * LEVELS + level(self.input),
            level(self.row) * LEVELS + level(self.input),
            fine_level(product, self.origin),
            self.position.min(31) * LEVELS + level(self.of_position),
            neighbours.iter().fold(0, |context, &value| context * 5 + self.relative_length(value)),
            strength * LEVELS + level(mean),
            self.position.min(24) * LEVELS + self.kernel_mean.map_or(LEVELS - 1, level),
        ]
    }

    /// The bit length of a value, 0 to 4: 2 is the origin.
    #[inline(always)]
    fn relative_length(&self, value: i32) -> usize {
        (bit_length(value.unsigned_abs()) + 2).saturating_sub(self.origin).min(4) as usize
    }

    /// The sign of the prediction.
    #[inline(always)]
    pub(super) fn expects_negative(&self) -> bool {
        self.prediction < 0
    }

    /// One context of each kind for the decision whether the sign is the opposite of the
    /// expected one.
    #[inline(always)]
    pub(super) fn sign_contexts(&self, magnitude: u32) -> [usize; SIGN_KINDS] {
        let agreement = |value: i32| match value.signum() {
            0 => 1,
            sign if (sign < 0) == self.expects_negative() => 2,
            _ => 0,
        };
        let neighbours = [self.left, self.up, self.last_input];
        let signs = neighbours.iter().fold(0, |context, &value| context * 3 + agreement(value));
        let product = self.prediction.abs() * i64::from(magnitude.min(LARGEST as u32));
        let evidence = ((product * 3) >> (4 + 2 * self.origin)).min(31) as usize;
        let position = self.position.min(31);
        [signs, evidence, position * 16 + evidence.min(15)]
    }
}
