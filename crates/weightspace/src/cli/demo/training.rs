//! The network of the demo.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Augmentation, Preprocessing, Split};
use weightspace_nn::init::Initialisation;
use weightspace_nn::optim::{OptimizerConfig, Sgd};
use weightspace_nn::train::{
    Classification, Dense, Observer, Progress, Score, TrainConfig, Trainer,
};
use weightspace_nn::{Engine, ModelState};

use super::results::Original;
use crate::cli::Global;
use crate::cli::progress::Bar;

const ARCH: &str = "resnet20:in=1,size=8";
const DATA: &str = "digits";
const PREPROCESSING: &str = "unit";
const FILE: &str = "model.safetensors";

/// Trains the network, writes it to the folder and evaluates it on the test images.
pub fn train(folder: &Path, global: &Global) -> anyhow::Result<Original> {
    let start = Instant::now();
    let net = arch::build(ARCH, &ArchOptions::default())?;
    let preprocessing: Preprocessing = PREPROCESSING.parse()?;
    let images = data::open(DATA, None, Split::Train)?;
    let config = config(global.seed());
    let state = ModelState::initial(&net, Initialisation::default(), config.seed);
    let task = Classification::new(&net, &images, &preprocessing, 0, &config)?;
    let dense = Dense::new(&net, state.weights);
    let epochs = config.epochs;
    let mut trainer = Trainer::new(Box::new(task), Box::new(dense), state.running, config)?;
    trainer.run(&mut Watcher(Bar::new(global)))?;
    let weights = trainer.result().to_state_dict(&net);
    let seconds = start.elapsed().as_secs_f64();

    let path = folder.join(FILE);
    write_safetensors(&path, &weights, &BTreeMap::new())?;
    let test = data::open(DATA, None, Split::Test)?;
    let score = Score::of(&Engine::new(&net, &weights)?, &test, None, &preprocessing)?;
    Ok(Original {
        file: FILE,
        arch: ARCH,
        data: DATA,
        preprocessing: PREPROCESSING,
        parameters: net.parameter_count(),
        bytes: fs::metadata(&path).with_context(|| path.display().to_string())?.len(),
        accuracy: score.accuracy(),
        test_images: score.total,
        epochs,
        seconds,
    })
}

/// Chosen by the accuracy on held-out training images.
fn config(seed: u64) -> TrainConfig {
    let momentum = Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() };
    TrainConfig {
        epochs: 10,
        batch: 64,
        seed,
        augmentation: Augmentation { crop: 1, flip: false },
        optimizer: OptimizerConfig::Sgd(Sgd { learning_rate: 0.1, weight_decay: 5e-4, ..momentum }),
        schedule: TrainConfig::one_cycle(),
        ..TrainConfig::default()
    }
}

/// Shows how far training is.
struct Watcher(Bar);

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress) {
        self.0.report("training", progress.step as usize, progress.total_steps as usize);
    }
}
