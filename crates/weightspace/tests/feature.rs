//! Every command as its users run it: the real program on small files.

mod data_folder;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use data_folder::data_folder;
use program::{cnn, done, golden, program, run};
use serde_json::Value;
use tempfile::TempDir;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, DType, StateDict, Tensor};

/// An MLP for the digits; PyTorch gets 324 of 360 right.
fn mlp() -> PathBuf {
    golden("models/digits-mlp.pt")
}

fn save(folder: &TempDir, name: &str, tensors: &[(&str, Tensor)]) -> PathBuf {
    let path = folder.path().join(name);
    let state_dict: StateDict = tensors.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    write_safetensors(&path, &state_dict, &BTreeMap::new()).unwrap();
    path
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn inspect_tells_what_is_in_a_checkpoint() {
    let ending = done("inspect {}", &[&mlp()]);
    for part in ["pytorch", "mlp:64-32-10", "2,410", "0.weight  f32    32x64", "epoch: 60"] {
        assert!(ending.stdout.contains(part), "{part} in {}", ending.stdout);
    }
    let json = done("inspect {} --json", &[&mlp()]).json();
    assert_eq!(json["format"], "pytorch");
    assert_eq!(json["arch"], "mlp:64-32-10");
    assert_eq!(json["parameters"], 2410);
    assert_eq!(json["bytes"], fs::metadata(mlp()).unwrap().len());
    assert_eq!(json["tensors"].as_array().unwrap().len(), 4);
    assert_eq!(json["tensors"][0]["name"], "0.weight");
    assert_eq!(json["tensors"][0]["shape"], serde_json::json!([32, 64]));
    assert_eq!(json["tensors"][0]["dtype"], "f32");
}

#[test]
fn inspect_says_why_an_architecture_is_unknown_and_what_it_stripped() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = || Tensor::from_f32(vec![3, 5], &[0.0; 15]);
    let unknown = save(&folder, "a", &[("module.x", tensor()), ("module.y\u{1b}", tensor())]);
    let ending = done("inspect {}", &[&unknown]);
    assert!(ending.stdout.contains("unknown: no known architecture"), "{}", ending.stdout);
    assert!(ending.stdout.contains("module."), "{}", ending.stdout);
    assert!(!ending.stdout.contains('\u{1b}'), "{}", ending.stdout);
    let json = done("inspect {} --json", &[&unknown]).json();
    assert_eq!(json["arch"], Value::Null);
    assert_eq!(json["parameters"], 30);
    assert_eq!(json["stripped_prefix"], "module.");
}

/// 20 GB that are nowhere on the disk: reading them would take many seconds.
#[test]
#[cfg(target_os = "linux")]
fn inspect_does_not_read_the_tensors() {
    const SIZE: u64 = 2_000_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    let header =
        format!(r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{SIZE}]}}}}"#, SIZE / 4);
    let start = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(&path, &start).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if file.set_len(start.len() as u64 + SIZE).is_err() {
        return; // a file system without sparse files
    }
    let time = std::time::Instant::now();
    let json = done("inspect {} --json", &[&path]).json();
    assert_eq!(json["parameters"], SIZE / 4);
    assert!(time.elapsed().as_secs() < 60, "{:?}", time.elapsed());
}

#[test]
fn compress_and_decompress_agree_with_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (wsp, restored) = (folder.path().join("a.wsp"), folder.path().join("a.safetensors"));
    let json = done("compress {} -o {} --method quantize --json", &[&mlp(), &wsp]).json();
    let bytes = fs::metadata(&wsp).unwrap().len();
    assert_eq!(json["method"], "quantize");
    assert_eq!(json["bytes"], bytes);
    assert_eq!(json["original_bytes"], fs::metadata(mlp()).unwrap().len());
    assert_eq!(json["parameters"], 2410);
    assert_eq!(json["arch"], "mlp:64-32-10");
    assert!(json["seconds"].is_f64());
    assert!(bytes < 3000, "{bytes} bytes for 2410 parameters at 8 bits");

    let inspected = done("inspect {} --json", &[&wsp]).json();
    assert_eq!(inspected["format"], "wsp");
    assert_eq!(inspected["arch"], "mlp:64-32-10");
    assert_eq!(inspected["source_parameters"], 2410);
    assert_eq!(inspected["tensors"].as_array().unwrap().len(), 4);
    assert!(done("inspect {}", &[&wsp]).stdout.contains("quantize"));

    done("decompress {} -o {}", &[&wsp, &restored]);
    let diff = done("diff {} {} --json", &[&wsp, &restored]).json();
    assert_eq!(diff["identical"], true);
    assert_eq!(diff["max_abs"], 0.0);
    let [a, b] = [&wsp, &restored].map(|path| done("eval {} --data digits --json", &[path]).json());
    assert_eq!(a["correct"], b["correct"]);
    assert!(a["correct"].as_u64().unwrap() > 318, "8 bits cost next to nothing: {a}");
    assert_eq!(Checkpoint::open(&restored).unwrap().metadata()["format"], "pt");
}

