//! `weightspace train` as its users run it, on the built-in digits.

mod data_folder;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use data_folder::data_folder;
use program::{Ending, golden, interrupt, program, wait_until};
use serde_json::Value;
use tempfile::TempDir;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, Tensor};

/// Every part of a training has a state here.
const BASE: &str = "--preset digits --ema 0.9 --select best --clip 5 --threads 2";

/// The same, in half a second.
const RECIPE: &str = "--preset digits --ema 0.9 --select best --clip 5 --threads 2 --epochs 6";

fn command(line: &str, output: &Path) -> Command {
    let mut command = program();
    command.arg("train").args(line.split_whitespace()).arg("-o").arg(output);
    command
}

fn run(line: &str, output: &Path) -> Output {
    command(line, output).output().unwrap()
}

fn done(line: &str, output: &Path) -> Output {
    let found = run(line, output);
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    found
}

/// Runs what must be refused, in one line that has `part`.
fn refused(line: &str, output: &Path, part: &str) {
    let found = run(line, output);
    let text = String::from_utf8(found.stderr).unwrap();
    assert_eq!(found.status.code(), Some(2), "{line}: {text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains(part), "{line}: {text}");
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn model(run: &Path) -> Vec<u8> {
    fs::read(run.join("model.safetensors")).unwrap()
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What of the metrics does not depend on the clock.
fn timeless(run: &Path) -> Vec<String> {
    const KEYS: [&str; 7] =
        ["split", "step", "epoch", "correct", "loss", "train_loss", "learning_rate"];
    let lines = metrics(run);
    lines.iter().map(|line| KEYS.map(|key| line[key].to_string()).join(" ")).collect()
}

/// Starts a training and waits for its first checkpoint, or one that is newer than `than`.
fn start_until_checkpoint(line: &str, output: &Path) -> Child {
    let path = output.join("checkpoint/training.safetensors");
    let read = || fs::read(&path).ok();
    let before = read();
    let mut command = command(line, output);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a checkpoint", || read() != before);
    child
}

#[test]
#[cfg(not(feature = "mpi"))]
fn many_processes_need_mpi() {
    let folder = folder();
    for variable in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
        let started = |size| command(RECIPE, folder.path()).env(variable, size).output().unwrap();
        let found = started("4");
        assert_eq!(found.status.code(), Some(2));
        let text = String::from_utf8(found.stderr).unwrap();
        assert_eq!(
            text.trim_end(),
            "error: started as one of 4 processes, but built without the feature `mpi`"
        );
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
    let found = command(RECIPE, folder.path()).env("PMI_SIZE", "1").output().unwrap();
    assert!(found.status.success());
}

#[test]
fn the_same_command_gives_the_same_file_and_another_seed_another() {
    let folder = folder();
    let run = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        done(&format!("{RECIPE} --seed {seed}"), &path);
        model(&path)
    };
    let first = run("a", "1");
    assert!(first == run("b", "1"));
    assert!(first != run("c", "2"));
}

#[test]
fn a_run_leaves_a_model_that_says_what_it_is() {
    let folder = folder();
    let path = folder.path().join("run");
    let output = done(&format!("{BASE} --epochs 12 --json"), &path);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["accuracy"].as_f64().unwrap() > 0.8, "{json}");
    assert_eq!((json["total"].as_u64(), json["epoch"].as_u64()), (Some(360), Some(12)));
    assert_eq!(json["split"], "test");
    assert_eq!(json["bytes"], model(&path).len());

    let lines = metrics(&path);
    assert_eq!(lines.len(), 13);
    for key in ["accuracy", "correct", "total", "seconds", "peak_memory_bytes", "step", "epoch"] {
        assert_eq!(lines[12][key], json[key], "{key}");
        assert!(!lines[0][key].is_null(), "{key}");
    }
    let record: Value =
        serde_json::from_str(&fs::read_to_string(path.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["config"]["training"]["threads"], 2);
    assert_eq!(record["train_data_sha256"].as_str().unwrap().len(), 64);
    let config: Value =
        serde_json::from_str(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["arch"], "zoo-cnn:relu");
    assert_eq!(config["classes"].as_array().unwrap().len(), 10);

    // Neither the activation nor the padding is in the tensors: the file states both.
    let mut eval = program();
    eval.args(["eval", "--data", "digits", "--json"]).arg(path.join("model.safetensors"));
    let evaluated: Value = serde_json::from_slice(&eval.output().unwrap().stdout).unwrap();
    assert_eq!(evaluated["correct"], json["correct"]);
}

#[test]
fn a_killed_run_continues_to_the_same_bytes() {
    let folder = folder();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    done(RECIPE, &whole);
    let line = format!("{RECIPE} --checkpoint-steps 5");
    for _ in 0..3 {
        let mut child = start_until_checkpoint(&line, &killed);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!killed.join("model.safetensors").exists(), "killed too late");
    }
    let output = done(&line, &killed);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("continues after step"), "{text}");
    assert!(model(&killed) == model(&whole));
    assert_eq!(timeless(&killed), timeless(&whole));
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_after_a_step_and_says_how_to_go_on() {
    let folder = folder();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    done(RECIPE, &whole);
    let child = start_until_checkpoint(&format!("{RECIPE} --checkpoint-steps 5"), &stopped);
    let Ending { stdout, stderr, .. } = interrupt(child);
    assert!(stderr.contains("the same command continues"), "{stderr}");
    assert!(stdout.is_empty());
    done(RECIPE, &stopped);
    assert!(model(&stopped) == model(&whole));
    assert_eq!(timeless(&stopped), timeless(&whole));
}

#[test]
fn divergence_is_one_line_and_keeps_the_checkpoint() {
    let folder = folder();
    let path = folder.path().join("run");
    let line = "--preset digits --epochs 4 --optimizer sgd --learning-rate 1e30 --schedule constant \
                --checkpoint-steps 1 --threads 2";
    refused(line, &path, "training diverged at step");
    let text = String::from_utf8(run(line, &path).stderr).unwrap();
    assert!(text.contains("layer module_list") || text.contains("tensor module_list"), "{text}");
    let checkpoint = Checkpoint::open(&path.join("checkpoint/training.safetensors")).unwrap();
    let coefficients = checkpoint.read_named("coefficients").unwrap();
    assert!(coefficients.to_f32().iter().all(|value| value.is_finite()));
    assert!(!path.join("model.safetensors").exists());
}

#[test]
fn a_finished_or_other_run_is_not_touched_without_force() {
    let folder = folder();
    let path = folder.path().join("run");
    let line = "--preset digits --epochs 2 --threads 2";
    done(line, &path);
    refused(line, &path, "finished; -f");
    let before = model(&path);
    done(&format!("{line} -f --seed 3"), &path);
    assert!(model(&path) != before);
    assert_eq!(metrics(&path).len(), 3);

    fs::remove_file(path.join("model.safetensors")).unwrap();
    let other = "--preset digits --epochs 2 --learning-rate 0.1 --threads 2 --seed 3";
    refused(other, &path, "training.optimizer.learning_rate 0.05, now 0.1");
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("diary.txt"), "mine").unwrap();
    refused(line, &full, "something else");
    fs::write(full.join("run.json"), "{\n").unwrap();
    refused(line, &full, "run.json");
    refused(line, &full.join("diary.txt"), "not a folder");
}

