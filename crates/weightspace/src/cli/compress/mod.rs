//! `weightspace compress`: a model into one small `.wsp` file.

mod auto;
mod low_rank;
mod predictor;
mod quantize;
mod shared;
mod subspace;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde_json::json;
use weightspace::method::{self, METHODS};
use weightspace::predictor::Original;
use weightspace::quantize::Images;
use weightspace_core::container::{self, Header, Method};
use weightspace_core::{AtomicFile, StateDict};
use weightspace_nn::Net;
use weightspace_nn::data::{Preprocessing, Split};

use self::auto::{Choice, Search, path_word, shell_line};
use self::low_rank::LowRankArgs;
use self::predictor::{PredictorArgs, Reconstructed};
use self::quantize::QuantizeArgs;
pub use self::shared::DEFAULT_CALIBRATION;
use self::shared::SharedArgs;
use self::subspace::RegressionArgs;
use super::model::{ArchArgs, ArchChoice, Model};
use super::progress::Bar;
use super::setup::Setup;
use super::training::{Lessons, TrainingArgs};
use super::{Global, Outcome, output, text};

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
    /// How to compress; auto tries what needs no training, and takes what held-out training images
    /// say is best for --target-bytes or --target-accuracy
    #[arg(long, value_name = "M", value_parser = method_parser(), default_value = "quantize")]
    method: MethodChoice,
    #[command(flatten)]
    arch: ArchArgs,
    /// Data set that the network was trained on, for calibration and targets of accuracy
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Normalisation of the images, which the file then states [default: what the model states, else,
    /// with --data, the architecture's or the data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    /// Print what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    shared: SharedArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    quantize: QuantizeArgs,
    #[command(flatten)]
    low_rank: LowRankArgs,
    #[command(flatten)]
    predictor: PredictorArgs,
    #[command(flatten)]
    subspace: RegressionArgs,
}

/// A method, or the best of those that need no training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodChoice {
    /// The best for a target.
    Auto,
    /// This one.
    One(Method),
}

const AUTO: &str = "auto";

impl MethodChoice {
    fn name(self) -> &'static str {
        match self {
            MethodChoice::Auto => AUTO,
            MethodChoice::One(method) => method.name(),
        }
    }
}

fn method_parser() -> impl TypedValueParser<Value = MethodChoice> {
    let names = METHODS.iter().map(|info| info.method.name());
    let names = PossibleValuesParser::new([AUTO].into_iter().chain(names));
    names.map(|name| match method::find(&name) {
        Some(info) => MethodChoice::One(info.method),
        None => MethodChoice::Auto,
    })
}

