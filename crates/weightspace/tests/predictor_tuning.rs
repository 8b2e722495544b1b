//! What users of training the predictor of a file rely on.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use program::{cnn, program, wait_until};
use serde_json::Value;
use weightspace::predictor::{
    Model, ModelConfig, NoiseInputs, Ordering, Others, StoredPredictor, Target, TargetConfig,
    TuningConfig, TuningPlan, VECTOR_BITS, encode, inner_tensors,
};
use weightspace_core::container::{Header, Method};
use weightspace_core::predictor::Encoding;
use weightspace_core::random::{Key, Stream};
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::init::Initialisation;
use weightspace_nn::loss::{Distillation, Loss};
use weightspace_nn::net::{Net, NetBuilder, Window};
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::train::{
    Dense, DistillationConfig, Parameterization, Silent, TrainConfig, Trainer,
};
use weightspace_nn::{Engine, ModelState};

const ENCODINGS: [Encoding; 4] = [
    Encoding::Positional { levels: 10, base: 0.76 },
    Encoding::Chebyshev { degree: 5 },
    Encoding::Tables { width: 4 },
    Encoding::DirectTables,
];

/// Convolutions of two sizes, with drawn weights of which some are 0.
fn original() -> (Net, StateDict) {
    let (mut net, x) = NetBuilder::maps(3, 6, 6);
    let x = net.conv("a", x, 8, Window::same(3), false);
    let x = net.batch_norm("norm", x);
    let x = net.relu(x);
    let x = net.conv("b", x, 12, Window::same(1), true);
    let x = net.relu(x);
    let x = net.conv("c", x, 16, Window::same(3), false);
    let x = net.global_avg_pool(x);
    net.linear("d", x, 5);
    let net = net.finish("small");
    let mut state = ModelState::initial(&net, Initialisation::default(), 3);
    let range = net.layout().get("c.weight").unwrap().range();
    state.weights[range].iter_mut().step_by(7).for_each(|weight| *weight = 0.0);
    let tensors = state.to_state_dict(&net);
    (net, tensors)
}

fn header() -> Header {
    Header { method: Method::Predictor, arch: "small".to_owned(), ..Header::default() }
}

