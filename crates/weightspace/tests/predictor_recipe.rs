//! What users of `compress --method predictor` rely on: rounds, and work that survives an interruption.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use program::{Ending, IMAGES, cnn, interrupt, program, wait_until};
use serde_json::Value;

fn command(line: &str, output: &Path) -> Command {
    let mut command = program();
    command.args(["compress", "--method", "predictor"]).arg(cnn()).arg("-o").arg(output);
    command.args(line.split_whitespace());
    command
}

fn done(mut command: Command) -> Output {
    let found = command.output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    found
}

fn json(line: &str, output: &Path) -> Value {
    serde_json::from_slice(&done(command(&format!("{line} --json"), output)).stdout).unwrap()
}

#[test]
fn the_best_of_rounds_is_kept() {
    let guard = tempfile::tempdir().unwrap();
    let file = guard.path().join("m.wsp");
    let line = format!("--width 30 --steps 300 --distill-epochs 0 {IMAGES}");
    let found = json(&format!("{line} --rounds 3 --seeds 2"), &file);
    let rounds = found["predictor"]["rounds"].as_array().unwrap();
    assert!((1..=3).contains(&rounds.len()), "{found}");
    let accuracies: Vec<f64> =
        rounds.iter().map(|round| round["held_out_accuracy"].as_f64().unwrap()).collect();
    let last = accuracies.len() - 1;
    assert!(accuracies[..last].is_sorted_by(|a, b| a < b), "{accuracies:?}");
    assert!(last == 2 || last == 0 || accuracies[last] <= accuracies[last - 1], "{accuracies:?}");
    assert!(!guard.path().join("m.wsp.work").exists(), "work that is done is removed");
    // By error alone the best of four is at least as good as the first.
    let line = "--width 12 --steps 100 --distill-epochs 0";
    let rmse =
        |line: &str| json(&format!("{line} -f"), &file)["predictor"]["rmse"].as_f64().unwrap();
    assert!(rmse(&format!("{line} --seeds 4")) <= rmse(line));
    let refused = command(&format!("{line} -f --rounds 2"), &file).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && text.contains("rounds need images"), "{text}");
}

#[test]
fn an_interrupted_recipe_continues_to_the_same_bytes() {
    let guard = tempfile::tempdir().unwrap();
    let (whole, stopped) = (guard.path().join("whole.wsp"), guard.path().join("stopped.wsp"));
    let line = format!("--width 40 --steps 3000 --distill-epochs 1 {IMAGES}");
    done(command(&line, &whole));
    let mut child = command(&line, &stopped);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = guard.path().join("stopped.wsp.work/reconstruction/metrics.jsonl");
    wait_until("an evaluation", || fs::metadata(&metrics).is_ok_and(|metadata| metadata.len() > 0));
    let Ending { stderr: text, .. } = interrupt(child);
    assert!(text.contains("interrupted in reconstruction after step"), "{text}");
    assert!(text.contains("the same command continues") && !stopped.exists(), "{text}");
    let other = command(&line.replace("40", "41"), &stopped).output().unwrap();
    let text = String::from_utf8(other.stderr).unwrap();
    assert!(other.status.code() == Some(2) && text.contains("other settings"), "{text}");
    // Also where the file may be replaced.
    let line = &format!("{line} -f");
    let text = String::from_utf8(done(command(line, &stopped)).stderr).unwrap();
    assert!(text.contains("reconstruction continues after step"), "{text}");
    assert!(fs::read(whole).unwrap() == fs::read(&stopped).unwrap());
    assert!(!guard.path().join("stopped.wsp.work").exists());
}

#[test]
fn mistakes_leave_nothing_behind_and_targets_that_are_missed_keep_the_work() {
    let guard = tempfile::tempdir().unwrap();
    let file = guard.path().join("m.wsp");
    let refused = |line: &str| {
        let found = command(line, &file).output().unwrap();
        assert_eq!(found.status.code(), Some(2), "{line}");
        String::from_utf8(found.stderr).unwrap()
    };
    assert!(refused("--encoding tables:0 --steps 2").contains("tables a width of 1 to"));
    assert!(refused("--steps 2 --distill-epochs 1").contains("--distill-epochs needs images"));
    assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 0);
    let line = format!("--width 4 --steps 5 --distill-epochs 1 {IMAGES}");
    let said = refused(&format!("{line} --target-accuracy 0.999"));
    assert!(said.contains("cannot be reached") && said.contains("keeps the work"), "{said}");
    let found = json(&format!("{line} --target-accuracy 0.01"), &file);
    assert!(found["predictor"]["held_out_accuracy"].as_f64().unwrap() >= 0.01, "{found}");
    let relative = found["predictor"]["relative_error"].as_f64().unwrap();
    let better = json("--width 30 --steps 300 -f", &file)["predictor"]["relative_error"].as_f64();
    assert!(better.unwrap() < 0.5 && relative > better.unwrap(), "{found}");
    assert!(!guard.path().join("m.wsp.work").exists());
    // No more coefficients than weights, however large the file may be.
    let large = json("--target-bytes 2000000 --steps 2 -f", &file);
    assert!(
        large["bytes"].as_u64().unwrap() < large["original_bytes"].as_u64().unwrap(),
        "{large}"
    );
}

#[test]
fn a_named_workplace_is_kept() {
    let guard = tempfile::tempdir().unwrap();
    let (file, work) = (guard.path().join("m.wsp"), guard.path().join("work"));
    let line = format!("--width 8 --steps 20 --distill-epochs 0 --work {}", work.display());
    done(command(&line, &file));
    let metrics = fs::read_to_string(work.join("reconstruction/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(last["step"], 20);
    // Another folder's contents are not touched.
    let other = guard.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    let line = format!("--width 8 --steps 20 --distill-epochs 0 -f --work {}", other.display());
    done(command(&line, &file));
    assert_eq!(fs::read_to_string(other.join("notes.txt")).unwrap(), "mine");
    let line = line.replace("-f", "").replace("other", "other/..");
    let refused = command(&line, &guard.path().join("n.wsp")).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && text.contains("something else"), "{text}");
}
