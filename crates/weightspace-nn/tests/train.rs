//! The training loop on the embedded digits.

use std::fs;
use std::path::Path;

use weightspace_core::{DType, StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::comm::Part;
use weightspace_nn::data::{self, Augmentation, Dataset, Preprocessing, Split};
use weightspace_nn::init::Initialisation;
use weightspace_nn::model_state::ModelStateError;
use weightspace_nn::net::{Activation, Window};
use weightspace_nn::optim::{OptimizerConfig, ParameterGroups, Sgd};
use weightspace_nn::train::{
    CheckpointPolicy, Classification, Dense, DistillationConfig, Ending, Metrics, Observer,
    Parameterization, RunFolder, Score, Selection, Silent, Task, TrainConfig, TrainError, Trainer,
    feature_maps,
};
use weightspace_nn::{Engine, ModelState, Net, NetBuilder};

fn digits(split: Split) -> Dataset {
    data::open("digits", None, split).unwrap()
}

fn unit() -> Preprocessing {
    Preprocessing::unit()
}

fn mlp() -> Net {
    arch::build("mlp:64-24-10", &ArchOptions::default()).unwrap()
}

fn short() -> TrainConfig {
    TrainConfig { epochs: 3, batch: 32, threads: 2, ..TrainConfig::default() }
}

fn initial(net: &Net, seed: u64) -> ModelState {
    ModelState::initial(net, Initialisation::default(), seed)
}

/// Trains densely from the seed's initial weights.
fn train(net: &Net, config: &TrainConfig, observer: &mut dyn Observer) -> ModelState {
    let dataset = digits(Split::Train);
    let start = initial(net, config.seed);
    let task = Classification::new(net, &dataset, &unit(), 100, config).unwrap();
    let dense = Dense::new(net, start.weights);
    let (task, dense) = (Box::new(task), Box::new(dense));
    let mut trainer = Trainer::new(task, dense, start.running, config.clone()).unwrap();
    assert_eq!(trainer.run(observer).unwrap(), Ending::Finished);
    trainer.result()
}

fn test_score(net: &Net, state: &ModelState) -> Score {
    let engine = Engine::new(net, &state.to_state_dict(net)).unwrap();
    Score::of(&engine, &digits(Split::Test), None, &unit()).unwrap()
}

/// Keeps what it sees.
#[derive(Default)]
struct Recorder {
    metrics: Vec<Metrics>,
    steps: u64,
    stop_at: Option<u64>,
}

impl Observer for Recorder {
    fn step(&mut self, progress: &weightspace_nn::train::Progress) {
        self.steps += 1;
        assert!(progress.step <= progress.total_steps && progress.loss.is_finite());
        assert!((1..=progress.epochs).contains(&progress.epoch), "{progress:?}");
    }

    fn evaluation(&mut self, metrics: &Metrics) {
        self.metrics.push(metrics.clone());
    }

    fn should_stop(&self) -> bool {
        self.stop_at == Some(self.steps)
    }
}

#[test]
fn it_learns_and_says_how_well() {
    let net = mlp();
    let mut recorder = Recorder::default();
    let config = TrainConfig { epochs: 12, ..short() };
    let state = train(&net, &config, &mut recorder);
    assert!(test_score(&net, &state).accuracy() > 0.9);
    assert_eq!(recorder.metrics.len(), 12);
    let steps_per_epoch = (digits(Split::Train).len() as u64 - 100).div_ceil(32);
    assert_eq!(recorder.steps, 12 * steps_per_epoch);
    for (i, metrics) in recorder.metrics.iter().enumerate() {
        assert_eq!((metrics.epoch, metrics.total), (i as u32 + 1, 100));
        assert_eq!(metrics.step, u64::from(metrics.epoch) * steps_per_epoch);
        assert_eq!(metrics.accuracy, metrics.correct.map(|correct| correct as f64 / 100.0));
    }
    let (first, last) = (&recorder.metrics[0], &recorder.metrics[11]);
    assert!(last.train_loss < first.train_loss && last.loss < first.loss);
}

#[test]
fn the_seed_decides_every_bit() {
    let net = mlp();
    let seed = |seed| train(&net, &TrainConfig { seed, ..short() }, &mut Silent);
    let first = seed(1);
    assert_eq!(first, seed(1));
    assert_ne!(first.weights, seed(2).weights);
}

/// The weights are twice the coefficients.
struct Doubled(Dense);

impl Parameterization for Doubled {
    fn initial(&self) -> Vec<f32> {
        self.0.initial().iter().map(|weight| weight / 2.0).collect()
    }

    fn groups(&self) -> ParameterGroups {
        self.0.groups()
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        weights.iter_mut().zip(coefficients).for_each(|(weight, c)| *weight = 2.0 * c);
    }

    fn pullback(&mut self, _: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        gradient.iter_mut().zip(weight_gradient).for_each(|(g, w)| *g = 2.0 * w);
    }
}

/// Weights that are doubled coefficients move four times as far in a step of gradient descent;
/// powers of two are exact, so that a quarter of the learning rate gives the same bits.
#[test]
fn a_method_changes_coefficients_by_the_gradients_of_its_weights() {
    let net = mlp();
    let dataset = digits(Split::Train);
    let sgd = |learning_rate| {
        let sgd = Sgd { learning_rate, momentum: 0.5, ..Sgd::default() };
        TrainConfig { optimizer: OptimizerConfig::Sgd(sgd), ..short() }
    };
    let start = initial(&net, 0);
    let config = sgd(0.0625);
    let task = Classification::new(&net, &dataset, &unit(), 100, &config).unwrap();
    let doubled = Doubled(Dense::new(&net, start.weights));
    let mut trainer =
        Trainer::new(Box::new(task), Box::new(doubled), start.running, config).unwrap();
    trainer.run(&mut Silent).unwrap();
    let dense = train(&net, &sgd(0.25), &mut Silent);
    assert_eq!(trainer.result(), dense);
    assert_eq!(trainer.coefficients()[7] * 2.0, dense.weights[7]);
}

#[test]
fn the_best_evaluation_is_selected() {
    let net = mlp();
    // A learning rate so large that accuracy goes up and down.
    let sgd = Sgd { learning_rate: 1.0, momentum: 0.9, ..Sgd::default() };
    let config = TrainConfig {
        epochs: 8,
        optimizer: OptimizerConfig::Sgd(sgd),
        select: Selection::Best,
        ..short()
    };
    let mut recorder = Recorder::default();
    let best = train(&net, &config, &mut recorder);
    let correct: Vec<_> = recorder.metrics.iter().map(|metrics| metrics.correct).collect();
    let dataset = digits(Split::Train);
    let task = Classification::new(&net, &dataset, &unit(), 100, &config).unwrap();
    let score =
        weightspace_nn::train::Task::evaluate(&task, &best.to_state_dict(&net), Part::WHOLE)
            .unwrap();
    assert_eq!(score.map(|score| score.correct), correct.iter().copied().max(), "{correct:?}");
}

#[test]
fn an_average_of_the_weights_is_the_result() {
    let net = mlp();
    let plain = train(&net, &short(), &mut Silent);
    let averaged = |decay| {
        let config = TrainConfig { ema: Some(decay), ..short() };
        train(&net, &config, &mut Silent)
    };
    assert_eq!(averaged(0.0), plain);
    assert_ne!(averaged(0.9).weights, plain.weights);
}

#[test]
fn divergence_names_step_and_place_and_keeps_the_weights() {
    let net = mlp();
    let dataset = digits(Split::Train);
    let sgd = Sgd { learning_rate: 1e30, ..Sgd::default() };
    let config = TrainConfig { optimizer: OptimizerConfig::Sgd(sgd), ..short() };
    let start = initial(&net, 0);
    let task = Classification::new(&net, &dataset, &unit(), 0, &config).unwrap();
    let dense = Dense::new(&net, start.weights);
    let mut trainer = Trainer::new(Box::new(task), Box::new(dense), start.running, config).unwrap();
    let error = trainer.run(&mut Silent).unwrap_err();
    let TrainError::Diverged { step, place, .. } = &error else { panic!("{error}") };
    assert!((1..10).contains(step) && place.contains(' '), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn a_network_learns_from_a_teacher_alone() {
    let (net, teacher_net) = (mlp(), arch::build("mlp:64-64-10", &ArchOptions::default()).unwrap());
    let config = TrainConfig { epochs: 20, ..short() };
    let teacher = train(&teacher_net, &config, &mut Silent);
    let engine = Engine::new(&teacher_net, &teacher.to_state_dict(&teacher_net)).unwrap();
    let dataset = digits(Split::Train);
    let start = initial(&net, 0);
    let distillation =
        DistillationConfig { temperature: 2.0, alpha: 1.0, ..DistillationConfig::default() };
    let task = Classification::new(&net, &dataset, &unit(), 0, &config).unwrap();
    let task = task.with_teacher(&engine, distillation).unwrap();
    let dense = Dense::new(&net, start.weights);
    let mut trainer = Trainer::new(Box::new(task), Box::new(dense), start.running, config).unwrap();
    trainer.run(&mut Silent).unwrap();
    let state = trainer.result();
    assert!(test_score(&net, &state).accuracy() > 0.9);
}

/// What is remembered of a teacher has the bits of what would be asked anew, as after an interruption.
#[test]
fn images_come_again_after_as_many_epochs_as_there_are_views() {
    let net = mlp();
    let teacher = Engine::new(&net, &initial(&net, 1).to_state_dict(&net)).unwrap();
    let (dataset, augmentation) = (digits(Split::Train), Augmentation { crop: 1, flip: true });
    let config = TrainConfig { augmentation, ..short() };
    let task = |views| {
        let distillation =
            DistillationConfig { alpha: 1.0, mixtures: true, views, ..Default::default() };
        let task = Classification::new(&net, &dataset, &unit(), 100, &config).unwrap();
        task.with_teacher(&teacher, distillation).unwrap()
    };
    // Images of a batch, and the gradient of their loss where all logits are 0.
    let batch = |task: &mut Classification, epoch, samples: &[usize]| {
        let prepared = task.batch(epoch, samples, 0..samples.len()).unwrap();
        let mut gradient = vec![0.0; samples.len() * 10];
        prepared.loss.evaluate(0, &vec![0.0; samples.len() * 10], &mut gradient);
        (prepared.inputs.to_vec(), gradient)
    };
    let mut warm = task(2);
    batch(&mut warm, 0, &[1, 2, 3]);
    let again = batch(&mut warm, 2, &[7, 3, 1]);
    assert_eq!(again, batch(&mut task(2), 2, &[7, 3, 1]));
    assert_eq!(again, batch(&mut task(0), 0, &[7, 3, 1]));
    assert_eq!(again, batch(&mut warm, 4, &[7, 3, 1]));
    let (images, gradient) = batch(&mut warm, 3, &[7, 3, 1]);
    assert!(images != again.0 && gradient != again.1);
    assert_eq!((images, gradient), batch(&mut task(0), 1, &[7, 3, 1]));
}

#[test]
fn an_observer_stops_after_a_step_and_training_goes_on_as_if_not() {
    let net = mlp();
    let dataset = digits(Split::Train);
    let start = initial(&net, 0);
    let task = Classification::new(&net, &dataset, &unit(), 100, &short()).unwrap();
    let dense = Dense::new(&net, start.weights);
    let mut trainer =
        Trainer::new(Box::new(task), Box::new(dense), start.running, short()).unwrap();
    let mut recorder = Recorder { stop_at: Some(50), ..Recorder::default() };
    assert_eq!(trainer.run(&mut recorder).unwrap(), Ending::Interrupted);
    assert_eq!(trainer.step_count(), 50);
    assert_eq!(trainer.run(&mut Silent).unwrap(), Ending::Finished);
    assert_eq!(trainer.result(), train(&net, &short(), &mut Silent));
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let dataset = digits(Split::Train);
    let refuse = |arch: &str, held_out, config: &TrainConfig, part: &str| {
        let net = arch::build(arch, &ArchOptions::default()).unwrap();
        let start = initial(&net, 0);
        let task = Classification::new(&net, &dataset, &unit(), held_out, config);
        let error = task
            .and_then(|task| {
                let dense = Box::new(Dense::new(&net, start.weights));
                Trainer::new(Box::new(task), dense, start.running, config.clone())
            })
            .err();
        let text = error.unwrap_or_else(|| panic!("{part}: no error")).to_string();
        assert!(text.contains(part) && text.lines().count() == 1, "{text}");
    };
    refuse("mlp:63-10", 0, &short(), "63");
    refuse("mlp:64-11", 0, &short(), "11");
    refuse("mlp:64-10", 5000, &short(), "5000");
    refuse("mlp:64-10", 0, &TrainConfig { epochs: 0, ..short() }, "epochs");
    refuse("mlp:64-10", 0, &TrainConfig { batch: 0, ..short() }, "batch");
    refuse("mlp:64-10", 0, &TrainConfig { ema: Some(1.5), ..short() }, "decay");
    refuse("mlp:64-10", 0, &TrainConfig { clip: Some(-1.0), ..short() }, "clip");
    refuse("mlp:64-10", 0, &TrainConfig { label_smoothing: 2.0, ..short() }, "label_smoothing");
    let dropped = TrainConfig { batch: 5000, drop_last: true, ..short() };
    refuse("mlp:64-10", 0, &dropped, "too few");
}

#[test]
fn a_state_dict_becomes_a_model_state_and_back() {
    let net = arch::build("resnet20", &ArchOptions::default()).unwrap();
    let mut state = initial(&net, 3);
    state.running.layers[4].mean[2] = 7.5;
    state.running.layers[4].batches = 1 << 40;
    let dict = state.to_state_dict(&net);
    let names: Vec<_> = dict.iter().map(|(name, _)| name.to_owned()).collect();
    let expected: Vec<_> = net.parameters().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, expected);
    assert!(arch::check(&net, &dict.infos()).is_ok());
    assert_eq!(ModelState::from_state_dict(&net, &dict).unwrap(), state);

    let without = |suffix: &str| -> StateDict {
        dict.clone().into_iter().filter(|(name, _)| !name.ends_with(suffix)).collect()
    };
    let old = ModelState::from_state_dict(&net, &without("num_batches_tracked")).unwrap();
    assert_eq!((&old.weights, old.running.layers[4].batches), (&state.weights, 0));
    let missing = ModelState::from_state_dict(&net, &without("bn1.running_var")).unwrap_err();
    assert_eq!(missing, ModelStateError::Missing { name: "bn1.running_var".into() });
    let mut other = dict.clone();
    other.insert("conv1.weight", Tensor::from_f32(vec![2], &[0.0; 2]));
    let shape = ModelState::from_state_dict(&net, &other).unwrap_err().to_string();
    assert!(shape.contains("conv1.weight has shape [2], expected [16, 3, 3, 3]"), "{shape}");
    let mut integers = dict.clone();
    integers.insert("bn1.weight", Tensor::from_bytes(DType::U8, vec![16], vec![1; 16]));
    assert!(matches!(
        ModelState::from_state_dict(&net, &integers),
        Err(ModelStateError::Type { found: DType::U8, .. })
    ));
}

/// Settings of which every part has a state.
fn with_everything() -> TrainConfig {
    let ranger = OptimizerConfig::named("ranger").unwrap();
    TrainConfig {
        optimizer: ranger,
        ema: Some(0.9),
        select: Selection::Best,
        clip: Some(1.0),
        augmentation: "crop1".parse().unwrap(),
        ..short()
    }
}

/// Trains a network with batch normalisations and dropout in a folder until `stop_at`.
fn train_in(folder: &Path, net: &Net, config: &TrainConfig, stop_at: Option<u64>) -> ModelState {
    let dataset = digits(Split::Train);
    let start = initial(net, config.seed);
    let task = Classification::new(net, &dataset, &unit(), 100, config).unwrap();
    let dense = Box::new(Dense::new(net, start.weights));
    let mut trainer = Trainer::new(Box::new(task), dense, start.running, config.clone()).unwrap();
    let mut folder = RunFolder::open(folder, CheckpointPolicy::default()).unwrap();
    folder.restore(&mut trainer).unwrap();
    let steps = trainer.step_count();
    let mut recorder = Recorder { stop_at: stop_at.map(|at| at - steps), ..Recorder::default() };
    let ending = trainer.run_in(&mut folder, &mut recorder).unwrap();
    assert_eq!(ending == Ending::Interrupted, stop_at.is_some());
    trainer.result()
}

/// Keys of the metrics that do not depend on the clock.
fn lines(folder: &Path) -> Vec<[String; 5]> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        ["step", "epoch", "correct", "loss", "train_loss"].map(|key| line[key].to_string())
    };
    text.lines().map(line).collect()
}

