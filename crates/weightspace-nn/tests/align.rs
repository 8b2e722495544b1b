//! Alignment on the networks of the architecture table.

mod arch_reference;

use arch_reference::{Numbers, forward};
use weightspace_core::align::{AlignError, AlignOptions, Aligner, Alignment, Start};
use weightspace_core::permutation::{PermutationGroup, apply, inverse};
use weightspace_core::random::{Key, Stream};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::ModelState;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::init::Initialisation;
use weightspace_nn::net::Net;

/// Plain, residual with both kinds of shortcut, with and without normalisation, flattened.
const SPECS: [&str; 8] = [
    "mlp:20-64-32-10",
    "lenet-mnist",
    "zoo-cnn",
    "zoo-cnn-medium",
    "convnet3",
    "resnet20",
    "resnet20-b",
    "resnet56",
];

fn build(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Weights as training starts with: normalisations of one layer are all alike.
fn initial(net: &Net, seed: u64) -> StateDict {
    ModelState::initial(net, Initialisation::default(), seed).to_state_dict(net)
}

fn random_permutations(groups: &[PermutationGroup], seed: u64) -> Vec<Vec<usize>> {
    let mut numbers = Numbers(seed);
    groups.iter().map(|group| numbers.permutation(group.size)).collect()
}

fn align(
    groups: &[PermutationGroup],
    reference: &StateDict,
    other: &StateDict,
    options: AlignOptions,
) -> Alignment {
    Aligner::new(groups, reference, options).unwrap().align(other).unwrap()
}

#[test]
fn permuted_copies_are_recovered() {
    for spec in SPECS {
        let net = build(spec);
        let groups = net.permutation_groups();
        let reference = initial(&net, 3);
        for seed in 1..4 {
            let mut other = reference.clone();
            apply(&groups, &random_permutations(&groups, seed), &mut other).unwrap();
            let found = align(&groups, &reference, &other, AlignOptions::default());
            assert!(found.before.touched > 0.0 && found.converged, "{spec}: {found:?}");
            assert_eq!(found.after.total, 0.0, "{spec}, {:?}", found.start);
            apply(&groups, &found.permutations, &mut other).unwrap();
            assert_eq!(other, reference, "{spec}");
        }
    }
}

/// A copy with normal noise of so many times the size of each weight's tensor.
fn noisy(reference: &StateDict, amount: f32, seed: u64) -> StateDict {
    let mut random = Stream::new(Key::from_seed(seed), 1);
    let add = |(name, tensor): (&str, &Tensor)| {
        if !tensor.dtype().is_float() {
            return (name.to_owned(), tensor.clone());
        }
        let values = tensor.to_f32();
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        let noise = values.iter().map(|v| v + amount * square.sqrt() * random.normal());
        let noise: Vec<f32> = noise.collect();
        (name.to_owned(), Tensor::from_f32(tensor.shape().to_vec(), &noise))
    };
    reference.iter().map(add).collect()
}

/// Fraction of the units of a permuted, noisy copy that come back to their places.
fn recovered(spec: &str, noise: f32, start: Start, seed: u64) -> f64 {
    let net = build(spec);
    let groups = net.permutation_groups();
    let reference = initial(&net, 3);
    let mut other = noisy(&reference, noise, seed);
    let permutations = random_permutations(&groups, seed);
    apply(&groups, &permutations, &mut other).unwrap();
    let options = AlignOptions { start, seed, ..AlignOptions::default() };
    let found = align(&groups, &reference, &other, options);
    let pairs = permutations.iter().map(|p| inverse(p)).zip(&found.permutations);
    let same = |(a, b): (Vec<usize>, &Vec<usize>)| a.iter().zip(b).filter(|(a, b)| a == b).count();
    pairs.map(same).sum::<usize>() as f64 / found.units() as f64
}

#[test]
fn permuted_copies_with_noise_are_recovered() {
    for spec in ["zoo-cnn", "resnet20", "resnet20-b"] {
        assert_eq!(recovered(spec, 0.5, Start::Best, 9), 1.0, "{spec}");
    }
}

#[test]
fn the_propagated_start_recovers_what_the_identity_does_not() {
    for spec in ["lenet-mnist", "zoo-cnn"] {
        let mean = |start| (0..8).map(|seed| recovered(spec, 3.0, start, seed)).sum::<f64>() / 8.0;
        let [identity, propagated] = [Start::Identity, Start::Propagated].map(mean);
        assert!(propagated > identity + 0.1, "{spec}: {identity} {propagated}");
    }
}

#[test]
fn a_network_is_aligned_to_itself() {
    for spec in SPECS {
        let net = build(spec);
        let groups = net.permutation_groups();
        for reference in [initial(&net, 3), Numbers(4).state_dict(&net)] {
            let found = align(&groups, &reference, &reference, AlignOptions::default());
            assert_eq!((found.moved(), found.sweeps), (0, 1), "{spec}");
            assert_eq!((found.before.total, found.after.total), (0.0, 0.0), "{spec}");
        }
    }
}

#[test]
fn alignment_changes_no_logits_and_comes_nearer() {
    for spec in ["mlp:20-16-12-10", "zoo-cnn-medium", "resnet20:size=4", "resnet18-cifar:size=4"] {
        let net = build(spec);
        let groups = net.permutation_groups();
        let mut numbers = Numbers(7);
        let (reference, other) = (numbers.state_dict(&net), numbers.state_dict(&net));
        let found = align(&groups, &reference, &other, AlignOptions::default());
        assert!(found.after.touched < found.before.touched, "{spec}: {:?}", found.after);
        assert!(found.converged && found.moved() > 0, "{spec}");
        let mut aligned = other.clone();
        apply(&groups, &found.permutations, &mut aligned).unwrap();
        let distance: f64 = reference
            .iter()
            .zip(aligned.iter())
            .flat_map(|((_, a), (_, b))| a.iter_f64().zip(b.iter_f64()).collect::<Vec<_>>())
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        assert!((found.after.total / distance - 1.0).abs() < 1e-12, "{spec}: {distance}");
        let input: Vec<f64> =
            (0..net.input_shape().element_count()).map(|_| numbers.next()).collect();
        let (before, after) = (forward(&net, &other, &input), forward(&net, &aligned, &input));
        let scale = before.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let differences = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f64::max) < 1e-9 * scale, "{spec}");
    }
}

