//! `weightspace demo`: everything this program does, on a machine that has nothing but it.
//!
//! A small network is trained on the built-in digits, and every method compresses it. What happens
//! to a file is what the commands `compress` and `verify` do.

mod page;
mod population;
mod results;
mod training;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use weightspace_core::AtomicFile;
use weightspace_core::container::Method;

use super::command_line::parse;
use super::interruption::Stopped;
use super::{Command, Global, Outcome, compress, train, verify};
use results::{Original, Point, Results};

/// Train a small network, compress it with every method and show what that costs: needs nothing
#[derive(Args)]
pub struct Demo {
    /// Folder to write to
    #[arg(short, long, value_name = "DIR", default_value = "weightspace-demo")]
    output: PathBuf,
    /// Replace files of an earlier run
    #[arg(short, long)]
    force: bool,
    /// Train a population of networks, too, and an autoencoder that makes new ones; takes some minutes
    #[arg(long)]
    full: bool,
}

/// Files of one curve.
struct Curve {
    /// Its name.
    name: &'static str,
    /// How the files are made: by `compress`, and those of the method subspace by `train`.
    method: Method,
    /// The other options of the command, one entry a file.
    settings: &'static [&'static str],
}

/// How coefficients are trained; chosen by the accuracy on held-out training images.
const SUBSPACE_RECIPE: &str = "--method subspace --optimizer adam --learning-rate 1e-3 --schedule \
    cosine --epochs 12 --batch 64 --augment crop1 --holdout 0";

/// Every curve; a new method is one entry more.
const CURVES: [Curve; 6] = [
    Curve {
        name: "quantize",
        method: Method::Quantize,
        settings: &["--bits 8", "--bits 6", "--bits 5", "--bits 4", "--bits 3", "--bits 2"],
    },
    Curve {
        name: "quantize, calibrated",
        method: Method::Quantize,
        settings: &["--bits 4 --calibrate", "--bits 3 --calibrate", "--bits 2 --calibrate"],
    },
    Curve {
        name: "quantize, bits shared out",
        method: Method::Quantize,
        settings: &["--target-bytes 20000"],
    },
    Curve {
        name: "low-rank",
        method: Method::LowRank,
        settings: &["--rank-fraction 0.3", "--rank-fraction 0.15"],
    },
    Curve {
        name: "predictor",
        method: Method::Predictor,
        settings: &["--preset best --width 80 --steps 600 --distill-epochs 10"],
    },
    Curve { name: "subspace", method: Method::Subspace, settings: &["--k 4000", "--k 1000"] },
];

/// Runs the command.
pub fn run(arguments: &Demo, global: &Global) -> anyhow::Result<Outcome> {
    // A part of it could go on, but not the whole.
    make(arguments, global).map_err(|error| match error.is::<Stopped>() {
        true => Stopped::to_begin_anew(&arguments.output).into(),
        false => error,
    })
}

fn make(arguments: &Demo, global: &Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let shown = arguments.output.display();
    // An absolute path is never taken for an option.
    let folder = std::path::absolute(&arguments.output).with_context(|| shown.to_string())?;
    prepare(&folder, arguments.force)?;
    let original = training::train(&folder, global)?;
    let mut points = Vec::new();
    for curve in &CURVES {
        for settings in curve.settings {
            points.push(measure(curve, settings, &folder, &original, global)?);
        }
    }
    let population = match arguments.full {
        true => Some(population::make(&subfolder(&folder, "population")?, global)?),
        false => None,
    };
    let seconds = start.elapsed().as_secs_f64();
    let results = Results::new(original, points, population, seconds, global);
    let document = serde_json::to_string_pretty(&results)? + "\n";
    write(&folder.join("demo.json"), &document)?;
    write(&folder.join("demo.html"), &page::page(&results).to_html()?)?;
    let page = arguments.output.join("demo.html");
    global.print(&results, |out| results.write(&page, out))?;
    Ok(Outcome::of_check(results.ok))
}

/// Makes the folder, finds it empty, or may replace what is in it.
fn prepare(folder: &Path, force: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    if entries.next().is_some() && !force {
        bail!("{}: is not empty; -f replaces the files of an earlier run", folder.display());
    }
    Ok(())
}

fn subfolder(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Compresses the model, and verifies and evaluates what came of it.
fn measure(
    curve: &Curve,
    settings: &str,
    folder: &Path,
    original: &Original,
    global: &Global,
) -> anyhow::Result<Point> {
    let method = curve.method.name();
    let name = file_name(method, settings);
    global.explain(format_args!("{name}"));
    let start = Instant::now();
    let options = original.compress_options();
    let (path, found) = match curve.method {
        Method::Subspace => {
            let path = train_coefficients(settings, &folder.join(name), original, global)?;
            let command = format!("verify {options}");
            (path.clone(), parse(&command, &[&path])?)
        }
        _ => {
            let (model, path) = (folder.join(original.file), folder.join(format!("{name}.wsp")));
            let command =
                format!("compress {options} --method {method} {settings} --force --output");
            let Command::Compress(command) = parse(&command, &[&path, &model])? else {
                unreachable!()
            };
            compress::write(&command, global)?;
            let command = format!("verify {options} --against");
            (path.clone(), parse(&command, &[&model, &path])?)
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let Command::Verify(command) = found else { unreachable!() };
    let found = verify::check(&command, global)?;
    let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();

    let bytes = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    Ok(Point {
        curve: curve.name,
        method,
        settings: settings.to_owned(),
        file,
        bytes,
        ratio: original.bytes as f64 / bytes as f64,
        accuracy: found.accuracy.unwrap_or_default(),
        verified: found.ok,
        seconds,
    })
}

/// Trains coefficients in a folder of their own, and copies their file out of it.
fn train_coefficients(
    settings: &str,
    folder: &Path,
    original: &Original,
    global: &Global,
) -> anyhow::Result<PathBuf> {
    let options = original.compress_options();
    let command = format!(
        "train --arch {} {options} {SUBSPACE_RECIPE} {settings} --seed {} --force --output",
        original.arch,
        global.seed(),
    );
    let Command::Train(command) = parse(&command, &[folder])? else { unreachable!() };
    let trained = train::make(&command, global)?;
    let path = folder.with_extension("wsp");
    fs::copy(trained, &path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// What the file, or its folder, is called: `quantize-bits-8`.
fn file_name(method: &str, settings: &str) -> String {
    let words = settings.split_whitespace().map(|word| word.trim_start_matches('-'));
    let words: Vec<_> = std::iter::once(method).chain(words).collect();
    words.join("-")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use weightspace::method::METHODS;

    use super::*;

    #[test]
    fn every_file_has_a_name_of_its_own() {
        let names =
            CURVES.iter().flat_map(|c| c.settings.iter().map(|s| file_name(c.method.name(), s)));
        let mut names: Vec<_> = names.collect();
        assert_eq!(names[0], "quantize-bits-8");
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_method_has_a_curve() {
        for info in &METHODS {
            let curve = CURVES.iter().find(|curve| curve.method == info.method);
            assert!(curve.is_some_and(|c| !c.settings.is_empty()), "{}", info.method.name());
        }
    }
}
