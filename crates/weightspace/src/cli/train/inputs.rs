//! Everything that a run reads, and what follows from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use weightspace::predictor::TuningPlan;
use weightspace::quantize::Images;
use weightspace::quantize::aware::{self, AwarePlan};
use weightspace_core::container::{Header, Method};
use weightspace_core::{StateDict, WspFile};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Dataset, Pixels, Preprocessing, Split, channels_advice};
use weightspace_nn::engine::EngineError;
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::net::Shape;
use weightspace_nn::train::feature_maps;
use weightspace_nn::{Engine, ModelState, Net};

use super::config::RunConfig;
use super::record::Record;
use crate::cli::model::{ArchChoice, Model};
use crate::cli::progress::Bar;
use crate::cli::setup;
use crate::cli::training::teacher;
use crate::cli::{Global, text};

/// Everything that a run reads.
pub struct Inputs {
    /// With everything decided.
    pub config: RunConfig,
    pub net: Net,
    pub preprocessing: Preprocessing,
    /// Whether that is known, and not only how it would be done to no images.
    is_preprocessing_known: bool,
    /// The training images; blank ones where there is only noise.
    pub images: Dataset,
    pub teacher: Option<Engine>,
    /// What training begins with: the initial model, or the base of a difference.
    init: Option<StateDict>,
    /// Bytes of its file.
    init_bytes: u64,
    /// How rounded weights are trained, if they are.
    pub aware: Option<AwarePlan>,
    /// How the predictor of a file is trained, if it is.
    pub tuning: Option<TuningPlan>,
    hashes: Hashes,
    data_dir: Option<PathBuf>,
}

/// SHA-256 of what is read besides the training images.
struct Hashes {
    test_data: Option<String>,
    init: Option<String>,
    teacher: Option<String>,
    predictor: Option<String>,
}

impl Inputs {
    /// Opens all files, and decides what the configuration leaves open.
    pub fn open(mut config: RunConfig, global: &Global) -> anyhow::Result<Self> {
        let needs_data = "which data? give --data or a --preset";
        ensure!(config.data.is_some() || config.learns_from_noise_alone(), needs_data);
        let needs = |method| format!("--method {method} needs a network to begin with: --init");
        ensure!(config.quantize.is_none() || config.init.is_some(), needs("quantize"));
        ensure!(config.predictor.is_none() || config.init.is_some(), needs("predictor"));
        let on_grid = config.quantize.is_some() || config.predictor.is_some();
        let dense = !on_grid && config.subspace.is_none();
        ensure!(
            !config.new_head || dense && config.init.is_some(),
            "--new-head: goes with --init and --method dense"
        );
        let init = config.init.as_deref().or(config.base.as_deref());
        let init = init.map(Model::open).transpose()?;
        let images = match (&config.data, &init) {
            (Some(name), _) => data::open(name, global.data_dir(), Split::Train)?,
            (None, Some(init)) => blank_images(&init.net(&ArchChoice::Auto)?)?,
            (None, None) => bail!(needs_data),
        };
        let known = preprocessing(&config, init.as_ref(), config.data.as_deref())?;
        let is_preprocessing_known = known.is_some();
        let preprocessing = known.unwrap_or_else(Preprocessing::unit);
        let net = network(&config, init.as_ref(), &images, &preprocessing)?;
        let tensors = init.as_ref().map(Model::finite_state_dict).transpose()?;
        let init_hash = tensors.as_ref().map(hash);
        let tensors = match (tensors, config.init.as_deref()) {
            (Some(tensors), Some(path)) if config.new_head => {
                Some(with_new_head(tensors, &net, &config, path)?)
            }
            (tensors, _) => tensors,
        };
        let (teacher, teacher_hash) = match &config.teacher {
            Some(path) => {
                let engine = |net: &_, tensors: &_| teaching(net, tensors, &config);
                Some(teacher(path, net.input_shape(), engine)?).unzip()
            }
            // What becomes a file of a network learns from it.
            None => match tensors.as_ref().filter(|_| on_grid) {
                Some(tensors) => (Some(teaching(&net, tensors, &config)?), None),
                None => (None, None),
            },
        };
        config.arch = Some(net.arch().to_owned());
        config.preprocessing = Some(preprocessing.to_string());
        let held_out = if config.data.is_some() { images.len() / 10 } else { 0 };
        config.holdout = config.holdout.or(Some(held_out));
        let data_dir = global.data_dir().map(Path::to_owned);
        let hashes =
            Hashes { test_data: None, init: init_hash, teacher: teacher_hash, predictor: None };
        let mut inputs = Inputs {
            config,
            net,
            preprocessing,
            is_preprocessing_known,
            images,
            teacher,
            init_bytes: init.as_ref().map(Model::file_bytes).transpose()?.unwrap_or(0),
            init: tensors,
            aware: None,
            tuning: None,
            hashes,
            data_dir,
        };
        if inputs.config.quantize.is_some() {
            let training = &mut inputs.config.training;
            training.freeze_statistics = true;
            if training.optimizer.learning_rate() == 0.0 {
                let rate = aware::learning_rate(&inputs.net);
                training.optimizer = training.optimizer.with_learning_rate(rate);
            }
        } else if inputs.init.is_some() && inputs.start()?.is_folded(&inputs.net) {
            inputs.config.training.freeze_statistics = true;
            global.explain(
                "the model's normalisations are folded: their statistics stay as they are",
            );
        }
        // Read now, so that what is missing is missed before the training and not after it.
        let test = inputs.test_images()?;
        test.as_ref().map_or(Ok(()), |test| inputs.check_test_images(test))?;
        inputs.hashes.test_data = test.map(|images| images.sha256().to_owned());
        inputs.aware = inputs.plan_rounding(global)?;
        (inputs.tuning, inputs.hashes.predictor) = inputs.plan_tuning()?.unzip();
        Ok(inputs)
    }