#[test]
fn the_best_of_all_methods_is_written_and_the_others_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (auto, same) = (folder.path().join("a b.wsp"), folder.path().join("same.wsp"));
    let images = "--data digits --preprocessing unit-pad28";
    let line = format!("compress {{}} -o {{}} {images} --method auto");
    let json = done(&format!("{line} --target-bytes 1500 --json"), &[&cnn(), &auto]).json();
    let choice = &json["auto"];
    let tried = choice["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 3);
    let chosen = tried.iter().find(|t| t["name"] == choice["chosen"]).unwrap();
    let best = tried.iter().filter_map(|t| t["held_out_accuracy"].as_f64()).fold(0.0, f64::max);
    assert_eq!(chosen["held_out_accuracy"].as_f64().unwrap(), best);
    assert!(tried.iter().all(|t| t["bytes"].as_u64().is_none_or(|bytes| bytes <= 1500)), "{json}");
    assert_eq!(json["bytes"], chosen["bytes"]);
    assert_eq!(json["bytes"], fs::metadata(&auto).unwrap().len());
    assert!(choice["original_held_out_accuracy"].as_f64().unwrap() > 0.93);

    // The options that are named make the same file, and the command that is named is one.
    let options = chosen["options"].as_str().unwrap();
    let options = options.strip_prefix("compress ").unwrap();
    let line_of = format!("compress {{}} -o {{}} {images} {options} --target-bytes 1500");
    done(&line_of, &[&cnn(), &same]);
    assert!(fs::read(&same).unwrap() == fs::read(&auto).unwrap());
    let command = choice["train_further"].as_str().unwrap();
    let words = command.strip_prefix("weightspace ").unwrap();
    assert!(words.ends_with("a b-trained'") && words.contains("--target-bytes 1500"), "{words}");
    let (plain, _) = words.split_once(" --output").unwrap();
    done(&format!("{plain} --dry-run"), &[]);

    let text = done(&format!("{line} --target-accuracy 0.9 -f"), &[&cnn(), &auto]).stdout;
    assert!(text.contains("held-out training images") && text.contains("* "), "{text}");
    let accuracy = done("eval {} --data digits --json", &[&auto]).json()["accuracy"].clone();
    assert!(accuracy.as_f64().unwrap() > 0.8, "{accuracy}");
    let ending = run(&format!("{line} --target-bytes 99 -f"), &[&cnn(), &auto]);
    assert_eq!((ending.code, ending.stderr.lines().count()), (2, 1), "{}", ending.stderr);
    assert!(ending.stderr.contains("low-rank-int8: 99 bytes cannot be reached"));
}

#[test]
fn what_auto_needs_is_said() {
    for (line, reason) in [
        ("--data digits", "needs --target-bytes or --target-accuracy"),
        ("--target-bytes 1000", "needs images to choose by: --data"),
        ("--target-bytes 1000 --data digits --bits 4", "cannot be used with"),
        (
            "--target-bytes 1000 --data digits --factors f16",
            "--factors is no option of --method auto",
        ),
        ("--target-bytes 1000 --data digits --k 9", "--k is no option of --method auto"),
        (
            "--target-bytes 1000 --data digits --augment flip",
            "--augment is no option of --method auto",
        ),
        ("--target-bytes 1000 --data digits --teacher x.pt", "--train-epochs"),
    ] {
        let ending = run(&format!("compress {{}} --dry-run --method auto {line}"), &[&cnn()]);
        assert!(ending.code == 2 && ending.stderr.contains(reason), "{line}: {}", ending.stderr);
    }
    let line = "compress {} --dry-run --method auto --target-bytes 1000 --json --data digits";
    let plan = done(&format!("{line} --preprocessing unit-pad28"), &[&cnn()]).json();
    assert_eq!((&plan["method"], &plan["estimated_bytes"]), (&"auto".into(), &1000.into()));
}

