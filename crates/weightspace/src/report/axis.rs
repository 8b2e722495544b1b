//! Axes of charts: from values to positions, and where the ticks are.

use std::ops::Range;

/// An axis of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What it measures.
    pub label: String,
    /// How values become positions.
    pub scale: Scale,
    /// How values are written.
    pub unit: Unit,
}

/// How values become positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances for equal differences.
    #[default]
    Linear,
    /// Equal distances for equal ratios; only positive values have a position.
    Logarithmic,
}

/// How values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// As they are.
    #[default]
    Number,
    /// Bytes in decimal units.
    Bytes,
    /// Fractions of one as percentages.
    Percent,
}

/// Ticks are closer together than this part of the axis.
const TICKS: f64 = 8.0;

/// Part of the axis that is left free on both sides of the values.
const MARGIN: f64 = 0.04;

impl Axis {
    /// Where a value is; nothing for a value that has no place on the axis.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        let position = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        position.is_finite().then_some(position)
    }

    fn value(&self, position: f64) -> f64 {
        match self.scale {
            Scale::Linear => position,
            Scale::Logarithmic => 10f64.powf(position),
        }
    }

    /// Positions to show for these values, with a margin; some for no values at all.
    pub(super) fn range(&self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let positions = values.filter_map(|value| self.position(value));
        let ends = positions.fold(None, |ends: Option<(f64, f64)>, position| match ends {
            None => Some((position, position)),
            Some((low, high)) => Some((low.min(position), high.max(position))),
        });
        let (low, high) = ends.unwrap_or((0.0, 1.0));
        // A single value stands in the middle.
        let span = if high > low { high - low } else { (low.abs() * 10.0).max(10.0) };
        let margin = MARGIN * span;
        low - margin..high + margin
    }

    /// Positions of the ticks within a range.
    pub(super) fn ticks(&self, range: &Range<f64>) -> Vec<f64> {
        let values = self.value(range.start)..self.value(range.end);
        let decades = range.end - range.start;
        let ticks = match self.scale {
            Scale::Linear => multiples(&values),
            // Less than an octave: equal steps do better.
            Scale::Logarithmic if decades < 0.5 => multiples(&values),
            Scale::Logarithmic if decades < 1.3 => powers(range, &[1.0, 2.0, 3.0, 5.0, 7.0]),
            Scale::Logarithmic if decades < 3.0 => powers(range, &[1.0, 2.0, 5.0]),
            Scale::Logarithmic => powers(range, &[1.0]),
        };
        let positions = ticks.into_iter().filter_map(|value| self.position(value));
        positions.filter(|position| range.contains(position)).collect()
    }

    /// The text of a tick.
    pub(super) fn tick_text(&self, position: f64) -> String {
        let value = self.value(position);
        match self.unit {
            Unit::Number => short(value),
            Unit::Percent => format!("{} %", short(100.0 * value)),
            Unit::Bytes => {
                let units = ["B", "kB", "MB", "GB", "TB"];
                // Ticks lie on round numbers, but for an error of the logarithm.
                let thousands = ((value.log10() + 1e-9) / 3.0).floor().clamp(0.0, 4.0);
                let unit = if thousands.is_nan() { 0 } else { thousands as usize };
                format!("{} {}", short(value / 1000f64.powi(unit as i32)), units[unit])
            }
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten within a range.
fn multiples(range: &Range<f64>) -> Vec<f64> {
    let wanted = (range.end - range.start) / TICKS;
    let power = 10f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= wanted);
    // Nothing for a range that is not one, or too narrow for its distance from 0.
    let Some(step) = step.filter(|step| *step > 1e-12 * range.end.abs()) else { return vec![] };
    let (first, last) = ((range.start / step).ceil() as i64, (range.end / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten times the mantissas, for a range of exponents; not every power of a long range.
fn powers(exponents: &Range<f64>, mantissas: &[f64]) -> Vec<f64> {
    let step = ((exponents.end - exponents.start) / (2.0 * TICKS)).ceil().max(1.0) as usize;
    let (first, last) = (exponents.start.floor() as i32, exponents.end.ceil() as i32);
    let powers = (first..=last).step_by(step).map(|exponent| 10f64.powi(exponent));
    powers.flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * power)).collect()
}

/// A number without digits that nobody reads.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => return "0".to_string(),
        small if small < 1e-3 => return format!("{value:.0e}"),
        large if large >= 1e6 => return format!("{value:.1e}"),
        _ => format!("{value:.6}"),
    };
    digits.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: Scale, unit: Unit, values: [f64; 2]) -> Vec<String> {
        let axis = Axis { label: String::new(), scale, unit };
        let range = axis.range(values.into_iter());
        axis.ticks(&range).into_iter().map(|tick| axis.tick_text(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let percent = texts(Scale::Linear, Unit::Percent, [0.1, 0.97]);
        assert_eq!(percent, ["20 %", "40 %", "60 %", "80 %", "100 %"]);
        let narrow = texts(Scale::Linear, Unit::Percent, [0.913, 0.9173]);
        assert_eq!(narrow, ["91.3 %", "91.4 %", "91.5 %", "91.6 %", "91.7 %"]);
        let bytes = texts(Scale::Logarithmic, Unit::Bytes, [900.0, 60_000.0]);
        assert_eq!(bytes, ["1 kB", "2 kB", "5 kB", "10 kB", "20 kB", "50 kB"]);
        let wide = texts(Scale::Logarithmic, Unit::Bytes, [10.0, 5e6]);
        assert_eq!(wide, ["10 B", "100 B", "1 kB", "10 kB", "100 kB", "1 MB"]);
        let close = texts(Scale::Logarithmic, Unit::Bytes, [2000.0, 3000.0]);
        assert_eq!(close, ["2 kB", "2.2 kB", "2.4 kB", "2.6 kB", "2.8 kB", "3 kB"]);
        let numbers = texts(Scale::Linear, Unit::Number, [-2.0, 3.0]);
        assert_eq!(numbers, ["-2", "-1", "0", "1", "2", "3"]);
    }

    #[test]
    fn any_range_has_few_ticks_inside() {
        let odd = [0.0, 1e-300, 1.0, 1.0 + 1e-15, 1e15, 1e300, -5.0, f64::NAN, f64::INFINITY];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for (low, high) in odd.iter().flat_map(|&a| odd.iter().map(move |&b| (a, b))) {
                let axis = Axis { scale, ..Axis::default() };
                let range = axis.range([low, high].into_iter());
                assert!(range.start < range.end, "{low} {high}");
                let ticks = axis.ticks(&range);
                assert!(ticks.len() < 20, "{low} {high}: {ticks:?}");
                assert!(ticks.iter().all(|tick| range.contains(tick)), "{low} {high}: {ticks:?}");
            }
        }
    }
}
