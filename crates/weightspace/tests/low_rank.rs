//! What users of `low-rank` rely on, shown on a small trained network.

use std::path::PathBuf;
use std::process::Command;

use weightspace::low_rank::{Decomposed, FactorType, LowRankError, Options, Target, compress};
use weightspace::quantize::{Images, Preparation, Prepared};
use weightspace_core::container::{self, Coding, Header, Method, WspFile};
use weightspace_core::{Checkpoint, StateDict};
use weightspace_nn::arch;
use weightspace_nn::data::{self, Dataset, Preprocessing, Split};
use weightspace_nn::{Engine, Net, evaluate};

fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/digits-mlp.pt")
}

struct Digits {
    weights: StateDict,
    net: Net,
    train: Dataset,
    test: Dataset,
    preprocessing: Preprocessing,
}

/// The trained MLP of the repository with the digits it was trained on.
fn digits() -> Digits {
    let checkpoint = Checkpoint::open(&model()).unwrap();
    Digits {
        net: arch::recognise(checkpoint.tensors()).unwrap(),
        weights: checkpoint.state_dict().unwrap(),
        train: data::open("digits", None, Split::Train).unwrap(),
        test: data::open("digits", None, Split::Test).unwrap(),
        preprocessing: "unit".parse().unwrap(),
    }
}

fn options(target: Target, factors: FactorType, calibrate: usize) -> Options {
    Options { target, factors, fold: true, calibrate, seed: 1 }
}

impl Digits {
    fn tensors(&self, options: &Options) -> Result<Vec<(String, Coding)>, LowRankError> {
        let images = Images { train: &self.train, preprocessing: &self.preprocessing };
        let net = Some(&self.net);
        compress(&header(), &self.weights, net, Some(images), options, &|_, _, _| ())
    }

    fn file(&self, options: &Options) -> Vec<u8> {
        container::encode(&header(), &self.tensors(options).unwrap()).unwrap()
    }

    fn logits(&self, weights: &StateDict) -> Vec<f32> {
        let engine = Engine::new(&self.net, weights).unwrap();
        let mut all = Vec::new();
        let each = |_: &[usize], logits: &[f32]| all.extend_from_slice(logits);
        evaluate::for_each_batch(&engine, &self.test, None, &self.preprocessing, each).unwrap();
        all
    }

    /// Mean squared difference of the logits on the test images from the original's.
    fn damage(&self, file: &[u8]) -> f64 {
        let (a, b) = (self.logits(&self.weights), self.logits(&decode(file)));
        a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
    }
}

fn header() -> Header {
    Header { method: Method::LowRank, ..Header::default() }
}

fn decode(file: &[u8]) -> StateDict {
    WspFile::from_bytes("test", file.to_vec()).unwrap().state_dict().unwrap()
}

impl Digits {
    fn accuracy(&self, file: &[u8]) -> f64 {
        let engine = Engine::new(&self.net, &decode(file)).unwrap();
        let (test, preprocessing) = (&self.test, &self.preprocessing);
        evaluate::accuracy(&engine, test, None, preprocessing, &|_| ()).unwrap().accuracy()
    }
}

/// Ranks of the tensors that are products.
fn ranks(tensors: &[(String, Coding)]) -> Vec<(&str, usize)> {
    let products = tensors.iter().filter_map(|(name, coding)| match coding {
        Coding::Product { right, .. } => Some((name.as_str(), right.shape()[0])),
        _ => None,
    });
    products.collect()
}

#[test]
fn more_ranks_do_less_damage_and_names_and_shapes_stay() {
    let digits = digits();
    let mut before = (f64::INFINITY, 0);
    for fraction in [0.05, 0.2, 0.4, 1.0] {
        let file = digits.file(&options(Target::RankFraction(fraction), FactorType::Int8, 0));
        let decoded = decode(&file);
        assert_eq!(decoded.infos(), digits.weights.infos());
        let now = (digits.damage(&file), file.len());
        assert!(now.0 < before.0 && now.1 > before.1, "{fraction}: {now:?}, before {before:?}");
        before = now;
    }
    assert!(before.0 < 1e-2, "all of it, at 8 bits: {}", before.0);
}

#[test]
fn layers_whose_factors_would_be_larger_are_rounded() {
    let digits = digits();
    let all = digits.tensors(&options(Target::RankFraction(1.0), FactorType::Int8, 0)).unwrap();
    assert_eq!(ranks(&all), []);
    let few = digits.tensors(&options(Target::RankFraction(0.3), FactorType::Int8, 0)).unwrap();
    for (name, rank) in ranks(&few) {
        let shape = digits.weights.get(name).unwrap().shape();
        assert!(rank * (shape[0] + shape[1]) < shape[0] * shape[1], "{name} with rank {rank}");
    }
    assert!(!ranks(&few).is_empty());
}

