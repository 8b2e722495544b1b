//! Recipes by name: one table, in which each is the flags that it stands for.

use std::fmt;
use std::str::FromStr;

use clap::Parser;

use super::flags::Flags;

/// A recipe with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    /// Name, as `<architecture>-<data set>`.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// The flags that it stands for.
    pub flags: &'static str,
}

/// Every preset. A new one is one entry here.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "digits",
        title: "Small CNN on the built-in digits, in seconds",
        flags: "--arch zoo-cnn:relu --data digits --preprocessing unit-pad28 --holdout 100 \
                --epochs 30 --batch 32 --augment crop1 --optimizer sgd --learning-rate 0.05 \
                --momentum 0.9 --nesterov --weight-decay 5e-4 --schedule one-cycle",
    },
    Preset {
        name: "lenet-mnist",
        title: "LeNet on MNIST, above 98.5 % in less than a minute",
        flags: "--arch lenet-mnist --data mnist --holdout 5000 --epochs 4 --batch 64 \
                --optimizer sgd --learning-rate 0.05 --momentum 0.9 --nesterov \
                --weight-decay 5e-4 --schedule one-cycle",
    },
    Preset {
        name: "lenet-mnist-subspace",
        title: "LeNet on MNIST as a seed and 1,000 coefficients: 97 % in 1.1 kB",
        flags: "--arch lenet-mnist --data mnist --holdout 5000 --epochs 8 --batch 128 \
                --method subspace --basis hadamard --k 1000 --optimizer adam \
                --learning-rate 2e-3 --schedule cosine",
    },
    Preset {
        name: "resnet20-cifar10-subspace",
        title: "ResNet-20 on CIFAR-10 as a seed and 10,000 coefficients",
        flags: "--arch resnet20 --data cifar10 --holdout 5000 --epochs 40 --batch 128 \
                --augment crop4-flip --method subspace --basis hadamard --k 10000 \
                --optimizer adam --learning-rate 2e-3 --schedule cosine",
    },
    Preset {
        name: "pranc-resnet20-cifar10",
        title: "The same as PRANC trains it (Nooralinejad et al. 2023): 400 epochs, dense basis",
        flags: "--arch resnet20 --data cifar10 --holdout 5000 --epochs 400 --batch 256 \
                --augment crop4-flip --method subspace --basis uniform --k 10000 \
                --coefficient-bits 16 --optimizer adam --learning-rate 1e-3 --schedule step:50:0.5",
    },
    Preset {
        name: "resnet20-cifar10-quantize",
        title: "A trained ResNet-20 (--init) on the grid of a file of 40 kB",
        flags: "--arch resnet20 --data cifar10 --holdout 5000 --epochs 20 --augment crop4-flip \
                --method quantize --target-bytes 40000",
    },
    Preset {
        name: "resnet20-cifar10-fast",
        title: "ResNet-20 on CIFAR-10 in 5 epochs",
        flags: "--arch resnet20 --data cifar10 --holdout 0 --epochs 5 --batch 128 \
                --augment crop4-flip --optimizer sgd --learning-rate 0.1 --momentum 0.9 \
                --nesterov --weight-decay 5e-4 --schedule one-cycle",
    },
    Preset {
        name: "resnet20-cifar10",
        title: "ResNet-20 on CIFAR-10 as He et al. 2015, in Idelbayev's 200 epochs",
        flags: "--arch resnet20 --data cifar10 --initialisation kaiming-normal --holdout 0 \
                --epochs 200 --batch 128 --augment crop4-flip --optimizer sgd \
                --learning-rate 0.1 --momentum 0.9 --weight-decay 1e-4 \
                --schedule multi-step:100,150",
    },
    Preset {
        name: "resnet56-cifar10",
        title: "ResNet-56 on CIFAR-10, the same recipe",
        flags: "--arch resnet56 --data cifar10 --initialisation kaiming-normal --holdout 0 \
                --epochs 200 --batch 128 --augment crop4-flip --optimizer sgd \
                --learning-rate 0.1 --momentum 0.9 --weight-decay 1e-4 \
                --schedule multi-step:100,150",
    },
    Preset {
        name: "resnet20-cifar100",
        title: "ResNet-20 on CIFAR-100, the same recipe",
        flags: "--arch resnet20 --data cifar100 --initialisation kaiming-normal --holdout 0 \
                --epochs 200 --batch 128 --augment crop4-flip --optimizer sgd \
                --learning-rate 0.1 --momentum 0.9 --weight-decay 1e-4 \
                --schedule multi-step:100,150",
    },
];

/// A command line that has nothing but a recipe.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

impl Preset {
    /// The preset's flags as if they had been typed.
    ///
    /// # Panics
    /// If the table has flags that do not exist; a test parses all of them.
    pub fn flags(&self) -> Flags {
        let line = Line::try_parse_from(self.flags.split_whitespace());
        line.unwrap_or_else(|error| panic!("preset {}: {error}", self.name)).flags
    }

    /// The flags on one line.
    pub fn line(&self) -> String {
        self.flags.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A preset by its name, as an argument.
#[derive(Clone, Copy, Debug)]
pub struct PresetName(pub &'static Preset);

impl FromStr for PresetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = PRESETS.iter().find(|preset| preset.name == text);
        found.map(PresetName).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            format!("unknown preset; known are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::RunConfig;
    use super::*;

    #[test]
    fn every_preset_is_a_recipe() {
        for preset in PRESETS {
            let mut config = RunConfig::default();
            preset.flags().apply(&mut config).unwrap();
            config.training.check().unwrap();
            let spec = config.arch.as_deref().unwrap();
            assert!(weightspace_nn::arch::build(spec, &Default::default()).is_ok(), "{spec}");
            weightspace_nn::data::info(config.data.as_deref().unwrap()).unwrap();
        }
    }
}
