//! What numbers say about the weights of a network without learning anything (Unterthiner et al. 2020).

use super::windows::read_layer;
use super::{SaneError, TokenLayout};
use crate::zoo::ModelWeights;

/// Percentiles of a layer.
const PERCENTILES: [f64; 5] = [1.0, 25.0, 50.0, 75.0, 99.0];

/// Of every layer, its bias included: mean, variance, and the percentiles 1, 25, 50, 75 and 99.
///
/// # Errors
/// If the weights cannot be read.
pub fn weight_statistics(
    layout: &TokenLayout,
    model: &ModelWeights<'_>,
) -> Result<Vec<f64>, SaneError> {
    let mut statistics = Vec::with_capacity(layout.layers().len() * (2 + PERCENTILES.len()));
    let mut values = Vec::new();
    for layer in layout.layers() {
        read_layer(layout, layer, model, &mut values)?;
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        statistics.extend([mean, square / count]);
        values.sort_unstable_by(f32::total_cmp);
        statistics.extend(PERCENTILES.map(|percent| percentile(&values, percent)));
    }
    Ok(statistics)
}

/// Between the two nearest of sorted values, as NumPy does.
fn percentile(sorted: &[f32], percent: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = percent / 100.0 * last as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let value = |i: usize| f64::from(sorted[i.min(last)]);
    value(below) + share * (value(below + 1) - value(below))
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_those_of_numpy() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (percent, expected) in
            [(0.0, 1.0), (25.0, 1.75), (50.0, 3.0), (99.0, 7.88), (100.0, 8.0)]
        {
            assert!((percentile(&values, percent) - expected).abs() < 1e-12, "{percent} %");
        }
        assert_eq!(percentile(&[3.0], 75.0), 3.0);
    }
}