#[test]
fn a_network_learns_from_a_teacher_and_from_weights() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    done(&format!("{BASE} --epochs 12"), &path("teacher"));
    let teacher = path("teacher").join("model.safetensors");
    let teacher = teacher.to_str().unwrap();
    let distil = format!("{RECIPE} --teacher {teacher} --temperature 2 --alpha 0.8");
    let output = done(&format!("{distil} --seed 5 --json"), &path("student"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["accuracy"].as_f64().unwrap() > 0.5, "{json}");

    // Nothing is said of architecture and preprocessing: the file says both.
    let tune = format!("--init {teacher} --data digits --epochs 1 --learning-rate 0.0001 --json");
    let output = done(&tune, &path("tuned"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["arch"], "zoo-cnn:relu");
    assert!(json["accuracy"].as_f64().unwrap() > 0.8, "{json}");
    let cifar =
        format!("--preset digits --arch mlp:64-10 --preprocessing unit --teacher {teacher}");
    refused(&cifar, &path("other"), "the teacher (zoo-cnn:relu) has 784");
}

#[test]
fn weights_that_are_no_numbers_are_refused_before_anything_is_trained() {
    let folder = folder();
    let [run, output, path] = ["run", "other", "b.safetensors"].map(|n| folder.path().join(n));
    done(&format!("{BASE} --epochs 1"), &run);
    let whole = Checkpoint::open(&run.join("model.safetensors")).unwrap().state_dict().unwrap();
    let tensors = whole.iter().enumerate().map(|(position, (name, tensor))| {
        let mut values = tensor.to_f32().into_owned();
        values[0] = if position == 0 { f32::NAN } else { values[0] };
        (name.to_owned(), Tensor::from_f32(tensor.shape().to_vec(), &values))
    });
    write_safetensors(&path, &tensors.collect(), &BTreeMap::new()).unwrap();
    let first = whole.iter().next().unwrap().0;
    let path = path.display();
    let part = format!("{path}: tensor \"{first}\" holds NaN or infinite values");
    refused(&format!("{BASE} --init {path}"), &output, &part);
    refused(&format!("{BASE} --teacher {path}"), &output, &part);
    assert!(!output.exists());
}

#[test]
fn a_new_head_is_all_that_is_drawn_anew() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    done(RECIPE, &path("known"));
    let known = path("known/model.safetensors");
    let known = known.to_str().unwrap();
    // A network of other classes than the data: two of ten of them are left.
    let images = path("images");
    for (class, value) in [("dark", 20u8), ("light", 200)] {
        fs::create_dir_all(images.join(class)).unwrap();
        for image in 0..10 {
            let pixels: Vec<u8> = (0..64).map(|i| value.wrapping_add(i / 8 * image)).collect();
            let file = fs::File::create(images.join(class).join(format!("{image}.png"))).unwrap();
            let mut encoder = png::Encoder::new(file, 8, 8);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        }
    }
    let data = format!("--data folder:{} --preprocessing unit-pad28 --holdout 4", images.display());
    let line = format!("{data} --init {known} --epochs 1 --learning-rate 1e-12 --threads 1");
    refused(&line, &path("refused"), "class");
    done(&format!("{line} --new-head"), &path("changed"));
    let read = |name: &str| {
        Checkpoint::open(&path(name).join("model.safetensors")).unwrap().state_dict().unwrap()
    };
    let (before, after) = (read("known"), read("changed"));
    let (last, others) = before.infos().split_last().map(|(l, o)| (l.clone(), o.to_vec())).unwrap();
    assert_eq!((last.shape, after.get(&last.name).unwrap().shape()), (vec![10], &[2][..]));
    for info in &others[..others.len() - 1] {
        assert_eq!(before.get(&info.name), after.get(&info.name), "{}", info.name);
    }
    refused(&format!("{RECIPE} --new-head"), &path("none"), "goes with --init");
    done(&format!("{line} --new-head --arch zoo-cnn:relu"), &path("named"));
    assert_eq!(model(&path("named")), model(&path("changed")));
}

