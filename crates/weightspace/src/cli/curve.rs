//! `weightspace curve`: accuracy against bytes, of all methods.
//!
//! Every point is what `compress` and `eval` give; finished ones are in the folder, and are not made
//! again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Serialize};
use weightspace::auto::{AutoError, CANDIDATES, Candidate, Goal, Session};
use weightspace::curve::{self, Original, Point};
use weightspace::quantize::{Images, Preparation, Prepared};
use weightspace_core::{AtomicFile, StateDict};
use weightspace_nn::data::{Preprocessing, Split};

use super::compress::{self, DEFAULT_CALIBRATION};
use super::decoding::DecodeArgs;
use super::model::{ArchArgs, Model};
use super::progress::Bar;
use super::setup::Setup;
use super::table::{Align, Table};
use super::training::{Lessons, TrainingArgs};
use super::{Global, Outcome, text};

/// Points of each method when sizes are not given.
const SIZES: usize = 9;

/// Loss of accuracy up to which the smallest file is named.
const SMALL_LOSS: f64 = 0.01;

/// Compress a model with every method at many sizes, and draw the accuracy against the bytes
#[derive(Args)]
pub struct Curve {
    /// Checkpoint of any format
    model: PathBuf,
    /// Data set that the network was trained on: training images calibrate, test images measure
    #[arg(long, value_name = "NAME")]
    data: String,
    /// Folder for curve.csv, curve.svg, curve.png, curve.json and the files; one of an earlier run is
    /// continued
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Sizes of the files in bytes [default: 9 from 0.6 to 7.4 bits a parameter]
    #[arg(long, value_name = "N", value_delimiter = ',', num_args = 1..)]
    sizes: Vec<u64>,
    /// Methods to run [default: all that need no training, and with --train-epochs those that do]
    #[arg(long, value_name = "M", value_parser = candidate_parser(), value_delimiter = ',')]
    methods: Vec<&'static Candidate>,
    /// Files of the same network to evaluate and draw besides
    #[arg(long, value_name = "FILE", num_args = 1..)]
    points: Vec<PathBuf>,
    /// Tables of points that were measured elsewhere: CSV with the columns method, bytes, accuracy
    #[arg(long, value_name = "CSV", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Normalisation of the images [default: what the model says, else the architecture's, else the
    /// data set's]
    #[arg(long, value_name = "P")]
    preprocessing: Option<Preprocessing>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    arch: ArchArgs,
    /// Model that files of --points are differences to, if they name one
    #[arg(long, value_name = "FILE", requires = "points")]
    base: Option<PathBuf>,
    /// Key of files of --points that do not hold theirs
    #[arg(long, value_name = "FILE", requires = "points")]
    key_file: Option<PathBuf>,
}

fn candidate_parser() -> impl TypedValueParser<Value = &'static Candidate> {
    let values = CANDIDATES.iter().map(|c| PossibleValue::new(c.name).help(c.title));
    PossibleValuesParser::new(values).map(|name| {
        let found = CANDIDATES.iter().find(|candidate| candidate.name == name);
        found.expect("a possible value is a name of the table")
    })
}

/// A point that is asked for.
struct Wanted {
    method: &'static Candidate,
    /// In bytes.
    size: u64,
}

impl Wanted {
    /// The options that make it.
    fn settings(&self, training: &TrainingArgs) -> String {
        let mut settings = format!("{} --target-bytes {}", self.method.options, self.size);
        if self.method.trains {
            settings.push_str(&training.settings());
        }
        settings
    }
}

/// What was asked of which model; `curve.json` keeps it with the points.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    version: String,
    /// Content hash of the model.
    model: String,
    arch: String,
    data: String,
    /// Hash of the test images: those of a folder may be others today.
    #[serde(default)]
    test_data: String,
    preprocessing: String,
    seed: u64,
}

/// `curve.json`.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    identity: Identity,
    original: Original,
    /// By what makes them: the options of `compress` besides those of images, or the content hash of a given file.
    points: BTreeMap<String, Point>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    original: &'a Original,
    points: &'a [Point],
    /// Of each method the smallest file that loses at most a hundredth.
    smallest: Vec<&'a Point>,
    output: &'a Path,
}

