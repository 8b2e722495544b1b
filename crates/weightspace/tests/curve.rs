//! `weightspace curve` and `weightspace analyze` as their users run them, on a small trained network.

mod data_folder;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use data_folder::data_folder;
use program::{Ending, IMAGES, cnn, done, run};
use serde_json::Value;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{DType, StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn a_curve_is_drawn_continued_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/curve");
    let line = format!("curve {{}} {IMAGES} -o {{}} --sizes 1500,3000 --json");
    let first = done(&line, &[&cnn(), &out]).json();
    let points = first["points"].as_array().unwrap();
    let methods: Vec<&str> = points.iter().map(|p| p["method"].as_str().unwrap()).collect();
    assert!(methods.contains(&"quantize") && methods.contains(&"low-rank-int8"), "{methods:?}");
    for point in points {
        let target =
            if point["settings"].as_str().unwrap().contains("3000") { 3000.0 } else { 1500.0 };
        let bytes = number(point, "bytes");
        assert!(bytes <= target && bytes > 0.5 * target, "{point}");
    }
    // The same file as compress writes, and the accuracy that eval finds.
    let file = out.join("files/quantize-3000.wsp");
    let point = points.iter().find(|p| p["method"] == "quantize" && number(p, "bytes") > 1500.0);
    let found = done("eval {} --data digits --json", &[&file]).json();
    assert_eq!(found["accuracy"], point.unwrap()["accuracy"]);
    assert_eq!(number(point.unwrap(), "bytes"), fs::metadata(&file).unwrap().len() as f64);
    let compressed = folder.path().join("compressed.wsp");
    for (name, options) in [
        ("quantize", "compress --method quantize"),
        ("low-rank-int8", "compress --method low-rank --factors int8"),
    ] {
        let line = format!("{options} {{}} -o {{}} -f {IMAGES} --target-bytes 3000");
        assert_eq!(run(&line, &[&cnn(), &compressed]).code, 0);
        let from_curve = fs::read(out.join(format!("files/{name}-3000.wsp"))).unwrap();
        assert!(fs::read(&compressed).unwrap() == from_curve, "{name}");
    }
    assert!(number(&first["original"], "accuracy") > 0.93);

    // Finished points are not made again: their files are not needed.
    fs::remove_dir_all(out.join("files")).unwrap();
    let given = folder.path().join("given.wsp");
    assert_eq!(run("compress {} -o {} --bits 8", &[&cnn(), &given]).code, 0);
    let peers = folder.path().join("peers.csv");
    fs::write(&peers, "method,bytes,accuracy\n\"a peer, <b>\",2000,0.9\n").unwrap();
    let more = format!("{line} --points {{}} --merge {{}}");
    let second = done(&more, &[&cnn(), &out, &given, &peers]).json();
    assert!(fs::read_dir(out.join("files")).unwrap().next().is_none());
    let all = second["points"].as_array().unwrap();
    assert_eq!(&all[..points.len()], &points[..]);
    assert_eq!(
        (all.len(), &all[points.len()]["settings"]),
        (points.len() + 2, &"given.wsp".into())
    );

    let csv = fs::read_to_string(out.join("curve.csv")).unwrap();
    assert!(csv.starts_with("method,settings,bytes,accuracy\n"), "{csv}");
    assert_eq!(csv.lines().count(), all.len() + 1);
    let svg = fs::read_to_string(out.join("curve.svg")).unwrap();
    for part in ["low-rank-int8", "a peer, &lt;b&gt;", "original", "kB", "#FFFFFF"] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
    assert!(fs::read(out.join("curve.png")).unwrap().starts_with(b"\x89PNG"));
    let text = run(&more.replace("--json", ""), &[&cnn(), &out, &given, &peers]).stdout;
    assert!(text.contains("smallest files with at least"), "{text}");

    // The folder belongs to this model and these images.
    let Ending { code, stderr, .. } = run(&format!("{line} --seed 5"), &[&cnn(), &out]);
    assert!(code == 2 && stderr.contains("another model"), "{stderr}");
}

