//! Files as other programs write them, and as these want them back.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use program::{IMAGES, cnn, done, golden, run};
use tempfile::TempDir;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, DType, StateDict, Tensor};
use weightspace_nn::data::{self, Image, Split};

fn save(folder: &TempDir, name: &str, state_dict: &StateDict) -> PathBuf {
    let path = folder.path().join(name);
    write_safetensors(&path, state_dict, &BTreeMap::new()).unwrap();
    path
}

fn read(path: &Path) -> StateDict {
    Checkpoint::open(path).unwrap().state_dict().unwrap()
}

/// The network of [`cnn`] with `prefix` before all names.
fn inside(prefix: &str) -> StateDict {
    let named = |(name, tensor): (&str, &Tensor)| (format!("{prefix}{name}"), tensor.clone());
    read(&cnn()).iter().map(named).collect()
}

#[test]
fn a_known_network_is_found_inside_modules_of_a_training_framework() {
    let folder = tempfile::tempdir().unwrap();
    let correct = |path: &Path| {
        done(&format!("eval {{}} {IMAGES} --json"), &[path]).json()["correct"].clone()
    };
    for prefix in ["model.", "module.model.net."] {
        let wrapped = save(&folder, "wrapped.safetensors", &inside(prefix));
        assert_eq!(done("inspect {} --json", &[&wrapped]).json()["stripped_prefix"], prefix);
        assert_eq!(correct(&wrapped), correct(&cnn()));
    }
    // A program that is not known may need all of its names.
    let unknown: StateDict =
        [("model.a".to_owned(), Tensor::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, 4.0]))]
            .into_iter()
            .collect();
    let unknown = save(&folder, "unknown.safetensors", &unknown);
    let (wsp, back) = (folder.path().join("a.wsp"), folder.path().join("back.safetensors"));
    done("compress {} -o {} --quiet", &[&unknown, &wsp]);
    done("decompress {} -o {}", &[&wsp, &back]);
    assert!(read(&back).get("model.a").is_some());
}

#[test]
fn a_checkpoint_comes_back_in_the_type_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let wsp = path("a.wsp");
    done("compress {} -o {} --bits 8", &[&cnn(), &wsp]);
    done("decompress {} -o {}", &[&wsp, &path("f32")]);
    let whole = read(&path("f32"));
    for (name, dtype) in [("f16", DType::F16), ("bf16", DType::BF16)] {
        done(&format!("decompress {{}} -o {{}} --dtype {name}"), &[&wsp, &path(name)]);
        for ((name, found), (_, expected)) in read(&path(name)).iter().zip(whole.iter()) {
            let expected = match expected.dtype() {
                DType::F32 => expected.cast_float(dtype),
                _ => expected.clone(),
            };
            assert!(*found == expected, "{name}");
        }
    }
    let large: StateDict =
        [("big".to_owned(), Tensor::from_f32(vec![2], &[1e5, 1.0]))].into_iter().collect();
    let large = save(&folder, "large", &large);
    done("compress {} -o {} -f --quiet", &[&large, &wsp]);
    let ending = run("decompress {} -o {} --dtype f16", &[&wsp, &path("none")]);
    assert_eq!((ending.code, ending.stderr.lines().count()), (2, 1), "{}", ending.stderr);
    let expected = "a.wsp: tensor \"big\" has values beyond the range of f16";
    assert!(ending.stderr.contains(expected), "{}", ending.stderr);
    assert!(!path("none").exists());
}

#[test]
fn masks_of_attention_are_kept_and_infinite_weights_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let wsp = folder.path().join("a.wsp");
    let weight = || Tensor::from_f32(vec![2, 3], &[0.5, -1.0, 0.25, 1.0, -0.5, 0.75]);
    for largest in [f32::NEG_INFINITY, f32::MIN] {
        let mask = Tensor::from_f32(vec![2, 2], &[0.0, largest, 0.0, 0.0]);
        let model = [("weight".to_owned(), weight()), ("mask".to_owned(), mask.clone())];
        let model = save(&folder, "a", &model.into_iter().collect());
        let back = folder.path().join("back");
        done("compress {} -o {} -f --quiet", &[&model, &wsp]);
        done("decompress {} -o {} -f", &[&wsp, &back]);
        assert!(*read(&back).get("mask").unwrap() == mask, "{largest}");
    }
    let broken = Tensor::from_f32(vec![2, 2], &[0.0, f32::INFINITY, 0.5, 0.0]);
    let broken = save(&folder, "b", &[("weight".to_owned(), broken)].into_iter().collect());
    let ending = run("compress {} -o {} -f", &[&broken, &wsp]);
    assert_eq!(ending.code, 2);
    assert!(ending.stderr.contains("weight holds NaN or infinite values"), "{}", ending.stderr);
}

