//! Weight matching on groups made by hand.

use proptest::prelude::*;
use weightspace_core::align::{AlignOptions, Aligner, Alignment, Start};
use weightspace_core::permutation::{Member, PermutationGroup, apply};
use weightspace_core::random::{Key, Stream};
use weightspace_core::{DType, StateDict, Tensor};

fn member(tensor: &str, axis: usize, block: usize, places: &[usize]) -> Member {
    Member { tensor: tensor.into(), axis, block, places: places.to_vec() }
}

fn group(members: Vec<Member>) -> PermutationGroup {
    PermutationGroup { size: members[0].places.len(), members }
}

/// Two hidden layers; the second is read in blocks, the first also by a matrix from it to itself.
fn groups() -> Vec<PermutationGroup> {
    vec![
        group(vec![
            member("in", 0, 1, &[0, 1, 2, 3]),
            member("loop", 0, 1, &[0, 1, 2, 3]),
            member("loop", 1, 1, &[0, 1, 2, 3]),
            member("middle", 1, 1, &[0, 1, 2, 3]),
        ]),
        // Four of six rows, not in their order.
        group(vec![member("middle", 0, 1, &[4, 0, 3, 1]), member("out", 1, 2, &[0, 2, 1, 3])]),
    ]
}

fn weights(seed: u64) -> StateDict {
    let mut random = Stream::new(Key::from_seed(seed), 0);
    let shapes = [("in", [4, 3]), ("loop", [4, 4]), ("middle", [6, 4]), ("out", [2, 8])];
    let tensor = |(name, shape): (&str, [usize; 2])| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| random.normal()).collect();
        (name.to_owned(), Tensor::from_f32(shape.to_vec(), &values))
    };
    let mut dict: StateDict = shapes.into_iter().map(tensor).collect();
    dict.insert("bias", Tensor::from_f32(vec![1], &[seed as f32]));
    dict.insert("steps", Tensor::from_bytes(DType::U8, vec![1], vec![seed as u8]));
    dict
}

fn align(reference: &StateDict, other: &StateDict, options: AlignOptions) -> Alignment {
    Aligner::new(&groups(), reference, options).unwrap().align(other).unwrap()
}

fn distance(a: &StateDict, b: &StateDict) -> f64 {
    let pairs = a.iter().filter(|(_, t)| t.dtype().is_float()).flat_map(|(name, tensor)| {
        tensor.iter_f64().zip(b.get(name).unwrap().iter_f64()).collect::<Vec<_>>()
    });
    pairs.map(|(a, b)| (a - b).powi(2)).sum()
}

fn permutations_of_four() -> impl Iterator<Item = Vec<usize>> {
    (0..256usize).map(|n| vec![n >> 6, n >> 4 & 3, n >> 2 & 3, n & 3]).filter(|p| {
        let mut sorted = p.clone();
        sorted.sort_unstable();
        sorted == [0, 1, 2, 3]
    })
}

proptest! {
    #[test]
    fn the_distance_never_grows(a: u64, b: u64, seed: u64, start in 0usize..3) {
        let start = [Start::Identity, Start::Propagated, Start::Best][start];
        let (reference, other) = (weights(a), weights(b));
        let options = AlignOptions { start, seed, ..AlignOptions::default() };
        let found = align(&reference, &other, options);
        let mut aligned = other.clone();
        apply(&groups(), &found.permutations, &mut aligned).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b);
        prop_assert!(found.after.touched <= found.before.touched);
        prop_assert!(close(found.before.total, distance(&reference, &other)));
        prop_assert!(close(found.after.total, distance(&reference, &aligned)));
        let bias = (a as f32 as f64 - b as f32 as f64).powi(2);
        prop_assert!(close(found.before.total - found.before.touched, bias) || bias > 1e3);
    }

    #[test]
    fn no_single_group_can_be_improved(a: u64, b: u64) {
        let (reference, other) = (weights(a), weights(b));
        let found = align(&reference, &other, AlignOptions::default());
        // The second group stands on no tensor twice, so that its assignment is the best there is.
        for permutation in permutations_of_four() {
            let mut changed = other.clone();
            apply(&groups(), &[found.permutations[0].clone(), permutation], &mut changed).unwrap();
            prop_assert!(distance(&reference, &changed) >= found.after.total * (1.0 - 1e-12));
        }
    }
}