fn small_resnet() -> Net {
    let (mut net, x) = NetBuilder::maps(1, 8, 8);
    let y = net.conv("conv", x, 6, Window::same(3), false);
    let y = net.batch_norm("bn", y);
    let y = net.activation(y, Activation::Relu);
    let y = net.dropout(y, 0.2);
    let y = net.global_avg_pool(y);
    let y = net.flatten(y);
    net.linear("fc", y, 10);
    net.finish("small")
}

#[test]
fn a_run_continues_from_its_checkpoint_bit_for_bit() {
    let (net, config) = (small_resnet(), with_everything());
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = train_in(whole.path(), &net, &config, None);
    // In the first epoch, at an evaluation, in the last epoch; 42 batches an epoch.
    for stop_at in [7, 42, 100] {
        train_in(parts.path(), &net, &config, Some(stop_at));
    }
    // What was written after the last checkpoint is forgotten.
    let metrics = parts.path().join("metrics.jsonl");
    let mut text = fs::read_to_string(&metrics).unwrap();
    text.push_str("{\"step\": 101, \"half a li");
    fs::write(&metrics, text).unwrap();
    let found = train_in(parts.path(), &net, &config, None);
    assert_eq!(found, expected);
    assert_eq!(lines(parts.path()), lines(whole.path()));
    assert_eq!(lines(whole.path()).len(), 3);
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let (net, config) = (small_resnet(), with_everything());
    let folder = tempfile::tempdir().unwrap();
    train_in(folder.path(), &net, &config, Some(50));
    let dataset = digits(Split::Train);
    let refuse = |net: &Net, config: TrainConfig, part: &str| {
        let start = initial(net, 0);
        let task = Classification::new(net, &dataset, &unit(), 100, &config).unwrap();
        let dense = Box::new(Dense::new(net, start.weights));
        let mut trainer = Trainer::new(Box::new(task), dense, start.running, config).unwrap();
        let mut folder = RunFolder::open(folder.path(), CheckpointPolicy::default()).unwrap();
        let error = folder.restore(&mut trainer).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("training.safetensors"), "{error}");
    };
    refuse(&net, TrainConfig { seed: 1, ..config.clone() }, "settings");
    refuse(&mlp(), config.clone(), "coefficients has");
    fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
    refuse(&net, config.clone(), "metrics.jsonl has 0 bytes");
    let path = folder.path().join("checkpoint/training.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refuse(&net, config, "is free");
}