#[test]
fn the_better_start_is_kept_and_more_orders_do_no_harm() {
    let net = build("resnet20");
    let groups = net.permutation_groups();
    let (reference, other) = (initial(&net, 1), initial(&net, 2));
    let distance = |start, orders, seed| {
        let options = AlignOptions { start, orders, seed, ..AlignOptions::default() };
        align(&groups, &reference, &other, options).after.touched
    };
    let identity = distance(Start::Identity, 1, 0);
    let best = distance(Start::Best, 1, 0);
    assert!(best <= identity * (1.0 + 1e-12), "{best} {identity}");
    assert!(distance(Start::Identity, 3, 0) <= identity * (1.0 + 1e-12));
    assert_eq!(best, distance(Start::Best, 1, 0), "the seed decides");
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let net = build("mlp:6-4-3-2");
    let groups = net.permutation_groups();
    let dict = Numbers(1).state_dict(&net);
    let other_error = |other: &StateDict| {
        let aligner = Aligner::new(&groups, &dict, AlignOptions::default()).unwrap();
        aligner.align(other).unwrap_err().to_string()
    };
    let without: StateDict = dict.clone().into_iter().filter(|(n, _)| n != "4.bias").collect();
    assert_eq!(other_error(&without), "the other model lacks tensor \"4.bias\"");
    let with = |name: &str, tensor: Tensor| {
        let mut dict = dict.clone();
        dict.insert(name, tensor);
        dict
    };
    assert_eq!(
        other_error(&with("2.bias", Tensor::from_f32(vec![4], &[0.0; 4]))),
        "the other model has tensor \"2.bias\" of shape [4], expected [3]"
    );
    for value in [f32::NAN, f32::INFINITY] {
        let bad = with("2.bias", Tensor::from_f32(vec![3], &[0.0, value, 0.0]));
        let message = "has values in tensor \"2.bias\" that are not finite";
        assert_eq!(other_error(&bad), format!("the other model {message}"));
        let error = Aligner::new(&groups, &bad, AlignOptions::default()).err().unwrap();
        assert_eq!(error.to_string(), format!("the reference {message}"));
    }
    let error = Aligner::new(&groups, &without, AlignOptions::default()).err();
    assert_eq!(error, None, "no group touches the last bias");
    let small = with("4.weight", Tensor::from_f32(vec![2, 2], &[0.0; 4]));
    let error = Aligner::new(&groups, &small, AlignOptions::default()).err().unwrap();
    assert!(matches!(error, AlignError::Permutation(_)), "{error}");
}
