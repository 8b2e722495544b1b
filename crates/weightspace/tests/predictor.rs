//! Predictors of weights: orders, training in phases, files.

mod data_folder;

use data_folder::data_folder;
use weightspace::predictor::{
    Model, ModelConfig, Ordering, Original, Others, PredictedWeights, Recipe, Reconstructed,
    Reconstruction, ReconstructionConfig, Target, TargetConfig, compress, encode, inner_tensors,
    progressive,
};
use weightspace::quantize::Images;
use weightspace_core::container::{Header, Method, WspFile};
use weightspace_core::predictor::Encoding;
use weightspace_core::random::{Key, Stream};
use weightspace_core::{Checkpoint, StateDict, Tensor};
use weightspace_nn::data;
use weightspace_nn::init::Initialisation;
use weightspace_nn::loss::{Distillation, Loss};
use weightspace_nn::net::{Net, NetBuilder, Window};
use weightspace_nn::train::{CheckpointPolicy, Observer, Parameterization, RunFolder, Silent};
use weightspace_nn::{Engine, ModelState, arch};

const ENCODINGS: [Encoding; 4] = [
    Encoding::Positional { levels: 10, base: 0.76 },
    Encoding::Chebyshev { degree: 5 },
    Encoding::Tables { width: 4 },
    Encoding::DirectTables,
];

/// The real ResNet-20, where there is data.
fn resnet20() -> Option<(Net, StateDict)> {
    let folder = data_folder()?;
    let file = Checkpoint::open(&folder.join("resnets/resnet20-12fca82f.th")).unwrap();
    let net = arch::build("resnet20", &Default::default()).unwrap();
    Some((net, file.state_dict().unwrap()))
}

/// Convolutions of several sizes and a linear layer, with drawn weights.
fn small() -> (Net, StateDict) {
    let (mut net, x) = NetBuilder::maps(3, 6, 6);
    let x = net.conv("a", x, 6, Window::same(3), false);
    let x = net.batch_norm("norm", x);
    let x = net.relu(x);
    let x = net.conv("b", x, 8, Window::same(1), true);
    let x = net.relu(x);
    let x = net.conv("c", x, 8, Window::same(3), false);
    let x = net.global_avg_pool(x);
    net.linear("d", x, 5);
    let net = net.finish("small");
    let state = ModelState::initial(&net, Initialisation::default(), 3).to_state_dict(&net);
    (net, state)
}

fn target(ordering: Ordering) -> (Net, Target) {
    let (net, weights) = small();
    let config = TargetConfig {
        ordering,
        linear_tile: Some(3),
        scales: true,
        mask: true,
        ..TargetConfig::default()
    };
    let target = Target::new(&net, &weights, &config).unwrap();
    (net, target)
}

fn model(target: &Target, encoding: Encoding) -> Model {
    let config = ModelConfig { encoding, hidden: 16, layers: 3 };
    Model::new(target.grid(), target.head(), &config).unwrap()
}

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Stream::new(Key::from_seed(seed), 0).fill_normal(&mut values);
    values
}

/// Neighbours of the real network are as alike as they were measured to be.
#[test]
fn orders_make_neighbours_alike() {
    let Some((net, weights)) = resnet20() else { return };
    let mean = |ordering| {
        let config = TargetConfig { ordering, ..TargetConfig::default() };
        Target::new(&net, &weights, &config).unwrap().mean_neighbour_cosine()
    };
    let found = Ordering::ALL.map(mean);
    let expected = [0.014, 0.10, 0.15, 0.67, 0.89];
    let close = |(found, expected): (&f64, &f64)| (found - expected).abs() < 0.02;
    assert!(found.iter().zip(&expected).all(close), "{found:.3?}");
}

/// In every order every weight is in one place, and every order is one.
#[test]
fn rows_are_the_weights() {
    for ordering in Ordering::ALL {
        let (_, target) = target(ordering);
        let mut weights = target.weights().to_vec();
        weights.iter_mut().for_each(|w| *w += 1.0);
        target.write_weights(&target.rows(), &mut weights);
        assert!(target.rmse(&weights) < 1e-7, "{ordering}");
        let predicted = target.element_count();
        assert_eq!(predicted, 6 * 27 + 8 * 6 + 8 * 72 + 5 * 8);
        let changed = weights.iter().zip(target.weights()).filter(|(a, b)| (*a - *b).abs() > 0.5);
        assert_eq!(changed.count(), weights.len() - predicted);
        let importances = target.row_importances(None);
        assert_eq!(importances.iter().filter(|v| **v > 0.0).count(), predicted, "{ordering}");
    }
}

