//! The straight line between two versions, and what the network does on it.

use serde::Serialize;
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::data::{Dataset, Preprocessing};
use weightspace_nn::evaluate::{argmax, for_each_batch};
use weightspace_nn::{Engine, Net};

use super::AnalyzeError;

/// The network at one place of the line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Share of the second version.
    pub position: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Fraction of right images.
    pub accuracy: f64,
}

/// (1 - `position`) `a` + `position` `b`, of all floating-point tensors (statistics of batch
/// normalisations too); others are those of `a`. The tensors must have the same names and shapes.
pub fn between(a: &StateDict, b: &StateDict, position: f64) -> StateDict {
    let mix = |a: &Tensor, b: &Tensor| -> Tensor {
        let values = a.iter_f64().zip(b.iter_f64());
        // The ends are exact, also next to what is not finite.
        let values = values.map(|(a, b)| match position {
            0.0 => a as f32,
            1.0 => b as f32,
            _ => ((1.0 - position) * a + position * b) as f32,
        });
        Tensor::from_f32(a.shape().to_vec(), &values.collect::<Vec<_>>())
    };
    let tensors = a.iter().map(|(name, tensor)| {
        let other = b.get(name).filter(|_| tensor.dtype().is_float());
        (name.to_owned(), other.map_or_else(|| tensor.clone(), |other| mix(tensor, other)))
    });
    tensors.collect()
}

/// Loss and accuracy of the network with these weights on images of a data set (all for `None`).
///
/// # Errors
/// If the weights or the images do not fit the network.
pub fn evaluate(
    net: &Net,
    weights: &StateDict,
    position: f64,
    (dataset, indices): (&Dataset, Option<&[usize]>),
    preprocessing: &Preprocessing,
) -> Result<Sample, AnalyzeError> {
    let engine = Engine::new(net, weights)?;
    let classes = engine.class_count();
    let (mut loss, mut correct, mut total) = (0.0, 0usize, 0usize);
    for_each_batch(&engine, dataset, indices, preprocessing, |indices, logits| {
        for (&index, logits) in indices.iter().zip(logits.chunks_exact(classes)) {
            let label = usize::from(dataset.labels()[index]);
            loss += cross_entropy(logits, label);
            correct += usize::from(argmax(logits) == label);
            total += 1;
        }
    })?;
    let count = total.max(1) as f64;
    Ok(Sample { position, loss: loss / count, accuracy: correct as f64 / count })
}

/// -log softmax(logits)[label].
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &v| most.max(f64::from(v)));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
    largest + sum.ln() - f64::from(logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_known_logits() {
        assert!((cross_entropy(&[0.0, 0.0], 1) - 2f64.ln()).abs() < 1e-12);
        assert!((cross_entropy(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn the_ends_are_the_versions() {
        let dict = |values: &[f32]| -> StateDict {
            let steps = Tensor::from_bytes(weightspace_core::DType::U8, vec![1], vec![7]);
            let weight = Tensor::from_f32(vec![2], values);
            [("w".to_string(), weight), ("steps".to_string(), steps)].into_iter().collect()
        };
        let (a, b) = (dict(&[1.0, f32::MAX]), dict(&[2.0, -f32::MAX]));
        assert_eq!(between(&a, &b, 0.0), a);
        assert_eq!(between(&a, &b, 1.0), b);
        assert_eq!(between(&a, &b, 0.25).get("w").unwrap().to_f32()[0], 1.25);
    }
}
