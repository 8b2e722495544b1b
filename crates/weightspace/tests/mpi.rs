//! `weightspace train` as several processes that `mpirun` starts; without `mpirun` nothing is tested.
#![cfg(feature = "mpi")]

mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use program::wait_until;
use serde_json::Value;
use tempfile::TempDir;
use weightspace_core::Checkpoint;

/// Every part of a training has a state here. The network is smooth: with kinks, roundings grow.
const SMOOTH: &str = "train --data digits --arch mlp:64-48-10,activation=gelu --batch 32 \
    --ema 0.9 --select best --clip 5 --threads 1";

/// The statistics of batch normalisations are of all processes.
const NORMALISED: &str = "train --data digits --arch resnet20 --epochs 2 --threads 1";

fn is_there() -> bool {
    let there = Command::new("mpirun").arg("--version").output().is_ok();
    if !there {
        eprintln!("no mpirun: nothing is tested");
    }
    there
}

fn command(ranks: usize, line: &str, output: &Path) -> Command {
    let mut command = Command::new("mpirun");
    // Of Open MPI, which else refuses to run as root, or more processes than cores.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args(["--oversubscribe", "-n", &ranks.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_weightspace")).args(line.split_whitespace());
    command.arg("-o").arg(output).stdin(Stdio::null());
    command
}

fn run(ranks: usize, line: &str, output: &Path) -> Output {
    command(ranks, line, output).output().unwrap()
}

fn done(ranks: usize, line: &str, output: &Path) -> String {
    let found = run(ranks, line, output);
    assert!(found.status.success(), "{ranks}: {}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn model(run: &Path) -> Vec<u8> {
    fs::read(run.join("model.safetensors")).unwrap()
}

fn weights(run: &Path) -> Vec<f32> {
    let file = Checkpoint::open(&run.join("model.safetensors")).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|info| info.name.clone()).collect();
    names.iter().flat_map(|name| file.read_named(name).unwrap().to_f32().into_owned()).collect()
}

/// What of the metrics does not depend on the clock.
fn metrics(run: &Path) -> Vec<[String; 4]> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["split", "step", "epoch", "correct"].map(|key| line[key].to_string())
    };
    text.lines().map(line).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().fold(0f32, |largest, a| largest.max(a.abs()));
    a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn any_number_of_processes_trains_the_same_network() {
    if !is_there() {
        return;
    }
    let (solo, line) = (folder(), format!("{SMOOTH} --epochs 20"));
    done(1, &line, solo.path());
    for ranks in [2, 4] {
        let (many, again) = (folder(), folder());
        let text = done(ranks, &line, many.path());
        assert_eq!(text.matches("accuracy").count(), 1, "{text}");
        let difference = difference(&weights(solo.path()), &weights(many.path()));
        println!("{ranks} processes: weights differ by {difference:.1e}");
        assert!(difference < 1e-5, "{ranks}: {difference}");
        assert_eq!(metrics(many.path()), metrics(solo.path()));
        done(ranks, &line, again.path());
        assert_eq!(model(many.path()), model(again.path()));
    }
}

/// Ends the processes that have this folder on their command line at once.
fn kill(output: &Path) {
    let name = output.to_str().unwrap().as_bytes();
    let is_ours = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == name)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ids: Vec<String> = ids.filter(is_ours).map(|id| id.to_string()).collect();
    assert!(ids.len() >= 2, "processes {ids:?}");
    // One may be gone already, because another is.
    Command::new("kill").arg("-KILL").args(&ids).output().unwrap();
}

#[test]
fn what_was_killed_continues() {
    if !is_there() {
        return;
    }
    let line = format!("{NORMALISED} --quiet --checkpoint-steps 3");
    let (whole, parts) = (folder(), folder());
    done(4, &line, whole.path());
    kill_at_checkpoint(4, &line, parts.path());
    done(4, &line, parts.path());
    assert_eq!(metrics(parts.path()), metrics(whole.path()));
    assert_eq!(model(parts.path()), model(whole.path()));
}

#[test]
fn another_number_of_processes_continues() {
    if !is_there() {
        return;
    }
    let line = format!("{SMOOTH} --epochs 60 --quiet --checkpoint-steps 5");
    let (whole, parts) = (folder(), folder());
    done(1, &line, whole.path());
    kill_at_checkpoint(4, &line, parts.path());
    done(2, &line, parts.path());
    assert_eq!(metrics(parts.path()), metrics(whole.path()));
    let difference = difference(&weights(whole.path()), &weights(parts.path()));
    println!("killed with 4, continued with 2 processes: weights differ by {difference:.1e}");
    assert!(difference < 1e-4, "{difference}");
}

/// Ends a training at once, after its first checkpoint.
fn kill_at_checkpoint(ranks: usize, line: &str, output: &Path) {
    let mut child = command(ranks, line, output).spawn().unwrap();
    let checkpoint = output.join("checkpoint/training.safetensors");
    wait_until("a checkpoint", || checkpoint.exists());
    kill(output);
    assert!(!child.wait().unwrap().success());
    assert!(!output.join("model.safetensors").exists(), "killed too late");
    // The lock of a process that was killed ends with it, which takes a moment.
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn an_error_is_said_once() {
    if !is_there() {
        return;
    }
    let folder = folder();
    for (line, part) in [
        ("train --preset digits --arch resnet20x", "unknown architecture"),
        ("train --preset digits --learning-rate 1e30 --clip 1e30 --quiet", "training diverged"),
    ] {
        let found = run(3, line, folder.path());
        let text = String::from_utf8(found.stderr).unwrap();
        assert_eq!(found.status.code(), Some(2), "{text}");
        let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(part), "{text}");
    }
}

/// Every process generates the columns of its own coefficients; the sums are those of one but for
/// roundings, which may move a coefficient by a step of 16 bits.
#[test]
fn processes_divide_the_coefficients_of_a_subspace() {
    if !is_there() {
        return;
    }
    for basis in ["dense", "hadamard", "sketch"] {
        let method = format!("--method subspace --basis {basis} --k 500 --coefficient-bits 16");
        let rate = "--optimizer adam --learning-rate 0.003 --schedule cosine";
        let line = format!("{SMOOTH} {method} {rate} --epochs 5 --quiet --checkpoint-steps 5");
        let solo = folder();
        done(1, &line, solo.path());
        for ranks in [2, 3] {
            let (many, parts) = (folder(), folder());
            done(ranks, &line, many.path());
            let difference = difference(&weights(solo.path()), &weights(many.path()));
            println!("{basis}, {ranks} processes: weights differ by {difference:.1e}");
            assert!(difference < 2e-4, "{basis}, {ranks}: {difference}");
            kill_at_checkpoint(ranks, &line, parts.path());
            done(ranks, &line, parts.path());
            assert_eq!(model(parts.path()), model(many.path()), "{basis}, {ranks}");
        }
    }
}
