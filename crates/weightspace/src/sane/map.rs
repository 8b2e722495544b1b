//! Pictures of a population: every model where its embedding is.

use super::embedding::{Embedded, principal_components};
use crate::report::{Axis, Chart, Series};

/// Ranges of a value that have colours of their own.
const COLOURS: usize = 6;

/// The mean embeddings on their first two principal components, once coloured by test accuracy and once by epoch; each with
/// a name for its file. Nothing of what is unknown, or the same everywhere.
pub fn charts(rows: &[Embedded]) -> Vec<(&'static str, Chart)> {
    let means: Vec<Vec<f64>> = rows.iter().map(|row| row.embedding.mean.clone()).collect();
    let Some((places, shares)) = principal_components(&means) else { return Vec::new() };
    let axis = |number: usize| Axis {
        label: format!(
            "component {} ({:.0} % of the variance)",
            number + 1,
            100.0 * shares[number]
        ),
        ..Axis::default()
    };
    let chart = |name: &str, values: Vec<Option<f64>>, text: fn(f64) -> String| {
        let series = coloured(&places, &values, text)?;
        let (name, x, y) = (format!("Embeddings by {name}"), axis(0), axis(1));
        Some(Chart { name, x, y, series, scattered: true, ..Chart::default() })
    };
    let accuracy = rows.iter().map(|row| row.test_accuracy.map(f64::from)).collect();
    let epoch = rows.iter().map(|row| Some(f64::from(row.epoch))).collect();
    let percent = |value: f64| format!("{:.0} %", 100.0 * value);
    let charts = [
        ("embeddings-accuracy", chart("test accuracy", accuracy, percent)),
        ("embeddings-epoch", chart("epoch", epoch, |value| format!("{value}"))),
    ];
    charts.into_iter().filter_map(|(name, chart)| Some((name, chart?))).collect()
}

/// Points in series of about as many, by their values.
fn coloured(
    places: &[[f64; 2]],
    values: &[Option<f64>],
    text: fn(f64) -> String,
) -> Option<Vec<Series>> {
    let known = values.iter().zip(places);
    let mut known: Vec<(f64, [f64; 2])> = known.filter_map(|(v, p)| Some(((*v)?, *p))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (known.first()?.0, known.last()?.0);
    if first == last {
        return None;
    }
    let mut rest = &known[..];
    let mut series = Vec::new();
    for colour in 0..COLOURS {
        let wanted = rest.len() / (COLOURS - colour);
        let Some(&(limit, _)) = rest.get(wanted.max(1) - 1) else { break };
        // Equal values have one colour.
        let (own, others) = rest.split_at(rest.partition_point(|(value, _)| *value <= limit));
        rest = others;
        let (from, to) = (text(own[0].0), text(own[own.len() - 1].0));
        let name = if from == to { from } else { format!("{from} to {to}") };
        series.push(Series { name, points: own.iter().map(|(_, [x, y])| (*x, *y)).collect() });
    }
    Some(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_divide_the_values_and_hold_equal_ones_together() {
        let places: Vec<[f64; 2]> = (0..12).map(|i| [f64::from(i), 0.0]).collect();
        let values: Vec<_> = (0..12).map(|i| Some(f64::from(i / 4))).collect();
        let series = coloured(&places, &values, |value| format!("{value}")).unwrap();
        let sizes: Vec<_> = series.iter().map(|s| (s.name.as_str(), s.points.len())).collect();
        assert_eq!(sizes, [("0", 4), ("1", 4), ("2", 4)]);
        let values: Vec<_> = (0..12).map(|i| Some(f64::from(i))).collect();
        let series = coloured(&places, &values, |value| format!("{value}")).unwrap();
        assert!(series.len() == 6 && series.iter().all(|s| s.points.len() == 2));
        assert!(coloured(&places, &[Some(1.0); 12], |value| format!("{value}")).is_none());
        assert!(coloured(&places, &[None; 12], |value| format!("{value}")).is_none());
    }
}