#[test]
fn fewer_bits_are_fewer_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let size = |bits: usize| {
        let path = folder.path().join(format!("{bits}.wsp"));
        done(&format!("compress {{}} -o {{}} --bits {bits}"), &[&cnn(), &path]);
        fs::metadata(path).unwrap().len()
    };
    let sizes = [8, 6, 4, 2].map(size);
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

/// Tables of integers and truth values are no weights.
#[test]
fn what_is_no_weight_is_restored_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let integers: Vec<u8> = (0..24).flat_map(|i: i64| (i << 40).to_le_bytes()).collect();
    let tensors = [
        ("position_ids", Tensor::from_bytes(DType::I64, vec![1, 24], integers)),
        ("mask", Tensor::from_bytes(DType::Bool, vec![2, 2], vec![1, 0, 0, 1])),
        ("scalar", Tensor::from_f32(vec![], &[0.3])),
        ("empty", Tensor::from_f32(vec![0, 4], &[])),
        ("weight", Tensor::from_f32(vec![2, 2], &[0.1, 0.2, 0.3, 0.4])),
    ];
    let model = save(&folder, "a.safetensors", &tensors);
    let (wsp, restored) = (folder.path().join("a.wsp"), folder.path().join("b.safetensors"));
    done("compress {} -o {} --bits 4", &[&model, &wsp]);
    done("decompress {} -o {}", &[&wsp, &restored]);
    let restored = Checkpoint::open(&restored).unwrap().state_dict().unwrap();
    for (name, tensor) in &tensors[..4] {
        assert_eq!(restored.get(name), Some(tensor), "{name}");
    }
    assert_ne!(restored.get("weight"), Some(&tensors[4].1));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    fs::write(&wsp, "precious").unwrap();
    for line in ["compress {} -o {}", "compress {} -o {} --dry-run"] {
        let ending = run(line, &[&mlp(), &wsp]);
        assert_eq!(ending.code, 2);
        assert!(ending.stderr.contains("exists; -f replaces it"), "{}", ending.stderr);
    }
    assert_eq!(fs::read(&wsp).unwrap(), b"precious");
    // What is read is never replaced.
    let own = folder.path().join("own.pt");
    fs::copy(mlp(), &own).unwrap();
    let through = folder.path().join("../").join(folder.path().file_name().unwrap()).join("own.pt");
    for other in [&own, &through] {
        let ending = run("compress {} -o {} -f", &[&own, other]);
        assert!(ending.code == 2 && ending.stderr.contains("is read"), "{}", ending.stderr);
    }
    assert_eq!(fs::read(&own).unwrap(), fs::read(mlp()).unwrap());
    done("compress {} -o {} -f", &[&mlp(), &wsp]);
    assert_eq!(run("decompress {} -o {}", &[&wsp, &wsp]).code, 2);
    done("verify {}", &[&wsp]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    let plan = done("compress {} -o {} --bits 4 --dry-run --json", &[&mlp(), &wsp]).json();
    assert!(!wsp.exists());
    assert_eq!(plan["dry_run"], true);
    assert_eq!(plan["parameters"], 2410);
    done("compress {} -o {} --bits 4", &[&mlp(), &wsp]);
    let (bytes, estimate) = (fs::metadata(&wsp).unwrap().len(), plan["estimated_bytes"].as_u64());
    assert!(bytes <= estimate.unwrap() + 200, "{bytes} of {estimate:?}");
    assert!(done("compress {} --dry-run", &[&mlp()]).stdout.contains("mlp:64-32-10"));
}

