//! Options of commands whose methods may train.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use weightspace::auto::Training;
use weightspace::phases::Interrupted;
use weightspace::workplace::Workplace;
use weightspace_core::StateDict;
use weightspace_nn::data::Augmentation;
use weightspace_nn::engine::EngineError;
use weightspace_nn::net::Shape;
use weightspace_nn::{Engine, Net};

use super::interruption::{Interruption, Stopped};
use super::model::{ArchChoice, Model};
use super::{Global, text};

/// How methods that train go about it.
#[derive(Args)]
#[command(next_help_heading = "Options of methods that train")]
pub struct TrainingArgs {
    /// Let methods that train take part, each file for N epochs [default: none takes part]
    #[arg(long, value_name = "N", requires = "data", value_parser = clap::value_parser!(u32).range(1..))]
    pub train_epochs: Option<u32>,
    /// Learn from the logits of this checkpoint or .wsp file [default: from the model's own]
    #[arg(long, value_name = "FILE", requires = "train_epochs")]
    pub teacher: Option<PathBuf>,
    /// Random changes of images in training: cropN, flip, cropN-flip or none [default: none]
    #[arg(long, value_name = "HOW", requires = "data")]
    pub augment: Option<Augmentation>,
}

impl TrainingArgs {
    /// The options as they were given.
    pub fn settings(&self) -> String {
        let TrainingArgs { train_epochs, teacher, augment } = self;
        let mut text = String::new();
        let mut option = |name: &str, value: Option<String>| {
            text.extend(value.map(|value| format!(" {name} {value}")));
        };
        option("--train-epochs", train_epochs.map(|epochs| epochs.to_string()));
        let file = teacher.as_deref().and_then(Path::file_name);
        option("--teacher", file.map(|name| name.to_string_lossy().into_owned()));
        option("--augment", augment.map(|augment| augment.to_string()));
        text
    }

    /// Training of so many epochs in a workplace, of a network of these inputs; none where no epochs are asked for.
    pub fn lessons(
        &self,
        folder: PathBuf,
        anew: bool,
        settings: &Value,
        inputs: Shape,
        global: &Global,
    ) -> anyhow::Result<Option<Lessons>> {
        let Some(epochs) = self.train_epochs else { return Ok(None) };
        let teacher = self.teacher.as_deref().map(|path| teacher(path, inputs, Engine::new));
        let (teacher, teacher_hash) = teacher.transpose()?.unzip();
        let augmentation = self.augment.unwrap_or_default();
        let place = Workplace::new(folder, anew);
        place.claim(&json!({
            "settings": settings, "epochs": epochs, "seed": global.seed(), "teacher": teacher_hash,
            "augmentation": augmentation.to_string(),
        }))?;
        let interruption = Interruption::listen()?;
        let seed = global.seed();
        Ok(Some(Lessons { epochs, augmentation, teacher, place, seed, interruption }))
    }
}

/// The teacher in a file as an engine for inputs as the student's, and the hash of its tensors.
pub fn teacher(
    path: &Path,
    inputs: Shape,
    engine: impl FnOnce(&Net, &StateDict) -> Result<Engine, EngineError>,
) -> anyhow::Result<(Engine, String)> {
    let model = Model::open(path)?;
    let net = model.fitted(model.net(&ArchChoice::Auto)?, inputs);
    let tensors = model.finite_state_dict()?;
    let engine = engine(&net, &tensors).with_context(|| path.display().to_string())?;
    Ok((engine, text::hexadecimal(&tensors.content_hash())))
}

/// What the options stand for, once files are read and the folder of the work is there.
pub struct Lessons {
    epochs: u32,
    augmentation: Augmentation,
    teacher: Option<Engine>,
    place: Workplace,
    seed: u64,
    interruption: Interruption,
}

impl Lessons {
    /// As the library has it; `should_stop` is [`is_stopped`](Self::is_stopped).
    pub fn training<'a>(&'a self, should_stop: &'a dyn Fn() -> bool) -> Training<'a> {
        Training {
            epochs: self.epochs,
            augmentation: self.augmentation,
            teacher: self.teacher.as_ref(),
            seed: self.seed,
            place: Some(self.place.path()),
            should_stop,
        }
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_stopped(&self) -> bool {
        self.interruption.is_wanted()
    }

    /// The error that says where it stopped and how it goes on.
    pub fn stopped(&self, interrupted: Interrupted) -> Stopped {
        Stopped::new(self.place.path(), interrupted)
    }

    /// Removes the folder of the work, which is done.
    pub fn finish(self) -> anyhow::Result<()> {
        Ok(self.place.remove()?)
    }
}
