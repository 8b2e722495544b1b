//! The trained networks of the repository with the digits they were trained on.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::path::{Path, PathBuf};

use weightspace::quantize::Images;
use weightspace_core::{Checkpoint, StateDict, WspFile};
use weightspace_nn::data::{self, Dataset, Preprocessing, Split};
use weightspace_nn::{Engine, Net, arch, evaluate};

pub struct Digits {
    pub weights: StateDict,
    pub net: Net,
    pub train: Dataset,
    pub test: Dataset,
    pub preprocessing: Preprocessing,
}

/// A network of the folder `tests/golden/models`.
pub fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(file)
}

pub fn decode(file: &[u8]) -> StateDict {
    WspFile::from_bytes("test", file.to_vec()).unwrap().state_dict().unwrap()
}

impl Digits {
    pub fn mlp() -> Digits {
        Digits::of("digits-mlp.pt", "unit")
    }

    pub fn cnn() -> Digits {
        Digits::of("digits-cnn.pt", "unit-pad28")
    }

    fn of(file: &str, preprocessing: &str) -> Digits {
        let checkpoint = Checkpoint::open(&path(file)).unwrap();
        Digits {
            net: arch::recognise(checkpoint.tensors()).unwrap(),
            weights: checkpoint.state_dict().unwrap(),
            train: data::open("digits", None, Split::Train).unwrap(),
            test: data::open("digits", None, Split::Test).unwrap(),
            preprocessing: preprocessing.parse().unwrap(),
        }
    }

    pub fn images(&self) -> Images<'_> {
        Images { train: &self.train, preprocessing: &self.preprocessing }
    }

    fn logits(&self, weights: &StateDict) -> Vec<f32> {
        let engine = Engine::new(&self.net, weights).unwrap();
        let mut all = Vec::new();
        let each = |_: &[usize], logits: &[f32]| all.extend_from_slice(logits);
        evaluate::for_each_batch(&engine, &self.test, None, &self.preprocessing, each).unwrap();
        all
    }

    /// Mean squared difference of the logits on the test images from the original's.
    pub fn damage(&self, file: &[u8]) -> f64 {
        let (a, b) = (self.logits(&self.weights), self.logits(&decode(file)));
        a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
    }

    /// Share of the test images that these weights name rightly.
    pub fn accuracy(&self, weights: &StateDict) -> f64 {
        let engine = Engine::new(&self.net, weights).unwrap();
        let (test, preprocessing) = (&self.test, &self.preprocessing);
        evaluate::accuracy(&engine, test, None, preprocessing, &|_| ()).unwrap().accuracy()
    }
}