impl Compress {
    /// The first option that is given and that the method does not have.
    fn first_misplaced(&self) -> Option<&'static str> {
        let of_methods = [
            (Method::Quantize, self.quantize.first_given()),
            (Method::Subspace, self.subspace.first_given()),
            (Method::Predictor, self.predictor.first_given()),
            (Method::LowRank, self.low_rank.first_given()),
        ];
        let others = of_methods.into_iter().filter(|(of, _)| MethodChoice::One(*of) != self.method);
        let misplaced = others.into_iter().find_map(|(_, flag)| flag);
        misplaced
            .or_else(|| self.shared.first_misplaced(self.method))
            .or_else(|| self.idle_training())
    }

    /// The first option of training that is given and that the method does not have.
    fn idle_training(&self) -> Option<&'static str> {
        let TrainingArgs { train_epochs, teacher, augment } = &self.training;
        let trains = match self.method {
            MethodChoice::Auto => train_epochs.is_some(),
            MethodChoice::One(method) => method == Method::Predictor,
        };
        let given = [
            ("--train-epochs", train_epochs.is_some() && self.method != MethodChoice::Auto),
            ("--teacher", teacher.is_some() && self.method != MethodChoice::Auto),
            ("--augment", augment.is_some() && !trains),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// The method of the file.
    method: &'a str,
    /// Architecture, if it is known.
    arch: Option<&'a str>,
    /// The file.
    output: &'a Path,
    /// Size of the whole file.
    bytes: u64,
    /// Size of all files of the original.
    original_bytes: u64,
    /// Numbers that training changes.
    parameters: u64,
    /// Time from reading the weights to the file.
    seconds: f64,
    /// Of the method subspace: share of the weights' sum of squares that the file holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_energy: Option<f64>,
    /// Of the method predictor.
    #[serde(skip_serializing_if = "Option::is_none")]
    predictor: Option<Reconstructed>,
    /// Of `--method auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    auto: Option<Choice>,
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
        _ => Plan::new(&job).print(global)?,
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
            output::check(path, arguments.force, &[&arguments.model])?;
        }
        if let Some(flag) = arguments.first_misplaced() {
            bail!("{flag} is no option of --method {}", arguments.method.name());
        }
        if arguments.method == MethodChoice::Auto {
            auto::goal(&arguments.shared)?;
            ensure!(arguments.data.is_some(), "--method auto needs images to choose by: --data");
        }
        let model = Model::open(&arguments.model)?;
        if let Some(keys) = model.left_out() {
            global.say(format_args!(
                "{}: left out beside the weights: {keys} (FILE#NAME reads one of these instead)",
                model.path().display()
            ));
        }
        let setup = calibration_images(arguments, &model, global)?;
        let net = match &setup {
            Some(setup) => Some(setup.net.clone()),
            None => model.net_if_known(&arguments.arch.arch, global)?,
        };
        let preprocessing = match (&setup, &arguments.preprocessing) {
            (Some(setup), _) => Some(setup.preprocessing.clone()),
            (None, Some(given)) => Some(given.clone()),
            (None, None) => model.stated_preprocessing()?,
        };
        let data = arguments.data.as_deref();
        let mut header = header(&model, net.as_ref(), data, preprocessing.as_ref())?;
        if let MethodChoice::One(method) = arguments.method {
            header.method = method;
        }
        Ok(Job { arguments, model, setup, net, header })
    }

    fn write<'b>(&'b self, path: &'b Path, global: &Global) -> anyhow::Result<Report<'b>> {
        let start = Instant::now();
        let weights = self.model.state_dict()?;
        let mut header = self.header.clone();
        header.source_hash.copy_from_slice(&weights.content_hash()[..16]);
        let Encoded { bytes, method, kept_energy, predictor, auto } =
            self.encode(&header, &weights, path, global)?;
        AtomicFile::write_bytes(path, &bytes).with_context(|| path.display().to_string())?;
        Ok(Report {
            method: method.name(),
            arch: self.net.as_ref().map(Net::arch),
            output: path,
            bytes: bytes.len() as u64,
            original_bytes: header.source_bytes,
            parameters: header.source_parameters,
            seconds: start.elapsed().as_secs_f64(),
            kept_energy,
            predictor,
            auto,
        })
    }

    fn encode(
        &self,
        header: &Header,
        weights: &StateDict,
        path: &Path,
        global: &Global,
    ) -> anyhow::Result<Encoded> {
        let shown = || self.model.path().display().to_string();
        let Compress { arch, shared, training, predictor, subspace, force, .. } = self.arguments;
        let plain = |bytes| Encoded {
            bytes,
            method: header.method,
            kept_energy: None,
            predictor: None,
            auto: None,
        };
        Ok(match self.arguments.method {
            MethodChoice::Auto => {
                let network = self.net.as_ref().zip(self.images()).context("--data is needed")?;
                let lessons = self.lessons(network.0, path, header, global)?;
                let search = Search { shared, header, weights, lessons };
                let chosen = search.run(network, global);
                let (method, bytes, trials) = chosen.with_context(shown)?;
                let size = shared.target_bytes.unwrap_or(bytes.len() as u64);
                let untrained = training.train_epochs.is_none();
                let train_further = untrained.then(|| self.train_command(size, global));
                let train_further = train_further.transpose()?;
                let auto = Some(Choice { trials, train_further });
                Encoded { method, auto, ..plain(bytes) }
            }
            MethodChoice::One(Method::Subspace) => {
                let net = self.model.net(&arch.arch)?;
                let encoded = subspace.encode(header, &net, weights, global);
                let (bytes, regression) = encoded.with_context(shown)?;
                Encoded { kept_energy: Some(regression.kept_energy), ..plain(bytes) }
            }
            MethodChoice::One(Method::Predictor) => {
                // That of the images' size, if there are images.
                let named = || self.model.net(&arch.arch);
                let net = self.net.clone().map_or_else(named, Ok)?;
                let images = self.images();
                let original = Original { header, net: &net, weights, images };
                let product =
                    predictor.encode(original, shared, training.augment, path, *force, global);
                let product = product.with_context(shown)?;
                let predictor = Some(Reconstructed::of(&product));
                Encoded { predictor, ..plain(product.bytes) }
            }
            MethodChoice::One(_) => {
                plain(self.calibrated(header, weights, global).with_context(shown)?)
            }
        })
    }

    /// What methods that train need, if these are to take part.
    fn lessons(
        &self,
        net: &Net,
        path: &Path,
        header: &Header,
        global: &Global,
    ) -> anyhow::Result<Option<Lessons>> {
        let Compress { training, shared, force, .. } = self.arguments;
        let settings = json!({
            "source_hash": header.source_hash, "arch": header.arch, "data": self.arguments.data,
            "preprocessing": header.preprocessing, "target_bytes": shared.target_bytes,
            "target_accuracy": shared.target_accuracy,
            "images": self.images().map(|images| images.train.len()),
        });
        let folder = predictor::work_folder(path);
        training.lessons(folder, *force, &settings, net.input_shape(), global)
    }

    /// The training images, if there are any.
    fn images(&self) -> Option<Images<'_>> {
        let setup = self.setup.as_ref()?;
        Some(Images { train: &setup.dataset, preprocessing: &setup.preprocessing })
    }

    /// The bytes of a file of the methods quantize and low-rank.
    fn calibrated(
        &self,
        header: &Header,
        weights: &StateDict,
        global: &Global,
    ) -> anyhow::Result<Vec<u8>> {
        let images = self.images();
        let bar = Bar::new(global);
        let progress = |phase: &str, done, total| bar.report(phase, done, total);
        let (net, with_data) = (self.net.as_ref(), self.arguments.data.is_some());
        let Compress { shared, quantize, low_rank, .. } = self.arguments;
        let tensors = match header.method {
            Method::LowRank => {
                let options = low_rank.options(shared, with_data, global);
                weightspace::low_rank::compress(header, weights, net, images, &options, &progress)?
            }
            _ => {
                let options = quantize.options(shared, with_data, global);
                weightspace::quantize::compress(header, weights, net, images, &options, &progress)?
            }
        };
        Ok(container::encode(header, &tensors)?)
    }

    /// The command that trains the model on the grid of a file of so many bytes.
    fn train_command(&self, bytes: u64, global: &Global) -> anyhow::Result<String> {
        let Compress { model, data, preprocessing, arch, output, .. } = self.arguments;
        let model = path_word(model)?;
        let folder = output.as_deref().unwrap_or(&self.arguments.model).with_extension("");
        let mut words = vec!["weightspace train --method quantize --init".to_owned(), model];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("--data", data.clone());
        option("--data-dir", global.data_dir().map(path_word).transpose()?);
        option("--preprocessing", preprocessing.as_ref().map(Preprocessing::to_string));
        let stated = matches!(arch.arch, ArchChoice::Spec(_));
        option("--arch", stated.then(|| self.header.arch.clone()));
        option("--seed", global.given_seed().map(|seed| seed.to_string()));
        option("--target-bytes", Some(bytes.to_string()));
        option("--output", Some(path_word(&folder)? + "-trained"));
        let (program, options) = words.split_first().context("a command has a first word")?;
        Ok(format!("{program} {}", shell_line(options)))
    }
}