#[test]
fn verify_compares_with_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    done("compress {} -o {}", &[&mlp(), &wsp]);
    let ok = done("verify {} --against {} --data digits --json", &[&wsp, &mlp()]).json();
    assert_eq!(ok["ok"], true);
    assert_eq!(ok["source_matches"], true);
    assert_eq!(ok["against_accuracy"], 0.9);
    assert!(ok["accuracy"].as_f64().unwrap() > 0.88);
    let max_abs = ok["max_abs"].as_f64().unwrap();
    assert!(max_abs > 0.0 && max_abs < 0.02, "{max_abs}");

    let other = run("verify {} --against {} --json", &[&wsp, &cnn()]);
    assert_eq!(other.code, 1);
    assert_eq!(other.json()["ok"], false);
    assert_eq!(other.json()["source_matches"], false);
    assert!(run("verify {} --against {}", &[&wsp, &cnn()]).stdout.contains("WAS NOT made"));

    let mut bytes = fs::read(&wsp).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wsp, bytes).unwrap();
    let damaged = run("verify {}", &[&wsp]);
    assert_eq!(damaged.code, 2);
    assert!(damaged.stderr.contains("checksum"), "{}", damaged.stderr);
}

#[test]
fn diff_measures_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let f32s = |values: &[f32]| Tensor::from_f32(vec![values.len()], values);
    let a =
        save(&folder, "a", &[("x", f32s(&[3.0, 4.0])), ("y", f32s(&[1.0])), ("z", f32s(&[1.0]))]);
    let b = save(
        &folder,
        "b",
        &[("w", f32s(&[1.0])), ("y", f32s(&[1.0, 2.0])), ("x", f32s(&[4.0, 3.0]))],
    );
    let ending = run("diff {} {} --json", &[&a, &b]);
    assert_eq!(ending.code, 1);
    let json = ending.json();
    assert_eq!(json["identical"], false);
    assert_eq!(json["max_abs"], 1.0);
    assert_eq!(json["only_in_a"], serde_json::json!(["z"]));
    assert_eq!(json["only_in_b"], serde_json::json!(["w"]));
    let x = &json["tensors"][0];
    let measures = ["norm_a", "norm_b", "cosine", "max_abs"].map(|key| x[key].as_f64().unwrap());
    assert_eq!(measures, [5.0, 5.0, 0.96, 1.0]);
    assert_eq!(json["tensors"][1]["other_shape"], serde_json::json!([2]));

    let text = run("diff {} {}", &[&a, &b]).stdout;
    assert!(text.contains("only in A: z") && text.contains("only in B: w"), "{text}");
    assert_eq!(done("diff {} {} --json", &[&a, &a]).json()["identical"], true);
}

/// The order of tensors and the file format make no difference.
#[test]
fn diff_compares_models_not_files() {
    let folder = tempfile::tempdir().unwrap();
    let original = Checkpoint::open(&cnn()).unwrap().state_dict().unwrap();
    let mut tensors: Vec<_> = original.into_iter().collect();
    tensors.reverse();
    let path = folder.path().join("a.safetensors");
    write_safetensors(&path, &tensors.into_iter().collect(), &BTreeMap::new()).unwrap();
    assert!(done("diff {} {}", &[&cnn(), &path]).stdout.contains("identical: 10 tensors"));
}

#[test]
fn eval_agrees_with_pytorch() {
    let ending = done("eval {} --data digits", &[&mlp()]);
    assert!(ending.stdout.starts_with("accuracy 90.00 % (324/360)\n"), "{}", ending.stdout);
    let line = "eval {} --data digits --preprocessing unit-pad28 --json";
    let json = done(line, &[&cnn()]).json();
    assert_eq!((&json["correct"], &json["total"]), (&338.into(), &360.into()));
    assert!((json["accuracy"].as_f64().unwrap() - 338.0 / 360.0).abs() < 1e-12);
    assert!(json["seconds"].is_f64());
    assert!(cfg!(not(target_os = "linux")) || json["peak_memory_bytes"].as_u64() > Some(1 << 20));
    let train = done("eval {} --data digits --split train --json", &[&mlp()]).json();
    assert_eq!((&train["total"], &train["split"]), (&1437.into(), &"train".into()));
    assert!(
        ending.stdout.ends_with("mlp:64-32-10 on the test images of digits\n"),
        "{}",
        ending.stdout
    );
}

