//! Finding the step factor that meets a target.

/// Finds the smallest `t` in `low..high` (both positive) whose file is at most `target` bytes.
/// `bytes` falls as `t` grows. Returns `None` if even `high` is too large.
///
/// # Errors
/// Whatever `bytes` reports.
pub fn for_bytes<E>(
    target: u64,
    guess: f64,
    (low, high): (f64, f64),
    bits_per_octave: f64,
    mut bytes: impl FnMut(f64) -> Result<u64, E>,
) -> Result<Option<f64>, E> {
    // In log2 t the size is close to a line of known slope: step along it, inside a bracket.
    let (mut fits, mut too_large): (Option<f64>, Option<f64>) = (None, None);
    let mut at = guess.clamp(low, high).log2();
    for _ in 0..16 {
        let size = bytes(at.exp2())?;
        let excess = size as f64 - target as f64;
        if excess <= 0.0 {
            fits = Some(fits.map_or(at, |f| f.min(at)));
        } else {
            too_large = Some(too_large.map_or(at, |f| f.max(at)));
        }
        if excess <= 0.0 && -excess < 0.002 * target as f64 {
            break;
        }
        // Aim a little below the target, so that the last step ends on the right side.
        let mut next = at + (excess + 0.0008 * target as f64) * 8.0 / bits_per_octave;
        if let (Some(fits), Some(large)) = (fits, too_large)
            && (next <= large || next >= fits)
        {
            next = 0.5 * (fits + large);
        }
        next = next.clamp(low.log2(), high.log2());
        if next == at {
            break;
        }
        at = next;
    }
    Ok(fits.map(f64::exp2))
}

/// Finds the largest `t` in `low..high` that `accepts`, to a tenth of an octave, assuming that
/// smaller is better. Returns `None` if not even `low` is accepted.
///
/// # Errors
/// Whatever `accepts` reports.
pub fn largest<E>(
    (low, high): (f64, f64),
    mut accepts: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Option<f64>, E> {
    let (mut low, mut high) = (low.log2(), high.log2());
    if !accepts(low.exp2())? {
        return Ok(None);
    }
    while high - low > 0.1 {
        let middle = 0.5 * (low + high);
        if accepts(middle.exp2())? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(low.exp2()))
}

/// Finds the first number of `0..=most` that `holds`, assuming that all larger ones do, too; `most + 1`
/// if none does. The number found was tried, and so was the one before it.
///
/// # Errors
/// Whatever `holds` reports.
pub fn first<E>(most: usize, mut holds: impl FnMut(usize) -> Result<bool, E>) -> Result<usize, E> {
    let (mut low, mut high) = (0, most + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match holds(middle)? {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_from_below_and_closely() {
        let size = |t: f64| Ok::<_, ()>((5000.0 - 1300.0 * t.log2()) as u64);
        let t = for_bytes(4000, 1.0, (1e-3, 1e3), 8000.0, size).unwrap().unwrap();
        let bytes = size(t).unwrap();
        assert!((3980..=4000).contains(&bytes), "{bytes}");
        assert_eq!(for_bytes(10, 1.0, (1e-3, 4.0), 8000.0, size), Ok(None));
    }

    #[test]
    fn the_largest_accepted_value_is_found() {
        let t = largest((0.01, 10.0), |t| Ok::<_, ()>(t < 0.7)).unwrap().unwrap();
        assert!((0.67..0.7).contains(&t));
        assert_eq!(largest((0.01, 10.0), |_| Ok::<_, ()>(false)), Ok(None));
    }

    #[test]
    fn the_first_number_is_found_wherever_it_is() {
        for most in [0, 1, 6, 7] {
            for expected in 0..=most + 1 {
                assert_eq!(first(most, |n| Ok::<_, ()>(n >= expected)), Ok(expected));
            }
        }
    }
}
