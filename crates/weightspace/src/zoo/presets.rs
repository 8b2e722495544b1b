//! Zoos by name: one table, in which each is the description that it stands for.
//!
//! Those of Schürholt et al. 2022 (<https://arxiv.org/abs/2209.14764>): seed zoos differ in their seeds alone,
//! hyper-parameter zoos in all axes with ten seeds, either the same for every combination (`-hyper`) or drawn for each
//! (`-hyper-random`). Images of other sizes are scaled to 28 x 28 (small CNN) or 32 x 32, as the published ones; those of USPS
//! are padded.

/// A zoo with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct ZooPreset {
    /// Name, as `<data>[-<size>]-<kind>`.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// The description, as [`ZooDescription::parse`](super::ZooDescription::parse) reads it.
    pub toml: &'static str,
}

/// A description: the lines of the data, then those of the axes.
macro_rules! zoo {
    ($data:literal, $axes:literal) => {
        concat!($data, "epochs = 50\nbatch = 10\n", $axes)
    };
}

/// The axes of hyper-parameter zoos that all share, then the others.
macro_rules! hyper {
    ($data:literal, $seeds:literal, $axes:literal) => {
        concat!(
            $data,
            "epochs = 50\nbatch = 10\n",
            "activation = [\"tanh\", \"relu\", \"sigmoid\", \"gelu\"]\n",
            "initialisation = [\"uniform\", \"normal\", \"kaiming-uniform\", \"kaiming-normal\"]\n",
            $axes,
            "seeds = ",
            $seeds,
            "\n"
        )
    };
}

/// The preset of a hyper-parameter zoo with the same seeds for all combinations, and of the one with drawn seeds.
macro_rules! hyper_pair {
    ($name:literal, $title:literal, $data:literal, $axes:literal) => {
        [
            ZooPreset {
                name: concat!($name, "-hyper"),
                title: concat!($title, ": hyper-parameters, seeds 1 to 10"),
                toml: hyper!($data, "\"1-10\"", $axes),
            },
            ZooPreset {
                name: concat!($name, "-hyper-random"),
                title: concat!($title, ": hyper-parameters, ten drawn seeds each"),
                toml: hyper!($data, "\"random:10\"", $axes),
            },
        ]
    };
}

