//! A model named on the command line: a checkpoint of any format or a `.wsp` file, its
//! architecture, and the images that it reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::Args;
use weightspace::zoo::stated::{ARCH_KEY, PREPROCESSING_KEY};
use weightspace_core::random::Key;
use weightspace_core::{
    Checkpoint, DecodeOptions, Decoder, StateDict, Tensor, TensorInfo, WspError, WspFile,
};
use weightspace_nn::Net;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::Preprocessing;
use weightspace_nn::net::Shape;

use super::decoding::{DecodeArgs, read_key};
use super::{Global, text};

/// Which architecture a model has, as `--arch` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchChoice {
    /// What the file says or its tensors tell.
    Auto,
    /// Not to be looked at.
    None,
    /// The one of this specification.
    Spec(String),
}

impl FromStr for ArchChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => ArchChoice::Auto,
            "none" => ArchChoice::None,
            spec => ArchChoice::Spec(spec.to_owned()),
        })
    }
}

/// The option `--arch`.
#[derive(Args, Debug)]
pub struct ArchArgs {
    /// Architecture as `weightspace list` names it; auto: what the tensors tell; none: unknown
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub arch: ArchChoice,
}

/// What a model is stored in.
pub enum Source {
    /// A checkpoint; its tensors are read one by one.
    Checkpoint(Box<Checkpoint>),
    /// A `.wsp` file; its tensors are decoded all together.
    Wsp(Box<WspFile>),
}

/// The file of a model, and the part of it that is named behind a `#`, unless that belongs to the name of the file.
pub fn file_and_part(path: &Path) -> (&Path, Option<&str>) {
    let parts = || path.to_str()?.rsplit_once('#').filter(|(_, part)| !part.is_empty());
    match parts() {
        Some((file, part)) if !path.exists() && Path::new(file).exists() => {
            (Path::new(file), Some(part))
        }
        _ => (path, None),
    }
}

/// An opened model: names, types and shapes are known, no tensor has been read.
pub struct Model {
    path: PathBuf,
    source: Source,
    base: Option<StateDict>,
    key: Option<Key>,
    planes: Option<usize>,
}

