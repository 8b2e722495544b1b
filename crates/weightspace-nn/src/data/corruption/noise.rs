//! Noise that is independent from value to value, one random word each.

use weightspace_core::random::Stream;

use super::Canvas;

/// Expected numbers of events from which their distribution is taken from the normal one.
const MANY_EVENTS: f32 = 16.0;

pub(super) fn gaussian(canvas: &mut Canvas, deviation: f32, stream: &mut Stream) {
    stream.fill_normal(&mut canvas.scratch);
    for (value, noise) in canvas.values.iter_mut().zip(&canvas.scratch) {
        *value += deviation * noise;
    }
}

pub(super) fn shot(canvas: &mut Canvas, events: f32, stream: &mut Stream) {
    for value in &mut canvas.values {
        *value = poisson(*value * events, stream) / events;
    }
}

pub(super) fn impulse(canvas: &mut Canvas, share: f32, stream: &mut Stream) {
    for value in &mut canvas.values {
        let number = stream.uniform();
        if number < share {
            *value = if number < share / 2.0 { 0.0 } else { 1.0 };
        }
    }
}

/// A number of events of which `mean` are expected, by inversion of the distribution function: its
/// sum from zero on if few are expected, otherwise the expansion of Cornish and Fisher, which is off
/// by one event for less than one number in a hundred.
fn poisson(mean: f32, stream: &mut Stream) -> f32 {
    if mean >= MANY_EVENTS {
        let normal = stream.normal();
        let skewness = (normal * normal - 1.0) / 6.0;
        return (mean + mean.sqrt() * normal + skewness + 0.5).floor().max(0.0);
    }
    let mean = f64::from(mean);
    let number = (f64::from(stream.next_u32()) + 0.5) / 4_294_967_296.0;
    let mut probability = libm::exp(-mean);
    let mut cumulative = probability;
    let mut count = 0.0;
    // No word asks for as many events as this bound, which rounding cannot exceed either.
    while cumulative < number && count < 100.0 {
        count += 1.0;
        probability *= mean / count;
        cumulative += probability;
    }
    count as f32
}

#[cfg(test)]
mod tests {
    use weightspace_core::random::Key;

    use super::*;

    #[test]
    fn events_have_the_moments_and_tails_of_a_poisson_distribution() {
        // Expectation, and P(X <= k) of SciPy's `poisson.cdf(k, mean)`.
        let cases = [
            (0.5, 0, 0.606_530_659_7),
            (3.0, 1, 0.199_148_273_5),
            (15.9, 10, 0.080_870_296_6),
            (16.1, 10, 0.074_049_602_4),
            (50.0, 60, 0.927_839_820_2),
            (500.0, 480, 0.192_061_579_3),
        ];
        for (mean, k, expected) in cases {
            let mut stream = Stream::new(Key::from_seed(1), 0);
            let sample: Vec<f32> = (0..100_000).map(|_| poisson(mean, &mut stream)).collect();
            let average = sample.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
            let variance =
                sample.iter().map(|&x| (f64::from(x) - f64::from(mean)).powi(2)).sum::<f64>() / 1e5;
            let mean = f64::from(mean);
            assert!((average - mean).abs() < 5.0 * (mean / 1e5).sqrt(), "{mean}: {average}");
            assert!((variance / mean - 1.0).abs() < 0.03, "{mean}: variance {variance}");
            let share = sample.iter().filter(|&&x| x <= k as f32).count() as f64 / 1e5;
            assert!((share - expected).abs() < 0.006, "{mean}: {share}, not {expected}");
        }
        assert_eq!(poisson(0.0, &mut Stream::new(Key::from_seed(1), 0)), 0.0);
    }
}
