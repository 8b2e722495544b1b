//! Optimisers, schedules, clipping and averages against PyTorch, step by step, and their own promises.
//!
//! `tests/golden/optim/generate.py` made the values.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use weightspace_core::{Checkpoint, Layout, StateDict};
use weightspace_nn::optim::{
    Ema, Lookahead, OPTIMIZERS, Optimizer, OptimizerConfig, OptimizerError, ParameterGroup,
    ParameterGroups, clip_global_norm, global_norm,
};
use weightspace_nn::schedule::{Schedule, Timeline};

/// Largest error relative to the largest value of a step.
const TOLERANCE: f64 = 1e-6;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/optim").join(name)
}

fn document() -> Value {
    serde_json::from_slice(&std::fs::read(golden("optim.json")).unwrap()).unwrap()
}

fn tensors() -> StateDict {
    Checkpoint::open(&golden("optim.safetensors")).unwrap().state_dict().unwrap()
}

/// The rows of a tensor of that name, if there is one.
fn rows(tensors: &StateDict, name: &str) -> Option<Vec<Vec<f32>>> {
    let tensor = tensors.get(name)?;
    let columns = tensor.shape().get(1).copied().unwrap_or(1);
    Some(tensor.to_f32().chunks(columns).map(<[f32]>::to_vec).collect())
}

fn layout(document: &Value) -> Layout {
    let mut layout = Layout::new();
    for entry in document["shapes"].as_array().unwrap() {
        let (name, shape): (String, _) = serde_json::from_value(entry.clone()).unwrap();
        layout.push(name, shape, 1);
    }
    layout
}

fn groups(layout: &Layout, case: &Value) -> ParameterGroups {
    let groups = ParameterGroups::from_layout(layout);
    let groups =
        if case["vectors_decay"] == false { groups.without_decay_on_vectors() } else { groups };
    let Some(scales) = case["learning_rate_scales"].as_array() else { return groups };
    let scaled = groups.as_slice().iter().zip(scales).map(|(group, scale)| ParameterGroup {
        learning_rate_scale: scale.as_f64().unwrap(),
        ..group.clone()
    });
    ParameterGroups::new(scaled.collect()).unwrap()
}

fn optimizer(config: &OptimizerConfig, groups: ParameterGroups, case: &Value) -> Optimizer {
    let mut optimizer = Optimizer::new(config, groups).unwrap();
    if case["centralise"] == true {
        optimizer = optimizer.with_gradient_centralization();
    }
    if let Some(lookahead) = case.get("lookahead") {
        let lookahead: Lookahead = serde_json::from_value(lookahead.clone()).unwrap();
        optimizer = optimizer.with_lookahead(lookahead).unwrap();
    }
    optimizer
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0, |m: f64, &v| m.max(f64::from(v).abs()));
    for (index, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        let error = (f64::from(a) - f64::from(b)).abs();
        assert!(error <= TOLERANCE * largest, "{what}, value {index}: {a} instead of {b}");
    }
}

fn check_case(case: &Value, document: &Value, tensors: &StateDict) {
    let name = case["name"].as_str().unwrap();
    let config: OptimizerConfig = serde_json::from_value(case["optimizer"].clone()).unwrap();
    let schedule: Schedule = match case.get("schedule") {
        Some(schedule) => serde_json::from_value(schedule.clone()).unwrap(),
        None => Schedule::default(),
    };
    let layout = layout(document);
    let mut optimizer = optimizer(&config, groups(&layout, case), case);
    let mut weights = tensors.get("weights").unwrap().to_f32().into_owned();
    let gradients = rows(tensors, "gradients").unwrap();
    let timeline = Timeline { total_steps: gradients.len() as u64, steps_per_epoch: 1 };
    let expected = rows(tensors, name).unwrap();
    let norms = rows(tensors, &format!("{name}.norms"));
    let averages = rows(tensors, &format!("{name}.average"));
    let mut ema: Option<Ema> = None;
    for (step, mut gradient) in gradients.into_iter().enumerate() {
        if let Some(limit) = case["clip"].as_f64() {
            let norm = clip_global_norm(&mut gradient, limit);
            assert_close(&[norm as f32], &norms.as_ref().unwrap()[step], name);
        }
        if let Some(momentum) = schedule.momentum(step as u64, timeline) {
            optimizer.set_momentum(momentum);
        }
        let rate = schedule.learning_rate(config.learning_rate(), step as u64, timeline);
        optimizer.step(&mut weights, &gradient, rate);
        assert_close(&weights, &expected[step], &format!("{name}, step {step}"));
        if let Some(averages) = &averages {
            // The first update of PyTorch's average is a copy.
            match &mut ema {
                Some(ema) => ema.update(&weights),
                None => ema = Some(Ema::new(case["average"].as_f64().unwrap(), &weights).unwrap()),
            }
            assert_close(
                ema.as_ref().unwrap().weights(),
                &averages[step],
                &format!("{name} average"),
            );
        }
    }
}