/// Runs the command.
pub fn run(arguments: &Curve, global: &Global) -> anyhow::Result<Outcome> {
    ensure!(!arguments.sizes.contains(&0), "--sizes: a file of 0 bytes");
    // Before the work begins.
    let mut merged = Vec::new();
    for path in &arguments.merge {
        let peers = File::open(path).map_err(anyhow::Error::from);
        let peers = peers.and_then(|file| Ok(curve::read_peers(file)?));
        merged.extend(peers.with_context(|| path.display().to_string())?);
    }
    let mut job = Job::new(arguments, global)?;
    let mut points = job.grid()?;
    for path in &arguments.points {
        points.push(job.given(path)?);
    }
    points.extend(merged);
    let shown = arguments.model.display();
    ensure!(!points.is_empty(), "{shown}: none of the methods reaches any of the sizes");
    job.write_pictures(&points)?;
    let report = Report {
        identity: &job.record.identity,
        original: &job.record.original,
        smallest: curve::smallest(&points, job.record.original.accuracy - SMALL_LOSS),
        points: &points,
        output: &arguments.output,
    };
    global.print(&report, |out| report.write(out))?;
    Ok(Outcome::Done)
}

struct Job<'a> {
    arguments: &'a Curve,
    global: &'a Global,
    folder: PathBuf,
    setup: Setup,
    record: Record,
}

