//! What users of `zoo train` rely on: the same models whatever the threads, the parts and the interruptions.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use program::{program, signal, wait_until};
use serde_json::Value;
use weightspace::zoo::Population;
use weightspace_nn::data::{self, Split};
use weightspace_nn::{Engine, evaluate};

/// Two groups of one activation and one of another, which dropout names differently.
const ZOO: &str = r#"
data = "digits"
preprocessing = "unit-pad28"
arch = "zoo-cnn"
epochs = 3
batch = 10
images = 200
holdout = 100
checkpoints = [0, 2, 3]
activation = ["tanh", "relu"]
initialisation = "kaiming-uniform"
dropout = 0.0
optimizer = ["adam", "sgd"]
learning_rate = 3e-3
weight_decay = 1e-4
seeds = "1-9"
"#;

fn command(folder: &Path, line: &str) -> Command {
    let mut command = program();
    for variable in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
        command.env_remove(variable);
    }
    command.current_dir(folder).arg("zoo").args(line.split_whitespace());
    command
}

fn done(folder: &Path, line: &str) -> Output {
    let found = command(folder, line).output().unwrap();
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    found
}

/// A folder with the description.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("zoo.toml"), ZOO).unwrap();
    folder
}

const TRAIN: &str = "train --config zoo.toml -o";

#[test]
fn parts_and_interruptions_make_the_same_zoo() {
    let guard = folder();
    let at = guard.path();
    done(at, &format!("{TRAIN} whole.zoo --threads 2"));
    assert!(!at.join("whole.zoo.work").exists());
    // Three parts, of which one is named by a scheduler, joined.
    done(at, &format!("{TRAIN} a.zoo --shard 0/3 --threads 1"));
    let mut by_scheduler = command(at, &format!("{TRAIN} b.zoo"));
    by_scheduler.env("JOB_COMPLETION_INDEX", "1").env("JOB_COMPLETIONS", "3");
    assert!(by_scheduler.status().unwrap().success());
    done(at, &format!("{TRAIN} c.zoo --shard 2/3"));
    done(at, "import a.zoo b.zoo c.zoo -o joined.zoo");
    let bytes = |name: &str| fs::read(at.join(name)).unwrap();
    assert!(bytes("joined.zoo") == bytes("whole.zoo"));
    let twice = command(at, "import a.zoo a.zoo -o twice.zoo").output().unwrap();
    assert!(String::from_utf8_lossy(&twice.stderr).contains("is in a.zoo too"));
    // Stopped twice, once gently.
    for name in ["-INT", "-KILL"] {
        let mut child = command(at, &format!("{TRAIN} stopped.zoo"));
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let epoch = at.join("stopped.zoo.work/group-00000/epoch-000001.safetensors");
        wait_until("an epoch", || epoch.exists());
        signal(&child, name);
        let code = child.wait().unwrap().code();
        assert!(code == Some(130) || code.is_none(), "{name}: {code:?}");
        assert!(!at.join("stopped.zoo").exists(), "stopped too late");
    }
    done(at, &format!("{TRAIN} stopped.zoo"));
    assert!(bytes("stopped.zoo") == bytes("whole.zoo"));
}

