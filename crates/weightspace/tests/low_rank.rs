//! What users of `low-rank` rely on, shown on a small trained network.

mod digits;
mod program;

use digits::{Digits, decode};
use program::program;
use weightspace::low_rank::{Decomposed, FactorType, LowRankError, Options, Target, compress};
use weightspace::quantize::{Preparation, Prepared};
use weightspace_core::container::{self, Coding, Header, Method};

fn options(target: Target, factors: FactorType, calibrate: usize) -> Options {
    Options { target, factors, fold: true, calibrate, seed: 1 }
}

fn tensors(digits: &Digits, options: &Options) -> Result<Vec<(String, Coding)>, LowRankError> {
    let (net, images) = (Some(&digits.net), Some(digits.images()));
    compress(&header(), &digits.weights, net, images, options, &|_, _, _| ())
}

fn compressed(digits: &Digits, options: &Options) -> Vec<u8> {
    container::encode(&header(), &tensors(digits, options).unwrap()).unwrap()
}

fn header() -> Header {
    Header { method: Method::LowRank, ..Header::default() }
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
    let digits = Digits::mlp();
    let mut before = (f64::INFINITY, 0);
    for fraction in [0.05, 0.2, 0.4, 1.0] {
        let file =
            compressed(&digits, &options(Target::RankFraction(fraction), FactorType::Int8, 0));
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
    let digits = Digits::mlp();
    let all = tensors(&digits, &options(Target::RankFraction(1.0), FactorType::Int8, 0)).unwrap();
    assert_eq!(ranks(&all), []);
    let few = tensors(&digits, &options(Target::RankFraction(0.3), FactorType::Int8, 0)).unwrap();
    for (name, rank) in ranks(&few) {
        let shape = digits.weights.get(name).unwrap().shape();
        assert!(rank * (shape[0] + shape[1]) < shape[0] * shape[1], "{name} with rank {rank}");
    }
    assert!(!ranks(&few).is_empty());
}

#[test]
fn a_target_of_bytes_is_kept_and_used() {
    let digits = Digits::mlp();
    for factors in [FactorType::F16, FactorType::Int8] {
        for target in [1_000, 1_500] {
            let bytes =
                compressed(&digits, &options(Target::Bytes(target), factors, 0)).len() as u64;
            assert!(bytes <= target, "{bytes} bytes, {target} allowed");
            assert!(bytes as f64 > 0.8 * target as f64, "{bytes} bytes of {target} used");
        }
    }
    let error = tensors(&digits, &options(Target::Bytes(90), FactorType::Int8, 0)).unwrap_err();
    assert!(error.to_string().starts_with("90 bytes cannot be reached: rank 1"), "{error}");
    let error = tensors(&digits, &options(Target::Accuracy(1.1), FactorType::Int8, 0)).unwrap_err();
    assert!(error.to_string().starts_with("accuracy 1.1 cannot be reached: all"), "{error}");
    let error = tensors(&digits, &options(Target::RankFraction(0.0), FactorType::Int8, 0));
    assert!(matches!(error, Err(LowRankError::RankFraction(_))));
}

#[test]
fn a_target_of_accuracy_costs_no_more_than_a_higher_one() {
    let digits = Digits::mlp();
    let file =
        |accuracy| compressed(&digits, &options(Target::Accuracy(accuracy), FactorType::Int8, 256));
    let (low, high) = (file(0.7), file(0.9));
    assert!(low.len() < high.len(), "{} and {} bytes", low.len(), high.len());
    assert!(digits.accuracy(&decode(&high)) > 0.85, "{}", digits.accuracy(&decode(&high)));
    assert!(digits.accuracy(&decode(&low)) > 0.6, "{}", digits.accuracy(&decode(&low)));
}

/// What is prepared once makes the same files as what is prepared for each.
#[test]
fn files_of_several_targets_share_what_was_found_out() {
    let digits = Digits::mlp();
    let images = digits.images();
    let preparation = Preparation { fold: true, calibrate: 256, seed: 1 };
    let prepared = Prepared::new(&digits.weights, Some(&digits.net), Some(images), preparation);
    let prepared = prepared.unwrap();
    let decomposed = Decomposed::new(&prepared, &|_, _, _| ()).unwrap();
    for target in [Target::Bytes(1_500), Target::RankFraction(0.3), Target::Bytes(1_000)] {
        for factors in [FactorType::F16, FactorType::Int8] {
            let tensors = decomposed.compress(&header(), target, factors, &|_, _, _| ()).unwrap();
            let file = container::encode(&header(), &tensors).unwrap();
            assert!(
                file == compressed(&digits, &options(target, factors, 256)),
                "{target:?} {factors:?}"
            );
        }
    }
}

#[test]
fn calibration_lowers_the_damage_at_the_same_bytes() {
    let digits = Digits::mlp();
    for target in [1_000, 1_500] {
        let damage = |calibrate| {
            digits.damage(&compressed(
                &digits,
                &options(Target::Bytes(target), FactorType::Int8, calibrate),
            ))
        };
        let (plain, calibrated) = (damage(0), damage(256));
        assert!(calibrated < 0.7 * plain, "{target}: {calibrated} against {plain}");
    }
}

#[test]
fn an_unknown_architecture_will_do() {
    let digits = Digits::mlp();
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
        let mut command = program();
        command.args(["compress", "--dry-run"]).arg(digits::path("digits-mlp.pt"));
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