#[test]
fn broken_files_of_a_run_are_refused_in_one_line() {
    let folder = folder();
    let path = folder.path().join("run");
    let mut child = start_until_checkpoint(&format!("{RECIPE} --checkpoint-steps 5"), &path);
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoint = path.join("checkpoint/training.safetensors");
    let whole = fs::read(&checkpoint).unwrap();
    let counters = String::from_utf8_lossy(&whole).find("epoch").unwrap();
    for end in [0, 4, counters, whole.len() / 2, whole.len() - 1] {
        fs::write(&checkpoint, &whole[..end]).unwrap();
        refused(RECIPE, &path, "training.safetensors");
    }
    fs::write(&checkpoint, fs::read(golden("models/digits-mlp.pt")).unwrap()).unwrap();
    refused(RECIPE, &path, "not a checkpoint of this training: it has no counters");
    fs::write(path.join("run.json"), "[".repeat(1 << 20)).unwrap();
    refused(RECIPE, &path, "run.json");
    fs::write(path.join("run.json"), "x".repeat(1 << 21)).unwrap();
    refused(RECIPE, &path, "larger than 1 MiB");
    let settings = folder.path().join("deep.toml");
    for text in [format!("a = {}", "[".repeat(1 << 19)), "a.".repeat(1 << 19), "\0".into()] {
        fs::write(&settings, text).unwrap();
        refused(&format!("--config {}", settings.display()), &folder.path().join("b"), "line 1");
    }
}