impl<'a> Job<'a> {
    /// Opens the model, and what an earlier run left in the folder.
    fn new(arguments: &'a Curve, global: &'a Global) -> anyhow::Result<Self> {
        let shown = arguments.output.display();
        // An absolute path is never taken for an option.
        let folder = std::path::absolute(&arguments.output).with_context(|| shown.to_string())?;
        let model = Model::open(&arguments.model)?;
        let net = model.net(&arguments.arch.arch)?;
        let preprocessing = arguments.preprocessing.as_ref();
        let setup = Setup::new(&model, net, &arguments.data, Split::Test, preprocessing, global)?;
        let weights = model.state_dict()?;
        let identity = Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: hash(&weights),
            arch: setup.net.arch().to_owned(),
            data: arguments.data.clone(),
            test_data: setup.dataset.sha256().to_owned(),
            preprocessing: setup.preprocessing.to_string(),
            seed: global.seed(),
        };
        fs::create_dir_all(folder.join("files")).with_context(|| shown.to_string())?;
        let record = match earlier(&folder, &identity)? {
            Some(record) => record,
            None => {
                let (result, _) = setup.evaluate(&weights, global)?;
                let original = Original {
                    bytes: model.weight_bytes()?,
                    parameters: model.parameter_count(Some(&setup.net)),
                    accuracy: result.accuracy(),
                    test_images: result.total,
                };
                Record { identity, original, points: BTreeMap::new() }
            }
        };
        Ok(Job { arguments, global, folder, setup, record })
    }

    /// The points of all methods at all sizes that they reach.
    fn grid(&mut self) -> anyhow::Result<Vec<Point>> {
        let sizes = match &self.arguments.sizes[..] {
            [] => curve::sizes(self.record.original.parameters, SIZES),
            sizes => sizes.to_vec(),
        };
        let Curve { methods, training, .. } = self.arguments;
        let trains = training.train_epochs.is_some();
        if let Some(method) = methods.iter().find(|method| method.trains && !trains) {
            bail!("--methods: {} needs --train-epochs", method.name);
        }
        let methods = match &methods[..] {
            [] => CANDIDATES.iter().filter(|candidate| trains || !candidate.trains).collect(),
            methods => methods.to_vec(),
        };
        let wanted = methods
            .into_iter()
            .flat_map(|method| sizes.iter().map(move |&size| Wanted { method, size }));
        let wanted: Vec<Wanted> = wanted.collect();
        let known = |job: &Self, wanted: &Wanted| {
            job.record.points.get(&wanted.settings(training)).cloned()
        };
        let missing: Vec<&Wanted> = wanted.iter().filter(|w| known(self, w).is_none()).collect();
        if !missing.is_empty() {
            let lessons = self.lessons()?;
            self.make(&missing, lessons.as_ref())?;
            lessons.map_or(Ok(()), Lessons::finish)?;
        }
        Ok(wanted.iter().filter_map(|wanted| known(self, wanted)).collect())
    }

    /// What methods that train need, if these take part.
    fn lessons(&self) -> anyhow::Result<Option<Lessons>> {
        let settings = serde_json::to_value(&self.record.identity)?;
        let (folder, inputs) = (self.folder.join("work"), self.setup.net.input_shape());
        self.arguments.training.lessons(folder, false, &settings, inputs, self.global)
    }

    /// Makes and keeps the points that the methods reach; what they need is found out once for all.
    fn make(&mut self, wanted: &[&Wanted], lessons: Option<&Lessons>) -> anyhow::Result<()> {
        let Curve { model, data, .. } = self.arguments;
        let model = Model::open(model)?;
        let quiet = self.global.silenced();
        let preprocessing = Some(&self.setup.preprocessing);
        let Setup { net, dataset, preprocessing } =
            Setup::new(&model, self.setup.net.clone(), data, Split::Train, preprocessing, &quiet)?;
        let weights = model.state_dict()?;
        let mut header = compress::header(&model, Some(&net), Some(data), Some(&preprocessing))?;
        header.source_hash.copy_from_slice(&weights.content_hash()[..16]);
        let images = Images { train: &dataset, preprocessing: &preprocessing };
        let seed = self.global.seed();
        let preparation = Preparation { fold: true, calibrate: DEFAULT_CALIBRATION, seed };
        let network = Prepared::new(&weights, Some(&net), Some(images), preparation)?;
        let should_stop = || lessons.is_some_and(Lessons::is_stopped);
        let mut session = Session::new(&network);
        if let Some(lessons) = lessons {
            session = session.with_training(lessons.training(&should_stop));
        }
        let bar = Bar::new(self.global);
        for wanted in wanted {
            let Wanted { method, size } = wanted;
            let progress = |phase: &str, done, total| {
                bar.report(&format!("{}, {size} bytes: {phase}", method.name), done, total);
            };
            match method.file(&session, &header, Goal::Bytes(*size), &progress) {
                Ok(bytes) => self.finish(wanted, &bytes)?,
                Err(AutoError::OutOfReach(reason)) => {
                    self.global.say(format_args!("{}: {reason}", method.name));
                }
                Err(AutoError::Interrupted(interrupted)) => {
                    let stopped = lessons.context("only training is interrupted")?;
                    return Err(stopped.stopped(interrupted).into());
                }
                Err(error) => {
                    return Err(error).with_context(|| model.path().display().to_string());
                }
            }
        }
        Ok(())
    }

    /// Writes and measures a file.
    fn finish(&mut self, wanted: &Wanted, bytes: &[u8]) -> anyhow::Result<()> {
        let Wanted { method, size } = wanted;
        let path = self.folder.join(format!("files/{}-{size}.wsp", method.name));
        write(&path, bytes)?;
        let settings = wanted.settings(&self.arguments.training);
        let point = self.measure(method.name, &settings, &Model::open(&path)?)?;
        self.keep(settings, &point)
    }

    /// The point of a file that was given.
    fn given(&mut self, path: &Path) -> anyhow::Result<Point> {
        let Curve { base, key_file, .. } = self.arguments;
        let (base, key_file) = (base.clone(), key_file.clone());
        let decoding = DecodeArgs { base, key_file, fraction: None };
        let model = Model::open_with(path, &decoding)?;
        let weights = model.state_dict()?;
        let key = format!("{} of {} bytes", hash(&weights), model.file_bytes()?);
        if let Some(point) = self.record.points.get(&key) {
            return Ok(point.clone());
        }
        // A curve of its own beside that of the method.
        let method = match model.source() {
            super::model::Source::Wsp(file) => format!("{}, given", file.header().method.name()),
            super::model::Source::Checkpoint(_) => "checkpoint, given".to_owned(),
        };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let point = self.measure(&method, &name, &model)?;
        self.keep(key, &point)?;
        Ok(point)
    }

    fn measure(&self, method: &str, settings: &str, model: &Model) -> anyhow::Result<Point> {
        let fits = weightspace_nn::arch::check(&self.setup.net, model.tensors());
        fits.with_context(|| model.path().display().to_string())?;
        // Files that were trained may expect other inputs than the original.
        let given = self.arguments.preprocessing.as_ref().map(ToString::to_string);
        let stated = given.as_deref().or(model.preprocessing());
        let result = self.setup.evaluate_as_stated(&model.state_dict()?, stated)?;
        Ok(Point {
            method: method.to_owned(),
            settings: settings.to_owned(),
            bytes: model.file_bytes()?,
            accuracy: result.accuracy(),
        })
    }

    fn keep(&mut self, key: String, point: &Point) -> anyhow::Result<()> {
        self.record.points.insert(key, point.clone());
        let document = serde_json::to_string_pretty(&self.record)? + "\n";
        write(&self.folder.join("curve.json"), document.as_bytes())
    }

    fn write_pictures(&self, points: &[Point]) -> anyhow::Result<()> {
        let chart = curve::chart(&self.record.original, points);
        write(&self.folder.join("curve.csv"), curve::to_csv(points).as_bytes())?;
        write(&self.folder.join("curve.svg"), chart.to_svg_file()?.as_bytes())?;
        write(&self.folder.join("curve.png"), &chart.to_png()?)
    }
}

