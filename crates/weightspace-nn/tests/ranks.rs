//! Training as several ranks.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::comm::{Communicator, Part, Solo, threads};
use weightspace_nn::data::{self, Dataset, Preprocessing, Split};
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::loss::CrossEntropy;
use weightspace_nn::net::{Activation, Window};
use weightspace_nn::optim::{OptimizerConfig, ParameterGroups, Sgd};
use weightspace_nn::train::{
    CheckpointPolicy, Classification, Dense, DistillationConfig, Ending, Metrics, Observer,
    Parameterization, RunFolder, Selection, TrainConfig, TrainError, Trainer,
};
use weightspace_nn::{Engine, ModelState, Net, NetBuilder};

/// Images held out: what is left are 41 batches of 32 and one of 2.
const HELD_OUT: usize = 123;

/// Steps of an epoch.
const EPOCH: u64 = 42;

fn digits() -> Dataset {
    data::open("digits", None, Split::Train).unwrap()
}

/// Two residual blocks with batch normalisations, one of them with a projection, and dropout. Smooth,
/// because a value that falls on the other side of a kink is more than a rounding after some steps, with
/// other numbers of threads as with other numbers of ranks.
fn resnet() -> Net {
    let (mut net, x) = NetBuilder::maps(1, 8, 8);
    let y = net.conv("stem", x, 8, Window::same(3), false);
    let y = net.batch_norm("stem_bn", y);
    let x = net.activation(y, Activation::Gelu);
    let y = net.conv("a1", x, 8, Window::same(3), false);
    let y = net.batch_norm("a1_bn", y);
    let y = net.activation(y, Activation::Gelu);
    let y = net.conv("a2", y, 8, Window::same(3), false);
    let y = net.batch_norm("a2_bn", y);
    let y = net.add(y, x);
    let x = net.activation(y, Activation::Gelu);
    let y = net.conv("b1", x, 20, Window::same(3), true);
    let y = net.batch_norm("b1_bn", y);
    let x = net.conv("b2", x, 20, Window::same(1), false);
    let x = net.batch_norm("b2_bn", x);
    let y = net.add(y, x);
    let y = net.activation(y, Activation::Gelu);
    let y = net.dropout(y, 0.1);
    let y = net.global_avg_pool(y);
    let y = net.flatten(y);
    net.linear("fc", y, 10);
    net.finish("smooth-resnet")
}

fn lenet() -> Net {
    let (mut net, x) = NetBuilder::maps(1, 8, 8);
    let y = net.conv("conv1", x, 6, Window::same(5), true);
    let y = net.activation(y, Activation::Gelu);
    let y = net.avg_pool(y, Window { size: 2, stride: 2, padding: 0 });
    let y = net.conv("conv2", y, 16, Window::same(5), true);
    let y = net.activation(y, Activation::Gelu);
    let y = net.avg_pool(y, Window { size: 2, stride: 2, padding: 0 });
    let y = net.flatten(y);
    let y = net.linear("fc1", y, 32);
    let y = net.activation(y, Activation::Gelu);
    let y = net.dropout(y, 0.2);
    net.linear("fc2", y, 10);
    net.finish("smooth-lenet")
}

fn config(threads: usize) -> TrainConfig {
    TrainConfig {
        epochs: 2,
        batch: 32,
        threads,
        clip: Some(5.0),
        ema: Some(0.9),
        select: Selection::Best,
        augmentation: "crop1".parse().unwrap(),
        ..TrainConfig::default()
    }
}

/// Keeps what it sees, and stops after as many steps as it is told.
#[derive(Default)]
struct Recorder {
    losses: Vec<f64>,
    metrics: Vec<Metrics>,
    stop_after: Option<usize>,
}

impl Observer for Recorder {
    fn step(&mut self, progress: &weightspace_nn::train::Progress) {
        self.losses.push(progress.loss);
    }

    fn evaluation(&mut self, metrics: &Metrics) {
        self.metrics.push(metrics.clone());
    }

    fn should_stop(&self) -> bool {
        self.stop_after == Some(self.losses.len())
    }
}

/// What a training ended with.
#[derive(Debug, PartialEq)]
struct Trained {
    state: ModelState,
    losses: Vec<f64>,
    /// Right samples, samples and loss of every evaluation.
    scores: Vec<(Option<usize>, usize, Option<f64>)>,
}

