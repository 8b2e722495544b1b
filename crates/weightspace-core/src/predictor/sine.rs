//! Sine and cosine of multiples of pi: the same bits everywhere, unlike those of the standard library.

/// (-1)^k pi^(2 k + 1) / (2 k + 1)! for k = 0 to 10, rounded to nearest.
const COEFFICIENTS: [f64; 11] = [
    f64::from_bits(0x4009_21fb_5444_2d18),
    f64::from_bits(0xc014_abbc_e625_be53),
    f64::from_bits(0x4004_66bc_6775_aae2),
    f64::from_bits(0xbfe3_2d2c_ce62_bd86),
    f64::from_bits(0x3fb5_0783_487e_e782),
    f64::from_bits(0xbf7e_3074_fde8_871f),
    f64::from_bits(0x3f3e_8f43_4d01_8d63),
    f64::from_bits(0xbef6_fadb_9f15_5744),
    f64::from_bits(0x3eaa_aec3_2af9_3359),
    f64::from_bits(0xbe58_a404_211f_9547),
    f64::from_bits(0x3e02_8770_20d5_2cf0),
];

/// sin(pi x) and cos(pi x) of a finite x >= 0, with an error below 1e-15.
pub(super) fn sin_cos_pi(x: f64) -> (f64, f64) {
    // All subtractions but 0.5 - v of v < 0.25 are exact.
    let u = x % 2.0;
    let (v, sign) = if u < 1.0 { (u, 1.0) } else { (2.0 - u, -1.0) };
    let half = if v <= 0.5 { v } else { 1.0 - v };
    (sign * within_half(half), within_half(0.5 - v))
}

/// sin(pi s) for |s| <= 1/2.
fn within_half(s: f64) -> f64 {
    let square = s * s;
    let (last, others) = COEFFICIENTS.split_last().expect("there are coefficients");
    s * others.iter().rev().fold(*last, |sum, coefficient| sum * square + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn sines_are_accurate() {
        let mut worst = 0f64;
        for i in 0..=8192 {
            let s = i as f64 / 16384.0;
            let (sine, cosine) = ((PI * s).sin(), (PI * s).cos());
            // By symmetry, so that the argument of the standard library's stays small and exact.
            for (x, expected) in [
                (s, (sine, cosine)),
                (1.0 - s, (sine, -cosine)),
                (1.0 + s, (-sine, -cosine)),
                (2.0 - s, (-sine, cosine)),
                (1024.0 + s, (sine, cosine)),
            ] {
                let found = sin_cos_pi(x);
                worst = worst.max((found.0 - expected.0).abs());
                worst = worst.max((found.1 - expected.1).abs());
            }
        }
        assert!(worst < 1e-15, "{worst:e}");
    }

    #[test]
    fn zeros_are_exact() {
        for turns in [0.0, 1.0, 2.0, 63.0, 1e300] {
            assert_eq!(sin_cos_pi(turns).0, 0.0);
        }
        for turns in [0.5, 1.5, 20.5] {
            assert_eq!(sin_cos_pi(turns).1, 0.0);
        }
    }

    #[test]
    fn tiny_arguments_keep_their_precision() {
        let (sine, cosine) = sin_cos_pi(1e-9);
        assert!((sine / (PI * 1e-9) - 1.0).abs() < 1e-15);
        assert_eq!(cosine, 1.0);
    }
}
