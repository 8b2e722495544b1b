//! `weightspace verify`: is a `.wsp` file whole, and what it says it is?

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weightspace_core::StateDict;
use weightspace_nn::ModelState;
use weightspace_nn::data::{Preprocessing, Split};

use super::compare::compare;
use super::decoding::DecodeArgs;
use super::model::{ArchChoice, Model, Source};
use super::setup::Setup;
use super::{Global, Outcome, text};

/// Check a .wsp file: checksum, decoding, and whether it was made from a model; exit code 1 if not, 2 if it is damaged
#[derive(Args)]
pub struct Verify {
    /// File made by `weightspace compress`
    file: PathBuf,
    /// Checkpoint that it should have been made from
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Data set on which to measure the accuracy, of the checkpoint too
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Normalisation of the images [default: what the file says, else the architecture's, else the
    /// data set's]
    #[arg(long, value_name = "P", requires = "data")]
    preprocessing: Option<Preprocessing>,
    #[command(flatten)]
    decoding: DecodeArgs,
}

/// What was found.
#[derive(Serialize)]
pub struct Report {
    /// Nothing that was checked is wrong; a damaged file is an error.
    pub ok: bool,
    method: &'static str,
    arch: Option<String>,
    bytes: u64,
    /// Bytes of the file before its end was cut off; as many as it has if nothing is.
    whole_bytes: u64,
    tensors: usize,
    /// Whether the architecture has exactly the tensors of the file; `null` if none is stated.
    fits_arch: Option<bool>,
    /// Whether the file was made from exactly the weights of `--against`; `null` if it was made from none.
    source_matches: Option<bool>,
    /// Largest difference of a weight from that of `--against`.
    pub max_abs: Option<f64>,
    /// The tensor that has it.
    most_different: Option<String>,
    /// Whether the file's normalisations are folded into the layers before them: its weights are others, its function is not.
    folded: bool,
    /// Accuracy of the file.
    pub accuracy: Option<f64>,
    /// Accuracy of `--against`.
    pub against_accuracy: Option<f64>,
}

/// Runs the command.
pub fn run(arguments: &Verify, global: &Global) -> anyhow::Result<Outcome> {
    let report = check(arguments, global)?;
    global.print(&report, |out| report.write(arguments, out))?;
    Ok(Outcome::of_check(report.ok))
}

/// Checks the file, and says nothing about it.
pub fn check(arguments: &Verify, global: &Global) -> anyhow::Result<Report> {
    let model = Model::open_with(&arguments.file, &arguments.decoding)?;
    let Source::Wsp(file) = model.source() else {
        anyhow::bail!("{}: not a .wsp file", arguments.file.display());
    };
    // Decoding everything is the check: a file that cannot be decoded is an error.
    let weights = model.state_dict()?;
    let header = file.header();
    let fits_arch = (!header.arch.is_empty()).then(|| model.net(&ArchChoice::Auto).is_ok());
    let mut report = Report {
        ok: fits_arch != Some(false),
        method: header.method.name(),
        arch: Some(header.arch.clone()).filter(|arch| !arch.is_empty()),
        bytes: model.file_bytes()?,
        whole_bytes: file.whole_bytes(),
        tensors: weights.len(),
        fits_arch,
        source_matches: None,
        max_abs: None,
        most_different: None,
        folded: is_folded(&model, &weights),
        accuracy: None,
        against_accuracy: None,
    };
    if arguments.data.is_some() {
        report.accuracy = accuracy(&model, &weights, arguments, global)?;
    }
    drop(weights);
    if let Some(path) = &arguments.against {
        let original = Model::open(path)?;
        let weights = original.state_dict()?;
        // A trained file was made from no other.
        if header.source_hash != [0; 16] {
            let matches = weights.content_hash()[..16] == header.source_hash;
            report.ok &= matches;
            report.source_matches = Some(matches);
        }
        let comparison = compare(&model, &original)?;
        (report.max_abs, report.most_different) = (comparison.max_abs, comparison.most_different);
        report.against_accuracy = accuracy(&original, &weights, arguments, global)?;
    }
    Ok(report)
}

/// Whether the weights are those of a known network whose normalisations are folded.
fn is_folded(model: &Model, weights: &StateDict) -> bool {
    let Ok(net) = model.net(&ArchChoice::Auto) else { return false };
    ModelState::from_state_dict(&net, weights).is_ok_and(|state| state.is_folded(&net))
}

/// Accuracy on the data set, if one is given.
fn accuracy(
    model: &Model,
    weights: &StateDict,
    arguments: &Verify,
    global: &Global,
) -> anyhow::Result<Option<f64>> {
    let Some(data) = &arguments.data else { return Ok(None) };
    let net = model.net(&ArchChoice::Auto)?;
    let preprocessing = arguments.preprocessing.as_ref();
    let setup = Setup::new(model, net, data, Split::Test, preprocessing, global)?;
    let (result, _) = setup.evaluate(weights, global)?;
    Ok(Some(result.accuracy()))
}

impl Report {
    fn write(&self, arguments: &Verify, out: &mut dyn Write) -> io::Result<()> {
        let (method, tensors) = (self.method, text::grouped(self.tensors as u64));
        let bytes = text::bytes(self.bytes);
        match self.bytes < self.whole_bytes {
            true => {
                let whole = text::bytes(self.whole_bytes);
                writeln!(out, "cut, but sound: {method}, {bytes} of {whole}, {tensors} tensors")?;
            }
            false => writeln!(out, "whole: {method}, {bytes}, {tensors} tensors")?,
        }
        if let (Some(fits), Some(arch)) = (self.fits_arch, &self.arch) {
            let verb = if fits { "fit" } else { "DO NOT FIT" };
            writeln!(out, "the tensors {verb} {}", text::printable(arch))?;
        }
        if let (Some(matches), Some(path)) = (self.source_matches, &arguments.against) {
            let path = text::printable(&path.display().to_string());
            let verb = if matches { "was" } else { "WAS NOT" };
            writeln!(out, "it {verb} made from {path}")?;
        } else if arguments.against.is_some() {
            writeln!(out, "it was trained, and does not say what from")?;
        }
        if let (Some(max_abs), Some(name)) = (self.max_abs, &self.most_different) {
            let name = text::printable(name);
            writeln!(out, "the largest difference is {max_abs:.6e} in {name}")?;
            if self.folded {
                writeln!(
                    out,
                    "normalisations are folded into the layers before them, which changes weights and statistics, not what the network does"
                )?;
            }
        }
        for (value, what) in [(self.accuracy, "accuracy"), (self.against_accuracy, "before  ")] {
            if let Some(value) = value {
                writeln!(out, "{what} {:.2} %", 100.0 * value)?;
            }
        }
        Ok(())
    }
}