/// A file, and what there is to say about it.
struct Encoded {
    bytes: Vec<u8>,
    method: Method,
    kept_energy: Option<f64>,
    predictor: Option<Reconstructed>,
    auto: Option<Choice>,
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

/// What a file will say about the network, but for its method and the hash of the original.
pub fn header(
    model: &Model,
    net: Option<&Net>,
    data: Option<&str>,
    preprocessing: Option<&Preprocessing>,
) -> anyhow::Result<Header> {
    // The path of a folder of images concerns this machine only.
    let data = data.filter(|name| !name.starts_with("folder:"));
    Ok(Header {
        arch: net.map_or_else(String::new, |net| net.arch().to_owned()),
        data: data.unwrap_or_default().to_owned(),
        preprocessing: preprocessing.map_or_else(String::new, Preprocessing::to_string),
        source_bytes: model.weight_bytes()?,
        source_parameters: model.parameter_count(net),
        ..Header::default()
    })
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
        )?;
        if let Some(choice) = &self.auto {
            return choice.write(out);
        }
        if let Some(predictor) = &self.predictor {
            return predictor.write(out);
        }
        let Some(kept) = self.kept_energy else { return Ok(()) };
        let percent = 100.0 * kept;
        if kept > 0.5 {
            return writeln!(out, "this keeps {percent:.1} % of the energy of what it stands for");
        }
        writeln!(
            out,
            "this keeps {percent:.1} % of the energy of what it stands for, and hardly more of what that \
             does: k directions that were drawn before the weights were known hold about k / d of them. \
             Train coefficients instead: weightspace train --method subspace",
        )
    }
}

impl<'a> Plan<'a> {
    fn new(job: &'a Job) -> Self {
        let Job { arguments, model, net, header, .. } = job;
        let estimated_bytes = match header.method {
            Method::Subspace => arguments.subspace.estimated_bytes(net.as_ref()),
            Method::Predictor => {
                arguments.predictor.estimated_bytes(&arguments.shared, net.as_ref())
            }
            Method::LowRank => arguments.low_rank.estimated_bytes(&arguments.shared, model),
            _ => arguments.quantize.estimated_bytes(&arguments.shared, model),
        };
        // The tensors, their f32 form, the integers, and the file; of the tensor at hand what rounding needs, and of
        // files that are made to know their size the integers twice. Measured with 12 tensors and with 1 of 200 MB.
        let sizes = || model.tensors().iter().map(|t| t.byte_count() as u64);
        let (all, largest): (u64, u64) = (sizes().sum(), sizes().max().unwrap_or(0));
        let tensor_bytes = match arguments.shared.target_bytes {
            Some(_) => 5 * all + 4 * largest,
            None => 4 * all + largest,
        };
        Plan {
            dry_run: true,
            method: arguments.method.name(),
            arch: Some(header.arch.as_str()).filter(|arch| !arch.is_empty()),
            preprocessing: &header.preprocessing,
            original_bytes: header.source_bytes,
            parameters: header.source_parameters,
            estimated_bytes,
            estimated_memory_bytes: tensor_bytes + (8 << 20),
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
