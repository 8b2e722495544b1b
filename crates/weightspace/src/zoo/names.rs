//! Networks of one architecture whose tensors are called or ordered differently: a dropout moves the numbers of the layers
//! behind it, and some programs write tensors in the order of their names.

use std::collections::HashMap;

use weightspace_core::{StateDict, TensorInfo};

/// Of every tensor of a known network its position in another, if that is the same network but for the order of its tensors
/// or the names of its modules: with equal names, they are of the same shapes; else they are so in the same
/// order, or in that of their names, and of the same kinds, which the last parts of their names say.
pub fn correspondence(known: &[TensorInfo], other: &[TensorInfo]) -> Option<Vec<usize>> {
    if known.len() != other.len() {
        return None;
    }
    let positions: HashMap<&str, usize> =
        other.iter().enumerate().map(|(position, info)| (info.name.as_str(), position)).collect();
    let of_name = |info: &TensorInfo| positions.get(info.name.as_str()).copied();
    if let Some(found) = known.iter().map(of_name).collect::<Option<Vec<_>>>() {
        let equal = known.iter().zip(&found).all(|(info, &at)| info.shape == other[at].shape);
        return equal.then_some(found);
    }
    let kind = |info: &TensorInfo| info.name.rsplit('.').next().map(str::to_owned);
    let alike = |a: &TensorInfo, b: &TensorInfo| a.shape == b.shape && kind(a) == kind(b);
    if known.iter().zip(other).all(|(a, b)| alike(a, b)) {
        return Some((0..other.len()).collect());
    }
    let mut found = vec![0; other.len()];
    for (known_at, at) in counted(known).into_iter().zip(counted(other)) {
        if !alike(&known[known_at], &other[at]) {
            return None;
        }
        found[known_at] = at;
    }
    Some(found)
}

/// Positions of tensors in the order of their names, numbers in these as numbers.
fn counted(tensors: &[TensorInfo]) -> Vec<usize> {
    let key = |name: &str| -> Vec<(u64, String)> {
        let parts = name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned()));
        parts.collect()
    };
    let mut positions: Vec<usize> = (0..tensors.len()).collect();
    positions.sort_by_cached_key(|&position| key(&tensors[position].name));
    positions
}

/// Whether tensors are those of one network, whatever their order and the names of its modules
/// ([`correspondence`]).
pub fn same_network(a: &[TensorInfo], b: &[TensorInfo]) -> bool {
    correspondence(a, b).is_some()
}

/// The tensors under the names and in the order of another network, if they are [the same](same_network) but for these.
pub fn matched(tensors: StateDict, as_in: &[TensorInfo]) -> Option<StateDict> {
    let positions = correspondence(as_in, &tensors.infos())?;
    let mut own: Vec<_> = tensors.into_iter().map(|(_, tensor)| Some(tensor)).collect();
    let tensors = positions.into_iter().filter_map(|position| own[position].take());
    Some(as_in.iter().map(|info| info.name.clone()).zip(tensors).collect())
}

/// As [`matched`], and those of other networks as they are.
pub fn renamed(tensors: StateDict, as_in: &[TensorInfo]) -> StateDict {
    match same_network(as_in, &tensors.infos()) {
        true => matched(tensors, as_in).unwrap_or_default(),
        false => tensors,
    }
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
        let sorted: StateDict = known.clone().into_iter().rev().collect();
        assert_eq!(correspondence(&known.infos(), &sorted.infos()), Some(vec![1, 0]));
        assert_eq!(renamed(sorted, &known.infos()).infos(), known.infos());
        let names = |first: usize, second: usize| {
            ["weight", "bias"].map(|kind| [first, second].map(|n| format!("m.{n}.{kind}"))).concat()
        };
        let many = |names: Vec<String>| -> Vec<TensorInfo> {
            let info = |name: String| {
                let layer = 10 + usize::from(name.contains(".10.") || name.contains(".11."));
                let shape = if name.ends_with("bias") { vec![layer] } else { vec![layer, 3] };
                TensorInfo { name, dtype: weightspace_core::DType::F32, shape }
            };
            names.into_iter().map(info).collect()
        };
        let mut sorted = names(9, 11);
        sorted.sort();
        let found = correspondence(&many(names(8, 10)), &many(sorted.clone())).unwrap();
        let order: Vec<&str> = found.iter().map(|&at| sorted[at].as_str()).collect();
        assert_eq!(order, ["m.9.weight", "m.11.weight", "m.9.bias", "m.11.bias"]);
        for other in [network(["a.weight", "a.bias"], 5), network(["a.scale", "a.weight"], 4)] {
            assert!(!same_network(&known.infos(), &other.infos()));
            assert_eq!(renamed(other.clone(), &known.infos()), other);
        }
    }
}
