//! `weightspace compress`: a model into one small `.wsp` file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use weightspace::method::{self, METHODS, MethodInfo};
use weightspace::quantize::{self, Images, Options, Target};
use weightspace_core::container::{self, Header, Method};
use weightspace_nn::Net;
use weightspace_nn::data::{Preprocessing, Split};

use super::model::{ArchArgs, Model};
use super::progress::Bar;
use super::setup::Setup;
use super::{Global, Outcome, output, text};

/// Bits of a weight when nothing else is asked for.
const DEFAULT_BITS: u8 = 8;

/// Calibration images when the number is not given.
const DEFAULT_CALIBRATION: usize = 512;

/// Compress a checkpoint into one small .wsp file
#[derive(Args)]
pub struct Compress {
    /// Checkpoint of any format
    model: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(short, long)]
    force: bool,
    /// How to compress
    #[arg(long, value_name = "M", value_parser = method_parser(), default_value = "quantize")]
    method: &'static MethodInfo,
    #[command(flatten)]
    arch: ArchArgs,
    /// Data set that the network was trained on, for calibration and targets of accuracy
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Normalisation of the images, which the file then states [default: the architecture's, else
    /// the data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    #[command(flatten)]
    quantize: QuantizeArgs,
    /// Print what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Options of --method quantize")]
struct QuantizeArgs {
    /// Bits of every weight, 2 to 8 [default: 8]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8),
          conflicts_with_all = ["target_bytes", "target_accuracy"])]
    bits: Option<u8>,
    /// Largest size of the file
    #[arg(long, value_name = "N", conflicts_with = "target_accuracy")]
    target_bytes: Option<u64>,
    /// Smallest accuracy on held-out training images, as a fraction
    #[arg(long, value_name = "A", value_parser = fraction, requires = "data")]
    target_accuracy: Option<f64>,
    /// Round by second order and correct biases with N training images, without labels [default:
    /// 512 where --data comes with a target, else 0]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "512", requires = "data")]
    calibrate: Option<usize>,
    /// Keep batch normalisations apart from the layers before them
    #[arg(long)]
    no_fold: bool,
}

fn method_parser() -> impl TypedValueParser<Value = &'static MethodInfo> {
    let names = PossibleValuesParser::new(METHODS.iter().map(|info| info.method.name()));
    names.map(|name| method::find(&name).expect("a possible value is a name of the table"))
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "not a number".to_owned())?;
    match value {
        0.0..=1.0 => Ok(value),
        _ => Err("not a fraction from 0 to 1".to_owned()),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    method: &'a str,
    arch: Option<&'a str>,
    output: &'a Path,
    bytes: u64,
    original_bytes: u64,
    parameters: u64,
    seconds: f64,
}

/// What `--dry-run` prints.
#[derive(Serialize)]
struct Plan<'a> {
    dry_run: bool,
    method: &'a str,
    arch: Option<&'a str>,
    preprocessing: &'a str,
    original_bytes: u64,
    parameters: u64,
    /// Roughly what the file will have at most.
    estimated_bytes: u64,
    /// Roughly what the largest memory will be.
    estimated_memory_bytes: u64,
}

/// Runs the command.
pub fn run(arguments: &Compress, global: &Global) -> anyhow::Result<Outcome> {
    let job = Job::new(arguments, global)?;
    match &arguments.output {
        Some(path) if !arguments.dry_run => {
            let report = job.write(path, global)?;
            global.print(&report, |out| report.write(out))?;
        }
        _ => Plan::new(arguments, &job.model, &job.header).print(global)?,
    }
    Ok(Outcome::Done)
}

/// Writes the file that the arguments name, and says nothing about it.
pub fn write(arguments: &Compress, global: &Global) -> anyhow::Result<()> {
    let job = Job::new(arguments, global)?;
    let path = arguments.output.as_deref().context("no file to write is named")?;
    job.write(path, global).map(|_| ())
}

/// Everything that is known before the work begins.
struct Job<'a> {
    arguments: &'a Compress,
    model: Model,
    setup: Option<Setup>,
    net: Option<Net>,
    /// What the file will say about the network; the hash of the original is not known yet.
    header: Header,
}

impl<'a> Job<'a> {
    fn new(arguments: &'a Compress, global: &Global) -> anyhow::Result<Self> {
        if let Some(path) = &arguments.output {
            output::check(path, arguments.force)?;
        }
        let model = Model::open(&arguments.model)?;
        let setup = calibration_images(arguments, &model, global)?;
        let net = match &setup {
            Some(setup) => Some(setup.net.clone()),
            None => model.net_if_known(&arguments.arch.arch, global)?,
        };
        let header = header(arguments, &model, net.as_ref(), setup.as_ref())?;
        Ok(Job { arguments, model, setup, net, header })
    }

