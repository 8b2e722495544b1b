//! What a predictor sees of a coordinate.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::sine::sin_cos_pi;
use super::{CoordinateScale, PredictorError};
use crate::quoted;

/// How a coordinate becomes the inputs of a predictor. The inputs are those of the three axes end to
/// end: layer, filter, tile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encoding {
    /// sin(pi p b^l), cos(pi p b^l) of the coordinate p, level by level (NeRF's positional encoding).
    Positional {
        /// Number of levels l = 0, 1, ...; at most 256.
        levels: u32,
        /// The base b, from 0 (exclusive) to 4.
        base: f64,
    },
    /// The Chebyshev polynomials T_1 to T_degree of 2 p - 1; not for raw coordinates.
    Chebyshev {
        /// The highest degree, at most 256.
        degree: u32,
    },
    /// A learned vector for every distinct coordinate.
    Tables {
        /// Its length.
        width: u32,
    },
    /// For every distinct coordinate a learned share of the first layer's sums: that layer has no
    /// weight.
    DirectTables,
}

impl Encoding {
    /// The reference's: 40 levels of base 0.76.
    pub const NERN: Encoding = Encoding::Positional { levels: 40, base: 0.76 };

    /// Number of features of one coordinate; `hidden` outputs has the first layer.
    pub fn width(&self, hidden: usize) -> usize {
        match *self {
            Encoding::Positional { levels, .. } => 2 * levels as usize,
            Encoding::Chebyshev { degree } => degree as usize,
            Encoding::Tables { width } => width as usize,
            Encoding::DirectTables => hidden,
        }
    }

    /// True if the features are stored rather than computed.
    pub fn is_stored(&self) -> bool {
        matches!(self, Encoding::Tables { .. } | Encoding::DirectTables)
    }

    /// The features of coordinates, row-major, one row for each: the same bits on every machine. None
    /// if they are stored.
    pub fn features(&self, values: &[f64]) -> Vec<f32> {
        let mut features = Vec::new();
        match *self {
            Encoding::Positional { levels, base } => {
                for &value in values {
                    let mut power = 1.0;
                    for _ in 0..levels {
                        let (sine, cosine) = sin_cos_pi(value * power);
                        features.extend([sine as f32, cosine as f32]);
                        power *= base;
                    }
                }
            }
            Encoding::Chebyshev { degree } => {
                for &value in values {
                    let x = 2.0 * value - 1.0;
                    let (mut before, mut polynomial) = (1.0, x);
                    for _ in 0..degree {
                        features.push(polynomial as f32);
                        (before, polynomial) = (polynomial, 2.0 * x * polynomial - before);
                    }
                }
            }
            Encoding::Tables { .. } | Encoding::DirectTables => {}
        }
        features
    }

    /// Refuses parameters beyond the limits.
    ///
    /// # Errors
    /// `Encoding`.
    pub fn check(&self, scale: CoordinateScale) -> Result<(), PredictorError> {
        let fits = match *self {
            Encoding::Positional { levels, base } => {
                (1..=256).contains(&levels) && base > 0.0 && base <= 4.0
            }
            Encoding::Chebyshev { degree } => {
                (1..=256).contains(&degree) && scale != CoordinateScale::Raw
            }
            Encoding::Tables { width } => (1..=super::WIDTH as u32).contains(&width),
            Encoding::DirectTables => true,
        };
        match fits {
            true => Ok(()),
            false => Err(PredictorError::Encoding { encoding: *self, scale }),
        }
    }
}

/// `positional:LEVELS:BASE` (`positional` alone is [`Encoding::NERN`]), `chebyshev:DEGREE`, `tables:WIDTH` or
/// `direct-tables`.
impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(':').collect();
        let found = match words[..] {
            ["positional"] => Some(Encoding::NERN),
            ["positional", levels, base] => levels
                .parse()
                .ok()
                .zip(base.parse().ok())
                .map(|(levels, base)| Encoding::Positional { levels, base }),
            ["chebyshev", degree] => {
                degree.parse().ok().map(|degree| Encoding::Chebyshev { degree })
            }
            ["tables", width] => width.parse().ok().map(|width| Encoding::Tables { width }),
            ["direct-tables"] => Some(Encoding::DirectTables),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "{} is none of positional:LEVELS:BASE, chebyshev:DEGREE, tables:WIDTH, direct-tables",
                quoted(text)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn encodings_have_names() {
        let parse = |text: &str| text.parse::<Encoding>();
        assert_eq!(parse("positional"), Ok(Encoding::NERN));
        assert_eq!(parse("positional:40:0.76"), Ok(Encoding::NERN));
        assert_eq!(parse("chebyshev:8"), Ok(Encoding::Chebyshev { degree: 8 }));
        assert_eq!(parse("tables:16"), Ok(Encoding::Tables { width: 16 }));
        assert_eq!(parse("direct-tables"), Ok(Encoding::DirectTables));
        for wrong in ["", "tables", "tables:x", "chebyshev:8:9", "siren"] {
            assert!(parse(wrong).unwrap_err().contains("is none of"), "{wrong}");
        }
    }

    #[test]
    fn positional_features_are_sines_of_powers() {
        let values = [0.0, 1.0 / 3.0, 0.96875, 511.0];
        let features = Encoding::NERN.features(&values);
        assert_eq!(features.len(), 4 * Encoding::NERN.width(140));
        for (value, features) in values.iter().zip(features.chunks(80)) {
            for level in 0..40 {
                let x = PI * value * 0.76f64.powi(level);
                let expected = [x.sin(), x.cos()];
                for (found, expected) in features[2 * level as usize..].iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-7, "{value} {level}");
                }
            }
        }
    }

    #[test]
    fn chebyshev_features_are_cosines_of_multiples() {
        let values = [0.0, 0.25, 0.8, 63.0 / 64.0];
        let features = Encoding::Chebyshev { degree: 12 }.features(&values);
        for (value, features) in values.iter().zip(features.chunks(12)) {
            for (k, found) in (1..).zip(features) {
                let expected = (k as f64 * (2.0 * value - 1.0).acos()).cos();
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{value} {k}");
            }
        }
    }

    #[test]
    fn parameters_beyond_the_limits_are_refused() {
        use CoordinateScale::{Local, Raw};
        let positional = |levels, base| Encoding::Positional { levels, base }.check(Raw).is_ok();
        assert!(positional(40, 0.76) && positional(256, 4.0));
        assert!(!positional(0, 0.76) && !positional(257, 0.76));
        assert!(
            ![0.0, -1.0, 4.1, f64::NAN, f64::INFINITY].map(|b| positional(40, b)).contains(&true)
        );
        assert!(Encoding::Chebyshev { degree: 9 }.check(Local).is_ok());
        assert!(Encoding::Chebyshev { degree: 9 }.check(Raw).is_err());
        assert!(Encoding::Tables { width: 0 }.check(Raw).is_err());
    }
}