#[test]
fn free_orders_leave_the_function() {
    let (net, weights) = small();
    let target = Target::new(&net, &weights, &TargetConfig::default()).unwrap();
    assert_ne!(target.state_dict().get("c.weight"), weights.get("c.weight"));
    let images = normal(4 * net.input_len(), 1);
    let logits = |weights: &StateDict| {
        let mut logits = vec![0.0; 4 * 5];
        Engine::new(&net, weights).unwrap().forward(&images, &mut logits).unwrap();
        logits
    };
    let (before, after) = (logits(&weights), logits(target.state_dict()));
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for encoding in ENCODINGS {
        for others in [Others::Fixed, Others::Trained] {
            let (net, target) = target(Ordering::InFilter);
            let model = model(&target, encoding);
            let start = model.initial(1);
            let mut method = PredictedWeights::new(&net, &model, &target, &start, others, 2);
            let start = method.initial();
            assert_eq!(method.groups().len(), start.len());
            let slopes = normal(net.parameter_count(), 2);
            let direction = normal(start.len(), 4);
            let mut weights = vec![0.0; net.parameter_count()];
            let mut value = |factor: f32, method: &mut PredictedWeights| -> f64 {
                let moved: Vec<f32> =
                    start.iter().zip(&direction).map(|(a, d)| a + factor * d).collect();
                method.expand(&moved, &mut weights);
                weights.iter().zip(&slopes).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let h = 2e-4;
            let found = (value(h, &mut method) - value(-h, &mut method)) / f64::from(2.0 * h);
            value(0.0, &mut method);
            let mut gradient = vec![0.0; start.len()];
            method.pullback(&start, &slopes, &mut gradient);
            let expected: f64 =
                gradient.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let error = (found - expected).abs() / expected.abs().max(1.0);
            assert!(error < 0.015, "{encoding:?}: {found}, not {expected}");
        }
    }
}

/// What the training loop reports is what the network's weights say.
#[test]
fn reconstruction_comes_nearer() {
    for encoding in ENCODINGS {
        let (net, target) = target(Ordering::CrossFilter);
        let model = model(&target, encoding);
        let config = ReconstructionConfig { rows: 64, ..Default::default() };
        let task = Reconstruction::new(&model, &target, &config, None, 0);
        let train = task.train_config(1500, 0);
        let mut trainer = task.trainer(model.initial(0), train).unwrap();
        let rmse =
            |coefficients: &[f32]| target.rmse(&predicted(&net, &model, &target, coefficients));
        let before = rmse(trainer.coefficients());
        trainer.run(&mut Silent).unwrap();
        let after = rmse(trainer.coefficients());
        let reported = trainer.evaluate().unwrap().loss.unwrap();
        assert!((reported - after).abs() < 1e-5 * after, "{reported}, not {after}");
        assert!(after < 0.85 * before, "{encoding:?}: {before} to {after}");
    }
}

/// Stops after some steps.
struct Impatient(u64);

impl Observer for Impatient {
    fn step(&mut self, progress: &weightspace_nn::train::Progress) {
        self.0 = self.0.saturating_sub(progress.step.min(1));
    }

    fn should_stop(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn reconstruction_continues_where_it_was_interrupted() {
    let (_, target) = target(Ordering::Axes);
    let model = model(&target, ENCODINGS[0]);
    let trainer = || {
        let config = ReconstructionConfig { rows: 32, uniform: 0.5, ..Default::default() };
        let task = Reconstruction::new(&model, &target, &config, None, 0);
        let train = task.train_config(60, 0);
        task.trainer(model.initial(0), train).unwrap()
    };
    let mut whole = trainer();
    whole.run(&mut Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut run = RunFolder::open(folder.path(), CheckpointPolicy::default()).unwrap();
    trainer().run_in(&mut run, &mut Impatient(17)).unwrap();
    let mut second = trainer();
    assert!(run.restore(&mut second).unwrap());
    assert_eq!(second.step_count(), 17);
    second.run_in(&mut run, &mut Silent).unwrap();
    assert_eq!(whole.coefficients(), second.coefficients());
}

/// The weights that a predictor gives while it is trained.
fn predicted(net: &Net, model: &Model, target: &Target, coefficients: &[f32]) -> Vec<f32> {
    let mut method = PredictedWeights::new(net, model, target, coefficients, Others::Fixed, 1);
    let mut weights = vec![0.0; net.parameter_count()];
    method.expand(coefficients, &mut weights);
    weights
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn decoders_give_what_was_trained() {
    for encoding in ENCODINGS {
        let (net, target) = target(Ordering::InFilter);
        let model = model(&target, encoding);
        let coefficients = model.initial(5);
        let expected = predicted(&net, &model, &target, &coefficients);
        let scales = target.tensors().iter().map(|tensor| tensor.scale).collect();
        let decoder = model.decoder(target.grid().clone(), scales, &coefficients).unwrap();
        for (index, tensor) in target.tensors().iter().enumerate() {
            let found = decoder.tensor(index);
            let error = largest_difference(&found, &expected[tensor.weights.clone()]);
            assert!(error < 1e-6, "{encoding:?} {}: {error}", tensor.name);
        }
    }
}

#[test]
fn encodings_are_folded() {
    let (net, weights) = match resnet20() {
        Some(real) => real,
        None => small(),
    };
    let target = Target::new(&net, &weights, &TargetConfig::default()).unwrap();
    let config = ModelConfig { hidden: 24, ..ModelConfig::default() };
    let model = Model::new(target.grid(), target.head(), &config).unwrap();
    let coefficients = model.initial(0);
    let expected = predicted(&net, &model, &target, &coefficients);
    let scale = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
    for (degree, limit) in [(4, 1e-1), (6, 1e-3), (8, 2e-5)] {
        let folded = model.to_polynomials(target.grid(), &coefficients, degree).unwrap();
        let found = predicted(&net, &folded.model, &target, &folded.coefficients);
        let error = largest_difference(&found, &expected) / scale;
        println!("degree {degree}: {error:.1e}, of sums {:.1e}", folded.error);
        assert!(error < limit, "degree {degree}: {error}");
        let count = folded.model.coefficients().len();
        assert_eq!(count, 3 * 24 * 24 + (3 * degree as usize + 13) * 24 + 9);
    }
    let folded = model.to_tables(target.grid(), &coefficients).unwrap();
    let found = predicted(&net, &folded.model, &target, &folded.coefficients);
    assert!(largest_difference(&found, &expected) < 1e-6);
}

/// No other last layer is better, and the one that made the rows is found again.
#[test]
fn last_layers_are_solved() {
    let (net, target) = target(Ordering::InFilter);
    let model = model(&target, ENCODINGS[1]);
    let coefficients = model.initial(2);
    let rmse = |target: &Target, coefficients: &[f32]| {
        target.rmse(&predicted(&net, &model, target, coefficients))
    };
    let mut fitted = coefficients.clone();
    model.fit_last_layer(&target, None, &mut fitted, 2);
    let best = rmse(&target, &fitted);
    assert!(best < rmse(&target, &coefficients));
    let last = fitted.len() - 9 - 9 * 16;
    assert_eq!(fitted[..last], coefficients[..last]);
    for seed in 0..5 {
        let mut other = fitted.clone();
        let moved = other[last..].iter_mut().zip(normal(153, seed));
        moved.for_each(|(value, change)| *value += 0.01 * change);
        assert!(rmse(&target, &other) > best);
    }
    let own = target.with_weights(predicted(&net, &model, &target, &coefficients));
    model.fit_last_layer(&own, None, &mut fitted, 1);
    assert!(rmse(&own, &fitted) < 1e-4);
}

/// The round after the best is the last.
#[test]
fn rounds_go_on_as_long_as_they_help() {
    let (_, target) = target(Ordering::Identity);
    let scores = [[1.0, 3.0], [5.0, 4.0], [5.0, 2.0], [9.0, 9.0]].concat();
    let mut next = 0;
    let mut targets = Vec::new();
    let rounds = progressive(
        &target,
        &[7, 8],
        4,
        |target, seed| {
            targets.push(target.weights()[0]);
            Ok::<_, ()>(Reconstructed {
                coefficients: vec![seed as f32],
                weights: vec![targets.len() as f32; target.weights().len()],
            })
        },
        |_| {
            next += 1;
            Ok(scores[next - 1])
        },
    );
    let rounds = rounds.unwrap();
    let found: Vec<_> = rounds.iter().map(|round| (round.score, round.seed)).collect();
    assert_eq!(found, [(3.0, 8), (5.0, 7), (5.0, 7)]);
    assert_eq!(targets[1..], [targets[0], 2.0, 2.0, 3.0, 3.0]);
}

#[test]
fn masked_weights_stay_zero() {
    let (net, mut weights) = small();
    let mut values = weights.get("c.weight").unwrap().to_f32().into_owned();
    values.iter_mut().step_by(3).for_each(|v| *v = 0.0);
    weights.insert("c.weight", Tensor::from_f32(vec![8, 8, 3, 3], &values));
    let config =
        TargetConfig { mask: true, ordering: Ordering::InFilter, ..TargetConfig::default() };
    let target = Target::new(&net, &weights, &config).unwrap();
    let model = model(&target, ENCODINGS[0]);
    let start = model.initial(0);
    let mut method = PredictedWeights::new(&net, &model, &target, &start, Others::Fixed, 1);
    let mut found = vec![1.0; net.parameter_count()];
    method.expand(&start, &mut found);
    let found = &found[net.layout().get("c.weight").unwrap().range()];
    assert!(found.iter().zip(&values).all(|(a, b)| (*a == 0.0) == (*b == 0.0)));
}

#[test]
fn networks_that_cannot_be_predicted_are_refused() {
    let (net, mut weights) = small();
    let message = |net: &Net, weights: &StateDict, config: &TargetConfig| {
        Target::new(net, weights, config).unwrap_err().to_string()
    };
    let nothing = TargetConfig { largest_kernel: 0, pointwise: false, ..TargetConfig::default() };
    assert_eq!(
        message(&net, &weights, &nothing),
        "small has no tensor that these settings would predict: convolutions with kernels up to 0 x 0 \
         (largest-kernel), and linear layers with linear-tile"
    );
    weights.insert("c.weight", Tensor::from_f32(vec![8, 8, 3, 3], &[f32::NAN; 576]));
    let all = TargetConfig::default();
    assert_eq!(message(&net, &weights, &all), "tensor c.weight holds NaN or infinite values");
    weights.insert("c.weight", Tensor::from_f32(vec![2], &[0.0; 2]));
    assert_eq!(message(&net, &weights, &all), "tensor c.weight has 2 elements, expected 576");
}

/// The state dict that a file decodes to.
fn decoded(bytes: Vec<u8>) -> StateDict {
    WspFile::from_bytes("test", bytes).unwrap().state_dict().unwrap()
}

fn header() -> Header {
    Header { method: Method::Predictor, arch: "small".into(), ..Header::default() }
}

/// A file's weights are those of the rounded coefficients, and everything else is nearly what it was.
#[test]
fn files_hold_what_was_trained() {
    for encoding in ENCODINGS {
        for ordering in Ordering::ALL {
            let (net, mut weights) = small();
            let mut values = weights.get("a.weight").unwrap().to_f32().into_owned();
            values.iter_mut().step_by(4).for_each(|v| *v = 0.0);
            weights.insert("a.weight", Tensor::from_f32(vec![6, 3, 3, 3], &values));
            let config = TargetConfig {
                ordering,
                linear_tile: Some(2),
                scales: true,
                mask: true,
                ..TargetConfig::default()
            };
            let target = Target::new(&net, &weights, &config).unwrap();
            let model = model(&target, encoding);
            let coefficients = model.initial(4);
            let inner = inner_tensors(&model, &coefficients, 16);
            let state = target.state_dict();
            let bytes = encode(&header(), &net, &target, &model, inner, state, 16).unwrap();
            let found = decoded(bytes);
            assert_eq!(found.len(), state.len());
            let expected = predicted(&net, &model, &target, &coefficients);
            for tensor in target.tensors() {
                let found = found.get(&tensor.name).unwrap().to_f32();
                let error = largest_difference(&found, &expected[tensor.weights.clone()]);
                assert!(error < 2e-4, "{encoding:?} {ordering} {}: {error}", tensor.name);
            }
            let zero =
                found.get("a.weight").unwrap().to_f32().iter().filter(|v| **v == 0.0).count();
            assert!(zero >= 41, "{zero} zeros");
            let bias = |state: &StateDict| state.get("d.bias").unwrap().to_f32().into_owned();
            assert!(largest_difference(&bias(&found), &bias(state)) < 1e-4);
            let images = normal(3 * net.input_len(), 1);
            let logits = |state: &StateDict| {
                let mut logits = vec![0.0; 3 * 5];
                Engine::new(&net, state).unwrap().forward(&images, &mut logits).unwrap();
                logits
            };
            let mut same = state.clone();
            for (index, tensor) in target.tensors().iter().enumerate() {
                let shape = target.grid().tensors()[index].0.shape.clone();
                let values = &expected[tensor.weights.clone()];
                same.insert(tensor.name.clone(), Tensor::from_f32(shape, values));
            }
            assert!(largest_difference(&logits(&found), &logits(&same)) < 2e-3);
        }
    }
}

/// All of a recipe, with images and without: the file's network is nearer to the original than its
/// mean, and distillation makes its answers nearer.
#[test]
fn recipes_make_files() {
    let digits = data::open("digits", None, data::Split::Train).unwrap();
    let (mut net, x) = NetBuilder::maps(1, 8, 8);
    let x = net.conv("a", x, 8, Window::same(3), false);
    let x = net.batch_norm("norm", x);
    let x = net.relu(x);
    let x = net.conv("b", x, 8, Window::strided(3, 2), false);
    let x = net.relu(x);
    let x = net.global_avg_pool(x);
    net.linear("c", x, 10);
    let net = net.finish("small");
    let weights = ModelState::initial(&net, Initialisation::default(), 3).to_state_dict(&net);
    let preprocessing = "unit".parse().unwrap();
    let images = Images { train: &digits, preprocessing: &preprocessing };
    let recipe = Recipe {
        model: ModelConfig { encoding: ENCODINGS[1], hidden: 8, layers: 3 },
        steps: 200,
        epochs: 2,
        ..Recipe::default()
    };
    let run = |images| {
        let header = header();
        let original = Original { header: &header, net: &net, weights: &weights, images };
        compress(original, &recipe, 1, None, &mut Silent).unwrap()
    };
    let divergence = |bytes: Vec<u8>| -> f64 {
        let images = normal(64 * 64, 9);
        let logits = |state: &StateDict| {
            let mut logits = vec![0.0; 640];
            Engine::new(&net, state).unwrap().forward(&images, &mut logits).unwrap();
            logits
        };
        let (teacher, own) = (logits(&weights), logits(&decoded(bytes)));
        Distillation::new(&teacher, 10).evaluate(0, &own, &mut vec![0.0; 640])
    };
    let (plain, distilled) = (run(None), run(Some(images)));
    assert_eq!((plain.coefficients, plain.predicted), (15 * 8 + 8 + 72 + 81, 72 + 576));
    assert_eq!(run(None).bytes, plain.bytes);
    let (before, after) = (divergence(plain.bytes), divergence(distilled.bytes));
    assert!(after < before, "{before} to {after}");
    let wrong = Recipe { bits: 1, ..recipe.clone() };
    let header = header();
    let original = Original { header: &header, net: &net, weights: &weights, images: None };
    let error = compress(original, &wrong, 0, None, &mut Silent).unwrap_err();
    assert_eq!(error.to_string(), "1 bits of a predictor's weight, expected 2 to 16");
}

#[test]
fn presets_have_the_published_sizes() {
    let net = arch::build("resnet20", &Default::default()).unwrap();
    let weights = ModelState::initial(&net, Initialisation::default(), 0).to_state_dict(&net);
    let count = |name: &str| {
        let recipe = Recipe::preset(name).unwrap();
        let config = TargetConfig { ordering: Ordering::Identity, ..recipe.target };
        let target = Target::new(&net, &weights, &config).unwrap();
        assert_eq!((target.element_count(), target.grid().row_count()), (267_696, 29_744));
        Model::new(target.grid(), target.head(), &recipe.model).unwrap().coefficients().len()
    };
    assert_eq!(count("paper-h140"), 94_229);
    assert_eq!(count("small"), 3 * 100 * 100 + (24 + 13) * 100 + 9);
    assert_eq!(count("best"), (19 + 64 + 64) * 140 + 140 + 3 * 141 * 140 + 141 * 9);
}