#[test]
fn copies_are_recovered_through_matrices_of_a_group_to_itself() {
    for seed in 0..50 {
        let reference = weights(seed);
        let mut other = reference.clone();
        let random = &mut Stream::new(Key::from_seed(seed), 7);
        let mut draw = || {
            let mut permutation = vec![0, 1, 2, 3];
            random.shuffle(&mut permutation);
            permutation
        };
        apply(&groups(), &[draw(), draw()], &mut other).unwrap();
        let found = align(&reference, &other, AlignOptions::default());
        apply(&groups(), &found.permutations, &mut other).unwrap();
        assert_eq!(other, reference, "seed {seed}");
        assert_eq!(found.after.total, 0.0);
    }
}

/// Products of such weights are beyond what `f32` holds.
#[test]
fn weights_beyond_all_use_are_aligned() {
    for (of_in, of_out) in [(1e30, 1e-35), (1e-38, 1e36), (1e-30, 1.0)] {
        let mut reference = weights(3);
        for (name, factor) in [("in", of_in), ("loop", of_in), ("out", of_out)] {
            let tensor = reference.get(name).unwrap();
            let values: Vec<f32> = tensor.to_f32().iter().map(|value| value * factor).collect();
            let scaled = Tensor::from_f32(tensor.shape().to_vec(), &values);
            reference.insert(name, scaled);
        }
        let mut other = reference.clone();
        apply(&groups(), &[vec![2, 0, 3, 1], vec![1, 3, 0, 2]], &mut other).unwrap();
        let found = align(&reference, &other, AlignOptions::default());
        apply(&groups(), &found.permutations, &mut other).unwrap();
        assert_eq!(other, reference, "{of_in:e} {of_out:e}");
        assert_eq!(found.after.touched, 0.0);
    }
}

/// Who diverges has weights beyond the reference's; a factor changes nothing of which permutation is best.
#[test]
fn the_size_of_the_other_network_does_not_matter() {
    for factor in [1e-30, 1e-9, 1e9, 1e15, 1e30] {
        let reference = weights(3);
        let mut other = reference.clone();
        for name in ["in", "loop", "out"] {
            let tensor = reference.get(name).unwrap();
            let values: Vec<f32> = tensor.to_f32().iter().map(|value| value * factor).collect();
            other.insert(name, Tensor::from_f32(tensor.shape().to_vec(), &values));
        }
        let scaled = other.clone();
        apply(&groups(), &[vec![2, 0, 3, 1], vec![1, 3, 0, 2]], &mut other).unwrap();
        let options = AlignOptions { start: Start::Propagated, ..AlignOptions::default() };
        let found = align(&reference, &other, options);
        apply(&groups(), &found.permutations, &mut other).unwrap();
        assert_eq!(other, scaled, "{factor:e}");
    }
}

#[test]
fn equal_units_stay_where_they_are() {
    let zeros = |(name, tensor): (&str, &Tensor)| {
        let bytes = vec![0; tensor.bytes().len()];
        (name.to_owned(), Tensor::from_bytes(tensor.dtype(), tensor.shape().to_vec(), bytes))
    };
    let constant: StateDict = weights(1).iter().map(zeros).collect();
    let found = align(&constant, &weights(2), AlignOptions::default());
    assert_eq!((found.moved(), found.units(), found.sweeps), (0, 8, 1));
}

#[test]
fn sweeps_are_limited() {
    let options = AlignOptions { max_sweeps: 1, start: Start::Identity, ..AlignOptions::default() };
    let found = align(&weights(1), &weights(2), options);
    assert_eq!((found.sweeps, found.converged), (1, false));
    assert!(found.after.touched < found.before.touched);
}

#[test]
fn other_real_types_are_read() {
    let reference = weights(3);
    let half = |(name, tensor): (&str, &Tensor)| {
        let real = tensor.dtype().is_float();
        (name.to_owned(), if real { tensor.cast_float(DType::BF16) } else { tensor.clone() })
    };
    let mut other: StateDict = reference.iter().map(half).collect();
    apply(&groups(), &[vec![3, 1, 0, 2], vec![1, 2, 3, 0]], &mut other).unwrap();
    let found = align(&reference, &other, AlignOptions::default());
    assert_eq!(found.permutations, [vec![2, 1, 3, 0], vec![3, 0, 1, 2]]);
    assert!(found.after.touched > 0.0 && found.after.touched < 1e-2, "{:?}", found.after);
}