impl Model {
    /// Opens a model of any format.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Model::open_with(path, &DecodeArgs::default())
    }

    /// Opens a model of any format with what decoding it may need.
    pub fn open_with(path: &Path, needs: &DecodeArgs) -> anyhow::Result<Self> {
        let (file, part) = file_and_part(path);
        if part.is_some() && WspFile::is_wsp(file) {
            bail!("{}: a .wsp file holds one network and has no parts", file.display());
        }
        let source = match WspFile::is_wsp(path) {
            true if needs.fraction.is_some() => Source::Wsp(WspFile::open_prefix(path)?.into()),
            true => Source::Wsp(WspFile::open(path)?.into()),
            false => Source::Checkpoint(unwrapped(Checkpoint::open_part(file, part)?).into()),
        };
        let path = path.to_owned();
        let mut model = Model { path, source, base: None, key: None, planes: None };
        if let Some(fraction) = needs.fraction {
            model.planes = Some(model.planes_within(fraction)?);
        }
        if let Some(base) = &needs.base {
            model.base = Some(Model::open(base)?.state_dict()?);
        }
        model.key = needs.key_file.as_deref().map(read_key).transpose()?;
        Ok(model)
    }

    /// Number of bit planes of coefficients in this share of the whole file.
    fn planes_within(&self, fraction: f64) -> anyhow::Result<usize> {
        let shown = self.path.display();
        let Source::Wsp(file) = &self.source else {
            bail!("{shown}: --fraction is for .wsp files of the method subspace");
        };
        ensure!(file.projection().is_some(), "{shown}: the file has no bit planes for --fraction");
        let whole = file.whole_bytes();
        // Of a file that is cut, all that is there.
        let planes = file.planes_within((fraction * whole as f64) as u64).min(file.planes());
        let least = (1..=whole).find(|&bytes| file.planes_within(bytes) > 0).unwrap_or(whole);
        ensure!(
            planes > 0,
            "{shown}: the first bit planes of coefficients end after {least} of {whole} bytes; a \
             larger share is needed, --fraction {:.2}",
            (100.0 * least as f64 / whole as f64).ceil() / 100.0
        );
        Ok(planes)
    }

    /// The decoder of a `.wsp` file, with what was given for it.
    pub fn decoder<'a>(&'a self, file: &'a WspFile) -> Result<Decoder<'a>, WspError> {
        let Model { base, key, planes, .. } = self;
        file.decoder(DecodeOptions { base: base.as_ref(), key: *key, planes: *planes })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is stored in.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What has tensors, too, but was passed over and is not known to be no weights, as the state of an optimiser is.
    pub fn left_out(&self) -> Option<String> {
        const NO_WEIGHTS: [&str; 5] = ["optim", "sched", "scaler", "rng", "random"];
        let Source::Checkpoint(checkpoint) = &self.source else { return None };
        let is_weights = |key: &&String| {
            let key = key.to_lowercase();
            !NO_WEIGHTS.iter().any(|part| key.contains(part))
        };
        let keys = checkpoint.left_out().iter().filter(is_weights).map(|key| text::printable(key));
        let keys: Vec<String> = keys.collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    }

    /// Short name of the file format.
    pub fn format(&self) -> &'static str {
        match &self.source {
            Source::Checkpoint(checkpoint) => checkpoint.format(),
            Source::Wsp(_) => "wsp",
        }
    }

    /// Names, types and shapes in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        match &self.source {
            Source::Checkpoint(checkpoint) => checkpoint.tensors(),
            Source::Wsp(file) => file.tensors(),
        }
    }

    /// Size of the file, or of all files of a folder's model.
    pub fn file_bytes(&self) -> anyhow::Result<u64> {
        let size = |path: &Path| {
            std::fs::metadata(path).map(|m| m.len()).with_context(|| path.display().to_string())
        };
        match &self.source {
            Source::Checkpoint(checkpoint) => checkpoint.files().map(size).sum(),
            Source::Wsp(file) => Ok(file.byte_count() as u64),
        }
    }

    /// What a smaller file is compared with: the size of the model's files, or, where other tensors than the weights are
    /// in these, as those of an optimiser, of the weights alone.
    pub fn weight_bytes(&self) -> anyhow::Result<u64> {
        match &self.source {
            Source::Checkpoint(checkpoint) if !checkpoint.left_out().is_empty() => {
                Ok(checkpoint.tensors().iter().map(|tensor| tensor.byte_count() as u64).sum())
            }
            _ => self.file_bytes(),
        }
    }

    /// Reads all tensors.
    pub fn state_dict(&self) -> anyhow::Result<StateDict> {
        match &self.source {
            Source::Checkpoint(checkpoint) => Ok(checkpoint.state_dict()?),
            Source::Wsp(file) => Ok(self.decoder(file)?.state_dict()?),
        }
    }

    /// Reads all tensors of a network that is to learn or to teach: no weight may be infinite or not a number.
    pub fn finite_state_dict(&self) -> anyhow::Result<StateDict> {
        let tensors = self.state_dict()?;
        for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float()) {
            anyhow::ensure!(
                tensor.is_finite_as_f32(),
                "{}: tensor {} holds NaN or infinite values",
                self.path.display(),
                weightspace_core::quoted(name)
            );
        }
        Ok(tensors)
    }

    /// Access to single tensors: as the file has them, or all at once where it has no such access.
    pub fn tensor_reader(&self) -> anyhow::Result<TensorReader<'_>> {
        match &self.source {
            Source::Checkpoint(checkpoint) => Ok(TensorReader::Checkpoint(checkpoint)),
            Source::Wsp(_) => Ok(TensorReader::Decoded(self.state_dict()?)),
        }
    }

    /// The network that the model holds; every error names the file.
    pub fn net(&self, choice: &ArchChoice) -> anyhow::Result<Net> {
        let found = match choice {
            ArchChoice::None => bail!("{}: the architecture is needed", self.path.display()),
            ArchChoice::Auto => match self.stated_arch() {
                Some(spec) => self.net_of_spec(spec),
                None => arch::recognise(self.tensors()).map_err(anyhow::Error::from),
            },
            ArchChoice::Spec(spec) => self.net_of_spec(spec),
        };
        found.with_context(|| self.path.display().to_string())
    }

    /// As [`net`](Self::net) for a command that can do without: none for `none`, and none for
    /// `auto` when the architecture is unknown, which the user is told.
    pub fn net_if_known(
        &self,
        choice: &ArchChoice,
        global: &Global,
    ) -> anyhow::Result<Option<Net>> {
        match (choice, self.net(choice)) {
            (_, Ok(net)) => Ok(Some(net)),
            (ArchChoice::None, Err(_)) => Ok(None),
            (ArchChoice::Auto, Err(reason)) => {
                global.explain(text::one_line(&reason));
                Ok(None)
            }
            (ArchChoice::Spec(_), Err(error)) => Err(error),
        }
    }

    /// The network for such inputs, where its tensors allow that: networks that end in global pooling read images of any
    /// size. Otherwise as it is.
    pub fn fitted(&self, net: Net, wanted: Shape) -> Net {
        let Shape::Maps { height, .. } = wanted else { return net };
        if net.input_shape() == wanted {
            return net;
        }
        let options = ArchOptions { size: Some(height), ..ArchOptions::default() };
        let resized = arch::build(net.arch(), &options).ok();
        let fits = |resized: &Net| {
            resized.input_shape() == wanted && arch::check(resized, self.tensors()).is_ok()
        };
        resized.filter(fits).unwrap_or(net)
    }

    /// The preprocessing that the file says its network expects.
    pub fn preprocessing(&self) -> Option<&str> {
        match &self.source {
            Source::Checkpoint(checkpoint) => {
                checkpoint.metadata().get(PREPROCESSING_KEY).map(String::as_str)
            }
            Source::Wsp(file) => {
                Some(file.header().preprocessing.as_str()).filter(|p| !p.is_empty())
            }
        }
    }

    /// The same, read.
    pub fn stated_preprocessing(&self) -> anyhow::Result<Option<Preprocessing>> {
        let stated = self.preprocessing().map(str::parse).transpose();
        stated.with_context(|| self.path.display().to_string())
    }

    /// The architecture that the file says it holds.
    fn stated_arch(&self) -> Option<&str> {
        match &self.source {
            Source::Checkpoint(checkpoint) => {
                checkpoint.metadata().get(ARCH_KEY).map(String::as_str)
            }
            Source::Wsp(file) => Some(file.header().arch.as_str()).filter(|arch| !arch.is_empty()),
        }
    }

    /// What of the file's metadata a copy of the model should say: its architecture and the
    /// preprocessing, if they are stated.
    pub fn statements(&self) -> BTreeMap<String, String> {
        let stated = [(ARCH_KEY, self.stated_arch()), (PREPROCESSING_KEY, self.preprocessing())];
        let stated = stated.into_iter().filter_map(|(key, text)| Some((key, text?)));
        stated.map(|(key, text)| (key.to_owned(), text.to_owned())).collect()
    }

    /// Values that training changes; where the architecture is unknown, all of floating-point type.
    pub fn parameter_count(&self, net: Option<&Net>) -> u64 {
        let floats = self.tensors().iter().filter(|tensor| tensor.dtype.is_float());
        let count = || floats.map(|tensor| tensor.element_count() as u64).sum();
        net.map_or_else(count, |net| net.parameter_count() as u64)
    }

    fn net_of_spec(&self, spec: &str) -> anyhow::Result<Net> {
        let net = arch::build(spec, &ArchOptions::default())?;
        arch::check(&net, self.tensors())?;
        Ok(net)
    }
}

