//! Autoencoders by name.

use weightspace_nn::optim::{AdamW, MatrixScale, Muon, OptimizerConfig};
use weightspace_nn::train::TrainConfig;

use super::{PretrainConfig, PretrainingConfig, SaneConfig, TokenConfig};

/// A pretraining by name: an entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// Its settings.
    pub config: fn() -> PretrainConfig,
}

/// Every preset.
pub static PRESETS: [Preset; 5] = [
    Preset {
        name: "tiny",
        title: "2 x 2 blocks of 64, windows of 32 tokens of 201: zoos of small CNNs in seconds",
        config: tiny,
    },
    Preset {
        name: "cnn",
        title: "2 x 4 blocks of 128, windows of 32 tokens of 201: zoos of small CNNs",
        config: cnn,
    },
    Preset {
        name: "resnet18",
        title: "2 x 4 blocks of 256, windows of 256 tokens of 288: zoos of ResNets",
        config: resnet18,
    },
    Preset {
        name: "cnn-published",
        title: "2 x 4 blocks of 1024, windows of 32 tokens of 289: the paper's, for zoos of CNNs",
        config: cnn_published,
    },
    Preset {
        name: "resnet18-published",
        title: "2 x 8 blocks of 2048, windows of 256 tokens of 288: the paper's, for zoos of ResNets",
        config: resnet18_published,
    },
];

impl PretrainConfig {
    /// The pretraining of that name.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|preset| preset.name == name).map(|preset| (preset.config)())
    }
}

fn sized(
    (size, window): (usize, usize),
    (width, blocks, heads, latent): (usize, usize, usize, usize),
) -> PretrainConfig {
    let tokens = TokenConfig { size, normalisations: false };
    let model =
        SaneConfig { tokens, window, width, blocks, heads, latent, ..SaneConfig::default() };
    PretrainConfig { model, ..PretrainConfig::default() }
}

/// With Muon, which needs a tenth of the steps that the published AdamW needs for the same error.
fn trained(config: PretrainConfig, epochs: u32, learning_rate: f64) -> PretrainConfig {
    let adamw = AdamW { learning_rate, weight_decay: 3e-9, ..AdamW::default() };
    let optimizer = OptimizerConfig::Muon(Muon {
        learning_rate,
        weight_decay: 0.0,
        scale: MatrixScale::MatchRmsAdamw,
        adamw,
        ..Muon::default()
    });
    let training = TrainConfig { epochs, optimizer, ..PretrainingConfig::train_config() };
    PretrainConfig { training, ..config }
}

fn tiny() -> PretrainConfig {
    trained(sized((201, 32), (64, 2, 4, 64)), 60, 1e-2)
}

fn cnn() -> PretrainConfig {
    trained(sized((201, 32), (128, 4, 4, 128)), 30, 6e-3)
}

fn resnet18() -> PretrainConfig {
    // Half of the published batch, so that two gigabytes are enough.
    let config = trained(sized((288, 256), (256, 4, 8, 128)), 30, 3e-3);
    PretrainConfig { training: TrainConfig { batch: 16, ..config.training }, ..config }
}

fn cnn_published() -> PretrainConfig {
    sized((289, 32), (1024, 4, 8, 128))
}

fn resnet18_published() -> PretrainConfig {
    sized((288, 256), (2048, 8, 8, 128))
}