#[test]
fn a_wsp_file_remembers_its_preprocessing() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    let line = "compress {} -o {} --data digits --preprocessing unit-pad28";
    done(line, &[&cnn(), &wsp]);
    let json = done("eval {} --data digits --json", &[&wsp]).json();
    assert_eq!(json["preprocessing"], "unit-pad28");
    assert!(json["correct"].as_u64().unwrap() > 330, "{json}");
    assert_eq!(done("inspect {} --json", &[&wsp]).json()["data"], "digits");
}

#[test]
fn what_a_checkpoint_states_survives_compression_without_data() {
    let folder = tempfile::tempdir().unwrap();
    let [model, wsp, again] =
        ["m.safetensors", "m.wsp", "again.safetensors"].map(|n| folder.path().join(n));
    let stated =
        [("weightspace.preprocessing", "unit-pad28"), ("weightspace.arch", "zoo-cnn:gelu")];
    let metadata = stated.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let tensors = Checkpoint::open(&cnn()).unwrap().state_dict().unwrap();
    write_safetensors(&model, &tensors, &BTreeMap::from(metadata)).unwrap();
    let before = done("eval {} --data digits --json", &[&model]).json();
    done("compress {} -o {} --bits 8", &[&model, &wsp]);
    done("decompress {} -o {}", &[&wsp, &again]);
    for file in [&wsp, &again] {
        let json = done("eval {} --data digits --json", &[file]).json();
        assert_eq!(
            (&json["arch"], &json["preprocessing"]),
            (&before["arch"], &before["preprocessing"])
        );
        let [now, before] = [&json, &before].map(|json| json["correct"].as_i64().unwrap());
        assert!(before - now < 8, "{json}");
    }
}

#[test]
fn eval_streaming_reads_the_weights_while_the_network_runs() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    done("compress {} -o {} --data digits --preprocessing unit-pad28", &[&cnn(), &wsp]);
    for (file, data) in [(cnn(), "digits --preprocessing unit-pad28"), (wsp, "digits")] {
        let eval =
            |flags: &str| done(&format!("eval {{}} --data {data} --json {flags}"), &[&file]).json();
        let plain = eval("");
        assert!(plain.get("streaming").is_none());
        for (flags, batches) in [("--batch 100", 4), ("--batch 1", 360), ("--batch 99999", 1)] {
            let streamed = eval(&format!("--streaming {flags}"));
            assert_eq!(streamed["correct"], plain["correct"], "{flags}");
            assert!(keys(&plain).iter().all(|key| streamed.get(key).is_some()));
            assert_eq!(
                (&streamed["streaming"], &streamed["batches"]),
                (&true.into(), &batches.into())
            );
            for key in ["weight_slices", "largest_slice_bytes", "activation_bytes"] {
                assert!(streamed[key].as_u64() > Some(1), "{key}");
            }
        }
    }
    let text = done("eval {} --data digits --streaming --batch 180", &[&mlp()]).stdout;
    assert!(text.starts_with("accuracy 90.00 % (324/360)\n"), "{text}");
    assert!(text.contains("\nweights read 2 times in 2 slices of at most"), "{text}");
    assert_eq!(run("eval {} --data digits --batch 2", &[&mlp()]).code, 2);
}

