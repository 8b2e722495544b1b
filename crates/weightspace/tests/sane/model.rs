//! The autoencoder.

use weightspace::sane::model::{Autoencoder, Positions};
use weightspace::sane::{SaneConfig, TokenConfig, TokenLayout};
use weightspace_nn::Engine;
use weightspace_nn::ModelState;

use crate::network;

#[test]
fn the_published_size_is_reproduced() {
    let config = SaneConfig {
        tokens: TokenConfig { size: 289, normalisations: false },
        window: 64,
        width: 1024,
        blocks: 8,
        heads: 8,
        latent: 128,
        head: 30,
        positions: Positions::Learned,
    };
    let model = Autoencoder::new(config, [100, 10, 40]).unwrap();
    assert_eq!(model.training_net().net.parameter_count(), 202_539_421);
}

/// Encoder and decoder apart make what they make together, with windows of any length.
#[test]
fn encoder_and_decoder_are_parts_of_the_whole() {
    let (_, tensors) = network("zoo-cnn");
    for positions in [Positions::Learned, Positions::Sinusoidal] {
        let config = SaneConfig { width: 32, blocks: 2, positions, ..SaneConfig::default() };
        let layout = TokenLayout::new(&tensors.infos(), config.tokens).unwrap();
        let model = Autoencoder::of(config.clone(), &layout).unwrap();
        let training = model.training_net();
        let weights = model.initial(&training.net, 5);
        let state = ModelState { weights, running: Default::default() };
        let weights = state.to_state_dict(&training.net);
        for window in [3, config.window, layout.token_count()] {
            let tokens = 1.min(layout.token_count() - window)..;
            let tokens = tokens.start..tokens.start + window;
            let values = layout.tokenise(&tensors).unwrap();
            let mut place = vec![0.0; model.position_len(window)];
            model.write_positions(&layout, tokens.clone(), &mut place);
            let run = |net, values: &[f32], width: usize| {
                let mut found = vec![0.0; window * width];
                let inputs = [values, &place].concat();
                Engine::new(&net, &weights).unwrap().forward(&inputs, &mut found).unwrap();
                found
            };
            let size = config.tokens.size;
            let values = &values[tokens.start * size..tokens.end * size];
            let latent = run(model.encoder(window), values, config.latent);
            let apart = run(model.decoder(window), &latent, size);
            let whole = run(model.reconstructor(window), values, size);
            assert_eq!(apart, whole, "{positions:?} {window}");
            assert!(whole.iter().any(|&value| value != 0.0));
        }
    }
}

#[test]
fn networks_beyond_learned_positions_are_refused() {
    let (_, small) = network("zoo-cnn");
    let (_, large) = network("zoo-cnn-medium");
    let config = SaneConfig::default();
    let layout = |tensors: &weightspace_core::StateDict| {
        TokenLayout::new(&tensors.infos(), config.tokens).unwrap()
    };
    let model = Autoencoder::of(config.clone(), &layout(&small)).unwrap();
    model.check(&layout(&small)).unwrap();
    let error = model.check(&layout(&large)).unwrap_err().to_string();
    assert!(error.contains("expected at most 48, as it was trained"), "{error}");
    let sines = SaneConfig { positions: Positions::Sinusoidal, ..config.clone() };
    Autoencoder::of(sines, &layout(&small)).unwrap().check(&layout(&large)).unwrap();
}

#[test]
fn sizes_that_are_no_network_are_named() {
    let wrong = [
        (
            SaneConfig { width: 30, ..SaneConfig::default() },
            "width is 30, expected a multiple of 8",
        ),
        (SaneConfig { latent: 0, ..SaneConfig::default() }, "latent is 0, expected 1 to 65536"),
    ];
    for (config, expected) in wrong {
        assert_eq!(Autoencoder::new(config, [1; 3]).unwrap_err().to_string(), expected);
    }
}
