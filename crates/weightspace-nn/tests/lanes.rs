//! Models in SIMD lanes get what the ordinary engine gives them.

use std::path::Path;

use weightspace_core::{StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Dataset, Pixels, Preprocessing, Split, split_train_validation};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::lanes::{ImageOrder, LANES, LaneError, LaneImages, LaneModel, LaneTrainer};
use weightspace_nn::net::{Activation, Op, Window};
use weightspace_nn::optim::{Adam, AdamW, Muon, OptimizerConfig, Sgd};
use weightspace_nn::schedule::{MomentumCycle, Schedule};
use weightspace_nn::train::{
    Classification, Dense, HELD_OUT_SEED, Score, Silent, TrainConfig, Trainer,
};
use weightspace_nn::{Engine, ModelState, Net, NetBuilder};

/// Noise with a label that the mean brightness of a corner decides, so that there is something to learn.
fn images(shape: [usize; 3], count: usize) -> Dataset {
    let len: usize = shape.iter().product();
    let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).rotate_left(7) as u8;
    let mut pixels: Vec<u8> = (0..count * len).map(byte).collect();
    let labels: Vec<u16> = (0..count).map(|i| (i * 13 % 10) as u16).collect();
    for (image, &label) in pixels.chunks_exact_mut(len).zip(&labels) {
        let bright = len / 3 + usize::from(label) * (len / 16);
        image[bright..bright + len / 32].fill(250);
    }
    let names = (0..10).map(|i| i.to_string()).collect();
    Dataset::new("noise", shape, Pixels::U8(pixels), labels, names).unwrap()
}

/// All images in the order in which the ordinary training numbers them.
fn lane_images(dataset: &Dataset) -> LaneImages {
    let (order, _) = split_train_validation(dataset.len(), 0, HELD_OUT_SEED);
    LaneImages::new(dataset, &Preprocessing::unit(), Some(&order)).unwrap()
}

fn build(arch: &str) -> Net {
    arch::build(arch, &ArchOptions::default()).unwrap()
}

fn adam(weight_decay: f64) -> OptimizerConfig {
    OptimizerConfig::Adam(Adam { learning_rate: 1e-3, weight_decay, ..Adam::default() })
}

fn adamw() -> OptimizerConfig {
    OptimizerConfig::AdamW(AdamW { learning_rate: 1e-3, ..AdamW::default() })
}

fn sgd(momentum: f64, nesterov: bool) -> OptimizerConfig {
    let weight_decay = 5e-4;
    OptimizerConfig::Sgd(Sgd {
        learning_rate: 0.01,
        momentum,
        nesterov,
        weight_decay,
        ..Sgd::default()
    })
}

fn model(net: Net, optimizer: OptimizerConfig, seed: u64) -> LaneModel {
    let schedule = Schedule::default();
    let config = TrainConfig {
        epochs: 10,
        batch: 10,
        seed,
        threads: 1,
        optimizer,
        schedule,
        ..TrainConfig::default()
    };
    let weights = initialise(&net, Initialisation::PytorchDefault, seed);
    LaneModel { net, config, weights }
}

/// Losses of the steps that the ordinary training takes, and the weights after them.
fn alone(model: &LaneModel, dataset: &Dataset, steps: usize) -> (Vec<f64>, Vec<f32>) {
    let LaneModel { net, config, weights } = model.clone();
    let task = Classification::new(&net, dataset, &Preprocessing::unit(), 0, &config).unwrap();
    let running = ModelState::initial(&net, Initialisation::PytorchDefault, 0).running;
    let dense = Box::new(Dense::new(&net, weights));
    let mut trainer = Trainer::new(Box::new(task), dense, running, config).unwrap();
    let step = |_| {
        trainer.step().unwrap();
        trainer.progress().loss
    };
    let losses = (0..steps).map(step).collect();
    (losses, trainer.coefficients().to_vec())
}

/// Every model trains in a lane as it does alone.
fn expect_equal(models: Vec<LaneModel>, dataset: &Dataset, steps: usize) {
    let images = lane_images(dataset);
    for set in InstructionSet::available() {
        let group = LaneTrainer::new(models.clone(), &images, ImageOrder::Own).unwrap();
        let mut group = group.with_instruction_set(set);
        let losses: Vec<_> = (0..steps).map(|_| group.step()).collect();
        for (lane, model) in models.iter().enumerate() {
            let (expected, weights) = alone(model, dataset, steps);
            let what = format!("{set:?} {} {:?}", model.net.arch(), model.config.optimizer);
            for (step, (loss, expected)) in losses.iter().zip(expected).enumerate() {
                let error = (loss[lane] - expected).abs();
                assert!(error < 1e-4, "{what} step {step}: {} alone {expected}", loss[lane]);
            }
            let error = largest_difference(&group.weights(lane), &weights);
            assert!(error < 2e-3, "{what} weights differ by {error}");
        }
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Every activation, optimiser and dropout of a family, all in one group.
fn variety(arch: &str) -> Vec<LaneModel> {
    let optimizers =
        [adam(0.0), sgd(0.9, false), adamw(), adam(1e-3), sgd(0.9, true), sgd(0.0, false)];
    let activations = [Activation::Tanh, Activation::Relu, Activation::Sigmoid, Activation::Gelu];
    (0..LANES)
        .map(|i| {
            let dropout = if i % 3 == 1 { ",dropout=0.5" } else { "" };
            let activation = activations[i % 4].name();
            let separator = if arch.contains(':') { "," } else { ":" };
            let net = build(&format!("{arch}{separator}act={activation}{dropout}"));
            model(net, optimizers[i % 6], i as u64)
        })
        .collect()
}

#[test]
fn small_cnns_train_as_they_do_alone() {
    expect_equal(variety("zoo-cnn"), &images([1, 28, 28], 200), 100);
}

#[test]
fn medium_cnns_train_as_they_do_alone() {
    expect_equal(variety("zoo-cnn-medium").split_off(11), &images([3, 32, 32], 100), 100);
}