#[test]
fn eval_says_what_does_not_fit() {
    let ending = run("eval {} --data digits", &[&cnn()]);
    assert_eq!(ending.code, 2);
    let expected = "zoo-cnn reads 1 x 28 x 28, but the images of digits are 1 x 8 x 8";
    assert!(ending.stderr.contains(expected), "{}", ending.stderr);
    let ending = run("eval {} --data cifar10", &[&mlp()]);
    assert!(ending.stderr.contains("WEIGHTSPACE_DATA"), "{}", ending.stderr);
    let mut with_empty = program();
    with_empty.env("WEIGHTSPACE_DATA", "").args(["eval", "--data", "cifar10"]).arg(mlp());
    let empty = with_empty.output().unwrap().stderr;
    assert_eq!(String::from_utf8(empty).unwrap(), ending.stderr, "empty is as not set");
    let ending = run("eval {} --data nonsense", &[&mlp()]);
    assert!(ending.stderr.contains("known are digits"), "{}", ending.stderr);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["1", "2", "7"].map(|threads| {
        let path = folder.path().join(threads);
        done(&format!("compress {{}} -o {{}} --threads {threads}"), &[&cnn(), &path]);
        fs::read(path).unwrap()
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
}

#[test]
fn list_names_everything() {
    let json = done("list --json", &[]).json();
    let expected = [
        "architectures",
        "autoencoders",
        "bases",
        "corruptions",
        "data",
        "formats",
        "methods",
        "preprocessing",
        "training",
        "zoos",
    ];
    assert_eq!(keys(&json), expected);
    let text = done("list", &[]).stdout;
    for key in expected {
        for entry in json[key].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            assert!(text.contains(&format!("  {name} ")), "{name}");
        }
    }
    for name in
        ["resnet20", "mlp", "digits", "safetensors", "quantize", "subspace", "hadamard", "imagenet"]
    {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn completions_and_manual_pages_know_all_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = done(&format!("completions {shell}"), &[]).stdout;
        assert!(script.contains("decompress"), "{shell}");
    }
    assert!(done("man", &[]).stdout.starts_with(".ie"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    done("man {}", &[&pages]);
    for page in ["weightspace.1", "weightspace-compress.1", "weightspace-eval.1"] {
        assert!(fs::read_to_string(pages.join(page)).unwrap().contains("weightspace"), "{page}");
    }
}

#[test]
fn decisions_are_explained_on_stderr_when_asked() {
    let ending = run("eval {} --data digits -v", &[&mlp()]);
    assert_eq!(ending.code, 0);
    assert_eq!(ending.stderr, "mlp:64-32-10 with preprocessing unit\n");
}

#[test]
fn mistakes_on_the_command_line_are_errors() {
    for line in [
        "",
        "nonsense",
        "inspect",
        "compress a",
        "compress a -o b --bits 9",
        "compress a -o b --method magic",
        "compress a -o b --calibrate 100",
        "compress a -o b --target-accuracy 91.7 --data digits",
        "compress a -o b --bits 4 --target-bytes 100",
        "eval a",
        "eval a --data digits --split x",
        "eval a --data digits --preprocessing nonsense",
        "list --threads 0",
        "list -q -v",
    ] {
        assert_eq!(run(line, &[]).code, 2, "{line}");
    }
}

/// `weightspace ... | head -1`
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for line in ["list", "list --json", "completions bash", "man"] {
        let mut command = program();
        command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}

/// With `WEIGHTSPACE_DATA`: published checkpoints have their published accuracy.
#[test]
fn published_checkpoints_have_their_published_accuracy() {
    let Some(data) = data_folder() else { return };
    for (file, correct) in [("resnet20-12fca82f.th", 9173), ("resnet56-4bfd9763.th", 9339)] {
        let model = data.join("resnets").join(file);
        let line = "eval {} --data cifar10 --json --data-dir {}";
        assert_eq!(done(line, &[&model, &data]).json()["correct"], correct, "{file}");
    }
}

#[test]
fn shifted_data_sets_are_listed_and_refused_by_name() {
    let text = done("list", &[]).stdout;
    for name in ["  gaussian-noise ", "  fog ", "  classes:N,..."] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert_eq!(done("list --json", &[]).json()["corruptions"].as_array().unwrap().len(), 12);
    let correct = |data: &str| {
        let json = done(&format!("eval {{}} --data {data} --json"), &[&mlp()]).json();
        json["correct"].as_u64().unwrap()
    };
    assert!(correct("digits+contrast:5") < correct("digits+contrast:1"));
    for data in ["digits+", "digits+nonsense", "digits+fog:6", "digits+classes:"] {
        let ending = run(&format!("eval {{}} --data {data}"), &[&mlp()]);
        assert_eq!((ending.code, ending.stderr.lines().count()), (2, 1), "{}", ending.stderr);
        assert!(ending.stderr.starts_with(&format!("error: data set '{data}': ")), "{data}");
    }
}

#[test]
fn a_wsp_file_names_the_shifted_data() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    done("compress {} -o {} --data digits+contrast:1", &[&mlp(), &wsp]);
    assert_eq!(done("inspect {} --json", &[&wsp]).json()["data"], "digits+contrast:1");
    let json =
        done("verify {} --against {} --data digits+contrast:1 --json", &[&wsp, &mlp()]).json();
    assert_eq!(json["ok"], true);
}