    /// The model can be evaluated on them when it is trained.
    fn check_test_images(&self, test: &Dataset) -> anyhow::Result<()> {
        let shape = |images: &Dataset| self.preprocessing.output_shape(images.shape());
        let ([channels, height, width], expected) = (shape(test)?, shape(&self.images)?);
        ensure!(
            [channels, height, width] == expected,
            "the test images of {} are {channels} x {height} x {width} with preprocessing {}, those to train on {} x {} \
             x {}{}",
            test.name(),
            self.preprocessing,
            expected[0],
            expected[1],
            expected[2],
            channels_advice(expected[0], channels)
        );
        Ok(())
    }

    /// The test images; `None` if the data set has none but the training images.
    pub fn test_images(&self) -> anyhow::Result<Option<Dataset>> {
        if self.config.data.is_none() {
            return Ok(None);
        }
        setup::test_images(self.data(), self.data_dir.as_deref())
    }

    /// What is done to images of the network, if it is known.
    pub fn stated_preprocessing(&self) -> Option<String> {
        self.is_preprocessing_known.then(|| self.preprocessing.to_string())
    }

    /// Steps and start of training on a grid.
    fn plan_rounding(&self, global: &Global) -> anyhow::Result<Option<AwarePlan>> {
        let (Some(config), Some(original)) = (&self.config.quantize, &self.init) else {
            return Ok(None);
        };
        let images = Images { train: &self.images, preprocessing: &self.preprocessing };
        let bar = Bar::new(global);
        let progress = |phase: &str, done, total| bar.report(phase, done, total);
        let (header, seed) = (self.header(Method::Quantize), self.config.training.seed);
        let plan = AwarePlan::new(&self.net, &header, original, images, config, seed, &progress)?;
        Ok(Some(plan))
    }