#[test]
fn a_target_of_bytes_is_kept_and_used() {
    let digits = digits();
    for factors in [FactorType::F16, FactorType::Int8] {
        for target in [1_000, 1_500] {
            let bytes = digits.file(&options(Target::Bytes(target), factors, 0)).len() as u64;
            assert!(bytes <= target, "{bytes} bytes, {target} allowed");
            assert!(bytes as f64 > 0.8 * target as f64, "{bytes} bytes of {target} used");
        }
    }
    let error = digits.tensors(&options(Target::Bytes(90), FactorType::Int8, 0)).unwrap_err();
    assert!(error.to_string().starts_with("90 bytes cannot be reached: rank 1"), "{error}");
    let error = digits.tensors(&options(Target::Accuracy(1.1), FactorType::Int8, 0)).unwrap_err();
    assert!(error.to_string().starts_with("accuracy 1.1 cannot be reached: all"), "{error}");
    let error = digits.tensors(&options(Target::RankFraction(0.0), FactorType::Int8, 0));
    assert!(matches!(error, Err(LowRankError::RankFraction(_))));
}

#[test]
fn a_target_of_accuracy_costs_no_more_than_a_higher_one() {
    let digits = digits();
    let file = |accuracy| digits.file(&options(Target::Accuracy(accuracy), FactorType::Int8, 256));
    let (low, high) = (file(0.7), file(0.9));
    assert!(low.len() < high.len(), "{} and {} bytes", low.len(), high.len());
    assert!(digits.accuracy(&high) > 0.85, "{}", digits.accuracy(&high));
    assert!(digits.accuracy(&low) > 0.6, "{}", digits.accuracy(&low));
}

/// What is prepared once makes the same files as what is prepared for each.
#[test]
fn files_of_several_targets_share_what_was_found_out() {
    let digits = digits();
    let images = Images { train: &digits.train, preprocessing: &digits.preprocessing };
    let preparation = Preparation { fold: true, calibrate: 256, seed: 1 };
    let prepared = Prepared::new(&digits.weights, Some(&digits.net), Some(images), preparation);
    let prepared = prepared.unwrap();
    let decomposed = Decomposed::new(&prepared, &|_, _, _| ()).unwrap();
    for target in [Target::Bytes(1_500), Target::RankFraction(0.3), Target::Bytes(1_000)] {
        for factors in [FactorType::F16, FactorType::Int8] {
            let tensors = decomposed.compress(&header(), target, factors, &|_, _, _| ()).unwrap();
            let file = container::encode(&header(), &tensors).unwrap();
            assert!(file == digits.file(&options(target, factors, 256)), "{target:?} {factors:?}");
        }
    }
}

#[test]
fn calibration_lowers_the_damage_at_the_same_bytes() {
    let digits = digits();
    for target in [1_000, 1_500] {
        let damage = |calibrate| {
            digits.damage(&digits.file(&options(
                Target::Bytes(target),
                FactorType::Int8,
                calibrate,
            )))
        };
        let (plain, calibrated) = (damage(0), damage(256));
        assert!(calibrated < 0.7 * plain, "{target}: {calibrated} against {plain}");
    }
}

#[test]
fn an_unknown_architecture_will_do() {
    let digits = digits();
    let options = options(Target::RankFraction(0.3), FactorType::F16, 0);
    let tensors = compress(&header(), &digits.weights, None, None, &options, &|_, _, _| ());
    let file = container::encode(&header(), &tensors.unwrap()).unwrap();
    assert_eq!(decode(&file).infos(), digits.weights.infos());
    let options = Options { calibrate: 8, ..options };
    let refused = compress(&header(), &digits.weights, None, None, &options, &|_, _, _| ());
    assert!(refused.unwrap_err().to_string().contains("--arch"));
}

#[test]
fn the_command_line_knows_whose_options_are_whose() {
    let run = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightspace"));
        command.env_remove("WEIGHTSPACE_DATA").args(["compress", "--dry-run"]).arg(model());
        let output = command.args(line.split_whitespace()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("--method low-rank --rank-fraction 0.3 --factors f16").0, Some(0));
    assert_eq!(
        run("--method low-rank --target-bytes 2000 --data digits --calibrate 64").0,
        Some(0)
    );
    let wrong = [
        ("--method low-rank --bits 4", "--bits is no option of --method low-rank"),
        ("--rank-fraction 0.3", "--rank-fraction is no option of --method quantize"),
        ("--method subspace --target-bytes 9", "--target-bytes is no option of --method subspace"),
        ("--method low-rank --rank-fraction 0.3 --target-bytes 9", "cannot be used with"),
        ("--target-accuracy 0.9 --data digits --target-bytes 9", "cannot be used with"),
    ];
    for (line, message) in wrong {
        let (code, stderr) = run(line);
        assert!(code == Some(2) && stderr.contains(message), "{line}: {stderr}");
    }
}