/// What an earlier run of the same command left in the folder.
fn earlier(folder: &Path, identity: &Identity) -> anyhow::Result<Option<Record>> {
    let path = folder.join("curve.json");
    let shown = || path.display().to_string();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(shown)?,
    };
    let record: Record = serde_json::from_str(&text).with_context(shown)?;
    if record.identity != *identity {
        bail!(
            "{}: holds a curve of another model, data set, preprocessing, seed or version; name another \
             folder or remove it",
            path.display()
        );
    }
    Ok(Some(record))
}

fn hash(weights: &StateDict) -> String {
    text::hexadecimal(&weights.content_hash()[..16])
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    AtomicFile::write_bytes(path, bytes).with_context(|| path.display().to_string())
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Original { bytes, accuracy, test_images, .. } = self.original;
        let Identity { arch, data, .. } = self.identity;
        writeln!(out, "{arch} on {test_images} test images of {}\n", text::printable(data))?;
        let mut table = Table::new([
            ("method", Align::Left),
            ("bytes", Align::Right),
            ("smaller", Align::Right),
            ("accuracy", Align::Right),
            ("settings", Align::Left),
        ]);
        let mut row = |method: &str, size: u64, accuracy: f64, settings: &str| {
            table.push([
                text::printable(method),
                text::grouped(size),
                format!("{:.1} x", *bytes as f64 / size as f64),
                percent(accuracy),
                text::printable(settings),
            ]);
        };
        row("original", *bytes, *accuracy, "");
        for (method, points) in curve::by_method(self.points) {
            points.iter().for_each(|p| row(method, p.bytes, p.accuracy, &p.settings));
        }
        table.write(out, "")?;
        let least = percent(accuracy - SMALL_LOSS);
        match self.smallest.is_empty() {
            true => writeln!(out, "\nno file has {least} or more")?,
            false => writeln!(out, "\nsmallest files with at least {least}:")?,
        }
        for p in &self.smallest {
            let (method, bytes) = (text::printable(&p.method), text::grouped(p.bytes));
            writeln!(out, "  {bytes:>11} bytes  {}  {method}", percent(p.accuracy))?;
        }
        let folder = text::printable(&self.output.display().to_string());
        writeln!(out, "\n{folder}: curve.csv, curve.svg, curve.png")
    }
}

fn percent(fraction: impl std::borrow::Borrow<f64>) -> String {
    format!("{:.2} %", 100.0 * fraction.borrow())
}