    /// The predictor of a file, and the hash of what that decodes to.
    fn plan_tuning(&self) -> anyhow::Result<Option<(TuningPlan, String)>> {
        let (Some(config), Some(original)) = (&self.config.predictor, &self.init) else {
            return Ok(None);
        };
        let path = self.config.predictor_file.as_deref();
        let path = path.context("--method predictor needs the file of a predictor: --predictor")?;
        let file = WspFile::open(path)?;
        let header = self.header(Method::Predictor);
        let plan = TuningPlan::new(&self.net, &header, original, &file, config);
        let plan = plan.with_context(|| path.display().to_string())?;
        Ok(Some((plan, hash(&file.state_dict()?))))
    }

    /// What a file says of the network.
    pub fn header(&self, method: Method) -> Header {
        // Without an original: what a file of all weights would have.
        let state_dict = || 4 * self.net.parameter_count() as u64;
        let mut header = Header {
            method,
            arch: self.net.arch().to_owned(),
            // The path of a folder of images concerns this machine only.
            data: Some(self.data()).filter(|d| !d.starts_with("folder:")).unwrap_or("").to_owned(),
            preprocessing: self.stated_preprocessing().unwrap_or_default(),
            source_bytes: if self.init_bytes > 0 { self.init_bytes } else { state_dict() },
            source_parameters: self.net.parameter_count() as u64,
            ..Header::default()
        };
        if let Some(original) = &self.init {
            header.source_hash.copy_from_slice(&original.content_hash()[..16]);
        }
        header
    }

    /// What training begins with.
    pub fn start(&self) -> anyhow::Result<ModelState> {
        let RunConfig { init, base, initialisation, training, .. } = &self.config;
        let planned = self.aware.as_ref().map(|plan| &plan.start);
        if let Some(start) = planned.or(self.tuning.as_ref().map(TuningPlan::start)) {
            return Ok(ModelState::from_state_dict(&self.net, start)?);
        }
        match (&self.init, init.as_ref().or(base.as_ref())) {
            (Some(tensors), Some(path)) => ModelState::from_state_dict(&self.net, tensors)
                .with_context(|| path.display().to_string()),
            _ => Ok(ModelState::initial(&self.net, *initialisation, training.seed)),
        }
    }

    /// The tensors that training begins with, if they are of a file: the initial model or the base.
    pub fn init(&self) -> Option<&StateDict> {
        self.init.as_ref()
    }

    /// What `run.json` says.
    pub fn record(&self) -> Record<'_> {
        let Hashes { test_data, init, teacher, predictor } = &self.hashes;
        Record {
            version: env!("CARGO_PKG_VERSION"),
            config: &self.config,
            instruction_set: format!("{:?}", InstructionSet::best()).to_lowercase(),
            train_data_sha256: self.images.sha256().to_owned(),
            test_data_sha256: test_data.clone(),
            init_sha256: init.clone(),
            teacher_sha256: teacher.clone(),
            predictor_sha256: predictor.clone(),
        }
    }
}

fn hash(tensors: &StateDict) -> String {
    text::hexadecimal(&tensors.content_hash())
}

/// Bytes that blank images may have, and how many there are at most.
const BLANK_BYTES: usize = 64 << 20;
const BLANK_IMAGES: usize = 10_000;

/// As many images as noise is drawn in an epoch, of which nothing but their number counts.
fn blank_images(net: &Net) -> anyhow::Result<Dataset> {
    let shape = match net.input_shape() {
        Shape::Maps { channels, height, width } => [channels, height, width],
        Shape::Vector(len) => [1, 1, len],
        Shape::Tokens { .. } => {
            bail!("--noise-inputs without --data: {} does not read images", net.arch())
        }
    };
    let pixels: usize = shape.iter().product();
    let count = (BLANK_BYTES / pixels).clamp(1, BLANK_IMAGES);
    let classes = (0..net.class_count()).map(|class| class.to_string()).collect();
    let (pixels, labels) = (Pixels::U8(vec![0; count * pixels]), vec![0; count]);
    Ok(Dataset::new("noise", shape, pixels, labels, classes)?)
}