/// A predictor as it was drawn, and its file.
fn drawn(ordering: Ordering, encoding: Encoding) -> (Net, StateDict, Target, Vec<f32>, WspFile) {
    let (net, weights) = original();
    let config = TargetConfig { ordering, scales: true, mask: true, ..TargetConfig::default() };
    let target = Target::new(&net, &weights, &config).unwrap();
    let config = ModelConfig { encoding, hidden: 24, layers: 3 };
    let model = Model::new(target.grid(), target.head(), &config).unwrap();
    let coefficients = model.initial(5);
    let inner = inner_tensors(&model, &coefficients, 16);
    let state = target.state_dict();
    let bytes = encode(&header(), &net, &target, &model, inner, state, VECTOR_BITS).unwrap();
    let file = WspFile::from_bytes("drawn.wsp", bytes).unwrap();
    (net, weights, target, coefficients, file)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn predictors_are_read_back() {
    for ordering in Ordering::ALL {
        for encoding in ENCODINGS {
            let (net, weights, target, coefficients, file) = drawn(ordering, encoding);
            let found = StoredPredictor::read(&file, &net, &weights).unwrap();
            assert_eq!(found.target.tensors(), target.tensors(), "{ordering}");
            assert_eq!(found.target.state_dict(), target.state_dict(), "{ordering}");
            assert!(found.target.orders().eq(target.orders()), "{ordering}");
            let error = largest_difference(&found.coefficients, &coefficients);
            assert!(error < 1e-4, "{encoding:?}: {error}");
        }
    }
}

#[test]
fn what_is_trained_is_what_the_file_decodes_to() {
    for (index, encoding) in ENCODINGS.into_iter().enumerate() {
        let (net, weights, _, _, file) = drawn(Ordering::ALL[index], encoding);
        for (bits, target_bytes, row_steps) in
            [(8, None, true), (3, None, true), (5, None, false), (8, Some(2500), true)]
        {
            let others = if row_steps { Others::Fixed } else { Others::Trained };
            let config =
                TuningConfig { bits, target_bytes, row_steps, others, ..TuningConfig::default() };
            let plan = TuningPlan::new(&net, &header(), &weights, &file, &config).unwrap();
            let mut method = plan.parameterization(&net, &config, 2);
            // As if it had been trained.
            let mut trained = method.initial();
            let mut change = vec![0.0; trained.len()];
            Stream::new(Key::from_seed(1), 0).fill_normal(&mut change);
            trained
                .iter_mut()
                .zip(change)
                .for_each(|(value, change)| *value *= 1.0 + 0.02 * change);
            let mut expected = vec![0.0; net.parameter_count()];
            method.expand(&trained, &mut expected);
            let bytes = plan.encode(&net, &header(), &config, (&trained, &[])).unwrap();
            if let Some(most) = target_bytes {
                let most = most as usize;
                assert!(bytes.len() <= most && bytes.len() > most * 9 / 10, "{}", bytes.len());
            }
            let decoded = WspFile::from_bytes("trained.wsp", bytes).unwrap().state_dict().unwrap();
            let decoded = ModelState::from_state_dict(&net, &decoded).unwrap().weights;
            for tensor in plan.predictor().target.tensors() {
                let range = tensor.weights.clone();
                let error = largest_difference(&decoded[range.clone()], &expected[range]);
                assert!(error < 1e-6, "{encoding:?} {bits} {}: {error}", tensor.name);
            }
            let bias = net.layout().get("d.bias").unwrap().range();
            let error = largest_difference(&decoded[bias.clone()], &expected[bias]);
            assert!(error < 2e-3, "{error}");
        }
    }
}

#[test]
fn reconstruction_is_a_part_of_the_loss() {
    let (net, weights, target, _, file) = drawn(Ordering::Free, ENCODINGS[1]);
    let config = TuningConfig { bits: 16, reconstruction: 2.0, ..TuningConfig::default() };
    let plan = TuningPlan::new(&net, &header(), &weights, &file, &config).unwrap();
    let mut method = plan.parameterization(&net, &config, 1);
    let start = method.initial();
    let mut weights = vec![0.0; net.parameter_count()];
    let mut gradient = vec![0.0; start.len()];
    method.expand(&start, &mut weights);
    method.pullback(&start, &vec![0.0; weights.len()], &mut gradient);
    let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let mut at = |factor: f64| {
        let moved = start.iter().zip(&gradient).map(|(a, g)| a - (factor * f64::from(*g)) as f32);
        method.expand(&moved.collect::<Vec<_>>(), &mut weights);
        2.0 * target.rmse(&weights)
    };
    let step = 0.02 / square.sqrt();
    let slope = (at(-step) - at(step)) / (2.0 * step);
    assert!((slope - square).abs() < 0.05 * square, "{slope}, not {square}");
}

#[test]
fn bits_above_the_target_cost_more_than_below() {
    let (net, weights, _, _, file) = drawn(Ordering::Free, ENCODINGS[1]);
    let config = TuningConfig { target_bytes: Some(1600), ..TuningConfig::default() };
    let plan = TuningPlan::new(&net, &header(), &weights, &file, &config).unwrap();
    let mut method = plan.parameterization(&net, &config, 1);
    let mut push = |factor: f32| {
        let moved: Vec<f32> = method.initial().iter().map(|value| factor * value).collect();
        let mut weights = vec![0.0; net.parameter_count()];
        let mut gradient = vec![0.0; moved.len()];
        method.expand(&moved, &mut weights);
        method.pullback(&moved, &vec![0.0; weights.len()], &mut gradient);
        assert!(gradient.iter().zip(&moved).all(|(g, w)| g * w >= 0.0));
        gradient.iter().map(|g| f64::from(g.abs())).sum::<f64>()
    };
    let (small, large) = (push(0.7), push(1.4));
    assert!(large > 10.0 * small, "{small} {large}");
}

#[test]
fn noise_is_enough_to_learn_from_a_teacher() {
    let (net, weights) = original();
    let teacher = Engine::new(&net, &weights).unwrap();
    let distillation =
        DistillationConfig { temperature: 1.0, alpha: 1.0, ..DistillationConfig::default() };
    let adam = Adam { learning_rate: 3e-3, ..Adam::default() };
    let config = TrainConfig {
        epochs: 20,
        batch: 32,
        threads: 2,
        freeze_statistics: true,
        optimizer: OptimizerConfig::Adam(adam),
        ..TrainConfig::default()
    };
    let train = || {
        let task = NoiseInputs::new(&net, &teacher, distillation, 256, 7).unwrap();
        let start = ModelState::initial(&net, Initialisation::default(), 4);
        let (task, dense) = (Box::new(task), Box::new(Dense::new(&net, start.weights)));
        let mut trainer = Trainer::new(task, dense, start.running, config.clone()).unwrap();
        let before = trainer.current();
        trainer.run(&mut Silent).unwrap();
        [before, trainer.current()].map(|state| state.to_state_dict(&net))
    };
    let divergence = |state: &StateDict| -> f64 {
        let mut inputs = vec![0.0; 64 * net.input_len()];
        Stream::new(Key::from_seed(9), 0).fill_uniform(&mut inputs);
        inputs.iter_mut().for_each(|value| *value = 2.0 * *value - 1.0);
        let logits = |engine: &Engine| {
            let mut logits = vec![0.0; 64 * 5];
            engine.forward(&inputs, &mut logits).unwrap();
            logits
        };
        let (wanted, found) = (logits(&teacher), logits(&Engine::new(&net, state).unwrap()));
        Distillation::new(&wanted, 5).evaluate(0, &found, &mut vec![0.0; 320])
    };
    let [before, after] = train();
    assert_eq!(train()[1], after);
    let (before, after) = (divergence(&before), divergence(&after));
    assert!(after < 0.3 * before, "{before} to {after}");
    let other = weightspace_nn::arch::build("mlp:64-8-10", &Default::default()).unwrap();
    let error = NoiseInputs::new(&other, &teacher, distillation, 256, 7).err().unwrap();
    assert!(error.to_string().contains("the teacher"), "{error}");
}

fn command(line: &str) -> Command {
    let mut command = program();
    command.args(line.split_whitespace());
    command
}

fn run(line: &str) -> Output {
    let found = command(line).output().unwrap();
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    found
}

fn accuracy(line: &str) -> f64 {
    let json: Value = serde_json::from_slice(&run(&format!("{line} --json")).stdout).unwrap();
    json["accuracy"].as_f64().unwrap()
}

/// A poor predictor of the network, and the options to train it.
fn poor_predictor(folder: &Path) -> (String, String) {
    let (at, model) = (folder.display(), cnn().display().to_string());
    let file = format!("{at}/poor.wsp");
    run(&format!(
        "compress {model} --method predictor --width 8 --steps 5 --distill-epochs 0 -o {file}"
    ));
    let train = format!(
        "train --method predictor --init {model} --predictor {file} --data digits --holdout 100 \
         --preprocessing unit-pad28 --batch 32 --epochs 8 --learning-rate 0.01 --threads 2"
    );
    (file, train)
}

#[test]
fn training_repairs_a_poor_predictor() {
    let guard = tempfile::tempdir().unwrap();
    let (file, train) = poor_predictor(guard.path());
    let eval = "eval --data digits --preprocessing unit-pad28";
    let before = accuracy(&format!("{eval} {file}"));
    let at = guard.path().display();
    for (name, options) in [
        ("bits", "--predictor-bits 5"),
        ("bytes", "--target-bytes 3100 --others trained"),
        ("noise", "--predictor-bits 6 --noise-inputs --recon-weight 0.1"),
    ] {
        let trained = accuracy(&format!("{train} {options} -o {at}/{name}"));
        let file = format!("{at}/{name}/model.wsp");
        let size = fs::metadata(&file).unwrap().len();
        println!("{name}: {before} to {trained}, {size} bytes");
        assert_eq!(accuracy(&format!("{eval} {file}")), trained, "{name}");
        assert_eq!(accuracy(&format!("{eval} {at}/{name}/model.safetensors")), trained, "{name}");
        assert!(trained > before + 0.02, "{name}: {before} to {trained}");
        assert!(name != "bytes" || size <= 3100, "{size} bytes");
    }
}

#[test]
fn noise_needs_no_images() {
    let guard = tempfile::tempdir().unwrap();
    let (file, _) = poor_predictor(guard.path());
    let (at, model) = (guard.path().display(), cnn().display().to_string());
    let options = "--noise-inputs --predictor-bits 8 --epochs 1 --learning-rate 0.01 --threads 2";
    run(&format!(
        "train --method predictor --init {model} --predictor {file} {options} -o {at}/noise"
    ));
    let eval = "eval --data digits --preprocessing unit-pad28";
    let [before, after] =
        [file, format!("{at}/noise/model.wsp")].map(|f| accuracy(&format!("{eval} {f}")));
    assert!(after > before, "{before} to {after}");
    let json = run(&format!("inspect {at}/noise/model.wsp --json")).stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert!(json["data"] == "" && json["preprocessing"] == "", "{json}");
}

#[test]
fn a_killed_training_continues_to_the_same_bytes() {
    let guard = tempfile::tempdir().unwrap();
    let (_, train) = poor_predictor(guard.path());
    let train = format!("{train} --target-bytes 3100 --checkpoint-steps 5 -o");
    let (whole, killed) = (guard.path().join("whole"), guard.path().join("killed"));
    run(&format!("{train} {}", whole.display()));
    let line = format!("{train} {}", killed.display());
    let mut child = command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = killed.join("checkpoint/training.safetensors");
    wait_until("a checkpoint", || checkpoint.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("model.safetensors").exists(), "killed too late");
    let text = String::from_utf8(run(&line).stderr).unwrap();
    assert!(text.contains("continues after step"), "{text}");
    let bytes = |folder: &Path| fs::read(folder.join("model.wsp")).unwrap();
    assert!(bytes(&whole) == bytes(&killed));
}

#[test]
fn what_cannot_be_is_refused() {
    let guard = tempfile::tempdir().unwrap();
    let (file, _) = poor_predictor(guard.path());
    let model = cnn().display().to_string();
    let other = format!("{}/other.wsp", guard.path().display());
    run(&format!("compress {model} -o {other}"));
    let init = format!("--init {model} --method predictor");
    for (line, part) in [
        ("--arch zoo-cnn --method predictor".to_owned(), "needs a network to begin with"),
        ("--arch zoo-cnn --predictor-bits 4".to_owned(), "needs --method predictor"),
        ("--arch zoo-cnn --noise-inputs".to_owned(), "need a --teacher"),
        (init.clone(), "needs the file of a predictor"),
        (format!("{init} --predictor {other}"), "a file of the method quantize"),
        (format!("{init} --predictor {file} --target-bytes 900"), "cannot be reached"),
        (format!("{init} --predictor {file} --recon-weight=-1"), "a finite number from 0 on"),
    ] {
        let line = format!("train --data digits --preprocessing unit-pad28 --dry-run {line}");
        let found = command(&line).output().unwrap();
        let text = String::from_utf8(found.stderr).unwrap();
        assert_eq!(found.status.code(), Some(2), "{line}: {text}");
        assert!(text.starts_with("error: ") && text.contains(part), "{line}: {text}");
    }
}