    fn write<'b>(&'b self, path: &'b Path, global: &Global) -> anyhow::Result<Report<'b>> {
        let start = Instant::now();
        let weights = self.model.state_dict()?;
        let mut header = self.header.clone();
        header.source_hash.copy_from_slice(&weights.content_hash()[..16]);
        let images = self
            .setup
            .as_ref()
            .map(|s| Images { train: &s.dataset, preprocessing: &s.preprocessing });
        let bar = Bar::new(global);
        let progress = |phase: &str, done, total| bar.report(phase, done, total);
        let (net, with_data) = (self.net.as_ref(), self.arguments.data.is_some());
        let tensors = match header.method {
            Method::Quantize => {
                let options = self.arguments.quantize.options(with_data, global);
                quantize::compress(&header, &weights, net, images, &options, &progress)
            }
            other => unreachable!("{} is not in the table of methods", other.name()),
        };
        let tensors = tensors.with_context(|| self.model.path().display().to_string())?;
        drop(bar);
        let bytes = container::write(path, &header, &tensors)?;
        Ok(Report {
            method: header.method.name(),
            arch: net.map(Net::arch),
            output: path,
            bytes,
            original_bytes: header.source_bytes,
            parameters: header.source_parameters,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

/// The training images of `--data`, which need a known architecture.
fn calibration_images(
    arguments: &Compress,
    model: &Model,
    global: &Global,
) -> anyhow::Result<Option<Setup>> {
    let Some(data) = &arguments.data else { return Ok(None) };
    let net = model.net(&arguments.arch.arch)?;
    let preprocessing = arguments.preprocessing.as_ref();
    Setup::new(model, net, data, Split::Train, preprocessing, global).map(Some)
}

/// What the file will say about the network, but for the hash of the original.
fn header(
    arguments: &Compress,
    model: &Model,
    net: Option<&Net>,
    setup: Option<&Setup>,
) -> anyhow::Result<Header> {
    let preprocessing = setup.map(|s| &s.preprocessing).or(arguments.preprocessing.as_ref());
    // The path of a folder of images concerns this machine only.
    let data = arguments.data.as_deref().filter(|name| !name.contains(':'));
    Ok(Header {
        method: arguments.method.method,
        arch: net.map_or_else(String::new, |net| net.arch().to_owned()),
        data: data.unwrap_or_default().to_owned(),
        preprocessing: preprocessing.map_or_else(String::new, Preprocessing::to_string),
        source_hash: [0; 16],
        source_bytes: model.file_bytes()?,
        source_parameters: model.parameter_count(net),
    })
}

impl QuantizeArgs {
    fn options(&self, with_data: bool, global: &Global) -> Options {
        let target = match (self.target_bytes, self.target_accuracy) {
            (Some(bytes), _) => Target::Bytes(bytes),
            (None, Some(accuracy)) => Target::Accuracy(accuracy),
            (None, None) => Target::Bits(self.bits.unwrap_or(DEFAULT_BITS)),
        };
        let fold = !self.no_fold;
        // Sharing bits out needs images to measure with: whoever names a data set means to use it.
        let wanted = with_data && !matches!(target, Target::Bits(_));
        let calibrate = self.calibrate.unwrap_or(if wanted { DEFAULT_CALIBRATION } else { 0 });
        Options { target, fold, calibrate, seed: global.seed() }
    }

    /// Bytes of the file that these options lead to, without what entropy coding saves.
    fn estimated_bytes(&self, model: &Model) -> u64 {
        const NAME_AND_SHAPE: u64 = 24;
        let bits = u64::from(self.bits.unwrap_or(DEFAULT_BITS));
        let tensor_bytes = |tensor: &weightspace_core::TensorInfo| {
            let content = match tensor.dtype.is_float() && tensor.shape.len() >= 2 {
                true => tensor.element_count() as u64 * bits / 8 + tensor.shape[0] as u64,
                false => tensor.byte_count() as u64,
            };
            NAME_AND_SHAPE + content
        };
        let whole = model.tensors().iter().map(tensor_bytes).sum();
        self.target_bytes.map_or(whole, |target| target.min(whole))
    }
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let smaller = self.original_bytes as f64 / self.bytes as f64;
        let bits = 8.0 * self.bytes as f64 / self.parameters.max(1) as f64;
        writeln!(
            out,
            "{}: {}, {smaller:.1} times smaller than the original's {}",
            text::printable(&self.output.display().to_string()),
            text::bytes(self.bytes),
            text::bytes(self.original_bytes),
        )?;
        writeln!(
            out,
            "{}, {} parameters, {bits:.2} bits each; {} in {:.2} s",
            self.arch.unwrap_or("unknown architecture"),
            text::grouped(self.parameters),
            self.method,
            self.seconds,
        )
    }
}

impl<'a> Plan<'a> {
    fn new(arguments: &Compress, model: &Model, header: &'a Header) -> Self {
        // The tensors, their f32 form, the integers, and the file.
        let tensor_bytes: u64 = model.tensors().iter().map(|t| t.byte_count() as u64).sum();
        Plan {
            dry_run: true,
            method: header.method.name(),
            arch: Some(header.arch.as_str()).filter(|arch| !arch.is_empty()),
            preprocessing: &header.preprocessing,
            original_bytes: header.source_bytes,
            parameters: header.source_parameters,
            estimated_bytes: arguments.quantize.estimated_bytes(model),
            estimated_memory_bytes: 4 * tensor_bytes + (8 << 20),
        }
    }

    fn print(&self, global: &Global) -> anyhow::Result<()> {
        global.print(self, |out| {
            writeln!(out, "method      {}", self.method)?;
            writeln!(out, "arch        {}", self.arch.unwrap_or("unknown"))?;
            writeln!(out, "parameters  {}", text::grouped(self.parameters))?;
            writeln!(out, "original    {}", text::bytes(self.original_bytes))?;
            writeln!(out, "result      at most about {}", text::bytes(self.estimated_bytes))?;
            writeln!(out, "memory      about {}", text::bytes(self.estimated_memory_bytes))
        })
    }
}
