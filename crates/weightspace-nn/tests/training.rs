//! What training relies on beside single gradients: finite differences through whole networks with
//! dropout and tapped values, the same bits run after run, statistics, and telling what went wrong.

use weightspace_core::random::{Key, Stream};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::engine::training::{
    Batch, NormMode, RunningStatistics, TrainingEngine, TrainingOptions, Wishes,
};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::loss::{CrossEntropy, FeatureDistillation, Loss};
use weightspace_nn::net::{Activation, Shape, Window};
use weightspace_nn::{Net, NetBuilder, NodeId};

fn normal(len: usize, stream: u64) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(Key::from_seed(5), stream).fill_normal(&mut values);
    values
}

const TRAINING: NormMode = NormMode::TRAINING;

/// One of everything that has no kink: depthwise, grouped and strided convolutions, normalisations,
/// dropout, a sum, pooling; two values are tapped.
fn smooth_network() -> (Net, Vec<NodeId>) {
    let (mut b, x) = NetBuilder::maps(3, 9, 7);
    let x = b.conv("stem", x, 12, Window::same(3), true);
    let x = b.batch_norm("norm1", x);
    let tap1 = b.activation(x, Activation::Gelu);
    let y = b.grouped_conv("depthwise", tap1, 12, 12, Window::same(3), true);
    let y = b.activation(y, Activation::Tanh);
    let y = b.grouped_conv("grouped", y, 12, 3, Window::same(1), false);
    let y = b.group_norm("norm2", y, 4);
    let x = b.add(tap1, y);
    let x = b.conv("down", x, 20, Window::strided(3, 2), false);
    let x = b.batch_norm("norm3", x);
    let tap2 = b.activation(x, Activation::Sigmoid);
    let x = b.dropout(tap2, 0.3);
    let x = b.avg_pool(x, Window { size: 2, stride: 2, padding: 0 });
    let x = b.flatten(x);
    b.linear("fc", x, 5);
    (b.finish("smooth"), vec![tap1, tap2])
}

#[test]
fn gradients_equal_finite_differences_with_dropout_and_taps() {
    let (net, taps) = smooth_network();
    let wishes = Wishes { taps: taps.clone(), ..Wishes::default() };
    let options = TrainingOptions { wishes, ..TrainingOptions::new(6, 2) };
    let mut engine = TrainingEngine::new(&net, options);
    let weights = initialise(&net, Initialisation::PytorchDefault, 3);
    let images = normal(6 * net.input_len(), 0);
    let labels = [0, 1, 2, 3, 4, 0];
    let widths = [0, 1].map(|i| net.node(taps[i]).shape.element_count());
    let teachers = [0, 1].map(|i| normal(6 * widths[i], 10 + i as u64));
    let distances =
        [0, 1].map(|i| FeatureDistillation::new(&teachers[i], widths[i]).with_weight(0.5));
    let losses: [&dyn Loss; 2] = [&distances[0], &distances[1]];
    let loss = CrossEntropy::new(&labels, 5);
    let batch = Batch { inputs: &images, first: 0, mode: TRAINING, dropout: Some(77) };
    let mut gradient = vec![0.0; weights.len()];
    let mut scratch = gradient.clone();
    engine.step(&weights, batch, &loss, &losses, &mut gradient);
    for entry in net.layout().entries() {
        // Along the gradient of one tensor the loss changes most.
        let direction = &gradient[entry.range()];
        let norm: f64 = direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let step = 2e-3 / norm;
        let mut at = |sign: f64| {
            let mut moved = weights.clone();
            for (w, g) in moved[entry.range()].iter_mut().zip(direction) {
                *w = (f64::from(*w) + sign * step * f64::from(*g)) as f32;
            }
            engine.step(&moved, batch, &loss, &losses, &mut scratch)
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        let expected = norm * norm;
        // The bias before a batch normalisation has no effect: its gradient is rounding.
        if entry.name != "stem.bias" {
            assert!(
                (slope - expected).abs() < 0.01 * expected,
                "{}: {slope} {expected}",
                entry.name
            );
        }
    }
}

fn step(net: &Net, batch: usize, threads: usize, images: &[f32]) -> (f64, Vec<f32>) {
    let mut engine = TrainingEngine::new(net, TrainingOptions::new(batch, threads));
    let weights = initialise(net, Initialisation::PytorchDefault, 1);
    let samples = images.len() / net.input_len();
    let labels: Vec<u16> = (0..samples).map(|i| (i % net.class_count()) as u16).collect();
    let loss = CrossEntropy::new(&labels, net.class_count());
    let mut gradient = vec![0.0; weights.len()];
    let batch = Batch { inputs: images, first: 0, mode: TRAINING, dropout: Some(3) };
    let value = engine.step(&weights, batch, &loss, &[], &mut gradient);
    // A second step in the same engine must not see the first.
    let mut again = vec![0.0; weights.len()];
    engine.set_running(RunningStatistics::new(net));
    assert_eq!(engine.step(&weights, batch, &loss, &[], &mut again).to_bits(), value.to_bits());
    assert_eq!(gradient, again);
    (value, gradient)
}

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    let scale = a.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{i}: {a} {b} of {scale}");
    }
}

