//! Models in SIMD lanes get what the ordinary engine gives them.

use std::path::Path;

use weightspace_core::{StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Dataset, Pixels, Preprocessing, Split, split_train_validation};
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::lanes::{ImageOrder, LANES, LaneError, LaneImages, LaneModel, LaneTrainer};
use weightspace_nn::loss::CrossEntropy;
use weightspace_nn::net::{Activation, Window};
use weightspace_nn::optim::{Adam, AdamW, Muon, OptimizerConfig, Sgd};
use weightspace_nn::schedule::{MomentumCycle, Schedule};
use weightspace_nn::train::{Classification, Dense, HELD_OUT_SEED, Score, TrainConfig, Trainer};
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
    OptimizerConfig::Adam(Adam { learning_rate: 3e-4, weight_decay, ..Adam::default() })
}

fn adamw() -> OptimizerConfig {
    OptimizerConfig::AdamW(AdamW { learning_rate: 3e-4, ..AdamW::default() })
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
    let alone: Vec<_> = models.iter().map(|model| alone(model, dataset, steps)).collect();
    for set in InstructionSet::available() {
        let group = LaneTrainer::new(models.clone(), &images, ImageOrder::Own).unwrap();
        let mut group = group.with_instruction_set(set);
        // All steps with the kernels that are used here, some with the others.
        let is_best = set == InstructionSet::best();
        let steps = if is_best { steps } else { steps / 8 };
        let losses: Vec<_> = (0..steps).map(|_| group.step()).collect();
        for (lane, (model, (expected, weights))) in models.iter().zip(&alone).enumerate() {
            let what = format!("{set:?} {} {:?}", model.net.arch(), model.config.optimizer);
            for (step, (loss, expected)) in losses.iter().zip(expected).enumerate() {
                let error = (loss[lane] - expected).abs();
                assert!(error < 1e-4, "{what} step {step}: {} alone {expected}", loss[lane]);
            }
            if is_best {
                let error = largest_difference(&group.weights(lane), weights);
                assert!(error < 5e-3, "{what} weights differ by {error}");
            }
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
            let drops = i % 3 == 1 && arch.starts_with("zoo");
            let dropout = if drops { ",dropout=0.5" } else { "" };
            let activation = activations[i % 4].name();
            let separator = if arch.contains(':') { "," } else { ":" };
            let net = build(&format!("{arch}{separator}{activation}{dropout}"));
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
    expect_equal(variety("zoo-cnn-medium").split_off(12), &images([3, 32, 32], 100), 100);
}

#[test]
fn mlps_train_as_they_do_alone() {
    let digits = data::open("digits", None, Split::Train).unwrap();
    let mut models = variety("mlp:64-33-20-10").split_off(7);
    for (i, model) in models.iter_mut().enumerate() {
        // A batch larger than a chunk, a last one that is smaller, and steps into the second epoch.
        (model.config.batch, model.config.decay_vectors) = (29, i % 2 == 0);
        if i == 1 {
            let momentum = Some(MomentumCycle { lowest: 0.85, highest: 0.95 });
            let Schedule::OneCycle { rise, divisor, final_divisor, anneal, .. } =
                TrainConfig::one_cycle()
            else {
                unreachable!()
            };
            model.config.schedule =
                Schedule::OneCycle { rise, divisor, final_divisor, anneal, momentum };
        }
    }
    expect_equal(models, &digits, 100);
}

/// Padding, strides, pooling of all kinds, activations before and behind it, kernels of every size.
fn odd_net(activation: Activation, dropout: f32) -> Net {
    let (mut net, x) = NetBuilder::maps(2, 17, 19);
    let x = net.conv("a", x, 5, Window { size: 4, stride: 2, padding: 2 }, true);
    let x = net.activation(x, activation);
    let x = net.max_pool(x, Window { size: 3, stride: 1, padding: 1 });
    let x = net.conv("b", x, 7, Window { size: 3, stride: 1, padding: 1 }, false);
    let x = net.max_pool(x, Window { size: 2, stride: 2, padding: 0 });
    let x = if dropout > 0.0 { net.dropout(x, dropout) } else { x };
    let x = net.conv("c", x, 3, Window { size: 2, stride: 1, padding: 0 }, true);
    let x = net.max_pool(x, Window { size: 2, stride: 2, padding: 0 });
    let x = net.activation(x, activation);
    let x = net.conv("d", x, 9, Window { size: 1, stride: 1, padding: 1 }, true);
    let x = net.avg_pool(x, Window { size: 2, stride: 1, padding: 1 });
    let x = net.global_avg_pool(x);
    let x = net.linear("e", x, 10);
    let x = if dropout > 0.0 { net.dropout(x, dropout) } else { x };
    net.linear("f", x, 10);
    net.finish("odd")
}

#[test]
fn every_operation_trains_as_it_does_alone() {
    let activations = Activation::ALL.into_iter().cycle().zip([0.0, 0.2, 0.3]);
    let models = activations
        .enumerate()
        .map(|(i, (activation, dropout))| model(odd_net(activation, dropout), adam(0.0), i as u64));
    expect_equal(models.collect(), &images([2, 17, 19], 60), 40);
}

/// What a model gets depends neither on its lane nor on its neighbours.
#[test]
fn lanes_do_not_see_each_other() {
    let dataset = images([1, 28, 28], 100);
    let images = lane_images(&dataset);
    let models = variety("zoo-cnn");
    let run = |models: Vec<LaneModel>, wanted: usize| {
        let mut group = LaneTrainer::new(models, &images, ImageOrder::Own).unwrap();
        let losses: Vec<u64> = (0..15).map(|_| group.step()[wanted].to_bits()).collect();
        let bits: Vec<u32> = group.weights(wanted).iter().map(|w| w.to_bits()).collect();
        let score = group.evaluate(&images)[wanted];
        (losses, bits, score.correct, score.loss.to_bits())
    };
    for wanted in [0, 5, 15] {
        let expected = run(models.clone(), wanted);
        assert!(run(vec![models[wanted].clone()], 0) == expected, "model {wanted} alone");
        let mut reversed = models.clone();
        reversed.reverse();
        assert!(run(reversed, LANES - 1 - wanted) == expected, "model {wanted} elsewhere");
        let mut broken = models.clone();
        let other = (wanted + 3) % LANES;
        broken[other].weights[7] = f32::NAN;
        assert!(run(broken, wanted) == expected, "model {wanted} beside a broken one");
    }
}

#[test]
fn a_model_that_diverges_says_so() {
    let dataset = images([1, 28, 28], 50);
    let images = lane_images(&dataset);
    let mut models = variety("zoo-cnn");
    models[2].weights[3] = f32::INFINITY;
    let mut group = LaneTrainer::new(models, &images, ImageOrder::Own).unwrap();
    let losses = group.step();
    assert!(!losses[2].is_finite() && losses[1].is_finite());
    group.step();
    assert_eq!([group.diverged(1), group.diverged(2)], [None, Some(1)]);
}

#[test]
fn scores_are_those_of_the_ordinary_engine() {
    let dataset = images([3, 32, 32], 90);
    let images = LaneImages::new(&dataset, &Preprocessing::unit(), None).unwrap();
    let models = variety("zoo-cnn-medium").split_off(10);
    let mut group = LaneTrainer::new(models.clone(), &images, ImageOrder::Shared(3)).unwrap();
    (0..5).for_each(|_| assert!(group.step().iter().all(|loss| loss.is_finite())));
    for (i, (score, model)) in group.evaluate(&images).iter().zip(&models).enumerate() {
        let weights = group.weights(i);
        let mut state = StateDict::new();
        for entry in model.net.layout().entries() {
            let tensor = Tensor::from_f32(entry.shape.clone(), &weights[entry.range()]);
            state.insert(entry.name.clone(), tensor);
        }
        let engine = Engine::new(&model.net, &state).unwrap();
        let expected = Score::of(&engine, &dataset, None, &Preprocessing::unit()).unwrap();
        assert_eq!((score.correct, score.total), (expected.correct, 90));
        assert!((score.loss - expected.loss).abs() < 1e-5, "{score:?} {expected:?}");
    }
}

/// One order for all: models of the same seed and start then differ in nothing.
#[test]
fn shared_orders_are_those_of_their_seed() {
    let dataset = images([1, 28, 28], 60);
    let images = lane_images(&dataset);
    let models = vec![model(build("zoo-cnn"), adam(0.0), 9); 2];
    let run = |order| {
        let mut group = LaneTrainer::new(models.clone(), &images, order).unwrap();
        (0..20).for_each(|_| drop(group.step().to_vec()));
        [group.weights(0), group.weights(1)]
    };
    let own = run(ImageOrder::Own);
    assert_eq!(own[0], own[1]);
    assert!(run(ImageOrder::Shared(9)) == own);
    assert!(run(ImageOrder::Shared(8)) != own);
}

#[test]
fn restored_groups_continue_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("group.safetensors");
    let dataset = images([1, 28, 28], 75);
    let images = lane_images(&dataset);
    let models = variety("zoo-cnn");
    let new = || LaneTrainer::new(models.clone(), &images, ImageOrder::Own).unwrap();
    let mut whole = new();
    let losses: Vec<_> = (0..3).map(|_| whole.run_epoch(&|| false).unwrap()).collect();

    let mut first = new();
    assert_eq!(first.run_epoch(&|| false).unwrap(), losses[0]);
    (0..3).for_each(|_| drop(first.step().to_vec()));
    assert_eq!(first.run_epoch(&|| true), None);
    first.save(&path).unwrap();
    let mut second = new();
    second.restore(&path).unwrap();
    assert_eq!(second.epoch(), 1);
    assert_eq!(second.run_epoch(&|| false).unwrap(), losses[1]);
    assert_eq!(second.run_epoch(&|| false).unwrap(), losses[2]);
    (0..LANES).for_each(|i| assert!(second.weights(i) == whole.weights(i), "model {i}"));
    assert_eq!((second.epoch(), second.steps_per_epoch(), second.is_finished()), (3, 8, false));

    let mut others = models.clone();
    others[4].config.seed += 1;
    let mut others = LaneTrainer::new(others, &images, ImageOrder::Own).unwrap();
    let before = others.weights(4);
    assert!(matches!(others.restore(&path), Err(LaneError::Foreign { .. })));
    assert!(others.weights(4) == before);
    std::fs::write(&path, [0; 100]).unwrap();
    assert!(matches!(second.restore(&path), Err(LaneError::Checkpoint(_))));
    assert!(second.save(Path::new("/nowhere/group")).is_err());
}

#[test]
fn what_lanes_cannot_do_is_said() {
    let error = LaneTrainer::supports(&build("resnet20")).unwrap_err().to_string();
    assert!(error.contains("resnet20: BatchNorm (bn1)"), "{error}");
    assert!(LaneTrainer::supports(&build("lenet-mnist")).is_ok());

    let dataset = images([1, 28, 28], 20);
    let images = lane_images(&dataset);
    let plain = || model(build("zoo-cnn"), adam(0.0), 0);
    let refused = |models: Vec<LaneModel>| {
        LaneTrainer::new(models, &images, ImageOrder::Own).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(refused(vec![]), "a group has 1 to 16 models, found 0");
    assert_eq!(refused(vec![plain(); 17]), "a group has 1 to 16 models, found 17");
    let mut other = plain();
    other.config.batch = 11;
    assert!(refused(vec![plain(), other]).starts_with("model 1 has batch 11, 10 epochs"));
    let mut other = plain();
    other.config.clip = Some(1.0);
    assert_eq!(refused(vec![plain(), other]), "model 1: training in lanes has no clip");
    let mut other = plain();
    other.config.optimizer = OptimizerConfig::Muon(Muon::default());
    assert!(refused(vec![other]).contains("no optimizer but sgd, adam and adamw"));
    let mut other = plain();
    other.weights.pop();
    assert!(refused(vec![other]).contains("the start of model 0 has"));
    let other = model(build("mlp:784-20-10"), adam(0.0), 0);
    assert!(refused(vec![plain(), other]).contains("model 1 has"));
    let other = model(build("zoo-cnn-medium"), adam(0.0), 0);
    assert!(refused(vec![other]).contains("values in an image, expected 3072"));
}

/// The gradient of one batch, against that of the ordinary engine.
#[test]
fn gradients_are_those_of_the_ordinary_engine() {
    let dataset = images([1, 28, 28], 10);
    let images = lane_images(&dataset);
    let mut models = variety("zoo-cnn");
    models.retain(|model| !model.net.arch().contains("dropout"));
    for set in InstructionSet::available() {
        let group = LaneTrainer::new(models.clone(), &images, ImageOrder::Own).unwrap();
        let mut group = group.with_instruction_set(set);
        group.step();
        for (lane, model) in models.iter().enumerate() {
            let mut engine = TrainingEngine::new(&model.net, TrainingOptions::new(10, 1));
            let mut inputs = vec![0.0; 10 * 784];
            let order: Vec<usize> = (0..10).collect();
            dataset.fill(&order, &Preprocessing::unit(), &mut inputs).unwrap();
            let loss = CrossEntropy::new(dataset.labels(), 10);
            let mut expected = vec![0.0; model.weights.len()];
            let batch =
                Batch { inputs: &inputs, first: 0, mode: NormMode::TRAINING, dropout: None };
            engine.step(&model.weights, batch, &loss, &[], &mut expected);
            let error = largest_difference(&group.gradient(lane), &expected);
            let scale = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            assert!(error < 2e-6 * scale.max(1.0), "{set:?} {}: {error}", model.net.arch());
        }
    }
}
