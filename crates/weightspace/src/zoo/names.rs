//! Networks of one architecture whose modules are called differently: a dropout moves the numbers of the layers
//! behind it.

use weightspace_core::{StateDict, TensorInfo};

/// Whether tensors are those of one network, whatever its modules are called: of the same shapes in the same order,
/// and of the same kinds, which the last parts of their names say.
pub fn same_network(a: &[TensorInfo], b: &[TensorInfo]) -> bool {
    let kind = |info: &TensorInfo| info.name.rsplit('.').next().map(str::to_owned);
    let alike = |(a, b): (&TensorInfo, &TensorInfo)| a.shape == b.shape && kind(a) == kind(b);
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

/// The tensors under the names of another network, if they are [the same](same_network) but for names; else as they are.
pub fn renamed(tensors: StateDict, as_in: &[TensorInfo]) -> StateDict {
    let own = tensors.infos();
    let called = |infos: &[TensorInfo]| infos.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
    if called(&own) == called(as_in) || !same_network(&own, as_in) {
        return tensors;
    }
    let names = as_in.iter().map(|info| info.name.clone());
    names.zip(tensors).map(|(name, (_, tensor))| (name, tensor)).collect()
}

#[cfg(test)]
mod tests {
    use weightspace_core::Tensor;

    use super::*;

    fn network(names: [&str; 2], width: usize) -> StateDict {
        let weight = Tensor::from_f32(vec![width, 2], &vec![1.0; 2 * width]);
        let bias = Tensor::from_f32(vec![width], &vec![2.0; width]);
        names.map(str::to_owned).into_iter().zip([weight, bias]).collect()
    }

    #[test]
    fn modules_may_have_other_names_but_not_other_tensors() {
        let known = network(["layers.3.weight", "layers.3.bias"], 4);
        let moved = network(["layers.4.weight", "layers.4.bias"], 4);
        assert_eq!(renamed(moved.clone(), &known.infos()), known);
        for other in [network(["a.weight", "a.bias"], 5), network(["a.bias", "a.weight"], 4)] {
            assert!(!same_network(&known.infos(), &other.infos()));
            assert_eq!(renamed(other.clone(), &known.infos()), other);
        }
    }
}