/// Every preset. A new one is one entry here.
pub static PRESETS: [ZooPreset; 27] = {
    const MNIST: [ZooPreset; 2] = hyper_pair!(
        "mnist",
        "Small CNN on MNIST",
        "data = \"mnist\"\narch = \"zoo-cnn\"\nholdout = 10000\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = [1e-3, 1e-4]\n\
         weight_decay = [1e-3, 1e-4]\n"
    );
    const FASHION_MNIST: [ZooPreset; 2] = hyper_pair!(
        "fashion-mnist",
        "Small CNN on Fashion-MNIST",
        "data = \"fashion-mnist\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 10000\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = [1e-3, 1e-4]\n\
         weight_decay = [1e-3, 1e-4]\n"
    );
    const USPS: [ZooPreset; 2] = hyper_pair!(
        "usps",
        "Small CNN on USPS, padded to 28 x 28",
        "data = \"usps\"\npreprocessing = \"mnist-pad28\"\narch = \"zoo-cnn\"\nholdout = 1291\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = [1e-3, 1e-4]\n\
         weight_decay = [1e-2, 1e-3]\n"
    );
    const SVHN: [ZooPreset; 2] = hyper_pair!(
        "svhn",
        "Small CNN on SVHN",
        "data = \"svhn+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 13257\n",
        "dropout = [0.0, 0.3, 0.5]\noptimizer = \"sgd\"\nlearning_rate = [1e-2, 1e-3, 1e-4]\n\
         weight_decay = [0.0, 1e-3, 1e-1]\n"
    );
    const CIFAR10_SMALL: [ZooPreset; 2] = hyper_pair!(
        "cifar10-small",
        "Small CNN on CIFAR-10",
        "data = \"cifar10+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 8000\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = 1e-3\n\
         weight_decay = [1e-2, 1e-3]\n"
    );
    const CIFAR10_LARGE: [ZooPreset; 2] = hyper_pair!(
        "cifar10-large",
        "Medium CNN on CIFAR-10",
        "data = \"cifar10\"\npreprocessing = \"half\"\narch = \"zoo-cnn-medium\"\nholdout = 8000\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = 1e-3\n\
         weight_decay = [1e-2, 1e-3]\n"
    );
    const STL10_SMALL: [ZooPreset; 2] = hyper_pair!(
        "stl10-small",
        "Small CNN on STL-10",
        "data = \"stl10+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 800\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = [1e-3, 1e-4]\n\
         weight_decay = [1e-2, 1e-3]\n"
    );
    const STL10_LARGE: [ZooPreset; 2] = hyper_pair!(
        "stl10-large",
        "Medium CNN on STL-10",
        "data = \"stl10+size:32\"\npreprocessing = \"half\"\narch = \"zoo-cnn-medium\"\nholdout = 800\n",
        "dropout = [0.0, 0.5]\noptimizer = [\"adam\", \"sgd\"]\nlearning_rate = [1e-3, 1e-4]\n\
         weight_decay = [1e-2, 1e-3]\n"
    );
    let [mnist, mnist_random] = MNIST;
    let [fashion_mnist, fashion_mnist_random] = FASHION_MNIST;
    let [usps, usps_random] = USPS;
    let [svhn, svhn_random] = SVHN;
    let [cifar10_small, cifar10_small_random] = CIFAR10_SMALL;
    let [cifar10_large, cifar10_large_random] = CIFAR10_LARGE;
    let [stl10_small, stl10_small_random] = STL10_SMALL;
    let [stl10_large, stl10_large_random] = STL10_LARGE;
    [
        ZooPreset {
            name: "digits",
            title: "96 small CNNs on the built-in digits: three activations, 32 drawn seeds each",
            toml: "data = \"digits\"\npreprocessing = \"unit-pad28\"\narch = \"zoo-cnn\"\nholdout = 200\n\
                   epochs = 25\nbatch = 32\ncheckpoints = [0, 1, 2, 3, 5, 10, 15, 20, 25]\n\
                   activation = [\"tanh\", \"relu\", \"gelu\"]\nlearning_rate = 3e-3\nseeds = \"random:32\"\n",
        },
        ZooPreset {
            name: "mnist-seed",
            title: "Small CNN on MNIST: seeds 1 to 1000",
            toml: zoo!(
                "data = \"mnist\"\narch = \"zoo-cnn\"\nholdout = 10000\n",
                "activation = \"tanh\"\ninitialisation = \"uniform\"\nlearning_rate = 3e-4\nseeds = \"1-1000\"\n"
            ),
        },
        mnist,
        mnist_random,
        ZooPreset {
            name: "fashion-mnist-seed",
            title: "Small CNN on Fashion-MNIST: seeds 1 to 1000",
            toml: zoo!(
                "data = \"fashion-mnist\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 10000\n",
                "activation = \"tanh\"\ninitialisation = \"uniform\"\nlearning_rate = 3e-4\nseeds = \"1-1000\"\n"
            ),
        },
        fashion_mnist,
        fashion_mnist_random,
        ZooPreset {
            name: "usps-seed",
            title: "Small CNN on USPS, padded to 28 x 28: seeds 1 to 1000",
            toml: zoo!(
                "data = \"usps\"\npreprocessing = \"mnist-pad28\"\narch = \"zoo-cnn\"\nholdout = 1291\n",
                "activation = \"tanh\"\ninitialisation = \"uniform\"\nlearning_rate = 3e-4\nweight_decay = 1e-3\n\
                 seeds = \"1-1000\"\n"
            ),
        },
        usps,
        usps_random,
        ZooPreset {
            name: "svhn-seed",
            title: "Small CNN on SVHN: seeds 1 to 1000",
            toml: zoo!(
                "data = \"svhn+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 13257\n",
                "activation = \"tanh\"\ninitialisation = \"uniform\"\nlearning_rate = 3e-3\nseeds = \"1-1000\"\n"
            ),
        },
        svhn,
        svhn_random,
        ZooPreset {
            name: "cifar10-small-seed",
            title: "Small CNN on CIFAR-10: seeds 1 to 1000",
            toml: zoo!(
                "data = \"cifar10+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 8000\n",
                "activation = \"gelu\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 1e-4\n\
                 weight_decay = 1e-2\nseeds = \"1-1000\"\n"
            ),
        },
        cifar10_small,
        cifar10_small_random,
        ZooPreset {
            name: "cifar10-large-seed",
            title: "Medium CNN on CIFAR-10: seeds 1 to 1000",
            toml: zoo!(
                "data = \"cifar10\"\npreprocessing = \"half\"\narch = \"zoo-cnn-medium\"\nholdout = 8000\n",
                "activation = \"gelu\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 1e-4\n\
                 weight_decay = 1e-2\nseeds = \"1-1000\"\n"
            ),
        },
        cifar10_large,
        cifar10_large_random,
        ZooPreset {
            name: "stl10-small-seed",
            title: "Small CNN on STL-10: seeds 1 to 1000",
            toml: zoo!(
                "data = \"stl10+size:28\"\npreprocessing = \"half\"\narch = \"zoo-cnn\"\nholdout = 800\n",
                "activation = \"tanh\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 1e-4\n\
                 weight_decay = 1e-3\nseeds = \"1-1000\"\n"
            ),
        },
        stl10_small,
        stl10_small_random,
        ZooPreset {
            name: "stl10-large-seed",
            title: "Medium CNN on STL-10: seeds 1 to 1000",
            toml: zoo!(
                "data = \"stl10+size:32\"\npreprocessing = \"half\"\narch = \"zoo-cnn-medium\"\nholdout = 800\n",
                "activation = \"tanh\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 1e-4\n\
                 weight_decay = 1e-3\nseeds = \"1-1000\"\n"
            ),
        },
        stl10_large,
        stl10_large_random,
        ZooPreset {
            name: "cifar10-resnet18-seed",
            title: "ResNet-18 on CIFAR-10: seeds 1 to 1000",
            toml: "data = \"cifar10\"\npreprocessing = \"cifar10\"\narch = \"resnet18-cifar\"\nholdout = 10000\n\
                   augment = \"crop4-flip\"\nepochs = 50\nbatch = 256\noptimizer = \"sgd\"\n\
                   schedule = \"one-cycle\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 0.05\n\
                   weight_decay = 5e-4\nseeds = \"1-1000\"\n",
        },
        ZooPreset {
            name: "cifar100-resnet18-seed",
            title: "ResNet-18 on CIFAR-100: seeds 1 to 1000",
            toml: "data = \"cifar100\"\npreprocessing = \"cifar100\"\narch = \"resnet18-cifar:classes=100\"\n\
                   holdout = 10000\naugment = \"crop4-flip\"\nepochs = 60\nbatch = 128\noptimizer = \"sgd\"\n\
                   schedule = \"one-cycle\"\ninitialisation = \"kaiming-uniform\"\nlearning_rate = 0.1\n\
                   weight_decay = 5e-4\nseeds = \"1-1000\"\n",
        },
    ]
};

#[cfg(test)]
mod tests {
    use super::super::ZooDescription;
    use super::*;

    #[test]
    fn every_preset_is_a_zoo() {
        for preset in &PRESETS {
            let description = ZooDescription::preset(preset.name).unwrap();
            let models = description.models().unwrap();
            let wanted = match preset.name {
                "digits" => 96,
                name if name.ends_with("-seed") => 1000,
                // 4 x 4 x 3 x 3 x 3 combinations, 10 seeds.
                name if name.starts_with("svhn") => 4320,
                name if name.starts_with("cifar10") => 1280,
                _ => 2560,
            };
            assert_eq!(models.len(), wanted, "{}", preset.name);
            assert_eq!(PRESETS.iter().filter(|other| other.name == preset.name).count(), 1);
            let again = ZooDescription::parse(&description.to_toml()).unwrap();
            assert_eq!(again, description, "{}", preset.name);
        }
    }
}
