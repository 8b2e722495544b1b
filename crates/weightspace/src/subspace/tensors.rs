//! Which tensors of a network are projected, and which of them share coefficients.

use std::ops::Range;

use weightspace_core::basis::{ProjectedTensor, Projection, ProjectionError, Segment, Start};
use weightspace_core::random::Key;
use weightspace_nn::Net;
use weightspace_nn::net::{ParameterKind, ParameterSpec};

use super::{Split, SubspaceConfig};

/// Why a network has no such subspace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubspaceError {
    /// Numbers of coefficients that do not fit the network.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    /// Fewer coefficients than layers.
    #[error("{coefficients} coefficients for {layers} layers; every layer needs one")]
    TooFew {
        /// Coefficients.
        coefficients: usize,
        /// Layers.
        layers: usize,
    },
    /// More or fewer numbers of coefficients than layers.
    #[error("{found} numbers of coefficients, {arch} has {layers} layers")]
    Layers {
        /// Numbers given.
        found: usize,
        /// Architecture.
        arch: String,
        /// Its layers with weights.
        layers: usize,
    },
    /// A number of bits out of its range.
    #[error("{0} bits of a number, expected 2 to 16")]
    Bits(u8),
}

/// Whether coefficients stand for a tensor: weights and biases of convolutions and linear layers.
pub fn is_projected(kind: ParameterKind) -> bool {
    matches!(kind, ParameterKind::Weight | ParameterKind::Bias)
}

/// The projection of a network's tensors.
///
/// # Errors
/// If the numbers of coefficients do not fit the network.
pub fn projection(
    net: &Net,
    config: &SubspaceConfig,
    key: Key,
    start: Start,
) -> Result<Projection, SubspaceError> {
    for bits in [config.bits, config.norm_bits] {
        if !(2..=16).contains(&bits) {
            return Err(SubspaceError::Bits(bits));
        }
    }
    let specs: Vec<_> = net.parameters().into_iter().filter(|s| is_projected(s.kind)).collect();
    let tensor = |s: &ParameterSpec| ProjectedTensor { len: s.element_count(), fan_in: s.fan_in };
    let tensors: Vec<_> = specs.iter().map(tensor).collect();
    let segments = segments(net, &specs, config)?;
    Ok(Projection::new(config.basis, key, start, tensors, segments)?)
}

fn segments(
    net: &Net,
    specs: &[ParameterSpec],
    config: &SubspaceConfig,
) -> Result<Vec<Segment>, SubspaceError> {
    let layers = layers(specs);
    let coefficients = match &config.split {
        Split::Flat => {
            let coefficients = config.coefficients;
            return Ok(vec![Segment { tensors: 0..specs.len(), coefficients }]);
        }
        Split::PerLayer => {
            let size = |layer: &Range<usize>| -> usize {
                specs[layer.clone()].iter().map(ParameterSpec::element_count).sum()
            };
            let sizes: Vec<usize> = layers.iter().map(size).collect();
            let (coefficients, layers) = (config.coefficients, layers.len());
            if coefficients < layers {
                return Err(SubspaceError::TooFew { coefficients, layers });
            }
            shares(coefficients, &sizes)
        }
        Split::Given(counts) if counts.len() == layers.len() => counts.clone(),
        Split::Given(counts) => {
            let (found, arch, layers) = (counts.len(), net.arch().to_owned(), layers.len());
            return Err(SubspaceError::Layers { found, arch, layers });
        }
    };
    let segments = layers.into_iter().zip(coefficients);
    Ok(segments.map(|(tensors, coefficients)| Segment { tensors, coefficients }).collect())
}

/// The tensors of every layer.
fn layers(specs: &[ParameterSpec]) -> Vec<Range<usize>> {
    let mut start = 0;
    let own = specs.chunk_by(|a, b| a.node == b.node);
    let ranges = own.map(|layer| {
        let range = start..start + layer.len();
        start = range.end;
        range
    });
    ranges.collect()
}

/// Divides `total` in proportion to `sizes`; every part has at least 1 and at most its size.
fn shares(total: usize, sizes: &[usize]) -> Vec<usize> {
    let sum: usize = sizes.iter().sum();
    let rest = total.min(sum).saturating_sub(sizes.len());
    let spare = (sum - sizes.len()).max(1);
    let (mut before, mut given) = (0u128, 0);
    let share = |size: &usize| {
        before += (size - 1) as u128;
        let until = (before * rest as u128 / spare as u128) as usize;
        let own = until - given;
        given = until;
        1 + own
    };
    sizes.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use weightspace_core::basis::Basis;
    use weightspace_nn::arch;

    use super::*;

    fn net(spec: &str) -> Net {
        arch::build(spec, &Default::default()).unwrap()
    }

    fn of(spec: &str, coefficients: usize, split: Split) -> Result<Projection, SubspaceError> {
        let config = SubspaceConfig { coefficients, split, ..SubspaceConfig::default() };
        projection(&net(spec), &config, Key::from_seed(1), Start::Drawn)
    }

    /// Numbers of parameters of convolutions and linear layers in the paper's networks.
    #[test]
    fn dimensions_are_those_of_the_paper() {
        let expected = [
            ("lenet-mnist", 10, 28, 44_426),
            ("lenet-cifar", 10, 32, 62_006),
            ("alexnet", 10, 32, 1_756_426),
            ("convnet3", 100, 32, 503_652),
            ("convnet4", 200, 64, 856_136),
            ("resnet20", 10, 32, 268_346),
            ("resnet56", 10, 32, 848_954),
            ("resnet18", 100, 224, 11_218_212),
        ];
        for (spec, classes, size, weights) in expected {
            let (classes, size) = (Some(classes), Some(size));
            let options = arch::ArchOptions { classes, size, ..Default::default() };
            let net = arch::build(spec, &options).unwrap();
            let config = SubspaceConfig::default();
            let found = projection(&net, &config, Key::from_seed(1), Start::Drawn).unwrap();
            assert_eq!(found.weight_count(), weights, "{spec}");
        }
    }

    #[test]
    fn layers_share_coefficients_by_their_sizes() {
        let projection = of("lenet-mnist", 1000, Split::PerLayer).unwrap();
        let counts: Vec<_> = projection.segments().iter().map(|s| s.coefficients).collect();
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert_eq!(projection.segments().len(), 5);
        assert!(counts.iter().all(|&count| count >= 1) && counts[2] > 600, "{counts:?}");
        // As many coefficients as weights are all of them.
        let all = of("lenet-mnist", 44_426, Split::PerLayer).unwrap();
        let full = |s: &Segment| all.weights_of(&s.tensors).len() == s.coefficients;
        assert!(all.segments().iter().all(full));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let message =
            |coefficients, split| of("lenet-mnist", coefficients, split).unwrap_err().to_string();
        assert_eq!(
            message(44_427, Split::Flat),
            "segment 0 has 44427 coefficients for 44426 weights"
        );
        assert_eq!(
            message(4, Split::PerLayer),
            "4 coefficients for 5 layers; every layer needs one"
        );
        assert_eq!(
            message(0, Split::Given(vec![3, 4])),
            "2 numbers of coefficients, lenet-mnist has 5 layers"
        );
        let config = SubspaceConfig { bits: 1, basis: Basis::Dense, ..SubspaceConfig::default() };
        let error = projection(&net("mlp:4-3"), &config, Key::from_seed(0), Start::Zero);
        assert_eq!(error.unwrap_err().to_string(), "1 bits of a number, expected 2 to 16");
    }
}