#[test]
fn one_process_has_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let open = || RunFolder::open(folder.path(), CheckpointPolicy::default());
    let first = open().unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(first);
    open().unwrap();
}

/// A network that has the teacher's feature maps has nothing to learn from it, and any other has.
#[test]
fn feature_maps_are_compared_with_the_teachers() {
    let options = ArchOptions {
        classes: Some(10),
        in_channels: Some(1),
        size: Some(8),
        ..ArchOptions::default()
    };
    let net = arch::build("resnet20", &options).unwrap();
    let maps = feature_maps(&net);
    assert_eq!(maps.len(), 19 + 9);
    let dataset = digits(Split::Train);
    let original = initial(&net, 1);
    let teacher = Engine::with_taps(&net, &original.to_state_dict(&net), &maps).unwrap();
    let distillation = DistillationConfig {
        temperature: 1.0,
        alpha: 1.0,
        features: 0.5,
        ..DistillationConfig::default()
    };
    let config = TrainConfig { freeze_statistics: true, epochs: 1, ..short() };
    let loss = |seed: u64| {
        let start = initial(&net, seed);
        let task = Classification::new(&net, &dataset, &unit(), 100, &config).unwrap();
        let task = task.with_teacher(&teacher, distillation).unwrap();
        let (task, dense) = (Box::new(task), Box::new(Dense::new(&net, start.weights)));
        let mut trainer = Trainer::new(task, dense, start.running, config.clone()).unwrap();
        trainer.step().unwrap();
        let first = trainer.progress().loss;
        trainer.run(&mut Silent).unwrap();
        (first, trainer.progress().loss)
    };
    let (same, _) = loss(1);
    let (first, last) = loss(2);
    // Every map of another network is about orthogonal: a squared distance of up to 2.
    assert!(same < 1e-5 && first > 5.0, "{same} {first}");
    assert!(last < 0.8 * first, "{first} to {last}");
    let plain = Engine::new(&net, &original.to_state_dict(&net)).unwrap();
    let task = Classification::new(&net, &dataset, &unit(), 100, &config).unwrap();
    let error = task.with_teacher(&plain, distillation).err().unwrap().to_string();
    assert!(error.contains("0 feature maps"), "{error}");
}