/// Scans and X-rays: grey files, in any size, for a network of coloured images.
#[test]
fn grey_images_of_any_size_are_made_to_fit() {
    let folder = tempfile::tempdir().unwrap();
    let digits = data::open("digits", None, Split::Test).unwrap();
    for index in 0..40 {
        let Image::U8(pixels) = digits.image(index) else { panic!("digits are bytes") };
        let larger = 1 + index as u32 % 2;
        let image = GrayImage::from_fn(8 * larger, 8 * larger, |x, y| {
            Luma([pixels[(y / larger * 8 + x / larger) as usize] * 15])
        });
        let class = folder.path().join(format!("images/{}", digits.labels()[index]));
        fs::create_dir_all(&class).unwrap();
        image.save(class.join(format!("{index}.png"))).unwrap();
    }
    let images = folder.path().join("images");
    let eval = |shifts: &str, preprocessing: &str| {
        let data = format!("folder:{}{shifts}", images.display());
        run(&format!("eval {{}} --data {data} --preprocessing {preprocessing} --json"), &[&cnn()])
    };
    assert!(eval("", "unit-pad28").stderr.contains("+crop:N or FOLDER+size:N"));
    let correct = eval("+size:8", "unit-pad28").json()["correct"].as_u64().unwrap();
    assert!(correct >= 34, "{correct} of 40");
    let ending = eval("+size:8", "imagenet-pad28");
    let advice = "the images have 1; the data NAME+channels:3";
    assert!(ending.code == 2 && ending.stderr.contains(advice), "{}", ending.stderr);
    let ending = eval("+size:8+channels:3", "imagenet-pad28");
    let advice = "the data NAME+channels:1 is the same in grey";
    assert!(ending.code == 2 && ending.stderr.contains(advice), "{}", ending.stderr);
}

/// What cannot be evaluated at the end is not begun.
#[test]
fn test_images_of_another_shape_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let splits = folder.path().join("splits");
    for (side, place) in
        [(8, "train/0/a.png"), (8, "train/0/b.png"), (8, "train/1/a.png"), (9, "test/0/a.png")]
    {
        fs::create_dir_all(splits.join(place).parent().unwrap()).unwrap();
        GrayImage::from_pixel(side, side, Luma([7])).save(splits.join(place)).unwrap();
    }
    let output = folder.path().join("run");
    let line = format!(
        "train --arch mlp:64-8-2 --data folder:{} --epochs 1 --batch 1 -o {{}}",
        splits.display()
    );
    let ending = run(&line, &[&output]);
    let expected = "are 1 x 9 x 9 with preprocessing half, those to train on 1 x 8 x 8";
    assert!(ending.code == 2 && ending.stderr.contains(expected), "{}", ending.stderr);
    assert!(!output.exists());
    let line = line.replace(" --epochs", "+size:8 --epochs");
    assert_eq!(run(&line, &[&output]).code, 0);
}

/// An optimiser's state is three quarters of many checkpoints.
#[test]
fn what_a_checkpoint_holds_besides_is_no_merit_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let training = golden("checkpoints/training.pt");
    let wsp = folder.path().join("a.wsp");
    let json = run("compress {} -o {} --json", &[&training, &wsp]).json();
    let weights: u64 = done("inspect {} --json", &[&training]).json()["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| {
            let shape = tensor["shape"].as_array().unwrap().iter();
            shape.map(|n| n.as_u64().unwrap()).product::<u64>() * 4
        })
        .sum();
    let original = json["original_bytes"].as_u64().unwrap();
    assert!(original <= weights + 64, "{original} bytes for weights of {weights}");
}

/// Frameworks save losses, metrics and averages beside the network.
#[test]
fn one_of_the_networks_in_a_file_is_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut both = inside("net.");
    for (name, tensor) in inside("ema.module.").iter() {
        both.insert(name, tensor.clone());
    }
    both.insert("criterion.weight", Tensor::from_f32(vec![2], &[1.0, 2.0]));
    let both = save(&folder, "both.safetensors", &both);
    let part = |part: &str| PathBuf::from(format!("{}#{part}", both.display()));
    let eval = format!("eval {{}} {IMAGES} --json");
    let correct = |path: &Path| done(&eval, &[path]).json()["correct"].clone();
    assert_eq!(correct(&part("net")), correct(&cnn()));
    assert_eq!(correct(&part("ema")), correct(&cnn()));
    let json = done("inspect {} --json", &[&part("net")]).json();
    assert_eq!(json["left_out"], serde_json::json!(["ema", "criterion"]));
    let ending = run(&eval, &[&part("nett")]);
    let expected = "no part \"nett\"; there are \"net\", \"ema\", \"criterion\"";
    assert!(ending.code == 2 && ending.stderr.contains(expected), "{}", ending.stderr);
    // What is read is not written over, whatever part of it.
    let ending = run("compress {} -o {} -f", &[&part("net"), &both]);
    assert!(ending.code == 2 && ending.stderr.contains("is read"), "{}", ending.stderr);
    let wsp = folder.path().join("a.wsp");
    done("compress {} -o {}", &[&cnn(), &wsp]);
    let ending = run("inspect {}", &[Path::new(&format!("{}#net", wsp.display()))]);
    assert!(ending.code == 2 && ending.stderr.contains("has no parts"), "{}", ending.stderr);
    // A file may have such a name.
    let sharp = save(&folder, "a#net", &inside(""));
    assert_eq!(correct(&sharp), correct(&cnn()));
    // Under a key of a training checkpoint.
    let training = format!("{}#nothing", golden("checkpoints/training.pt").display());
    let ending = run("inspect {}", &[Path::new(&training)]);
    let expected = "no part \"nothing\"; there are \"conv\", \"optimizer\"";
    assert!(ending.code == 2 && ending.stderr.contains(expected), "{}", ending.stderr);
}
