//! Losses: PyTorch's values, finite differences, and independence of how a batch is cut.

use proptest::prelude::*;
use serde::Deserialize;
use weightspace_nn::loss::{
    CrossEntropy, Distillation, FeatureDistance, FeatureDistillation, Linear, Loss,
    MaskedMeanSquaredError, NegativeLogLikelihood, SquareRoot,
};

const GOLDEN: &str = include_str!("../../../tests/golden/losses/losses.json");
const SAMPLES: usize = 5;
const WIDTH: usize = 7;

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    loss: Settings,
    outputs: Vec<f32>,
    value: f64,
    gradient: Vec<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "loss", rename_all = "snake_case")]
enum Settings {
    CrossEntropy { labels: Vec<u16>, label_smoothing: f32 },
    NegativeLogLikelihood { labels: Vec<u16> },
    Distillation { teacher: Vec<f32>, temperature: f32, alpha: f32, labels: Option<Vec<u16>> },
    SquaredError { target: Vec<f32>, mask: Option<Vec<f32>>, normaliser: Option<f64> },
    FeatureDistillation { target: Vec<f32>, distance: String, weight: f64 },
}

impl Settings {
    fn loss(&self) -> Box<dyn Loss + '_> {
        match self {
            Settings::CrossEntropy { labels, label_smoothing } => {
                Box::new(CrossEntropy::new(labels, WIDTH).with_label_smoothing(*label_smoothing))
            }
            Settings::NegativeLogLikelihood { labels } => {
                Box::new(NegativeLogLikelihood::new(labels, WIDTH))
            }
            Settings::Distillation { teacher, temperature, alpha, labels } => {
                let loss = Distillation::new(teacher, WIDTH)
                    .with_temperature(*temperature)
                    .with_alpha(*alpha);
                Box::new(labels.iter().fold(loss, |loss, labels| loss.with_labels(labels)))
            }
            Settings::SquaredError { target, mask, normaliser } => {
                let loss = MaskedMeanSquaredError::new(target, WIDTH);
                let loss = mask.iter().fold(loss, |loss, mask| loss.with_mask(mask));
                Box::new(normaliser.iter().fold(loss, |loss, &n| loss.with_normaliser(n)))
            }
            Settings::FeatureDistillation { target, distance, weight } => {
                let distance = match distance.as_str() {
                    "squared" => FeatureDistance::Squared,
                    "norm" => FeatureDistance::Norm,
                    other => panic!("distance {other}"),
                };
                let loss = FeatureDistillation::new(target, WIDTH).with_distance(distance);
                Box::new(loss.with_weight(*weight))
            }
        }
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_str(GOLDEN).unwrap()
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let cases = cases();
    assert_eq!(cases.len(), 13);
    for case in cases {
        // Gradients are written, not added.
        let mut gradient = vec![f32::NAN; SAMPLES * WIDTH];
        let value = case.loss.loss().evaluate(0, &case.outputs, &mut gradient);
        let error = (value - case.value).abs();
        assert!(error <= 1e-6 * case.value.abs(), "{:?}: {value}, not {}", case.loss, case.value);
        let largest = case.gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
        for (found, expected) in gradient.iter().zip(&case.gradient) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= 1e-6 * largest, "{:?}: {found}, not {expected}", case.loss);
        }
    }
}

#[test]
fn parts_of_a_batch_add_up() {
    for case in cases() {
        let loss = case.loss.loss();
        let mut whole = vec![0.0; SAMPLES * WIDTH];
        let value = loss.evaluate(0, &case.outputs, &mut whole);
        let mut parts = vec![f32::NAN; SAMPLES * WIDTH];
        let mut sum = 0.0;
        for samples in [4..5, 0..1, 1..4] {
            let range = samples.start * WIDTH..samples.end * WIDTH;
            let gradient = &mut parts[range.clone()];
            sum += loss.evaluate(samples.start, &case.outputs[range], gradient);
        }
        assert!((sum - value).abs() <= 1e-12 * value.abs(), "{:?}", case.loss);
        assert_eq!(parts, whole, "{:?}", case.loss);
    }
}

#[test]
fn outputs_that_are_not_finite_give_no_number() {
    for case in cases() {
        for invalid in [f32::NAN, f32::INFINITY] {
            let mut outputs = case.outputs.clone();
            // The value of the first sample's label, and of nothing that the masks leave out.
            outputs[3] = invalid;
            let mut gradient = vec![0.0; outputs.len()];
            let value = case.loss.loss().evaluate(0, &outputs, &mut gradient);
            assert!(!value.is_finite(), "{:?} of {invalid}: {value}", case.loss);
        }
    }
}