/// What `f` returns on each rank.
fn on_ranks<T: Send>(ranks: usize, f: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    if ranks == 1 {
        return vec![f(Arc::new(Solo))];
    }
    std::thread::scope(|scope| {
        let f = &f;
        let spawned: Vec<_> =
            threads(ranks).into_iter().map(|rank| scope.spawn(move || f(Arc::new(rank)))).collect();
        spawned.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// What of a training is not the same in every test.
#[derive(Clone, Copy, Default)]
struct Setup<'a> {
    folder: Option<&'a Path>,
    /// The last rank wants to stop after so many steps.
    stop_after: Option<usize>,
    teacher: Option<&'a Engine>,
    shared: bool,
    /// The first rank cannot write checkpoints.
    full: bool,
}

/// Trains as several ranks, which must end with the same bits.
fn train(net: &Net, config: &TrainConfig, ranks: usize, setup: Setup<'_>) -> Trained {
    let mut all = try_train(net, config, ranks, setup).into_iter().map(Result::unwrap);
    let first = all.next().unwrap();
    for other in all {
        assert_eq!(other, first);
    }
    first
}

fn try_train(
    net: &Net,
    config: &TrainConfig,
    ranks: usize,
    setup: Setup<'_>,
) -> Vec<Result<Trained, TrainError>> {
    let dataset = digits();
    on_ranks(ranks, |comm| {
        let start = ModelState::initial(net, Initialisation::default(), config.seed);
        let unit = Preprocessing::unit();
        let mut task = Classification::new(net, &dataset, &unit, HELD_OUT, config)?;
        if let (Some(teacher), Some(config)) = (setup.teacher, config.distillation) {
            task = task.with_teacher(teacher, config)?;
        }
        let dense = Dense::new(net, start.weights);
        let method: Box<dyn Parameterization> = match setup.shared {
            true => Box::new(Shared { dense, comm: Arc::new(Solo) }),
            false => Box::new(dense),
        };
        let (config, part) = (config.clone(), comm.part());
        let task = Box::new(task);
        let mut trainer = Trainer::distributed(task, method, start.running, config, comm)?;
        let stop_after = setup.stop_after.filter(|_| part.index + 1 == part.count);
        let mut recorder = Recorder { stop_after, ..Recorder::default() };
        let ending = match setup.folder {
            None => trainer.run(&mut recorder)?,
            Some(folder) => {
                let mut folder = match part.index {
                    0 => RunFolder::open(folder, CheckpointPolicy::default())?,
                    _ => RunFolder::reader(folder),
                };
                folder.restore(&mut trainer)?;
                if setup.full && part.index == 0 {
                    fs::remove_dir(folder.checkpoint().parent().unwrap()).unwrap();
                }
                trainer.run_in(&mut folder, &mut recorder)?
            }
        };
        assert_eq!(ending == Ending::Interrupted, setup.stop_after.is_some());
        let score = |metrics: &Metrics| (metrics.correct, metrics.total, metrics.loss);
        let scores = recorder.metrics.iter().map(score).collect();
        Ok(Trained { state: trainer.result(), losses: recorder.losses, scores })
    })
}

/// Largest difference of losses and of weights, relative to the largest value of each.
fn difference(a: &Trained, b: &Trained) -> (f64, f64) {
    assert_eq!(a.losses.len(), b.losses.len());
    let losses = a.losses.iter().zip(&b.losses);
    let (a, b) = (&a.state, &b.state);
    let weights = a.weights.iter().zip(&b.weights).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    (relative(losses.map(|(a, b)| (*a, *b))), relative(weights))
}

fn relative(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (largest, difference) = pairs.fold((0f64, 0f64), |(largest, difference), (a, b)| {
        (largest.max(a.abs()), difference.max((a - b).abs()))
    });
    difference / largest
}

/// One step: loss, gradient and running statistics, which must be the same on all ranks.
fn step(net: &Net, samples: usize, ranks: usize, threads: usize) -> (f64, Vec<f32>, ModelState) {
    let len = net.input_len();
    let images: Vec<f32> = (0..samples * len).map(|i| ((i * i) % 97) as f32 / 48.0 - 1.0).collect();
    let labels: Vec<u16> = (0..samples).map(|i| (i % 10) as u16).collect();
    let weights = initialise(net, Initialisation::PytorchDefault, 1);
    let all = on_ranks(ranks, |comm| {
        let share = comm.part().range(samples);
        let options = TrainingOptions::new(samples.div_ceil(ranks), threads);
        let mut engine = TrainingEngine::new(net, TrainingOptions { comm, ..options });
        let inputs = &images[share.start * len..share.end * len];
        let batch =
            Batch { inputs, first: share.start, mode: NormMode::TRAINING, dropout: Some(3) };
        let loss = CrossEntropy::new(&labels, 10);
        let mut gradient = vec![f32::NAN; weights.len()];
        let loss = engine.step(&weights, batch, &loss, &[], &mut gradient);
        let running = engine.running().clone();
        (loss, gradient, ModelState { weights: vec![], running })
    });
    assert!(all.iter().all(|other| *other == all[0]));
    all.into_iter().next().unwrap()
}

/// Ranks divide a batch as threads do: forward there are the same bits, backward the sums of a layer's
/// gradient are rounded in another form.
#[test]
fn a_step_of_ranks_is_a_step_of_threads() {
    let options = ArchOptions::default();
    let (resnet20, lenet5) =
        (arch::build("resnet20", &options).unwrap(), arch::build("lenet5", &options).unwrap());
    for net in [resnet(), lenet(), resnet20, lenet5] {
        // The last of these leaves a rank without samples.
        for (samples, count) in [(9, 2), (9, 3), (8, 4), (3, 4)] {
            let of_threads = step(&net, samples, 1, count);
            let of_ranks = step(&net, samples, count, 1);
            assert_eq!(of_ranks.0.to_bits(), of_threads.0.to_bits(), "{} {count}", net.arch());
            assert_eq!(of_ranks.2, of_threads.2);
            let gradients = of_ranks.1.iter().zip(&of_threads.1);
            let difference = relative(gradients.map(|(a, b)| (f64::from(*a), f64::from(*b))));
            println!("{} {count} ranks: gradients {difference:.1e}", net.arch());
            assert!(difference < 1e-5, "{} {count}: {difference}", net.arch());
        }
    }
}

#[test]
fn the_number_of_ranks_changes_roundings_only() {
    let config = TrainConfig { epochs: 1, ..config(2) };
    for net in [resnet(), lenet()] {
        let solo = train(&net, &config, 1, Setup::default());
        for ranks in [2, 3, 4] {
            let found = train(&net, &config, ranks, Setup::default());
            let (losses, weights) = difference(&found, &solo);
            println!("{} {ranks} ranks: losses {losses:.1e}, weights {weights:.1e}", net.arch());
            assert!(losses < 1e-5 && weights < 1e-5, "{ranks}: {losses} {weights}");
            assert_eq!(found.scores[0].0, solo.scores[0].0);
        }
    }
}

#[test]
fn a_teacher_teaches_every_rank() {
    let (net, teacher) = (lenet(), resnet());
    let weights = ModelState::initial(&teacher, Initialisation::default(), 5);
    let teacher = Engine::new(&teacher, &weights.to_state_dict(&teacher)).unwrap();
    let distillation = Some(DistillationConfig::default());
    let config = TrainConfig { epochs: 1, distillation, ..config(2) };
    let setup = Setup { teacher: Some(&teacher), ..Setup::default() };
    let solo = train(&net, &config, 1, setup);
    let (losses, weights) = difference(&train(&net, &config, 3, setup), &solo);
    assert!(losses < 1e-5 && weights < 1e-5, "{losses} {weights}");
}

/// Any rank may ask to stop; any number of ranks continues.
#[test]
fn a_run_continues_with_any_number_of_ranks() {
    let (net, config) = (resnet(), config(1));
    let folder = || tempfile::tempdir().unwrap();
    let (whole, same, other) = (folder(), folder(), folder());
    let run = |folder: &tempfile::TempDir, ranks, stop_after| {
        let setup = Setup { folder: Some(folder.path()), stop_after, ..Setup::default() };
        train(&net, &config, ranks, setup)
    };
    let expected = run(&whole, 3, None);
    for stop_after in [7, 35, 20] {
        run(&same, 3, Some(stop_after));
    }
    assert_eq!(run(&same, 3, None).state, expected.state);
    assert_eq!(lines(same.path()), lines(whole.path()));
    assert_eq!(lines(whole.path()).len(), 2);

    for (ranks, stop_after) in [(4, 7), (1, 35), (2, 20)] {
        run(&other, ranks, Some(stop_after));
    }
    let found = run(&other, 3, None);
    assert_eq!(found.losses.len() as u64, 2 * EPOCH - 62);
    let weights = found.state.weights.iter().zip(&expected.state.weights);
    let difference = relative(weights.map(|(a, b)| (f64::from(*a), f64::from(*b))));
    assert!(difference < 1e-5, "{difference}");
    assert_eq!(lines(other.path()).len(), 2);
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

fn errors(results: Vec<Result<Trained, TrainError>>) -> Vec<String> {
    results.into_iter().map(|result| result.unwrap_err().to_string()).collect()
}

#[test]
fn all_ranks_diverge_together() {
    let sgd = Sgd { learning_rate: 1e30, ..Sgd::default() };
    let optimizer = OptimizerConfig::Sgd(sgd);
    for net in [resnet(), lenet()] {
        let config = TrainConfig { optimizer, clip: None, ..config(1) };
        let found = errors(try_train(&net, &config, 3, Setup::default()));
        assert!(found[0].contains("diverged at step"), "{}", found[0]);
        assert_eq!(found, vec![found[0].clone(); 3]);
    }
}

#[test]
fn all_ranks_fail_where_one_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { folder: Some(folder.path()), full: true, ..Setup::default() };
    let found = errors(try_train(&lenet(), &config(1), 3, setup));
    assert!(found[0].contains("training.safetensors"), "{}", found[0]);
    let elsewhere = format!("rank 0: {}", found[0]);
    assert_eq!(found[1..], [elsewhere.clone(), elsewhere]);
}

#[test]
fn ranks_that_begin_otherwise_are_refused() {
    let (net, dataset) = (lenet(), digits());
    let begin = |seeds: [u64; 2]| {
        on_ranks(2, |comm| {
            let config = TrainConfig { seed: seeds[0] * comm.rank() as u64, ..config(1) };
            let seed = seeds[1] * comm.rank() as u64;
            let start = ModelState::initial(&net, Initialisation::default(), seed);
            let unit = Preprocessing::unit();
            let task = Classification::new(&net, &dataset, &unit, HELD_OUT, &config).unwrap();
            let dense = Box::new(Dense::new(&net, start.weights));
            let task = Box::new(task);
            let trainer = Trainer::distributed(task, dense, start.running, config, comm);
            trainer.err().map(|error| error.to_string())
        })
    };
    assert_eq!(begin([0, 0]), [None, None]);
    let differ = |what| vec![Some(format!("rank 1: {what} differ from rank 0's")); 2];
    assert_eq!(begin([1, 0]), differ("settings"));
    assert_eq!(begin([0, 1]), differ("coefficients"));
}

/// Every rank knows its own part of the weights only, and asks the others for theirs.
struct Shared {
    dense: Dense,
    comm: Arc<dyn Communicator>,
}

impl Shared {
    /// Fills in what the others have.
    fn exchange(&self, values: &mut [f32], own: Range<usize>) {
        let lengths = self.comm.part().lengths(values.len());
        let own = values[own].to_vec();
        self.comm.gather_f32(&own, &lengths, values);
    }
}

impl Parameterization for Shared {
    fn attach(&mut self, comm: Arc<dyn Communicator>) {
        self.comm = comm;
    }

    fn initial(&self) -> Vec<f32> {
        self.dense.initial()
    }

    fn groups(&self) -> ParameterGroups {
        self.dense.groups()
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        let own = self.comm.part().range(weights.len());
        weights.fill(f32::NAN);
        weights[own.clone()].copy_from_slice(&coefficients[own.clone()]);
        self.exchange(weights, own);
    }

    fn pullback(&mut self, _: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        let own = self.comm.part().range(gradient.len());
        gradient.fill(f32::NAN);
        gradient[own.clone()].copy_from_slice(&weight_gradient[own.clone()]);
        self.exchange(gradient, own);
    }
}

#[test]
fn a_method_may_divide_its_work() {
    let net = resnet();
    let config = TrainConfig { epochs: 1, ..config(1) };
    let dense = train(&net, &config, 3, Setup::default());
    let shared = train(&net, &config, 3, Setup { shared: true, ..Setup::default() });
    assert_eq!(shared, dense);
    assert_eq!(Part::WHOLE.range(5), 0..5);
}