/// What was asked for, what the initial model says, what published checkpoints of the architecture
/// expect, or what suits the data set; nothing if there is none and nobody says it.
fn preprocessing(
    config: &RunConfig,
    init: Option<&Model>,
    data: Option<&str>,
) -> anyhow::Result<Option<Preprocessing>> {
    let stated = || init.and_then(Model::preprocessing).map(str::to_owned);
    let recognised = || Some(init?.net(&ArchChoice::Auto).ok()?.arch().to_owned());
    let published = || {
        let arch = config.arch.clone().or_else(recognised)?;
        arch::default_preprocessing(&arch, data?).map(str::to_owned)
    };
    let text = match (config.preprocessing.clone().or_else(stated).or_else(published), data) {
        (Some(text), _) => text,
        (None, Some(data)) => data::info(data)?.preprocessing.to_owned(),
        (None, None) => return Ok(None),
    };
    Ok(Some(text.parse()?))
}

/// The architecture that was asked for, for images of this size and number of classes, or that of the
/// initial model.
fn network(
    config: &RunConfig,
    init: Option<&Model>,
    images: &Dataset,
    preprocessing: &Preprocessing,
) -> anyhow::Result<Net> {
    let [channels, height, width] = preprocessing.output_shape(images.shape())?;
    let options = ArchOptions {
        classes: Some(images.class_count()),
        in_channels: Some(channels),
        size: Some(height),
        ..ArchOptions::default()
    };
    match (&config.arch, init) {
        (Some(spec), None) => Ok(arch::build(spec, &options)?),
        (Some(spec), Some(model)) => {
            let net = arch::build(spec, &options)?;
            if !config.new_head {
                let fits = arch::check(&net, model.tensors());
                fits.with_context(|| model.path().display().to_string())?;
            }
            Ok(net)
        }
        (None, Some(model)) if config.new_head => {
            let net = model.net(&ArchChoice::Auto)?;
            // What a specification says goes before what the images ask for.
            let classes = format!("classes={}", net.class_count());
            let (name, arguments) = net.arch().split_once(':').unwrap_or((net.arch(), ""));
            let others = arguments.split(',').filter(|argument| *argument != classes);
            let spec = format!("{name}:{}", others.collect::<Vec<_>>().join(","));
            Ok(arch::build(spec.trim_end_matches(':'), &options)?)
        }
        (None, Some(model)) => {
            let net = model.net(&ArchChoice::Auto)?;
            Ok(model.fitted(net, Shape::Maps { channels, height, width }))
        }
        (None, None) => bail!("which architecture? give --arch, --init or a --preset"),
    }
}

/// The tensors with a classifier that has learnt nothing; they must be those of the network otherwise.
fn with_new_head(
    mut tensors: StateDict,
    net: &Net,
    config: &RunConfig,
    path: &Path,
) -> anyhow::Result<StateDict> {
    let drawn = ModelState::initial(net, config.initialisation, config.training.seed);
    let drawn = drawn.to_state_dict(net);
    let Some(classifier) = net.classifier() else {
        bail!("--new-head: {} has no linear layer", net.arch());
    };
    for parameter in net.parameters_of(classifier) {
        if let Some(tensor) = drawn.get(&parameter.name) {
            tensors.insert(parameter.name, tensor.clone());
        }
    }
    arch::check(net, &tensors.infos()).with_context(|| path.display().to_string())?;
    Ok(tensors)
}

/// The engine of a teacher, with the feature maps that are asked for.
fn teaching(net: &Net, tensors: &StateDict, config: &RunConfig) -> Result<Engine, EngineError> {
    let weight = config.training.distillation.map_or(0.0, |distillation| distillation.features);
    let taps = if weight > 0.0 { feature_maps(net) } else { Vec::new() };
    Engine::with_taps(net, tensors, &taps)
}
