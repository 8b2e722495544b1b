//! Tokens of networks, and the autoencoder that learns them.

mod commands;
mod model;
#[path = "../program/mod.rs"]
mod program;
mod tokens;
mod windows;

use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::init::Initialisation;
use weightspace_nn::{ModelState, Net, arch};

/// A network of the table with weights of which all differ, biases and statistics too.
pub fn network(name: &str) -> (Net, StateDict) {
    let net = arch::build(name, &Default::default()).unwrap();
    let mut state = ModelState::initial(&net, Initialisation::default(), 0);
    Stream::new(Key::from_seed(3), 0).fill_normal(&mut state.weights);
    for (number, layer) in state.running.layers.iter_mut().enumerate() {
        let mut stream = Stream::new(Key::from_seed(4), number as u64);
        stream.fill_normal(&mut layer.mean);
        stream.fill_uniform(&mut layer.variance);
    }
    let tensors = state.to_state_dict(&net);
    (net, tensors)
}