#[test]
fn maps_of_zeros_have_a_finite_gradient() {
    for distance in [FeatureDistance::Squared, FeatureDistance::Norm] {
        let (zeros, ones) = ([0.0; 4], [1.0; 4]);
        for (teacher, features) in [(zeros, zeros), (ones, zeros), (zeros, ones), (ones, ones)] {
            let loss = FeatureDistillation::new(&teacher, 2).with_distance(distance);
            let mut gradient = [f32::NAN; 4];
            let value = loss.evaluate(0, &features, &mut gradient);
            assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
            assert_eq!(value < 1e-7, teacher == features, "{value}");
        }
    }
}

#[test]
fn a_mask_of_zeros_gives_no_loss() {
    let mut gradient = [9.0; 4];
    let loss = MaskedMeanSquaredError::new(&[1.0; 4], 2).with_mask(&[0.0; 4]);
    assert_eq!(loss.evaluate(0, &[5.0; 4], &mut gradient), 0.0);
    assert_eq!(gradient, [0.0; 4]);
}

#[test]
#[should_panic(expected = "label 7 of 7 classes")]
fn labels_are_checked() {
    CrossEntropy::new(&[0, 7], 7);
}

#[test]
#[should_panic(expected = "samples 1..3 of 2")]
fn samples_are_checked() {
    CrossEntropy::new(&[0, 1], 2).evaluate(1, &[0.0; 4], &mut [0.0; 4]);
}

/// The root is of the whole batch: its gradient is that of the sum times what the sum says.
#[test]
fn roots_are_of_the_whole_batch() {
    let root = SquareRoot(MaskedMeanSquaredError::new(&[0.0; 4], 2));
    let outputs = [3.0, 1.0, 1.0, 5.0];
    let mut gradient = [0.0; 4];
    let parts = outputs.chunks(2).zip(gradient.chunks_mut(2)).enumerate();
    let sum: f64 = parts.map(|(i, (outputs, gradient))| root.evaluate(i, outputs, gradient)).sum();
    let (value, factor) = root.of_sum(sum);
    assert_eq!(value, 3.0);
    let found = gradient.map(|g| f64::from(g) * factor);
    let expected = outputs.map(|output| f64::from(output) / (4.0 * 3.0));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
    assert_eq!(root.of_sum(0.0), (0.0, 0.0));
}

/// Central differences of the loss in the direction of every output.
fn check_differences(loss: &dyn Loss, outputs: &[f32], step: f32, tolerance: f64) {
    let mut gradient = vec![0.0; outputs.len()];
    loss.evaluate(0, outputs, &mut gradient);
    let mut unused = vec![0.0; outputs.len()];
    let mut at = |i: usize, step: f32| {
        let mut moved = outputs.to_vec();
        moved[i] += step;
        (f64::from(moved[i]), loss.evaluate(0, &moved, &mut unused))
    };
    for (i, &gradient) in gradient.iter().enumerate() {
        let ((x0, low), (x1, high)) = (at(i, -step), at(i, step));
        let difference = (high - low) / (x1 - x0);
        let error = (difference - f64::from(gradient)).abs();
        assert!(error < tolerance, "output {i}: {gradient}, differences give {difference}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn gradients_are_those_of_finite_differences(
        outputs in prop::collection::vec(-2.0f32..2.0, 3 * 11),
        target in prop::collection::vec(-2.0f32..2.0, 3 * 11),
        mask in prop::collection::vec(0.0f32..1.0, 3 * 11),
        labels in prop::collection::vec(0u16..11, 3),
        smoothing in 0.0f32..0.5,
        temperature in 0.5f32..5.0,
        alpha in 0.0f32..1.0,
    ) {
        let cross_entropy = CrossEntropy::new(&labels, 11).with_label_smoothing(smoothing);
        let distillation = Distillation::new(&target, 11)
            .with_temperature(temperature)
            .with_alpha(alpha)
            .with_labels(&labels);
        let features = FeatureDistillation::new(&target, 11);
        let losses: [&dyn Loss; 7] = [
            &cross_entropy,
            &NegativeLogLikelihood::new(&labels, 11),
            &distillation,
            &MaskedMeanSquaredError::new(&target, 11).with_mask(&mask),
            &features,
            &features.with_distance(FeatureDistance::Norm),
            &Linear::new(&target, 11),
        ];
        for loss in losses {
            check_differences(loss, &outputs, 1e-2, 1e-4);
        }
    }
}