#[test]
fn settings_survive_a_file() {
    let folder = folder();
    let print = |arguments: &[&str]| {
        let output = program().arg("train").args(arguments).arg("--print-config").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = print(&["--preset", "resnet20-cifar10", "--label-smoothing=0.1", "--seed=7"]);
    let file = folder.path().join("recipe.toml");
    fs::write(&file, &first).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(print(&["--config", file]), first);
    assert!(first.contains("label_smoothing = 0.1\n"), "{first}");
    let changed = print(&["--config", file, "--epochs=3"]);
    assert_eq!(changed.replace("epochs = 3\n", "epochs = 200\n"), first);

    fs::write(file, "arch = \"resnet20\"\n[training]\nepoch = 3\n").unwrap();
    refused(&format!("--config {file}"), &folder.path().join("run"), "line 3: unknown field");
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder();
    let path: PathBuf = folder.path().join("run");
    let output = done("--preset digits --dry-run --json", &path);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["steps"], 30 * 42);
    assert_eq!(json["held_out_images"], 100);
    assert!(json["estimated_seconds"].as_f64().unwrap() > 0.0);
    assert!(!path.exists());
}

#[test]
fn bad_options_are_refused_in_one_line() {
    let folder = folder();
    let path = folder.path().join("run");
    for (line, part) in [
        ("--data digits", "which architecture"),
        ("--arch mlp:64-10", "which data"),
        ("--arch mlp:64-10 --data digit", "digit"),
        ("--arch resnet21 --data digits", "resnet21"),
        ("--arch mlp:64-10 --data digits --optimizer sdg", "unknown optimizer 'sdg'"),
        ("--arch mlp:64-10 --data digits --optimizer adam --nesterov", "adam has no nesterov"),
        ("--arch mlp:64-10 --data digits --learning-rate=-1", "learning_rate"),
        ("--arch mlp:64-10 --data digits --epochs 0", "epochs of the training is 0"),
        ("--arch mlp:64-10 --data digits --holdout 100000", "too few"),
        ("--arch mlp:64-10 --data digits --warmup 1", "--warmup"),
        ("--arch mlp:64-10 --data digits --alpha 0.5", "need a --teacher"),
        ("--arch mlp:64-10 --data digits --init nowhere.pt", "nowhere.pt"),
        ("--arch mlp:65-10 --data digits", "65"),
    ] {
        refused(line, &path, part);
        assert!(!path.exists(), "{line}");
    }
    let unknown = run("--preset nothing", &path);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("known are digits, lenet-mnist"));
}

#[test]
fn lenet_learns_mnist() {
    let Some(data) = data_folder() else { return };
    let folder = folder();
    let path = folder.path().join("run");
    let mut command = command("--preset lenet-mnist --epochs 1 --json --quiet", &path);
    let output = command.env("WEIGHTSPACE_DATA", data).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["accuracy"].as_f64().unwrap() > 0.97, "{json}");
}
