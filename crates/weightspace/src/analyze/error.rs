//! How far a version's weights are from the original's.

use weightspace_core::StateDict;

use super::layer_weights;

/// Number of weights of all layers.
pub fn weights(version: &StateDict) -> usize {
    layer_weights(version).map(|(_, tensor)| tensor.element_count()).sum()
}

/// Root of the mean squared difference of the weights of all layers; biases and normalisations do
/// not count. The tensors must have the same names and shapes.
pub fn rmse(original: &StateDict, version: &StateDict) -> f64 {
    let pairs = layer_weights(original).filter_map(|(name, a)| Some((a, version.get(name)?)));
    let squares: f64 =
        pairs.flat_map(|(a, b)| a.iter_f64().zip(b.iter_f64())).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / weights(original).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use weightspace_core::Tensor;

    use super::*;

    #[test]
    fn only_weights_of_layers_count() {
        let dict = |weight: &[f32], bias: f32| -> StateDict {
            let weight = Tensor::from_f32(vec![2, 2], weight);
            let bias = Tensor::from_f32(vec![1], &[bias]);
            [("w".to_string(), weight), ("b".to_string(), bias)].into_iter().collect()
        };
        let (a, b) = (dict(&[0.0; 4], 5.0), dict(&[2.0, 0.0, 0.0, 0.0], 9.0));
        assert_eq!((weights(&a), rmse(&a, &b)), (4, 1.0));
    }
}