#[test]
fn every_step_is_pytorchs() {
    let (document, tensors) = (document(), tensors());
    let cases = document["cases"].as_array().unwrap();
    for case in cases {
        check_case(case, &document, &tensors);
    }
    for info in OPTIMIZERS {
        assert!(
            cases.iter().any(|c| c["optimizer"]["name"] == info.name),
            "{} untested",
            info.name
        );
    }
}

#[test]
fn every_schedule_is_pytorchs() {
    for each in document()["schedules"].as_array().unwrap() {
        let schedule: Schedule = serde_json::from_value(each["schedule"].clone()).unwrap();
        schedule.check().unwrap();
        let number = |key: &str| each[key].as_u64().unwrap();
        let timeline = Timeline {
            total_steps: number("total_steps"),
            steps_per_epoch: number("steps_per_epoch"),
        };
        let base = each["base"].as_f64().unwrap();
        let close = |ours: f64, theirs: &Value, step: usize| {
            let theirs = theirs.as_f64().unwrap();
            let error = (ours - theirs).abs();
            assert!(error <= 1e-13, "{schedule:?}, step {step}: {ours} instead of {theirs}");
        };
        for (step, rate) in each["learning_rates"].as_array().unwrap().iter().enumerate() {
            close(schedule.learning_rate(base, step as u64, timeline), rate, step);
            match each.get("momenta") {
                Some(all) => {
                    close(schedule.momentum(step as u64, timeline).unwrap(), &all[step], step);
                }
                None => assert_eq!(schedule.momentum(step as u64, timeline), None),
            }
        }
    }
}