#[test]
fn same_threads_same_bits_and_other_threads_the_same_within_rounding() {
    let net = arch::build("resnet20", &ArchOptions::default()).unwrap();
    let images = normal(9 * net.input_len(), 1);
    let (loss, gradient) = step(&net, 9, 2, &images);
    for threads in [1, 2, 3, 7] {
        let (other_loss, other) = step(&net, 9, threads, &images);
        if threads == 2 {
            assert_eq!((loss.to_bits(), &gradient), (other_loss.to_bits(), &other));
        }
        assert!((loss - other_loss).abs() < 1e-5 * loss);
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let difference: Vec<f32> = gradient.iter().zip(&other).map(|(a, b)| a - b).collect();
        // A ReLU may fall on the other side of its kink.
        assert!(norm(&difference) < 1e-2 * norm(&gradient), "{}", norm(&difference));
    }
}

#[test]
fn a_batch_smaller_than_planned_and_more_threads_than_samples_are_fine() {
    let net = arch::build("lenet-mnist", &ArchOptions::default()).unwrap();
    let images = normal(3 * net.input_len(), 2);
    let (loss, gradient) = step(&net, 3, 1, &images);
    let (other_loss, other) = step(&net, 64, 5, &images);
    assert!((loss - other_loss).abs() < 1e-6 * loss);
    close(&gradient, &other, 1e-5);
}

#[test]
fn engines_run_side_by_side() {
    let net = arch::build("lenet-mnist", &ArchOptions::default()).unwrap();
    let images = normal(4 * net.input_len(), 2);
    let alone = step(&net, 4, 1, &images);
    std::thread::scope(|scope| {
        let others = [0, 1, 2].map(|_| scope.spawn(|| step(&net, 4, 1, &images)));
        for other in others {
            assert_eq!(alone, other.join().unwrap());
        }
    });
}

/// With momentum `None` the running statistics become the mean over all batches.
#[test]
fn statistics_are_estimated_again_from_scratch() {
    let (mut b, x) = NetBuilder::maps(2, 3, 3);
    let x = b.batch_norm("bn", x);
    let x = b.global_avg_pool(x);
    let net = b.finish("norm");
    let mut engine = TrainingEngine::new(&net, TrainingOptions::new(4, 2));
    let images = normal(8 * net.input_len(), 4);
    let mut outputs = vec![0.0; 4 * net.class_count()];
    for inputs in images.chunks(4 * net.input_len()) {
        let batch =
            Batch { inputs, first: 0, mode: NormMode::Batch { momentum: None }, dropout: None };
        engine.forward(&[1.0, 1.0, 0.0, 0.0], batch, &mut outputs);
    }
    assert_eq!(net.node(x).shape, Shape::Vector(2));
    let layer = &engine.running().layers[0];
    assert_eq!(layer.batches, 2);
    for c in 0..2 {
        let channel = |images: &[f32]| -> Vec<f64> {
            let planes = images.chunks(9).skip(c).step_by(2);
            planes.flatten().map(|v| f64::from(*v)).collect()
        };
        let halves: Vec<(f64, f64)> = images
            .chunks(4 * net.input_len())
            .map(|half| {
                let values = channel(half);
                let mean = values.iter().sum::<f64>() / 36.0;
                (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 35.0)
            })
            .collect();
        let mean = (halves[0].0 + halves[1].0) / 2.0;
        let variance = (halves[0].1 + halves[1].1) / 2.0;
        assert!((f64::from(layer.mean[c]) - mean).abs() < 1e-6);
        assert!((f64::from(layer.variance[c]) - variance).abs() < 1e-6);
    }
}

#[test]
fn what_is_not_finite_is_named() {
    let net = arch::build("resnet20", &ArchOptions::default()).unwrap();
    let mut engine = TrainingEngine::new(&net, TrainingOptions::new(2, 2));
    let mut weights = initialise(&net, Initialisation::PytorchDefault, 1);
    let images = normal(2 * net.input_len(), 1);
    let batch = Batch { inputs: &images, first: 0, mode: TRAINING, dropout: None };
    assert_eq!(engine.first_not_finite(&weights, batch), None);
    let layout = net.layout();
    let conv = layout.get("layer2.0.conv1.weight").unwrap().range();
    // Finite weights whose products overflow.
    weights[conv.clone()].fill(3e38);
    let layer = engine.first_not_finite(&weights, batch).unwrap();
    assert_eq!(layer, "layer layer2.0.conv1");
    let before = engine.running().clone();
    weights[conv.start] = f32::NAN;
    let tensor = engine.first_not_finite(&weights, batch).unwrap();
    assert_eq!(tensor, "tensor layer2.0.conv1.weight");
    assert_eq!(engine.running(), &before);
    let loss = CrossEntropy::new(&[0, 1], 10);
    let mut gradient = vec![0.0; weights.len()];
    assert!(engine.step(&weights, batch, &loss, &[], &mut gradient).is_nan());
}