#[test]
fn a_zoo_is_what_its_description_says() {
    let guard = folder();
    let at = guard.path();
    // Fewer epochs than the description's checkpoints have.
    done(at, "train --config zoo.toml --epochs 1 --dry-run");
    let plan = done(at, "train --config zoo.toml --seeds 1-3 --dry-run --json").stdout;
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    let numbers = ["models", "parameters", "training_images", "validation_images", "test_images"];
    assert_eq!(numbers.map(|key| plan[key].as_u64().unwrap()), [12, 2464, 200, 100, 360]);
    done(at, &format!("{TRAIN} packed.zoo --seeds 1-3"));
    done(at, &format!("{TRAIN} tree --seeds 1-3 --layout tree"));
    let packed = Population::open(&at.join("packed.zoo")).unwrap();
    let tree = Population::open(&at.join("tree")).unwrap();
    assert_eq!((packed.len(), tree.len()), (12, 12));
    let test = data::open("digits", None, Split::Test).unwrap();
    let preprocessing = "unit-pad28".parse().unwrap();
    for index in 0..12 {
        let (model, other) = (packed.model(index).unwrap(), tree.model(index).unwrap());
        assert_eq!(
            (&model.name, &model.params, &model.epochs),
            (&other.name, &other.params, &other.epochs)
        );
        assert_eq!(model.epochs, [0, 2, 3]);
        let spec = model.spec().unwrap();
        assert_eq!(model.name, spec.name(index));
        let net = spec.net(1, 28, 10).unwrap();
        for (metrics, epoch) in model.metrics.iter().zip([0, 2, 3]) {
            assert!(packed.row(index, epoch).unwrap() == tree.row(index, epoch).unwrap());
            assert!(metrics.values().iter().all(|value| value.is_finite()), "{metrics:?}");
            // What the zoo says of a model is what the model does.
            let engine = Engine::new(&net, &packed.weights(index, epoch).unwrap()).unwrap();
            let found = evaluate::accuracy(&engine, &test, None, &preprocessing, &|_| ()).unwrap();
            assert!(
                (found.accuracy() as f32 - metrics.test_accuracy).abs() < 0.003,
                "{}",
                model.name
            );
        }
        let [first, .., last] = &model.metrics[..] else { panic!("three epochs") };
        assert!(last.train_loss < first.train_loss, "{}: {model:?}", model.name);
    }
}

/// Networks that do not fit into lanes are trained one by one, with statistics and augmentation.
#[test]
fn large_networks_are_trained_too() {
    let guard = folder();
    let at = guard.path();
    let zoo = r#"
        data = "digits"
        preprocessing = "unit-pad28"
        arch = "resnet20"
        epochs = 2
        batch = 16
        images = 48
        augment = "crop4"
        schedule = "one-cycle"
        optimizer = "sgd"
        learning_rate = [0.01, 1e30]
        seeds = 5
    "#;
    fs::write(at.join("resnet.toml"), zoo).unwrap();
    done(at, "train --config resnet.toml -o whole.zoo");
    let population = Population::open(&at.join("whole.zoo")).unwrap();
    let test = data::open("digits", None, Split::Test).unwrap();
    let preprocessing = "unit-pad28".parse().unwrap();
    let model = population.model(0).unwrap();
    let (net, weights) =
        (model.spec().unwrap().net(1, 28, 10).unwrap(), population.weights(0, 2).unwrap());
    assert!(weights.get("bn1.num_batches_tracked").is_some(), "statistics are part of a row");
    let engine = Engine::new(&net, &weights).unwrap();
    let found = evaluate::accuracy(&engine, &test, None, &preprocessing, &|_| ()).unwrap();
    assert_eq!(found.accuracy() as f32, model.metrics[2].test_accuracy);
    assert!(model.metrics[2].train_loss < model.metrics[0].train_loss);
    // Of 48 images that were learnt from.
    let right = model.metrics[2].train_accuracy * 48.0;
    assert!((0.0..=48.0).contains(&right) && (right - right.round()).abs() < 1e-3, "{right}");
    // The other one diverges, and stays so.
    let lost = population.model(1).unwrap();
    assert!(lost.metrics[2].test_loss.is_nan() && lost.metrics[0].test_loss.is_finite());
    assert_eq!(population.without_nan().unwrap().1, [lost.name]);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let guard = folder();
    let at = guard.path();
    fs::write(at.join("many.toml"), ZOO.replace("images = 200", "images = 2000")).unwrap();
    for (line, part) in [
        ("train --preset mnist -o z", "unknown preset 'mnist'"),
        ("train --config many.toml -o z", "2100 images are wanted"),
        ("train --config zoo.toml --shard 3/3 -o z", "shard"),
        ("train --config zoo.toml --seeds 9-1 -o z", "seeds"),
        ("train -o z", "--preset"),
    ] {
        let found = command(at, line).output().unwrap();
        let text = String::from_utf8(found.stderr).unwrap();
        assert_eq!(found.status.code(), Some(2), "{line}: {text}");
        assert!(text.starts_with("error: ") && text.contains(part), "{line}: {text}");
        assert!(!at.join("z").exists());
    }
    // Another zoo's work is not continued.
    fs::create_dir(at.join("z.work")).unwrap();
    fs::write(at.join("z.work/work.json"), "{}").unwrap();
    let found = command(at, "train --config zoo.toml -o z").output().unwrap();
    assert!(String::from_utf8(found.stderr).unwrap().contains("-f begins anew"));
}
