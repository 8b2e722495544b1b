//! Elementary functions without branches, so that loops over them become vector code.
//!
//! Each is within a few units in the last place of 1 (see the tests); the
//! same bits come from every instruction set that has no fused multiply-add.

/// e^x; 0 below -87.3, the largest power of the range above 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    let x = x.clamp(-87.3, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    // ln 2 in two parts, the first exact in few bits.
    let r = (x - n * 0.693_359_375) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    p * f32::from_bits(((exponent + 127) << 23) as u32)
}

/// Logistic function.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent, a rational function of degree 13/6.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let x = x.clamp(-7.905, 7.905);
    let s = x * x;
    let mut p = -2.760_768_5e-16;
    for c in [
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ] {
        p = p * s + c;
    }
    let mut q = 1.198_258_4e-6;
    for c in [1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3] {
        q = q * s + c;
    }
    x * p / q
}

/// Error function, a rational function of degree 13/8.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    for c in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_599_9e-3,
        -1.609_603_3e-2,
    ] {
        p = p * s + c;
    }
    let mut q = -1.456_607_2e-5;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q * s + c;
    }
    x * p / q
}

/// Sine, for arguments up to a few thousand.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::FRAC_1_PI + SHIFT;
    let n = shifted - SHIFT;
    // pi in three parts, the first two exact in few bits.
    let r = ((x - n * 3.140_625) - n * 9.670_257_6e-4) - n * 6.277_114_5e-7;
    let s = r * r;
    let mut p = 2.608_316e-6;
    for c in [-1.981_069_1e-4, 8.333_079e-3, -1.666_665_8e-1] {
        p = p * s + c;
    }
    let value = r + r * s * p;
    // sin(r + n pi) changes its sign with the parity of n.
    f32::from_bits(value.to_bits() ^ (shifted.to_bits() << 31))
}

/// Cosine, for arguments up to a few thousand.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    sin(x + std::f32::consts::FRAC_PI_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest_error(f: fn(f32) -> f32, exact: fn(f64) -> f64, range: f32) -> f64 {
        let points = (-100_000..=100_000).map(|i| i as f32 / 1e5 * range);
        points.map(|x| (f64::from(f(x)) - exact(f64::from(x))).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_exact_to_single_precision() {
        let e = (-80_000..=80_000).map(|i| i as f32 / 1e3);
        let e = e.map(|x| (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs()).fold(0.0, f64::max);
        assert!(e < 2e-7, "{e}");
        assert_eq!([exp(0.0), exp(-100.0) * 1e30], [1.0, exp(-87.3) * 1e30]);
        assert!(largest_error(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 20.0) < 2e-7);
        assert!(largest_error(tanh, f64::tanh, 10.0) < 5e-7);
        assert!(largest_error(erf, libm::erf, 6.0) < 5e-7);
        assert!(largest_error(sin, f64::sin, 30.0) < 3e-7);
        assert!(largest_error(cos, f64::cos, 30.0) < 3e-6);
        assert!(largest_error(sin, f64::sin, 1000.0) < 3e-6);
    }
}