/// The checkpoint without the modules around a network that is known: training frameworks save it as `model` or `net` of
/// theirs. A network that is not known keeps its names, of which its own program may need all.
fn unwrapped(mut checkpoint: Checkpoint) -> Checkpoint {
    let modules = checkpoint.shared_modules().to_owned();
    if modules.is_empty() || arch::recognise(checkpoint.tensors()).is_ok() {
        return checkpoint;
    }
    let known = modules.match_indices('.').map(|(dot, _)| &modules[..=dot]).find(|prefix| {
        let mut tensors = checkpoint.tensors().to_vec();
        for tensor in &mut tensors {
            tensor.name.drain(..prefix.len());
        }
        arch::recognise(&tensors).is_ok()
    });
    if let Some(prefix) = known {
        checkpoint.strip_prefix(prefix);
    }
    checkpoint
}

/// Reads single tensors of a model.
pub enum TensorReader<'a> {
    /// From the file.
    Checkpoint(&'a Checkpoint),
    /// From memory.
    Decoded(StateDict),
}

impl TensorReader<'_> {
    /// The tensor of that name, which the model has.
    pub fn read(&self, name: &str) -> anyhow::Result<Cow<'_, Tensor>> {
        match self {
            TensorReader::Checkpoint(checkpoint) => Ok(Cow::Owned(checkpoint.read_named(name)?)),
            TensorReader::Decoded(tensors) => {
                tensors.get(name).map(Cow::Borrowed).with_context(|| format!("no tensor {name:?}"))
            }
        }
    }
}