#[test]
fn what_cannot_be_drawn_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let (out, peers) = (folder.path().join("out"), folder.path().join("peers.csv"));
    fs::write(&peers, "method,bytes,accuracy\nx,2000,91.5\n").unwrap();
    let line = format!("curve {{}} {IMAGES} -o {{}} --merge {{}}");
    let Ending { code, stderr, .. } = run(&line, &[&cnn(), &out, &peers]);
    assert!(code == 2 && stderr.contains("peers.csv: line 2: the accuracy 91.5"), "{stderr}");
    assert!(!out.exists());
    let mlp = cnn().with_file_name("digits-mlp.pt");
    let line = format!("curve {{}} {IMAGES} -o {{}} --sizes 3000 --methods quantize --points {{}}");
    let Ending { code, stderr, .. } = run(&line, &[&cnn(), &out, &mlp]);
    assert!(code == 2 && stderr.contains("digits-mlp.pt"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

/// A checkpoint of a small ResNet of arbitrary weights, whose batch normalisations do something.
fn resnet(folder: &Path) -> PathBuf {
    let net = arch::build("resnet20:in=1,size=8", &ArchOptions::default()).unwrap();
    let mut state = 5u64;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let parameters = net.parameters().into_iter().filter(|p| p.dtype() == DType::F32);
    let weights: StateDict = parameters
        .map(|p| {
            let vector = p.shape.len() == 1;
            let value = |v: f32| if vector { v.abs() + 0.5 } else { v };
            let values: Vec<f32> = (0..p.element_count()).map(|_| value(noise())).collect();
            (p.name, Tensor::from_f32(p.shape, &values))
        })
        .collect();
    let path = folder.join("resnet.safetensors");
    write_safetensors(&path, &weights, &BTreeMap::new()).unwrap();
    path
}

#[test]
fn spectra_of_a_folded_file_are_those_of_the_folded_original() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("a.wsp"), folder.path().join("out"));
    let model = resnet(folder.path());
    assert_eq!(run("compress {} -o {} --bits 8", &[&model, &file]).code, 0);
    let same = done("analyze spectral {} {} --json", &[&model, &model]).json();
    assert_eq!(same["folded"], false);
    for layer in same["layers"].as_array().unwrap() {
        assert_eq!((number(layer, "change"), number(layer, "distance")), (0.0, 0.0));
    }
    for (a, b) in [(&model, &file), (&file, &model)] {
        let found = done("analyze spectral {} {} -o {} --json", &[a, b, &out]).json();
        assert_eq!(found["folded"], true);
        for layer in found["layers"].as_array().unwrap() {
            assert!(number(layer, "change").abs() < 0.01, "{layer}");
            assert!((0.0..0.02).contains(&number(layer, "relative_distance")), "{layer}");
        }
    }
    // A predictor's file counts batches, which this checkpoint does not.
    let predicted = folder.path().join("p.wsp");
    let line = "compress {} -o {} --method predictor --width 8 --steps 2";
    assert_eq!(run(line, &[&model, &predicted]).code, 0);
    for (a, b) in [(&model, &predicted), (&predicted, &model)] {
        done("analyze spectral {} {} --json", &[a, b]);
    }
    // Normalisations of both only scale and shift: the line has values beyond its ends, too.
    let line = "analyze interpolate {} {} --data digits --images 20 --steps 5 --beyond 0.5 --json";
    let found = done(line, &[&model, &predicted]).json();
    for sample in found["samples"].as_array().unwrap() {
        assert!(sample["loss"].is_number(), "{found}");
    }
    let csv = fs::read_to_string(out.join("spectral.csv")).unwrap();
    assert!(csv.starts_with("layer,rows,columns,ratio_a,ratio_b,change,distance,"), "{csv}");
    assert!(fs::read_to_string(out.join("spectral.svg")).unwrap().contains("</svg>"));
}

#[test]
fn the_line_begins_and_ends_with_the_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("a.wsp"), folder.path().join("out"));
    assert_eq!(run("compress {} -o {} --bits 3", &[&cnn(), &file]).code, 0);
    let line = format!("analyze interpolate {{}} {{}} {IMAGES} --steps 3 -o {{}} --json");
    let found = done(&line, &[&cnn(), &file, &out]).json();
    let samples = found["samples"].as_array().unwrap();
    let positions: Vec<f64> = samples.iter().map(|s| number(s, "position")).collect();
    assert_eq!(positions, [0.0, 0.5, 1.0]);
    for (sample, model) in [(&samples[0], cnn()), (&samples[2], file.clone())] {
        let eval = done(&format!("eval {{}} {IMAGES} --json"), &[&model]).json();
        assert_eq!(sample["accuracy"], eval["accuracy"]);
    }
    assert!(number(&samples[2], "loss") > number(&samples[0], "loss"));
    for name in ["interpolate.csv", "interpolate.svg", "interpolate-loss.svg"] {
        assert!(out.join(name).exists(), "{name}");
    }
    let line = format!(
        "analyze interpolate {{}} {{}} {IMAGES} --steps 2 --split train --images 99 --json"
    );
    assert_eq!(done(&line, &[&cnn(), &file]).json()["images"], 99);
    let mlp = cnn().with_file_name("digits-mlp.pt");
    let Ending { code, stderr, .. } = run(&line, &[&cnn(), &mlp]);
    assert!(code == 2 && stderr.contains("only in the first"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn errors_grow_as_bits_shrink() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> =
        [8, 5, 3].map(|bits| folder.path().join(format!("{bits}.wsp"))).into();
    for (file, bits) in files.iter().zip([8, 5, 3]) {
        assert_eq!(run(&format!("compress {{}} -o {{}} --bits {bits}"), &[&cnn(), file]).code, 0);
    }
    let line = format!("analyze error {{}} {{}} {{}} {{}} {IMAGES} --json");
    let found = done(&line, &[&cnn(), &files[0], &files[1], &files[2]]).json();
    let errors: Vec<f64> =
        found["files"].as_array().unwrap().iter().map(|f| number(f, "rmse")).collect();
    assert!(errors[0] > 0.0 && errors.is_sorted(), "{errors:?}");
    assert_eq!(found["folded"], false, "there are no normalisations");
}

/// With `WEIGHTSPACE_DATA`: the published ResNet-20 has the ratios that were computed elsewhere.
#[test]
fn the_spectrum_of_a_published_checkpoint_is_known() {
    let Some(data) = data_folder() else { return };
    let model = data.join("resnets/resnet20-12fca82f.th");
    let found = done("analyze spectral {} {} --json", &[&model, &model]).json();
    let layers = found["layers"].as_array().unwrap();
    let convolutions: Vec<f64> = layers
        .iter()
        .filter(|l| l["name"].as_str().unwrap().contains("conv"))
        .map(|l| number(l, "ratio_a"))
        .collect();
    assert_eq!(convolutions.len(), 19);
    for (index, expected) in [(0, 0.9815), (1, 0.8683), (18, 0.9360)] {
        assert!((convolutions[index] - expected).abs() < 1e-4, "{index}: {}", convolutions[index]);
    }
}
