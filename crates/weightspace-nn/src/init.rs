//! Weights to begin training with.

use serde::{Deserialize, Serialize};
use weightspace_core::LayoutEntry;
use weightspace_core::random::{Key, Stream};

use crate::Net;
use crate::net::ParameterKind;

/// How the weights of convolutions and linear layers are drawn, as `torch.nn.init` does by default.
/// Text and serialised form is the name, for instance `kaiming-uniform`.
///
/// Fan-in is the number of inputs of an output unit, fan-out that of outputs of an input unit times
/// the kernel's area. Biases are 0.01, as in the published model zoos, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// What PyTorch's layers begin with: U(-b, b), b = 1 / sqrt(fan-in), for weights and biases.
    #[default]
    PytorchDefault,
    /// U(-b, b), b = sqrt(6 / fan-in) (He et al. 2015).
    KaimingUniform,
    /// N(0, 2 / fan-in).
    KaimingNormal,
    /// U(-b, b), b = sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010).
    XavierUniform,
    /// N(0, 2 / (fan-in + fan-out)).
    XavierNormal,
    /// U(0, 1).
    Uniform,
    /// N(0, 1).
    Normal,
}

impl Initialisation {
    /// Every initialisation.
    pub const ALL: [Initialisation; 7] = [
        Initialisation::PytorchDefault,
        Initialisation::KaimingUniform,
        Initialisation::KaimingNormal,
        Initialisation::XavierUniform,
        Initialisation::XavierNormal,
        Initialisation::Uniform,
        Initialisation::Normal,
    ];

    /// The name, for instance `kaiming-uniform`.
    pub const fn name(self) -> &'static str {
        match self {
            Initialisation::PytorchDefault => "pytorch-default",
            Initialisation::KaimingUniform => "kaiming-uniform",
            Initialisation::KaimingNormal => "kaiming-normal",
            Initialisation::XavierUniform => "xavier-uniform",
            Initialisation::XavierNormal => "xavier-normal",
            Initialisation::Uniform => "uniform",
            Initialisation::Normal => "normal",
        }
    }
}

impl std::fmt::Display for Initialisation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no initialisation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown initialisation '{0}'; known are {known}", known = Initialisation::ALL.map(Initialisation::name).join(", "))]
pub struct UnknownInitialisation(String);

impl std::str::FromStr for Initialisation {
    type Err = UnknownInitialisation;

    fn from_str(text: &str) -> Result<Self, UnknownInitialisation> {
        let named = |how: &&Initialisation| how.name() == text;
        let how = Initialisation::ALL.iter().find(named);
        how.copied().ok_or_else(|| UnknownInitialisation(text.to_owned()))
    }
}

/// Weights of `net` in the order of [`Net::layout`]. Normalisations begin with weight 1 and bias 0.
///
/// Every tensor has its own stream (purpose `initialisation`, number the tensor's position in the
/// layout), so that it does not depend on the sizes of the others.
pub fn initialise(net: &Net, how: Initialisation, seed: u64) -> Vec<f32> {
    let layout = net.layout();
    let key = Key::for_purpose(seed, "initialisation");
    let mut weights = vec![0.0; layout.len()];
    let kinds = net.parameters().into_iter().map(|p| p.kind).filter(|kind| kind.is_trainable());
    for (index, (entry, kind)) in layout.entries().iter().zip(kinds).enumerate() {
        let values = &mut weights[entry.range()];
        let mut stream = Stream::new(key, index as u64);
        match kind {
            ParameterKind::NormWeight => values.fill(1.0),
            ParameterKind::Weight => fill_weight(how, entry, &mut stream, values),
            ParameterKind::Bias if how == Initialisation::PytorchDefault => {
                fill_symmetric(1.0 / fan_in(entry), &mut stream, values);
            }
            ParameterKind::Bias => values.fill(0.01),
            ParameterKind::NormBias
            | ParameterKind::RunningMean
            | ParameterKind::RunningVar
            | ParameterKind::NumBatchesTracked => {}
        }
    }
    weights
}

fn fill_weight(how: Initialisation, entry: &LayoutEntry, stream: &mut Stream, values: &mut [f32]) {
    match how {
        Initialisation::PytorchDefault => fill_symmetric(1.0 / fan_in(entry), stream, values),
        Initialisation::KaimingUniform => fill_symmetric(6.0 / fan_in(entry), stream, values),
        Initialisation::XavierUniform => fill_symmetric(6.0 / fans(entry), stream, values),
        Initialisation::KaimingNormal => fill_normal(2.0 / fan_in(entry), stream, values),
        Initialisation::XavierNormal => fill_normal(2.0 / fans(entry), stream, values),
        Initialisation::Normal => fill_normal(1.0, stream, values),
        Initialisation::Uniform => stream.fill_uniform(values),
    }
}

fn fan_in(entry: &LayoutEntry) -> f64 {
    entry.fan_in as f64
}

/// Fan-in and fan-out together.
fn fans(entry: &LayoutEntry) -> f64 {
    let (outputs, kernel) = (entry.shape.first(), entry.shape.iter().skip(2));
    let fan_out = outputs.into_iter().chain(kernel).product::<usize>();
    fan_in(entry) + fan_out as f64
}

/// Uniform in [-b, b), `square` = b^2.
fn fill_symmetric(square: f64, stream: &mut Stream, values: &mut [f32]) {
    let bound = square.sqrt() as f32;
    stream.fill_uniform(values);
    values.iter_mut().for_each(|value| *value = (2.0 * *value - 1.0) * bound);
}

fn fill_normal(variance: f64, stream: &mut Stream, values: &mut [f32]) {
    let deviation = variance.sqrt() as f32;
    stream.fill_normal(values);
    values.iter_mut().for_each(|value| *value *= deviation);
}