#[test]
fn schedules_have_values_at_every_step_of_every_length() {
    let settings = [
        r#"{"name": "constant"}"#,
        r#"{"name": "constant", "warmup": {"length": {"epochs": 0.5}}}"#,
        r#"{"name": "step", "every": {"epochs": 0.01}}"#,
        r#"{"name": "multi-step", "milestones": {"epochs": [18446744073709551615, 1]}}"#,
        r#"{"name": "cosine", "warmup": {"length": {"steps": 3}}}"#,
        r#"{"name": "one-cycle", "momentum": {"lowest": 0.8, "highest": 0.9}}"#,
        r#"{"name": "one-cycle", "rise": 0}"#,
        r#"{"name": "one-cycle", "rise": 1}"#,
    ];
    for text in settings {
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        schedule.check().unwrap();
        let again = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&again).unwrap(), schedule, "{again}");
        for total_steps in 0..12 {
            let timeline = Timeline { total_steps, steps_per_epoch: 3 };
            for step in (0..20).chain([u64::MAX]) {
                let rate = schedule.learning_rate(0.5, step, timeline);
                assert!((0.0..=0.5).contains(&rate), "{text}, {step} of {total_steps}: {rate}");
                let momentum = schedule.momentum(step, timeline).unwrap_or(0.8);
                assert!((0.8..=0.9).contains(&momentum), "{text}, {step} of {total_steps}");
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |text: &str, part: &str| {
        let message = match serde_json::from_str::<OptimizerConfig>(text) {
            Err(error) => error.to_string(),
            Ok(config) => {
                let result = Optimizer::new(&config, ParameterGroups::vector(3));
                result.err().unwrap_or_else(|| panic!("{text} accepted")).to_string()
            }
        };
        assert!(message.contains(part) && !message.contains('\n'), "{text}: {message}");
    };
    refused(r#"{"name": "sgd", "learning_rate": -1}"#, "learning_rate");
    refused(r#"{"name": "sgd", "momentum": 1}"#, "momentum");
    refused(r#"{"name": "sgd", "nesterov": true}"#, "nesterov");
    refused(r#"{"name": "sgd", "betas": [0, 0]}"#, "betas");
    refused(r#"{"name": "adam", "betas": [0.9, 1.0]}"#, "betas");
    refused(r#"{"name": "adam", "beta": 1}"#, "beta");
    refused(r#"{"name": "adamw", "epsilon": -1e-8}"#, "epsilon");
    refused(r#"{"name": "radam", "weight_decay": -1}"#, "weight_decay");
    refused(r#"{"name": "ranger", "lookahead": {"steps": 0}}"#, "lookahead.steps");
    refused(r#"{"name": "ranger", "lookahead": {"alpha": 2}}"#, "lookahead.alpha");
    refused(r#"{"name": "muon", "learning_rate": 0}"#, "learning_rate");
    refused(r#"{"name": "muon", "adamw": {"betas": [2, 0]}}"#, "betas");
    refused(r#"{"name": "adagrad"}"#, "adagrad");
    assert!(Ema::new(1.5, &[]).is_err());

    for text in [
        r#"{"name": "constant", "gamma": 1}"#,
        r#"{"name": "step"}"#,
        r#"{"name": "one-cycle", "warmup": {"length": {"steps": 3}}}"#,
    ] {
        assert!(serde_json::from_str::<Schedule>(text).is_err(), "{text}");
    }
    for (text, part) in [
        (r#"{"name": "step", "every": {"steps": 0}}"#, "every"),
        (r#"{"name": "one-cycle", "divisor": 0}"#, "divisor"),
        (r#"{"name": "one-cycle", "momentum": {"lowest": 0, "highest": 1}}"#, "momentum.highest"),
        (r#"{"name": "cosine", "warmup": {"length": {"epochs": -1}}}"#, "warmup.length"),
    ] {
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        let message = schedule.check().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_table_names_every_optimiser() {
    for info in OPTIMIZERS {
        let config = OptimizerConfig::named(info.name).unwrap();
        let text = serde_json::to_value(config).unwrap();
        assert_eq!(text["name"], info.name);
        assert_eq!(serde_json::from_value::<OptimizerConfig>(text).unwrap(), config);
        let short = format!(r#"{{"name": "{}"}}"#, info.name);
        assert_eq!(serde_json::from_str::<OptimizerConfig>(&short).unwrap(), config);
    }
    let error = OptimizerConfig::named("lion").unwrap_err().to_string();
    assert!(error.contains("lion") && error.contains("adamw"), "{error}");
}

#[test]
fn groups_must_fit() {
    let group = |start, shape: &[usize]| ParameterGroup::new(start, shape.to_vec());
    assert!(ParameterGroups::new(vec![group(0, &[2, 3]), group(8, &[4])]).is_ok());
    let overlap = ParameterGroups::new(vec![group(0, &[2, 3]), group(5, &[4])]);
    assert_eq!(overlap, Err(OptimizerError::GroupOrder { index: 1, start: 5, end: 6 }));
    let wrong = ParameterGroup { range: 0..5, ..group(0, &[2, 3]) };
    assert!(matches!(ParameterGroups::new(vec![wrong]), Err(OptimizerError::GroupShape { .. })));
    let huge = ParameterGroup { shape: vec![usize::MAX, 2], ..group(0, &[1]) };
    assert!(ParameterGroups::new(vec![huge]).is_err());
}

#[test]
fn weights_of_no_group_stay() {
    for info in OPTIMIZERS {
        let groups = ParameterGroups::new(vec![
            ParameterGroup::new(2, vec![2, 2]),
            ParameterGroup::new(8, vec![0, 3]),
            ParameterGroup::new(8, vec![2]),
        ]);
        let mut optimizer = Optimizer::new(&(info.defaults)(), groups.unwrap()).unwrap();
        let mut weights = [1.0; 10];
        for step in 0..8 {
            let gradient: [f32; 10] = std::array::from_fn(|i| 1.0 + (i * step) as f32);
            optimizer.step(&mut weights, &gradient, 0.1);
        }
        let changed: Vec<usize> = (0..10).filter(|&i| weights[i] != 1.0).collect();
        assert_eq!(changed, [2, 3, 4, 5, 8, 9], "{}", info.name);
    }
}

/// Values without a pattern, between -1 and 1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let value = |i: u64| {
        let hash = (i ^ (seed << 40)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 23) as f32
            - 1.0
    };
    (0..len as u64).map(value).collect()
}

#[test]
fn results_do_not_depend_on_threads_or_on_pieces() {
    const LEN: usize = (1 << 20) + 37;
    let shapes = [vec![513, 1000], vec![7], vec![LEN - 513_007]];
    let mut layout = Layout::new();
    for (index, shape) in shapes.into_iter().enumerate() {
        layout.push(format!("tensor{index}"), shape, 1);
    }
    for name in ["sgd", "adamw", "ranger"] {
        let run = |threads: usize, groups: ParameterGroups| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let config = OptimizerConfig::named(name).unwrap();
                let mut optimizer = Optimizer::new(&config, groups).unwrap();
                let mut weights = noise(LEN, 0);
                for step in 1..4 {
                    let mut gradient = noise(LEN, step);
                    clip_global_norm(&mut gradient, 1.0);
                    optimizer.step(&mut weights, &gradient, 0.1);
                }
                weights
            })
        };
        let alone = run(1, ParameterGroups::from_layout(&layout));
        assert!(alone == run(3, ParameterGroups::from_layout(&layout)), "{name}");
        if name != "ranger" {
            assert!(alone == run(2, ParameterGroups::vector(LEN)), "{name}");
        }
    }
}

#[test]
fn clipping_keeps_directions_and_reports_what_is_not_finite() {
    let mut gradient = [3.0, 4.0];
    assert_eq!(clip_global_norm(&mut gradient, 10.0), 5.0);
    assert_eq!(gradient, [3.0, 4.0]);
    assert_eq!(clip_global_norm(&mut gradient, 1.0), 5.0);
    assert!((global_norm(&gradient) - 1.0).abs() < 1e-6);
    assert!((gradient[0] / gradient[1] - 0.75).abs() < 1e-6);
    assert_eq!(global_norm(&[1e30; 4]), f64::from(2e30f32));
    assert!(clip_global_norm(&mut [1.0, f32::NAN], 1.0).is_nan());
    let mut infinite = [1.0, f32::INFINITY];
    assert_eq!(clip_global_norm(&mut infinite, 1.0), f64::INFINITY);
    assert!(infinite[1].is_nan());
}

/// Every optimiser of the golden cases with its wrappers.
fn cases() -> impl Strategy<Value = Value> {
    let cases = document()["cases"].as_array().unwrap().clone();
    (0..cases.len()).prop_map(move |i| cases[i].clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stored_state_continues_bit_for_bit(case in cases(), before in 0..9u64, after in 1..9u64, seed in 1..99u64) {
        let layout = layout(&document());
        let config: OptimizerConfig = serde_json::from_value(case["optimizer"].clone()).unwrap();
        let new = || optimizer(&config, groups(&layout, &case), &case);
        let advance = |optimizer: &mut Optimizer, weights: &mut Vec<f32>, count: u64| {
            for _ in 0..count {
                let gradient = noise(weights.len(), seed + optimizer.step_count());
                optimizer.step(weights, &gradient, 0.01);
            }
        };
        let (mut first, mut weights) = (new(), noise(layout.len(), 0));
        advance(&mut first, &mut weights, before);

        let mut second = new();
        let stored: Vec<_> = first.state().into_iter().map(|(n, v)| (n, v.to_vec())).collect();
        let state: Vec<_> = stored.iter().map(|(n, v)| (*n, v.as_slice())).collect();
        second.load_state(first.step_count(), &state).unwrap();
        let mut continued = weights.clone();
        advance(&mut first, &mut weights, after);
        advance(&mut second, &mut continued, after);
        prop_assert_eq!(weights, continued);
        prop_assert_eq!(first.step_count(), second.step_count());
        prop_assert_eq!(first.state(), second.state());
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let config = OptimizerConfig::named("adam").unwrap();
    let mut optimizer = Optimizer::new(&config, ParameterGroups::vector(3)).unwrap();
    let mut refused = |state: &[(&str, &[f32])], part: &str| {
        let message = optimizer.load_state(5, state).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(optimizer.step_count(), 0);
        assert!(optimizer.state().iter().all(|(_, values)| *values == [0.0; 3]));
    };
    refused(&[("exp_avg", &[1.0; 3])], "no 'exp_avg_sq'");
    refused(&[("exp_avg", &[1.0; 3]), ("exp_avg_sq", &[1.0; 4])], "4 values, expected 3");
    refused(&[("slow_weights", &[1.0; 3])], "does not keep");
}
